//! async-executor's `StaticExecutor`: the same without a list of active tasks, since it is never dropped.

use std::future::Future;
use std::time::Duration;

use ::async_executor::{Executor as Inner, StaticExecutor, Task};

use super::{AsyncExecutor, Executor, Threads, Timers};

/// async-executor's `StaticExecutor`.
#[derive(Clone, Copy, Debug)]
pub struct StaticAsyncExecutor(&'static Started);

#[derive(Debug)]
struct Started {
    executor: &'static StaticExecutor,
    threads: Threads,
}

impl Executor for StaticAsyncExecutor {
    const NAME: &'static str = "static-executor";

    type Join<T: Send + 'static> = Task<T>;

    fn start(workers: usize) -> Self {
        let executor = Inner::new().leak();
        let threads = Threads::start("static-executor", workers, |stopped| {
            let _ = futures_lite::future::block_on(executor.run(stopped));
        });
        StaticAsyncExecutor(Box::leak(Box::new(Started { executor, threads })))
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

impl Timers for StaticAsyncExecutor {
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
