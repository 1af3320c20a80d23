//! What a request carries from service to service: its id, the time it has left, its place in the
//! trace. A server reads them from the headers, a client writes them; no handler names any of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use heirloom::tower::{RequestContextLayer, grpc_timeout};
use heirloom::{context_var, remaining};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::MetadataMap;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

context_var! {
    /// The id of the request that is being served.
    pub(crate) static REQUEST: String, debug = std::fmt::Display::fmt;
}

const ID: &str = "x-request-id";
/// The time left, as gRPC writes it; over plain HTTP the services use the same header.
const TIMEOUT: &str = "grpc-timeout";
/// For a request that asks for more time, or for none.
const MOST_TIME: Duration = Duration::from_secs(30);

/// How each server makes a request's context and deadline of the headers.
pub(crate) fn incoming() -> RequestContextLayer {
    RequestContextLayer::new()
        .header(ID, &REQUEST, |id| match id.len() {
            1..=64 => Ok(id.to_owned()),
            _ => Err("an id has 1 to 64 characters"),
        })
        .deadline_header(TIMEOUT, grpc_timeout)
        .limit(MOST_TIME)
}

/// Middleware of each server: the request's span, whose parent is the caller's. A request without
/// an id gets one.
pub(crate) async fn in_span(State(service): State<&'static str>, request: Request, next: Next) -> Response {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if !REQUEST.is_set() {
        REQUEST.set(format!("own-{}", NEXT.fetch_add(1, Relaxed)));
    }
    let span = info_span!("serve", otel.name = service, otel.kind = "server", order = Empty);
    // An error where spans go to no OpenTelemetry: then there is no trace to be in.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Reading(request.headers())));
    next.run(request).instrument(span).await
}

/// The headers of a call to another service: what it needs to serve the call for the same request,
/// in no more time than is left now.
pub(crate) fn outgoing() -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(Ok(id)) = REQUEST.get().map(HeaderValue::try_from) {
        headers.insert(ID, id);
    }
    if let Some(left) = remaining() {
        // In microseconds; the header has room for eight digits, which is more than `MOST_TIME`.
        let left = format!("{}u", left.as_micros().min(99_999_999));
        headers.insert(TIMEOUT, HeaderValue::try_from(left).expect("digits and a letter"));
    }
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Writing(&mut headers));
    headers
}

/// An interceptor of tonic's clients: adds the headers.
pub(crate) fn carry_on(mut call: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    let mut headers = std::mem::take(call.metadata_mut()).into_headers();
    headers.extend(outgoing());
    *call.metadata_mut() = MetadataMap::from_headers(headers);
    Ok(call)
}

/// Headers as OpenTelemetry reads them.
struct Reading<'a>(&'a HeaderMap);

impl Extractor for Reading<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// Headers as OpenTelemetry writes them.
struct Writing<'a>(&'a mut HeaderMap);

impl Injector for Writing<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
