//! async-executor's `Executor` on threads of ours, as its documentation shows it, with async-io's timers.

use std::future::Future;
use std::time::Duration;

use ::async_executor::{Executor as Inner, Task};
use async_io::Timer;

use super::{Executor, Threads, Timers};

/// async-executor's `Executor`.
#[derive(Clone, Copy, Debug)]
pub struct AsyncExecutor(&'static Started);

#[derive(Debug)]
struct Started {
    executor: &'static Inner<'static>,
    threads: Threads,
}

impl Executor for AsyncExecutor {
    const NAME: &'static str = "async-executor";

    type Join<T: Send + 'static> = Task<T>;

    fn start(workers: usize) -> Self {
        let executor: &'static Inner<'static> = Box::leak(Box::new(Inner::new()));
        let threads = Threads::start("async-executor", workers, |stopped| {
            let _ = futures_lite::future::block_on(executor.run(stopped));
        });
        AsyncExecutor(Box::leak(Box::new(Started { executor, threads })))
    }

    fn stop(self) {
        self.0.threads.stop();
    }

    #[inline]
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output> {
        self.0.executor.spawn(f)
    }

    #[inline]
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
        self.0.executor.spawn(f).detach();
    }

    fn block_on<F: Future>(&self, f: F) -> F::Output {
        futures_lite::future::block_on(f)
    }

    #[inline]
    fn yield_now() -> impl Future<Output = ()> + Send {
        futures_lite::future::yield_now()
    }
}

impl Timers for AsyncExecutor {
    #[inline]
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        let timer = Timer::after(duration);
        async move {
            timer.await;
        }
    }

    // What the family's documentation recommends. The timer is made only when the future is not ready.
    #[inline]
    fn timeout<F: Future<Output: Send> + Send>(
        limit: Duration,
        f: F,
    ) -> impl Future<Output = Option<F::Output>> + Send {
        futures_lite::future::or(async move { Some(f.await) }, async move {
            Timer::after(limit).await;
            None
        })
    }
}
