//! async-rs, the traits on which lapin stands.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::{Task as Wrapped, TaskImpl};
use async_trait::async_trait;
use futures_channel::oneshot;
use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use heirloom::net::{Async, Direction, TcpStream};
use heirloom::task::{AbortHandle, JoinHandle};
use heirloom::time::Sleep;

use crate::Heirloom;

#[cfg_attr(docsrs, doc(cfg(feature = "async-rs")))]
impl RuntimeKit for Heirloom {}

/// Tasks are background tasks. Closures that block inherit the caller's context.
///
/// ```
/// use async_rs::traits::Executor;
/// use heirloom::context_var;
/// use heirloom_adaptors::Heirloom;
///
/// context_var! { static TENANT: u32; }
///
/// heirloom::block_on(async {
///     TENANT.set(7);
///     let runtime = Heirloom::current();
///     assert_eq!(runtime.spawn(async { TENANT.get() }).await, None);
///     assert_eq!(runtime.spawn_blocking(|| TENANT.get()).await, Some(7));
/// });
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "async-rs")))]
impl Executor for Heirloom {
    type Task<T: Send + 'static> = Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Wrapped<Task<T>> {
        let (send, output) = oneshot::channel();
        // In this order: when the sender is dropped, the future is gone.
        let abort = self.0.spawn_background(async move {
            let result = future.await;
            let _ = send.send(result); // the task may be detached
        });
        Task { output, abort, closure: None }.into()
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, f: F) -> Wrapped<Task<T>> {
        let (send, output) = oneshot::channel();
        let closure = self.0.spawn_blocking(move || {
            let result = f();
            let _ = send.send(result); // the task may be detached
        });
        Task { output, abort: closure.abort_handle(), closure: Some(closure) }.into()
    }
}

/// A task or a closure that blocks, which async-rs has spawned. It is detached when it is dropped.
///
/// # Panics
/// When it is awaited and the task has panicked or was cancelled, also by the end of its runtime,
/// as async-rs has it for every runtime.
#[derive(Debug)]
#[cfg_attr(docsrs, doc(cfg(feature = "async-rs")))]
pub struct Task<T> {
    // The sender is dropped with the task's future.
    output: oneshot::Receiver<T>,
    abort: AbortHandle,
    /// What blocks has the caller's deadline until it is detached.
    closure: Option<JoinHandle<()>>,
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let output = ready!(Pin::new(&mut self.output).poll(cx));
        Poll::Ready(output.expect("a task that has an output: this one has panicked, or was cancelled"))
    }
}

#[async_trait]
impl<T: Send + 'static> TaskImpl for Task<T> {
    async fn cancel(&mut self) -> Option<T> {
        self.abort.abort();
        (&mut self.output).await.ok()
    }

    fn detach(&mut self) {
        if let Some(closure) = self.closure.take() {
            closure.detach();
        }
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "async-rs")))]
impl Reactor for Heirloom {
    type TcpStream = TcpStream;
    type Sleep = Sleep;

    /// As [`Async::new`] does, makes the descriptor non-blocking.
    fn register<H: Read + Write + AsFd + Send + 'static>(
        &self,
        handle: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        let _entered = self.0.enter();
        let events = Async::new(handle.as_fd().try_clone_to_owned()?)?;
        Ok(Registered { events, handle })
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        heirloom::sleep(duration)
    }

    /// # Panics
    /// If the period is zero.
    fn interval(&self, period: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        heirloom::interval(period)
    }

    fn tcp_connect_addr(
        &self,
        server: SocketAddr,
    ) -> impl Future<Output = io::Result<TcpStream>> + Send + 'static {
        self.clone().inside(async move {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

/// A handle that was registered. Its events come by a duplicate of its descriptor: reading and
/// writing want the handle mutable, which [`Async`] does not give out.
#[derive(Debug)]
struct Registered<H> {
    events: Async<OwnedFd>,
    handle: H,
}

// Nothing is pinned.
impl<H> Unpin for Registered<H> {}

impl<H: Read> AsyncRead for Registered<H> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Registered { events, handle } = self.get_mut();
        events.poll_io(cx, Direction::Read, |_| handle.read(buf))
    }
}

impl<H: Write> AsyncWrite for Registered<H> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Registered { events, handle } = self.get_mut();
        events.poll_io(cx, Direction::Write, |_| handle.write(buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Registered { events, handle } = self.get_mut();
        events.poll_io(cx, Direction::Write, |_| handle.flush())
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
