//! A server for tower services: accept loop, HTTP/1 and HTTP/2, a context per request, drain.
//!
//! # Contexts
//!
//! [`Serve::run`] takes, at its first poll, what the current context hands down
//! ([`Context::inherited`]): the *server's context*. Each connection is a background task in a copy
//! of the server's context, with the client's address in [`PEER`] over TCP. **Each request starts
//! from the connection's context too**, and keeps what it sets to itself: neither the connection,
//! nor another request, nor the accept loop sees it, over HTTP/1 (kept alive, pipelined) and over
//! HTTP/2. The service's `poll_ready` and `call`, the future, the response's body and their drops
//! run in the request's context. A variable for all requests is bound around `run`.
//!
//! [`Serve::request_context`] says which headers feed which variables, and gives the requests a
//! deadline, for the call and for the response's body. Without it a request has no deadline but
//! those that the service sets, with [`wait_for`](crate::wait_for()) for example. A `wait_for`
//! around the service ends with the response's head; the body is sent after it.
//!
//! # The drain
//!
//! When the token of [`with_graceful_shutdown`](Serve::with_graceful_shutdown) is cancelled, the
//! listener is closed, so that new clients are refused. Then, until the
//! [limit](Serve::drain_timeout):
//!
//! | at that moment | over HTTP/1 | over HTTP/2 |
//! | --- | --- | --- |
//! | a request whose head was read | is answered, the body included; the connection is closed after it | the same |
//! | a request whose head was not read to its end | the connection is closed without an answer | a stream that begins before the client has learnt of the end (`GOAWAY`) is served, a later one refused |
//! | a connection without a request | is closed | is told of the end, and is closed when the client has confirmed it |
//! | a client that waits in the system's queue of connections | is reset | is reset |
//! | a connection that was upgraded, to a web socket for example | is the handler's: the drain neither waits for it nor ends it | – |
//!
//! A client may send again what was closed without an answer: no handler has seen it. Where even
//! that must not occur, take the server out of the load balancer first, and cancel the token later.
#![forbid(unsafe_code)]

use std::error::Error as _;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use event_listener::Event as Notification;
use heirloom_context::{Context, ContextFutureExt, context_var};
use http::{Request, Response, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service as HttpService, service_fn};
#[cfg(feature = "rustls")]
use tokio_rustls::rustls::ServerConfig;
use tower_service::Service;

use super::stream::{HyperStream, Transport};
use super::{HyperTimer, ServerExecutor};
use crate::bridge::tower::RequestContextLayer;
use crate::net::TcpListener;
#[cfg(unix)]
use crate::net::{Direction, UnixListener, UnixStream};
use crate::structured::cancel_token::CancelToken;
use crate::task::panicked::message_of;
use crate::util::panic;
use crate::{sleep, spawn_background, wait_for};

context_var! {
    /// The client's address, in everything that a server of [`serve`] runs for a connection.
    ///
    /// Behind a proxy it is the proxy's address. Over a Unix socket it is unset.
    #[doc(alias = "ConnectInfo")]
    pub static PEER: SocketAddr;
}

#[doc(no_inline)]
pub use crate::bridge::tower::BoxError;

/// What a server accepts connections from: a [`TcpListener`], or on Unix a `UnixListener`. Either
/// converts into it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// Over a Unix socket.
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listener {
    /// The next connection, and the client's address if it has one.
    async fn accept(&self) -> io::Result<(HyperStream, Option<SocketAddr>)> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                // An answer is written at once and whole; holding it back for more gains nothing.
                let _: io::Result<()> = socket.set_nodelay(true);
                Ok((socket.into(), Some(peer)))
            }
            #[cfg(unix)]
            Listener::Unix(listener) => Ok((listener.accept().await?.0.into(), None)),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener::Unix(listener)
    }
}

/// A server that listens on `listener`, over TCP or a Unix socket, and answers with `service`; it
/// serves when [`run`](Serve::run) is awaited.
///
/// `service` is a tower service that is cloned for each request: axum's `Router`, tonic's `Routes`,
/// or `tower::service_fn`. An error of the service ends its connection (over HTTP/2: its stream).
///
/// No request sees what another request has set: see [contexts](self#contexts).
///
/// ```
/// use std::convert::Infallible;
/// use heirloom::hyper::serve;
/// use heirloom::net::TcpListener;
/// use heirloom::{CancelToken, context_var, spawn};
/// use http_body_util::Full;
/// use hyper::body::{Bytes, Incoming};
/// use hyper::{Request, Response};
///
/// context_var! { static USER: String; }
///
/// async fn handle(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
///     assert!(!USER.is_set());
///     USER.set("ada".to_string()); // for this request alone
///     Ok(Response::new(Full::from("hello")))
/// }
///
/// # fn main() -> std::io::Result<()> {
/// heirloom::block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let stop = CancelToken::new();
///     let service = tower::service_fn(handle);
///     let server = serve(listener, service).with_graceful_shutdown(stop.clone());
///     let serving = spawn(server.run());
///     // … until a signal:
///     stop.cancel("a signal");
///     let served = serving.await?;
///     assert_eq!(served.cut, 0);
///     Ok(())
/// })
/// # }
/// ```
#[doc(alias = "axum::serve")]
#[doc(alias = "isolate")]
#[doc(alias = "listen")]
#[must_use = "a server serves when `run` is awaited"]
pub fn serve<S>(listener: impl Into<Listener>, service: S) -> Serve<S> {
    let limits = Limits {
        header: Duration::from_secs(30),
        drain: Duration::from_secs(10),
        connections: usize::MAX,
        http2_only: false,
    };
    Serve {
        listener: listener.into(),
        service,
        limits,
        requests: RequestContextLayer::new(),
        #[cfg(feature = "rustls")]
        tls: None,
        stop: CancelToken::new(),
        on_event: Arc::new(|_| ()),
    }
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    header: Duration,
    drain: Duration,
    connections: usize,
    http2_only: bool,
}

type OnEvent = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// A server and its options; made by [`serve`].
#[must_use = "a server serves when `run` is awaited"]
pub struct Serve<S> {
    listener: Listener,
    service: S,
    limits: Limits,
    requests: RequestContextLayer,
    #[cfg(feature = "rustls")]
    tls: Option<Arc<ServerConfig>>,
    stop: CancelToken,
    on_event: OnEvent,
}

/// What a server reports to [`Serve::on_event`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An attempt to accept failed, for want of descriptors for example. The listener goes on:
    /// after a shortage the listener waits a moment before it tries again.
    NotAccepted(&'a io::Error),
    /// A connection broke: reset, too slow, or not speaking HTTP.
    Broken(&'a BoxError),
    /// A handler or a response's body has panicked with this message. Its connection ends over
    /// HTTP/1, its stream over HTTP/2.
    Panicked(&'a str),
    /// The drain begins with so many open connections.
    Draining(usize),
    /// A connection was still busy when the time for draining was over.
    Cut,
}

/// What there was; returned by [`Serve::run`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Connections.
    pub accepted: usize,
    /// Attempts to accept that failed.
    pub not_accepted: usize,
    /// Connections that broke: reset, too slow, or not speaking HTTP. (An HTTP/2 client that closes
    /// its connection has ended it, and is not among them.)
    pub broken: usize,
    /// Requests whose handler or response body has panicked.
    pub panicked: usize,
    /// Connections that were still busy when the time for draining was over.
    pub cut: usize,
}

impl<S> Serve<S> {
    /// Ends the server, with a [drain](self#the-drain), when `stop` is cancelled. Without a token
    /// the server runs until the future of [`run`](Self::run) is dropped.
    #[doc(alias = "drain")]
    #[doc(alias = "graceful_shutdown")]
    pub fn with_graceful_shutdown(mut self, stop: CancelToken) -> Self {
        self.stop = stop;
        self
    }

    /// The time for a whole request head, and for the next request of an HTTP/1 connection that is
    /// kept alive. A connection that exceeds it is closed. An HTTP/2 client that is silent for so
    /// long is asked for a sign of life, and has as long again to give it. By default 30 seconds.
    pub fn header_timeout(mut self, limit: Duration) -> Self {
        self.limits.header = limit;
        self
    }

    /// The time for what is being served when the drain begins. What is left then is dropped, each
    /// request in its own context. By default 10 seconds.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.limits.drain = limit;
        self
    }

    /// Accepts no connection while so many are open: later clients wait in the system's queue. By
    /// default there is no such limit; a server that has no descriptors left waits likewise.
    ///
    /// A client that is idle keeps its connection, at most for the
    /// [`header_timeout`](Self::header_timeout).
    ///
    /// # Panics
    /// If `most` is 0.
    #[track_caller]
    pub fn max_connections(mut self, most: usize) -> Self {
        assert!(most > 0, "a server without connections serves no client: `max_connections` takes 1 or more");
        self.limits.connections = most;
        self
    }

    /// Which headers of a request feed which variables, and how long a request may take, its
    /// response's body included. By default none, and as long as it takes.
    ///
    /// The server gives each request its context as the layer does, so the service needs no such
    /// layer besides.
    ///
    /// ```
    /// use std::time::Duration;
    /// use heirloom::context_var;
    /// use heirloom::hyper::serve;
    /// use heirloom::tower::RequestContextLayer;
    /// # use std::convert::Infallible;
    /// # use heirloom::net::TcpListener;
    /// # use http_body_util::Empty;
    /// # use hyper::body::{Bytes, Incoming};
    /// # use hyper::{Request, Response};
    /// # async fn handle(_: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    /// #     Ok(Response::new(Empty::new()))
    /// # }
    ///
    /// context_var! { static TENANT: u64; }
    ///
    /// # async fn run(listener: TcpListener) {
    /// let requests = RequestContextLayer::new()
    ///     .header("x-tenant", &TENANT, str::parse)
    ///     .limit(Duration::from_secs(30));
    /// serve(listener, tower::service_fn(handle)).request_context(requests).run().await;
    /// # }
    /// ```
    #[doc(alias = "timeout")]
    pub fn request_context(mut self, requests: RequestContextLayer) -> Self {
        self.requests = requests;
        self
    }

    /// Refuses HTTP/1. By default the client's first bytes decide: HTTP/2 with prior knowledge
    /// begins with a preface.
    pub fn http2_only(mut self, only: bool) -> Self {
        self.limits.http2_only = only;
        self
    }

    /// Serves by TLS. The configuration has the server's certificate, and the cryptography.
    ///
    /// Its `alpn_protocols` are what a client may choose from: `h2`, `http/1.1`. An empty list
    /// stands for those that the server speaks. The version is the one that the handshake agrees
    /// on, else HTTP/1. The handshake is part of the [`header_timeout`](Self::header_timeout), and
    /// a client that fails it is [`Event::Broken`].
    ///
    /// ```no_run
    /// # use tokio_rustls::rustls;
    /// use heirloom::net::TcpListener;
    /// use rustls::ServerConfig;
    /// # use std::convert::Infallible;
    /// # type Request = hyper::Request<hyper::body::Incoming>;
    /// # type Response = hyper::Response<http_body_util::Empty<hyper::body::Bytes>>;
    ///
    /// # async fn handle(_: Request) -> Result<Response, Infallible> {
    /// #     Ok(Response::default())
    /// # }
    /// async fn serve(config: ServerConfig) -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("0.0.0.0:443").await?;
    ///     let server = heirloom::hyper::serve(listener, tower::service_fn(handle));
    ///     server.tls(config).run().await;
    ///     Ok(())
    /// }
    /// # let _ = serve;
    /// ```
    #[cfg(feature = "rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
    pub fn tls(mut self, config: impl Into<Arc<ServerConfig>>) -> Self {
        self.tls = Some(config.into());
        self
    }

    /// What accepts the TLS handshakes, if there are any.
    #[cfg(feature = "rustls")]
    fn acceptor(&self) -> Option<tokio_rustls::TlsAcceptor> {
        let mut config = self.tls.clone()?;
        if config.alpn_protocols.is_empty() {
            let mut versions = super::both_versions();
            versions.truncate(if self.limits.http2_only { 1 } else { 2 });
            Arc::make_mut(&mut config).alpn_protocols = versions;
        }
        Some(config.into())
    }

    /// Calls `report` for what happens, on the thread on which it happens, in a copy of the
    /// server's context; for what happens to a connection, in a copy of the connection's, so that
    /// [`PEER`] is the client; for a panic of a handler or body, in the request's. By default
    /// nothing is reported; [`Served`] has the numbers.
    ///
    /// A panic of `report` goes on to the code that it reports from: the connection, which ends, or
    /// the future of [`run`](Self::run).
    pub fn on_event(mut self, report: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        self.on_event = Arc::new(report);
        self
    }

    /// Serves until the token is cancelled, then drains. Returns when no connection is left. (Over
    /// HTTP/2, a request that is cut by the [limit](Self::drain_timeout) is dropped soon after its
    /// connection, in its own task.)
    ///
    /// A panic of a handler, or of a response's body, ends its connection over HTTP/1, its stream
    /// over HTTP/2; the server goes on. The panic is [counted](Served::panicked) and
    /// [reported](Self::on_event), and goes on to the task, where the runtime's
    /// [`PanicPolicy`](crate::runtime::PanicPolicy) applies.
    ///
    /// # Cancel safety
    /// Dropping the future closes the listener and ends all connections, without a drain and
    /// without waiting: each is dropped soon after in its own task, and each request in its own
    /// context.
    pub async fn run<B>(self) -> Served
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        #[cfg(feature = "rustls")]
        let tls = self.acceptor();
        let Serve { listener, service, limits, requests, stop, on_event, .. } = self;
        let context = Context::inherited();
        let mut served = Served::default();
        let tally = Arc::new(Tally { on_event, broken: AtomicUsize::new(0), panicked: AtomicUsize::new(0) });
        let report = |event: Event<'_>| context.run(|| (tally.on_event)(event));
        let cut = CancelToken::new();
        let _cut_on_drop = cut.drop_guard();
        let open = Arc::new(OpenConnections::default());

        let accept = async || {
            open.at_most(limits.connections - 1).await;
            listener.accept().await
        };
        while let Some(accepted) = stop.run_until_cancelled(accept()).await {
            match accepted {
                Ok((socket, peer)) => {
                    served.accepted += 1;
                    let context = match peer {
                        Some(peer) => context.with_var(&PEER, peer),
                        None => context.clone(),
                    };
                    let connection = Connection {
                        context: context.clone(),
                        tally: Arc::clone(&tally),
                        limits,
                        requests: requests.clone(),
                        #[cfg(feature = "rustls")]
                        tls: tls.clone(),
                        stop: stop.clone(),
                        cut: cut.clone(),
                        has_request: AtomicBool::new(false),
                        _open: open.open(),
                    };
                    spawn_background(connection.run(socket, service.clone()).in_context(context));
                }
                Err(error) => {
                    served.not_accepted += 1;
                    report(Event::NotAccepted(&error));
                }
            }
        }

        drop(listener); // later clients are refused
        report(Event::Draining(open.count()));
        if wait_for(open.at_most(0), limits.drain).await.is_err() {
            served.cut = open.count();
            cut.cancel("the time for draining is over");
            open.at_most(0).await;
        }
        served.broken = tally.broken.load(Relaxed);
        served.panicked = tally.panicked.load(Relaxed);
        served
    }
}

impl<S> fmt::Debug for Serve<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How many connections are open, and a notification when one is closed.
#[derive(Default)]
struct OpenConnections {
    count: AtomicUsize,
    closed: Notification,
}

impl OpenConnections {
    fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    fn open(self: &Arc<Self>) -> OpenConnection {
        self.count.fetch_add(1, SeqCst);
        OpenConnection(Arc::clone(self))
    }

    /// Waits until so many are open, or fewer. Has one caller at a time: a notification wakes one.
    async fn at_most(&self, most: usize) {
        while self.count() > most {
            // Listens before it looks again, so that no notification falls between.
            let closed = self.closed.listen();
            if self.count() > most {
                closed.await;
            }
        }
    }
}

/// Counts as open until it is dropped.
struct OpenConnection(Arc<OpenConnections>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, SeqCst);
        self.0.closed.notify(1);
    }
}

/// What connections and requests report to.
struct Tally {
    on_event: OnEvent,
    broken: AtomicUsize,
    panicked: AtomicUsize,
}

impl Tally {
    /// Counts and reports a panic of the step, in the request's context, and passes it on to the
    /// task: the task is the connection's or the stream's, and knows nothing of the request.
    fn watch<R>(&self, step: impl FnOnce() -> R) -> R {
        panic::catch(step).unwrap_or_else(|payload| {
            self.panicked.fetch_add(1, Relaxed);
            (self.on_event)(Event::Panicked(message_of(&*payload).unwrap_or("(the payload is no text)")));
            resume_unwind(payload)
        })
    }
}

pin_project_lite::pin_project! {
    /// A response's body, whose panics are counted.
    struct Watched<B> {
        #[pin]
        body: B,
        tally: Arc<Tally>,
    }
}

impl<B: Body> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.tally.watch(|| this.body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Connection {
    context: Context,
    tally: Arc<Tally>,
    limits: Limits,
    requests: RequestContextLayer,
    #[cfg(feature = "rustls")]
    tls: Option<tokio_rustls::TlsAcceptor>,
    stop: CancelToken,
    cut: CancelToken,
    /// The head of a first request was read.
    has_request: AtomicBool,
    // Dropped last: what the connection holds is gone when the server sees that it has ended.
    _open: OpenConnection,
}

impl Connection {
    async fn run<S, B>(self, socket: HyperStream, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        // Each request has a context of its own, and a clone of the service that is dropped there.
        let (context, has_request, tally) = (&self.context, &self.has_request, &self.tally);
        let requests = &self.requests;
        let answer = move |request| {
            has_request.store(true, Relaxed);
            let tally = Arc::clone(tally);
            requests.begin(request, context.clone(), |request| {
                let mut service = service.clone();
                async move {
                    let answer = async {
                        poll_fn(|cx| service.poll_ready(cx)).await?;
                        service.call(request).await
                    };
                    let mut answer = pin!(answer);
                    let response: Response<B> =
                        poll_fn(|cx| tally.watch(|| answer.as_mut().poll(cx))).await?;
                    Ok::<_, S::Error>(response.map(|body| Watched { body, tally }))
                }
            })
        };
        match self.cut.run_until_cancelled(self.converse(socket, service_fn(answer))).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.tally.broken.fetch_add(1, Relaxed);
                self.report(Event::Broken(&error));
            }
            None => self.report(Event::Cut),
        }
    }

    fn report(&self, event: Event<'_>) {
        self.context.run(|| (self.tally.on_event)(event));
    }

    async fn converse<S, B>(&self, socket: HyperStream, service: S) -> Result<(), BoxError>
    where
        S: HttpService<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>>,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let limit = self.limits.header;
        let begun = wait_for(self.begin(socket), limit);
        let (socket, version) = match self.stop.run_until_cancelled(begun).await {
            Some(Ok(Ok(Some(begun)))) => begun,
            Some(Ok(Err(error))) => return Err(error.into()),
            Some(Err(_elapsed)) => return Err("timeout: no request has begun".into()),
            // The client has left, or the server stops, before there was a request.
            Some(Ok(Ok(None))) | None => return Ok(()),
        };
        if version == Version::HTTP_2 || self.limits.http2_only {
            // Each request is a task, which ends with this connection.
            let serving = ServerExecutor::scope(|executor| {
                let mut http = http2::Builder::new(executor);
                http.timer(HyperTimer).keep_alive_interval(limit).keep_alive_timeout(limit);
                self.drive(http.serve_connection(socket, service), |connection| {
                    connection.graceful_shutdown();
                    true
                })
            });
            return match serving.await {
                Err(error) if has_left(&error) => Ok(()),
                served => Ok(served?),
            };
        }
        let mut http = http1::Builder::new();
        http.timer(HyperTimer).header_read_timeout(limit);
        let connection = http.serve_connection(socket, service).with_upgrades();
        let serving = self.drive(connection, |connection| {
            connection.graceful_shutdown();
            // hyper closes a connection that waits for its next request, but goes on to wait for
            // the rest of a first head of which it has a part.
            self.has_request.load(Relaxed)
        });
        Ok(serving.await?)
    }

    /// The TLS handshake, if there is one, and the version of HTTP. `None` if the client leaves
    /// without a word.
    async fn begin(&self, socket: HyperStream) -> io::Result<Option<(HyperStream, Version)>> {
        #[cfg(feature = "rustls")]
        if let Some(tls) = &self.tls {
            let socket = HyperStream::tls(tls.accept(hyper_util::rt::TokioIo::new(socket)).await?);
            let version = if socket.negotiated_http2() { Version::HTTP_2 } else { Version::HTTP_11 };
            return Ok(Some((socket, version)));
        }
        let version = version(&socket).await?;
        Ok(version.map(|version| (socket, version)))
    }

    /// Runs hyper's connection to its end. When the server stops, `shut_down` lets the requests
    /// that are being served be the last, and says whether there may be any.
    async fn drive<C>(&self, connection: C, shut_down: impl FnOnce(Pin<&mut C>) -> bool) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        match self.stop.run_until_cancelled(connection.as_mut()).await {
            Some(result) => result,
            None if shut_down(connection.as_mut()) => connection.await,
            None => Ok(()),
        }
    }
}

/// Whether a client of HTTP/2 has closed the connection while the server had something to say, if
/// only that the connection ends. It is how such a client ends a connection.
fn has_left(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// The version that the client begins to speak in the clear. `None` if the client leaves without a
/// word.
async fn version(socket: &HyperStream) -> io::Result<Option<Version>> {
    const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut first = [0; PREFACE.len()];
    loop {
        let peeked = match &socket.0 {
            Transport::Tcp(socket) => socket.peek(&mut first).await?,
            #[cfg(unix)]
            Transport::Unix(socket) => peek(socket, &mut first).await?,
            #[cfg(feature = "rustls")]
            Transport::Tls(_) => unreachable!("the handshake has agreed on a version"),
        };
        match peeked {
            0 => return Ok(None),
            _ if first == *PREFACE => return Ok(Some(Version::HTTP_2)),
            part if !PREFACE.starts_with(&first[..part]) => return Ok(Some(Version::HTTP_11)),
            // A part of the preface. What is peeked at stays, so there is no waiting for the rest
            // alone.
            _ => sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Reads without taking.
#[cfg(unix)]
async fn peek(socket: &UnixStream, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        match socket.try_io(Direction::Read, || crate::util::system::peek(socket, buf)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            peeked => return peeked,
        }
    }
}
