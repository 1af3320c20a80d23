//! hyper 1 on this executor: its executor, its timer, its I/O, and a server.
//!
//! With feature `serve` there is `serve`, a server for tower services such as axum's `Router`. It
//! gives each request a context of its own, and does all that this page says of servers. With
//! feature `client` there is `HyperConnector`, which connects hyper-util's client and tonic's
//! channel. With feature `rustls` both have TLS.
//!
//! hyper asks its user for an executor where it spawns ([`ServerExecutor`] for a server's HTTP/2,
//! [`HyperExecutor`] for clients and their pools), a [timer](HyperTimer) and I/O: our sockets as
//! they are, and any other type with the I/O traits of `futures` in a [`HyperIo`]. hyper depends on
//! tokio for its channels; no tokio runtime is needed, and none is started.
//!
//! # What runs
//!
//! Tried with hyper 1.12, hyper-util 0.1.21, axum 0.8.9, tonic 0.14.9 and tokio 1.54.1:
//!
//! | | |
//! | --- | --- |
//! | hyper's connections, of servers and clients, HTTP/1 and HTTP/2 | run |
//! | hyper-util: `TowerToHyperService`, `server::conn::auto`, `client::legacy::Client` | run; the client with `HyperConnector`, feature `client`. `auto` waits without a limit for a connection's first bytes |
//! | axum's `Router` | runs; `axum::serve` needs tokio's sockets, in its place is `serve` |
//! | tonic's `Routes`, served by hyper | run, but **ignore the `grpc-timeout`** of a request; `heirloom::tower::RequestContextLayer` heeds it |
//! | tonic's `transport::Server` | `serve` and its variants panic, for want of a tokio reactor |
//! | tonic's client | runs with `HyperConnector` and [`HyperExecutor`]; a time limit of its own panics likewise |
//! | reqwest | panics likewise |
//!
//! # Where the context goes
//!
//! A server's connection is a task. Over HTTP/1 everything runs inside this task. Over HTTP/2 hyper
//! spawns a task per stream, that is, per request, by the executor it was given:
//!
//! | context and deadline | HTTP/1 | HTTP/2, [`ServerExecutor`] | HTTP/2, [`HyperExecutor`] |
//! | --- | --- | --- | --- |
//! | in the service's `call` | the connection's | the connection's | the connection's |
//! | in the handler, the future that `call` returns | the connection's | its own, inherited from the connection | its own, empty; no deadline |
//! | in the response's body | the connection's | as in its handler | as in its handler |
//!
//! So with [`ServerExecutor`] every request sees the variables that are bound around
//! `serve_connection`. A variable that a handler sets stays in its own request over HTTP/2; over
//! HTTP/1 the next request of the connection sees it. A variable that `call` sets before it returns
//! is seen by later requests over both. **So a connection by hand leaks one request's variables to
//! the next.** `heirloom::tower::RequestContextLayer` (feature `tower`) around a tower service
//! gives each request a context of its own over both, the response's body included. Around a
//! service of hyper's, this does, without the body:
//!
//! ```
//! use std::convert::Infallible;
//! use heirloom::context::ContextFutureExt;
//! use heirloom::{Context, context_var};
//! use http_body_util::Empty;
//! use hyper::body::{Bytes, Incoming};
//! use hyper::service::service_fn;
//! use hyper::{Request, Response};
//!
//! context_var! { static REQUEST_ID: u64; }
//!
//! async fn handle(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
//!     REQUEST_ID.set(7); // gone after this request
//!     Ok(Response::new(Empty::new()))
//! }
//!
//! let service = service_fn(|request| handle(request).in_context(Context::current()));
//! # fn is_service<S: hyper::service::Service<Request<Incoming>>>(_: &S) {}
//! # is_service(&service);
//! ```
//!
//! [`isolated`](crate::context::ContextFutureExt::isolated) does the same, and the handler still
//! sees later changes of the connection's context.
//!
//! # Bodies
//!
//! A body that is produced while it is sent is polled after the code that made it has returned. So
//! it sees neither the context of a wrapper as above around that code, nor the deadline of a
//! `wait_for`. (With `serve`, and in a `RequestContextLayer`, it sees the context of its request
//! and the deadline that the layer gives.)
//!
//! * A *response's* body is polled by the connection's task over HTTP/1, by the stream's task
//!   over HTTP/2. It sees that task's context, and the deadline around the connection.
//! * A client's *request* body is polled by a task of the connection, which several callers may
//!   share. With [`HyperExecutor`] it sees an empty context and no deadline. (With an executor that
//!   used `spawn`, it would see the context of the caller that happened to open the connection.)
//!
//! [`in_current_context`](crate::context::ContextStreamExt::in_current_context) makes a stream run
//! in its maker's context. The deadline is no part of the context: where it matters, limit each
//! part by itself.
//!
//! ```
//! use std::io;
//! use futures::{StreamExt, stream};
//! use heirloom::context::ContextStreamExt;
//! use heirloom::{context_var, deadline, wait_until};
//! use http_body_util::StreamBody;
//! use hyper::body::{Body, Bytes, Frame};
//!
//! context_var! { static TENANT: String; }
//!
//! async fn row(number: u32) -> Bytes {
//!     Bytes::from(format!("{} {number}\n", TENANT.get().unwrap_or_default()))
//! }
//!
//! fn rows() -> impl Body<Data = Bytes, Error = io::Error> {
//!     let end = deadline(); // of the request, while it is served
//!     let rows = stream::iter(0..100).then(move |number| async move {
//!         let row = match end {
//!             Some(end) => wait_until(row(number), end).await?,
//!             None => row(number).await,
//!         };
//!         Ok(Frame::data(row))
//!     });
//!     StreamBody::new(rows.in_current_context())
//! }
//! # let _ = rows();
//! ```

#[cfg(feature = "client")]
mod connector;
#[cfg(all(feature = "serve", not(loom)))]
pub mod serve;
mod server;
#[cfg(feature = "net")]
mod sockets;
#[cfg(any(feature = "client", all(feature = "serve", not(loom))))]
mod stream;

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::{Executor, Read, ReadBuf, ReadBufCursor, Sleep, Timer, Write};

#[cfg(feature = "client")]
#[cfg_attr(docsrs, doc(cfg(feature = "client")))]
pub use self::connector::HyperConnector;
#[cfg(all(feature = "serve", not(loom)))]
#[cfg_attr(docsrs, doc(cfg(feature = "serve")))]
pub use self::serve::serve;
pub use self::server::{ServerExecutor, ServerScope};
#[cfg(any(feature = "client", all(feature = "serve", not(loom))))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "client", feature = "serve"))))]
pub use self::stream::HyperStream;

/// The names of HTTP/2 and HTTP/1 in a TLS handshake, the preferred one first.
#[cfg(all(feature = "rustls", any(feature = "client", all(feature = "serve", not(loom)))))]
fn both_versions() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// Runs what hyper spawns for clients: the connections of a pool, and the parts of a connection
/// over HTTP/2.
///
/// Each is a [background task](crate::spawn_background): in the runtime's root context, and without
/// a deadline. No handle ends the task, so a connection outlives the request that opens it, and
/// holds none of the request's values. The task belongs to the runtime that is current where hyper
/// spawns it, else to the default one.
///
/// For a server's connections there is [`ServerExecutor`]: handlers that this executor ran would
/// see neither what is bound around their connection nor its deadline.
///
/// ```
/// use heirloom::hyper::{HyperExecutor, HyperTimer};
///
/// let mut http2 = hyper::client::conn::http2::Builder::new(HyperExecutor);
/// http2.timer(HyperTimer);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HyperExecutor;

impl HyperExecutor {
    /// The executor.
    pub const fn new() -> Self {
        HyperExecutor
    }
}

impl<F> Executor<F> for HyperExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[track_caller]
    fn execute(&self, future: F) {
        crate::spawn_background(future);
    }
}

/// hyper's timer: for time limits of headers, keep-alives, and idle connections of a pool.
///
/// Without a timer hyper has none of these limits, and serves a client that sends its headers a
/// byte a minute for ever.
///
/// ```
/// use std::time::Duration;
/// use heirloom::hyper::HyperTimer;
///
/// let mut http1 = hyper::server::conn::http1::Builder::new();
/// http1.timer(HyperTimer).header_read_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HyperTimer;

impl HyperTimer {
    /// The timer.
    pub const fn new() -> Self {
        HyperTimer
    }
}

/// The future that [`HyperTimer`] returns.
struct HyperSleep(crate::time::Sleep);

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl Sleep for HyperSleep {}

impl Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(HyperSleep(crate::sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HyperSleep(crate::sleep_until(deadline)))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<HyperSleep>() {
            Some(mut ours) => Pin::new(&mut ours.0).reset(new_deadline),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}

pin_project_lite::pin_project! {
    /// Lets hyper read from and write to anything that implements the traits of `futures`, and the
    /// other way round.
    ///
    /// [`TcpStream`](crate::net::TcpStream) and [`UnixStream`](crate::net::UnixStream) implement
    /// hyper's traits themselves.
    ///
    /// Bytes are read into hyper's buffers and written from them without a copy. Parts of a
    /// response are written together ([vectored](AsyncWrite::poll_write_vectored)). For an inner
    /// writer that does not support that well, such as a TLS stream, let hyper join the parts:
    /// `http1::Builder::writev(false)`.
    ///
    /// The other way round is for hyper's own streams: `HyperIo<hyper::upgrade::Upgraded>`
    /// implements [`AsyncRead`] and [`AsyncWrite`], for instance for web sockets.
    ///
    /// ```
    /// use heirloom::hyper::{HyperIo, HyperTimer};
    /// # use futures::io::{AsyncRead, AsyncWrite};
    ///
    /// # async fn handle(_: hyper::Request<hyper::body::Incoming>)
    /// #     -> Result<
    /// #         hyper::Response<http_body_util::Empty<hyper::body::Bytes>>,
    /// #         std::convert::Infallible,
    /// #     > {
    /// #     Ok(hyper::Response::new(http_body_util::Empty::new()))
    /// # }
    /// async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin) -> hyper::Result<()> {
    ///     hyper::server::conn::http1::Builder::new()
    ///         .timer(HyperTimer)
    ///         .serve_connection(HyperIo::new(socket), hyper::service::service_fn(handle))
    ///         .await
    /// }
    /// ```
    #[derive(Clone, Debug)]
    pub struct HyperIo<T> {
        #[pin]
        inner: T,
    }
}

impl<T> HyperIo<T> {
    /// Wraps a reader and writer.
    pub const fn new(inner: T) -> Self {
        HyperIo { inner }
    }

    /// The inner reader and writer.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The inner reader and writer, mutably.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner reader and writer.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T> From<T> for HyperIo<T> {
    fn from(inner: T) -> Self {
        HyperIo::new(inner)
    }
}

impl<T: AsyncRead> Read for HyperIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.initialize_unfilled();
        let length = room.len();
        let read = ready!(self.project().inner.poll_read(cx, room))?;
        assert!(read <= length, "a reader must not claim to have read more than there was room for");
        // SAFETY: `initialize_unfilled` initialised all `length` bytes, and `read <= length`.
        unsafe { buf.advance(read) };
        Poll::Ready(Ok(()))
    }
}

/// Implements hyper's trait for writing by an expression that leads to a pinned `AsyncWrite`.
macro_rules! write_through {
    ([$($generics:tt)*] $type:ty, $this:ident => $writer:expr) => {
        impl $($generics)* hyper::rt::Write for $type {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self;
                futures_io::AsyncWrite::poll_write($writer, cx, buf)
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let $this = self;
                futures_io::AsyncWrite::poll_flush($writer, cx)
            }

            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let $this = self;
                futures_io::AsyncWrite::poll_close($writer, cx)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self;
                futures_io::AsyncWrite::poll_write_vectored($writer, cx, bufs)
            }
        }
    };
}
#[cfg(feature = "net")]
use write_through;

write_through!([<T: AsyncWrite>] HyperIo<T>, this => this.project().inner);

impl<T: Read> AsyncRead for HyperIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(self.project().inner.poll_read(cx, buf.unfilled()))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl<T: Write> AsyncWrite for HyperIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}
