//! The server: hyper on our sockets, a task per connection, and a drain with a limit.
//!
//! `axum::serve` wants tokio's sockets. All it does is this loop, around hyper's connection and axum's router.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use heirloom::context::channel::{self, Sender};
use heirloom::hyper::HyperTimer;
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{CancelToken, Context, ContextFutureExt, spawn_background, wait_for};
use hyper::server::conn::http1;
use hyper_util::service::TowerToHyperService;

use super::log::log;

/// How patient the server is.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// For a whole request head, and for the next request of a connection that is kept alive.
    pub(crate) head: Duration,
    /// For what is being served when the server is told to stop.
    pub(crate) drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { head: Duration::from_secs(30), drain: Duration::from_secs(10) }
    }
}

/// What there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) accepted: usize,
    /// Attempts to accept that failed, for want of descriptors for example.
    pub(crate) not_accepted: usize,
    /// Connections that broke: reset, too slow, or not speaking HTTP.
    pub(crate) broken: usize,
    /// Connections that were still busy when the time for draining was over.
    pub(crate) cut: usize,
}

/// Serves until `stop`, then lets what has begun come to its end, but not longer than the limit.
pub(crate) async fn serve(listener: TcpListener, app: Router, limits: Limits, stop: CancelToken) -> Served {
    let mut served = Served::default();
    let broken = Arc::new(AtomicUsize::new(0));
    let cut = CancelToken::new();
    // Nobody sends anything: it is closed when the last connection has let go of its end.
    let (open, all_gone) = channel::bounded::<()>(1);
    let context = Context::current(); // what is bound for the whole server: where the log goes

    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((socket, _)) => {
                served.accepted += 1;
                let connection = Connection {
                    app: app.clone(),
                    limits,
                    stop: stop.clone(),
                    cut: cut.clone(),
                    broken: Arc::clone(&broken),
                    _open: open.clone(),
                };
                spawn_background(connection.run(socket).in_context(context.clone()));
            }
            // The listener is well. After a shortage it waits a moment by itself before it tries again.
            Err(error) => {
                served.not_accepted += 1;
                log("not accepted", &[("error", &error)]);
            }
        }
    }

    drop(listener); // whoever comes now is refused
    let busy = open.sender_count() - 1;
    drop(open);
    log("draining", &[("connections", &busy)]);
    if wait_for(all_gone.recv(), limits.drain).await.is_err() {
        served.cut = all_gone.sender_count();
        cut.cancel("the time for draining is over");
        // Dropped in its task, a connection drops its request in the request's context.
        let _ = all_gone.recv().await;
    }
    served.broken = broken.load(Relaxed);
    log("stopped", &[("accepted", &served.accepted), ("broken", &served.broken), ("cut", &served.cut)]);
    served
}

struct Connection {
    app: Router,
    limits: Limits,
    stop: CancelToken,
    cut: CancelToken,
    broken: Arc<AtomicUsize>,
    _open: Sender<()>,
}

impl Connection {
    async fn run(self, socket: TcpStream) {
        match self.cut.run_until_cancelled(self.converse(socket)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.broken.fetch_add(1, Relaxed);
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                log("connection broke", &[("error", &error), ("cause", &cause)]);
            }
            None => log("connection cut", &[]),
        }
    }

    async fn converse(&self, socket: TcpStream) -> Result<(), hyper::Error> {
        // An answer is written at once and whole; holding it back for more gains nothing.
        let _: io::Result<()> = socket.set_nodelay(true);
        let mut http1 = http1::Builder::new();
        http1.timer(HyperTimer).header_read_timeout(self.limits.head);
        let service = TowerToHyperService::new(self.app.clone());
        let mut connection = pin!(http1.serve_connection(socket, service));
        if let Some(result) = self.stop.run_until_cancelled(connection.as_mut()).await {
            return result;
        }
        // The request that is being served is the last.
        connection.as_mut().graceful_shutdown();
        connection.await
    }
}
