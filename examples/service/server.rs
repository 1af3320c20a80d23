//! The server: hyper on our sockets, a task per connection, over HTTP/2 also one per request, and a
//! drain with a limit.
//!
//! `axum::serve` wants tokio's sockets. All it does is this loop, around hyper's connection and
//! axum's router.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::http::Version;
use heirloom::context::ContextFutureExt;
use heirloom::context::channel::{self, Sender};
use heirloom::hyper::{HyperTimer, ServerExecutor};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{CancelToken, Context, sleep, spawn_background, wait_for};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;

use super::log::log;

/// What the server speaks, and how patient it is.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// For a whole request head, and for the next request of an HTTP/1 connection that is kept
    /// alive. An HTTP/2 client that is silent for so long is asked for a sign of life, and has as
    /// long again to give it.
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

type Error = Box<dyn std::error::Error + Send + Sync>;

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
    // Nothing is sent: it is closed when the last connection has dropped its end.
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
            // The listener is well. After a shortage it waits a moment by itself before it tries
            // again.
            Err(error) => {
                served.not_accepted += 1;
                log("not accepted", &[("error", &error)]);
            }
        }
    }

    drop(listener); // later connections are refused
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
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                log("connection broke", &[("error", &error), ("cause", &cause)]);
            }
            None => log("connection cut", &[]),
        }
    }

    async fn converse(&self, socket: TcpStream) -> Result<(), Error> {
        // An answer is written at once and whole; holding it back for more gains nothing.
        let _: io::Result<()> = socket.set_nodelay(true);
        let begun = wait_for(version(&socket), self.limits.head);
        let version = match self.stop.run_until_cancelled(begun).await {
            Some(Ok(Ok(Some(version)))) => version,
            Some(Ok(Err(error))) => return Err(error.into()),
            Some(Err(_elapsed)) => return Err("timeout: no request has begun".into()),
            // The client has left, or the server stops, before there was a request.
            Some(Ok(Ok(None))) | None => return Ok(()),
        };
        ServerExecutor::scope(|executor| self.exchange(socket, version, executor)).await
    }

    /// Over HTTP/2 each request is a task: `executor` spawns it with this connection's context, and
    /// ends it with this future.
    async fn exchange(
        &self,
        socket: TcpStream,
        version: Version,
        executor: ServerExecutor,
    ) -> Result<(), Error> {
        let (app, head) = (TowerToHyperService::new(self.app.clone()), self.limits.head);
        let mut http = auto::Builder::new(executor);
        http.http1().timer(HyperTimer).header_read_timeout(head);
        http.http2().timer(HyperTimer).keep_alive_interval(head).keep_alive_timeout(head);
        let http2 = version == Version::HTTP_2 || self.limits.http2_only;
        let http = if http2 { http.http2_only() } else { http.http1_only() };
        let mut connection = pin!(http.serve_connection(socket, app));
        if let Some(result) = self.stop.run_until_cancelled(connection.as_mut()).await {
            return result;
        }
        // The requests that are being served are the last.
        connection.as_mut().graceful_shutdown();
        connection.await
    }
}

/// The version the client begins to speak. `None` if it leaves without a word.
///
/// A client that speaks HTTP/2 without having been asked begins with a preface. hyper-util's `auto`
/// looks for the preface as well, but would wait without a limit for a client that sends nothing,
/// or half of it.
async fn version(socket: &TcpStream) -> io::Result<Option<Version>> {
    const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut first = [0; PREFACE.len()];
    loop {
        match socket.peek(&mut first).await? {
            0 => return Ok(None),
            _ if first == *PREFACE => return Ok(Some(Version::HTTP_2)),
            part if !PREFACE.starts_with(&first[..part]) => return Ok(Some(Version::HTTP_11)),
            // A part of the preface. What is peeked at stays, so there is no waiting for the rest
            // alone.
            _ => sleep(Duration::from_millis(1)).await,
        }
    }
}
