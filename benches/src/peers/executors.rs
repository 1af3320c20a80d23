//! The work-stealing pool of the crate `executors`, with its parker for up to 32 threads. It has no
//! timers.

use std::future::Future;

use ::executors::Executor as _;
use ::executors::crossbeam_workstealing_pool::{ThreadPool, small_pool};
use ::executors::futures_executor::{FuturesExecutor as _, JoinHandle};
use ::executors::parker::{SmallThreadData, StaticParker};

use super::Executor;

/// `executors::crossbeam_workstealing_pool`.
#[derive(Clone, Copy, Debug)]
pub struct Executors(&'static ThreadPool<StaticParker<SmallThreadData>>);

impl Executor for Executors {
    const NAME: &'static str = "executors";

    type Join<T: Send + 'static> = JoinHandle<T>;

    fn start(workers: usize) -> Self {
        Executors(Box::leak(Box::new(small_pool(workers))))
    }

    fn stop(self) {
        self.0.shutdown_borrowed().expect("the pool does not shut down");
    }

    #[inline]
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output> {
        self.0.spawn(f)
    }

    #[inline]
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
        self.0.spawn(f).detach();
    }

    fn block_on<F: Future>(&self, f: F) -> F::Output {
        futures::executor::block_on(f)
    }
}
