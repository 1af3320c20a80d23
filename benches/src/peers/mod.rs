//! The executors that are compared, each behind one small trait, each in a file of its own.
//!
//! ```text
//! start ──► run / detach / spawn / block_on, from workers and from outside ──► stop
//! ```
//!
//! A peer is a handle of a word at most, which tasks copy: what they carry to spawn others must not
//! be what is measured. That is why adapters leak a few hundred bytes when they start. What cannot
//! be stopped (a pool that lives as long as the process) is started once and parked in between.
//!
//! Each adapter takes its peer's best public way, and says so where there were several. A peer that
//! needs another toolchain stands in `benches/apart`; one that only runs sets of tasks to their end
//! (nexosim) has a module here, but not the trait.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;

pub mod async_executor;
pub mod executors;
pub mod futures_pool;
pub mod heirloom;
pub mod smol;
pub mod smolscale;
mod threads;
pub mod tokio;
pub mod tokio_current;

/// The build of the crate that `heirloom.rs` is compiled for here.
use ::heirloom as tested;

use crate::net::serve::Sockets;

pub use self::threads::Threads;
pub use self::{
    async_executor::{AsyncExecutor, StaticAsyncExecutor},
    executors::Executors,
    futures_pool::FuturesPool,
    heirloom::Heirloom,
    smol::Smol,
    smolscale::Smolscale,
    tokio::Tokio,
    tokio_current::TokioCurrent,
};

/// Something that runs tasks.
pub trait Executor: Copy + Send + Sync + 'static {
    /// What it is called in tables and on the command line.
    const NAME: &'static str;

    /// The handle of a task. Dropping it may cancel the task: use [`detach`](Executor::detach) for
    /// those that are not awaited.
    type Join<T: Send + 'static>: Future<Output = T> + Send + Unpin + 'static;

    /// Starts it with so many worker threads.
    fn start(workers: usize) -> Self;

    /// Ends what [`start`](Executor::start) has begun, as far as the peer lets us. No task may be
    /// left.
    fn stop(self) {}

    /// Runs `f` in what the calling thread is to have while it measures: Heirloom binds variables.
    fn within<R>(f: impl FnOnce() -> R) -> R {
        f()
    }

    /// Spawns a task, from a worker or from any thread, in the way that is fastest there.
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output>;

    /// Spawns a task that is not awaited.
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F);

    /// Runs `f` as a task on a worker; the calling thread blocks until it is over.
    fn run<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> F::Output {
        let (send, receive) = mpsc::channel();
        self.detach(async move {
            // The receiver waits for the answer.
            let _ = send.send(f.await);
        });
        receive.recv().expect("the task was dropped before its end")
    }

    /// Polls `f` on the calling thread, which is no worker.
    fn block_on<F: Future>(&self, f: F) -> F::Output {
        futures_lite::future::block_on(f)
    }

    /// Lets other tasks run.
    #[inline]
    fn yield_now() -> impl Future<Output = ()> + Send {
        futures_lite::future::yield_now()
    }
}

/// An executor with timers, of its own or of the crate its authors send one to.
pub trait Timers: Executor {
    /// Waits.
    #[inline]
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        let timer = Timer::after(duration);
        async move {
            timer.await;
        }
    }

    /// Waits for `f`, but no longer than `limit`. By default as the documentation of smol's family
    /// recommends; the timer is made only when `f` is not ready.
    #[inline]
    fn timeout<F: Future<Output: Send> + Send>(
        limit: Duration,
        f: F,
    ) -> impl Future<Output = Option<F::Output>> + Send {
        futures_lite::future::or(async move { Some(f.await) }, async move {
            Self::sleep(limit).await;
            None
        })
    }
}

/// Heirloom, in any build: what only tasks that inherit a context can be asked.
pub trait Inheriting: Sockets + Timers {
    /// Runs `f` with so many variables bound, and no others.
    fn with_bound<R>(count: usize, f: impl FnOnce() -> R) -> R;

    /// As [`Sockets::echo`], but each message is answered in a context of its own, which is read.
    fn echo_in_contexts(self, listener: TcpListener)
    -> impl Future<Output = io::Result<()>> + Send + 'static;
}

/// How a build of Heirloom is called in tables.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// With variables bound: what is judged.
    pub judged: &'static str,
    /// With none.
    pub bare: &'static str,
}

/// The build that is released.
const NAMES: Names = Names { judged: "heirloom", bare: "heirloom-bare" };

/// A handle whose task ends in a `Result`, for a peer whose tasks can fail.
#[derive(Debug)]
pub struct Unwrapped<H>(pub H);

impl<T, E: std::fmt::Debug, H: Future<Output = Result<T, E>> + Unpin> Future for Unwrapped<H> {
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.expect("a task panicked or was cancelled"))
    }
}
