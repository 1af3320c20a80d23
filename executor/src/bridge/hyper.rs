//! hyper 1 on this executor: what it spawns with, what it sleeps with, and what it reads from and writes to.
//!
//! hyper is asked for an [executor](HyperExecutor), a [timer](HyperTimer) and I/O where it needs them: our sockets as they
//! are, anything else with the traits of `futures` in a [`HyperIo`]. So everything that stands on hyper (hyper-util, axum,
//! tonic's server) runs unchanged. It brings tokio as a dependency for its channels; no tokio runtime is needed, and none is
//! started.
//!
//! # Where the context goes
//!
//! A connection is a task, and a request is served inside it. So is the handler: what it sets is seen by the next
//! request of that connection, unless each request gets a layer or a context of its own. One wrapper around the service
//! does it for all handlers, and drops what a request has set when its handler returns:
//!
//! ```
//! use std::convert::Infallible;
//! use heirloom::{Context, ContextFutureExt, context_var};
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
//! let service = service_fn(|request| handle(request).in_context(Context::empty()));
//! # fn is_service<S: hyper::service::Service<Request<Incoming>>>(_: &S) {}
//! # is_service(&service);
//! ```
//!
//! A response's *body* is polled after its handler has returned, by the connection and in its context. A body that is made
//! as it is sent, and reads the request's values meanwhile, is therefore a stream with a context of its own:
//! `StreamBody::new(stream.in_current_context())`.
//!
//! A client's pool outlives the requests that open its connections. Therefore [`HyperExecutor`] spawns in the
//! runtime's root context, without a deadline: no connection holds the values of the request that happened to open it.

#[cfg(feature = "net")]
mod sockets;

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::{Executor, Read, ReadBuf, ReadBufCursor, Sleep, Timer, Write};

/// Runs hyper's own tasks: the connections of a client's pool, the streams of HTTP/2.
///
/// Each is a [background task](crate::spawn_background): in the runtime's root context, without a deadline, and
/// nobody's to cancel. It belongs to the runtime of whoever needs it first, else to the default one.
///
/// ```
/// use heirloom::hyper::{HyperExecutor, HyperTimer};
///
/// let mut http2 = hyper::server::conn::http2::Builder::new(HyperExecutor);
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

/// Sleeps for hyper: time limits for headers, keep-alives, idle connections of a pool.
///
/// Without a timer hyper has none of these limits, and a client that sends its headers a byte a minute is served for
/// ever.
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

/// What [`HyperTimer`] gives out.
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
    /// Lets hyper read from and write to anything that implements the traits of `futures`, and the other way round.
    ///
    /// [`TcpStream`](crate::net::TcpStream) and [`UnixStream`](crate::net::UnixStream) do without it.
    ///
    /// Bytes go straight into hyper's buffers and come straight from them; parts of a response are written together
    /// ([vectored](AsyncWrite::poll_write_vectored)). Where the inner writer does not do that well, as TLS streams do not,
    /// let hyper join the parts instead: `http1::Builder::writev(false)`.
    ///
    /// The other way round is for what hyper hands out: `HyperIo<hyper::upgrade::Upgraded>` is an [`AsyncRead`] and
    /// [`AsyncWrite`], for instance for web sockets.
    ///
    /// ```
    /// use heirloom::hyper::{HyperIo, HyperTimer};
    /// # use futures::io::{AsyncRead, AsyncWrite};
    ///
    /// # async fn handle(_: hyper::Request<hyper::body::Incoming>)
    /// #     -> Result<hyper::Response<http_body_util::Empty<hyper::body::Bytes>>, std::convert::Infallible> {
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

    /// What is inside.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// What is inside, to be changed.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Takes out what is inside.
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
        // SAFETY: all `length` bytes were initialised just now, and `read` is not more.
        unsafe { buf.advance(read) };
        Poll::Ready(Ok(()))
    }
}

/// hyper's trait for writing, for what leads to a writer with the traits of `futures`.
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
