//! What a request carries from service to service: its id, the time it has left, its place in the
//! trace. The layers of servers and clients read and write them; no handler names any of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use heirloom::context_var;
use heirloom::tower::{Propagate, PropagateLayer, RequestContextLayer};
use heirloom::wire::{Inbound, Outbound};
use heirloom_adaptors::ReqwestService;
use reqwest::ClientBuilder;
use tower::Layer;
use tracing::field::Empty;
use tracing::{Instrument, info_span};

context_var! {
    /// The id of the request that is being served.
    pub(crate) static REQUEST: String, debug = std::fmt::Display::fmt, wire = "request-id";
}

/// For a request that asks for more time, or for none.
const MOST_TIME: Duration = Duration::from_secs(30);

/// How each server makes a request's context and deadline of the headers.
pub(crate) fn incoming() -> RequestContextLayer {
    RequestContextLayer::new().inbound(Inbound::new().var(&REQUEST)).limit(MOST_TIME)
}

/// Middleware of each server: the request's span, a child of the caller's. A request without an id
/// gets one.
pub(crate) async fn in_span(State(service): State<&'static str>, request: Request, next: Next) -> Response {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if !REQUEST.is_set() {
        REQUEST.set(format!("own-{}", NEXT.fetch_add(1, Relaxed)));
    }
    let span = info_span!("serve", otel.name = service, otel.kind = "server", order = Empty);
    next.run(request).instrument(span).await
}

/// What each client sends along, to the services of this program alone.
pub(crate) fn outgoing() -> PropagateLayer {
    PropagateLayer::new(Outbound::new().host("127.0.0.1"))
}

/// A client over HTTP, to write requests with, and what they are sent through.
#[derive(Clone)]
pub(crate) struct HttpClient {
    pub(crate) http: reqwest::Client,
    pub(crate) through: Propagate<ReqwestService>,
}

impl HttpClient {
    pub(crate) fn new() -> reqwest::Result<HttpClient> {
        let client = ReqwestService::new(ClientBuilder::new())?;
        Ok(HttpClient { http: client.as_ref().clone(), through: outgoing().layer(client) })
    }
}
