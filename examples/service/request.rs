//! What a request is known by, and the layer that reads it from the headers: two variables and a
//! deadline. The server gives each request a context of its own, so that setting is all there is
//! to do.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use heirloom::{context_var, wait_for};
use tower::{Layer, Service};

use super::log::log;

context_var! {
    pub(crate) static REQUEST: String, debug = Debug;
    pub(crate) static TENANT: String, debug = Debug;
}

pub(crate) const ID_HEADER: &str = "x-request-id";
pub(crate) const TENANT_HEADER: &str = "x-tenant";
pub(crate) const DEADLINE_HEADER: &str = "x-deadline-ms";

/// The time a request has that does not ask for less.
const MOST_TIME: Duration = Duration::from_secs(30);
/// What a client calls itself is in every line of the log.
const LONGEST_NAME: usize = 64;

/// Serves each request under its name, within its deadline.
#[derive(Clone, Copy)]
pub(crate) struct RequestLayer;

impl<S> Layer<S> for RequestLayer {
    type Service = InRequest<S>;

    fn layer(&self, inner: S) -> InRequest<S> {
        InRequest { inner }
    }
}

/// Made by [`RequestLayer`].
#[derive(Clone)]
pub(crate) struct InRequest<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for InRequest<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let headers = request.headers();
        let id = named(headers, ID_HEADER).unwrap_or_else(next_id);
        let tenant = named(headers, TENANT_HEADER).unwrap_or_else(|| "unknown".to_string());
        let limit = limit(headers);
        REQUEST.set(id);
        TENANT.set(tenant);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let begun = Instant::now();
            let mut response = match wait_for(answer, limit).await {
                Ok(Ok(response)) => response,
                Err(_elapsed) => (StatusCode::GATEWAY_TIMEOUT, "out of time\n").into_response(),
            };
            if let Some(id) = REQUEST.get().and_then(|id| HeaderValue::try_from(id).ok()) {
                response.headers_mut().insert(ID_HEADER, id);
            }
            let took = begun.elapsed().as_micros();
            log("served", &[("status", &response.status().as_u16()), ("took_us", &took)]);
            Ok(response)
        })
    }
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
