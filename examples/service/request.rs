//! What a request is known by: two variables and a deadline. They are read from the headers once,
//! and written to the headers of calls to other services, which read them in the same way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use heirloom::{context_var, remaining, wait_for};

use super::log::log;

context_var! {
    pub(crate) static REQUEST: String, debug = Debug, required = true;
    pub(crate) static TENANT: String, debug = Debug, required = true;
}

pub(crate) const ID_HEADER: &str = "x-request-id";
pub(crate) const TENANT_HEADER: &str = "x-tenant";
pub(crate) const DEADLINE_HEADER: &str = "x-deadline-ms";

/// The time a request has that does not ask for less.
const MOST_TIME: Duration = Duration::from_secs(30);
/// What a client calls itself is in every line of the log.
const LONGEST_NAME: usize = 64;

/// Middleware that serves a request under its name and within its deadline. It sets the variables
/// and leaves them: the server has given the request a context of its own.
pub(crate) async fn identify(request: Request, next: Next) -> Response {
    let headers = request.headers();
    REQUEST.set(named(headers, ID_HEADER).unwrap_or_else(next_id));
    TENANT.set(named(headers, TENANT_HEADER).unwrap_or_else(|| "unknown".to_string()));
    let (begun, limit) = (Instant::now(), limit(headers));
    let mut response = match wait_for(next.run(request), limit).await {
        Ok(response) => response,
        Err(_elapsed) => (StatusCode::GATEWAY_TIMEOUT, "out of time\n").into_response(),
    };
    if let Ok(id) = HeaderValue::try_from(REQUEST.require()) {
        response.headers_mut().insert(ID_HEADER, id);
    }
    let took = begun.elapsed().as_micros();
    log("served", &[("status", &response.status().as_u16()), ("took_us", &took)]);
    response
}

/// Adds what the called service needs to serve the call under the same name, and in no more time
/// than is left.
pub(crate) fn carry_on(mut call: request::Builder) -> request::Builder {
    for (header, variable) in [(ID_HEADER, &REQUEST), (TENANT_HEADER, &TENANT)] {
        if let Some(name) = variable.get() {
            call = call.header(header, name);
        }
    }
    match remaining() {
        Some(left) => call.header(DEADLINE_HEADER, left.as_millis().to_string()),
        None => call,
    }
}

/// Who is being served. Takes no argument.
pub(crate) fn who() -> String {
    format!("{} {}", REQUEST.get().unwrap_or_default(), TENANT.get().unwrap_or_default())
}

/// A line of an answer: who is served at this place, and how many milliseconds are left.
pub(crate) fn look(place: &str) -> String {
    let left = remaining().map_or("any".to_string(), |left| left.as_millis().to_string());
    format!("{place} {} {left}\n", who())
}

fn named(headers: &HeaderMap, header: &str) -> Option<String> {
    let text = headers.get(header)?.to_str().ok()?;
    (1..=LONGEST_NAME).contains(&text.len()).then(|| text.to_string())
}

fn limit(headers: &HeaderMap) -> Duration {
    let asked = headers.get(DEADLINE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    asked.map_or(MOST_TIME, |milliseconds| MOST_TIME.min(Duration::from_millis(milliseconds)))
}

fn next_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("own-{}", NEXT.fetch_add(1, Relaxed))
}
