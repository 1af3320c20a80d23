//! futures' `ThreadPool`, with futures-timer. Its threads end with its last handle; ours is a
//! static one, which tasks need not carry, so they stay, parked.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use futures::executor::ThreadPool;
use futures::future::RemoteHandle;
use futures::task::SpawnExt as _;
use futures_timer::Delay;

use super::{Executor, Timers};

/// futures' `ThreadPool`.
#[derive(Clone, Copy, Debug)]
pub struct FuturesPool(&'static ThreadPool);

impl Executor for FuturesPool {
    const NAME: &'static str = "futures-pool";

    type Join<T: Send + 'static> = RemoteHandle<T>;

    fn start(workers: usize) -> Self {
        static POOL: OnceLock<(usize, ThreadPool)> = OnceLock::new();
        let start = || {
            let pool = ThreadPool::builder().pool_size(workers).create().expect("no thread for a worker");
            (workers, pool)
        };
        let (size, pool) = POOL.get_or_init(start);
        assert_eq!(*size, workers, "the pool was started with another number of workers");
        FuturesPool(pool)
    }

    #[inline]
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output> {
        self.0.spawn_with_handle(f).expect("the pool is gone")
    }

    #[inline]
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
        self.0.spawn_ok(f);
    }

    fn block_on<F: Future>(&self, f: F) -> F::Output {
        futures::executor::block_on(f)
    }
}

impl Timers for FuturesPool {
    #[inline]
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        Delay::new(duration)
    }
}
