//! forte: heartbeat scheduling of private queues. It has no timers.
//!
//! One idle worker searches for 50 µs before it parks, which is short for what comes from outside
//! and costs processor time. Work from outside is looked at only when a worker has nothing else.

use std::future::Future;

use forte::{Task, ThreadPool, Worker};
use heirloom_benches::peers::Executor;

static POOL: ThreadPool = ThreadPool::new();

/// forte's thread pool.
#[derive(Clone, Copy, Debug)]
pub struct Forte;

// On a thread that is no worker, `ThreadPool::block_on` does what the trait's default does, and
// asks for a future that is `Send`.
impl Executor for Forte {
    const NAME: &'static str = "forte";

    type Join<T: Send + 'static> = Task<T>;

    fn start(workers: usize) -> Self {
        assert_eq!(POOL.resize_to(workers), workers, "no thread for a worker");
        Forte
    }

    fn stop(self) {
        POOL.depopulate();
    }

    // A worker's own `spawn` also looks whether it is time to share with its siblings; the pool's
    // does not.
    #[inline]
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output> {
        Worker::with_current(|worker| match worker {
            Some(worker) => worker.spawn(f),
            None => POOL.spawn(f),
        })
    }

    #[inline]
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
        self.spawn(f).detach();
    }
}
