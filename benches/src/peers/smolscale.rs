//! smolscale: global, one worker per processor, and a monitor that looks every 50 ms. Its threads never end.
//!
//! A worker that runs tasks wakes no other; work is shared when the monitor says so. What takes less than 50 ms therefore
//! usually runs on one worker: quick where tasks do nothing, and no faster than one core where they do something.

use std::future::Future;
use std::time::Duration;

use super::{AsyncExecutor, Executor, Timers};

/// smolscale's global executor.
#[derive(Clone, Copy, Debug)]
pub struct Smolscale;

impl Executor for Smolscale {
    const NAME: &'static str = "smolscale";

    type Join<T: Send + 'static> = ::async_executor::Task<T>;

    fn start(_workers: usize) -> Self {
        Smolscale
    }

    fn stop(self) {}

    #[inline]
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output> {
        ::smolscale::spawn(f)
    }

    #[inline]
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
        ::smolscale::spawn(f).detach();
    }

    // Its own `block_on` wants a future that is `Send` and `'static`, and enters a tokio runtime around it.
    fn block_on<F: Future>(&self, f: F) -> F::Output {
        futures_lite::future::block_on(f)
    }

    #[inline]
    fn yield_now() -> impl Future<Output = ()> + Send {
        futures_lite::future::yield_now()
    }
}

impl Timers for Smolscale {
    #[inline]
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        AsyncExecutor::sleep(duration)
    }

    #[inline]
    fn timeout<F: Future<Output: Send> + Send>(
        limit: Duration,
        f: F,
    ) -> impl Future<Output = Option<F::Output>> + Send {
        AsyncExecutor::timeout(limit, f)
    }
}
