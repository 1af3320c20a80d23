//! The server: the library's, and a line of the log for what it reports.

use std::time::Duration;

use axum::Router;
use heirloom::CancelToken;
use heirloom::hyper::serve::{Event, Served};
use heirloom::net::TcpListener;

use super::log::log;

/// What the server speaks, and how patient it is.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) head: Duration,
    /// For what is being served when the server is told to stop.
    pub(crate) drain: Duration,
    /// Else HTTP/1 and HTTP/2, as the client begins.
    pub(crate) http2_only: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { head: Duration::from_secs(30), drain: Duration::from_secs(10), http2_only: false }
    }
}

/// Serves until `stop`, then lets what has begun come to its end, but not longer than the limit.
pub(crate) async fn serve(listener: TcpListener, app: Router, limits: Limits, stop: CancelToken) -> Served {
    let server = heirloom::hyper::serve(listener, app)
        .header_timeout(limits.head)
        .drain_timeout(limits.drain)
        .http2_only(limits.http2_only)
        .with_graceful_shutdown(stop)
        .on_event(tell);
    let served = server.run().await;
    log("stopped", &[("accepted", &served.accepted), ("broken", &served.broken), ("cut", &served.cut)]);
    served
}

fn tell(event: Event<'_>) {
    match event {
        Event::NotAccepted(error) => log("not accepted", &[("error", error)]),
        Event::Broken(error) => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            log("connection broke", &[("error", error), ("cause", &cause)]);
        }
        Event::Panicked(message) => log("panicked", &[("message", &message)]),
        Event::Draining(connections) => log("draining", &[("connections", &connections)]),
        Event::Cut => log("connection cut", &[]),
        _ => {}
    }
}
