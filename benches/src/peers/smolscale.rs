//! smolscale: global, one worker per processor, and a monitor that looks every 50 ms. Its threads
//! never end.
//!
//! A worker that runs tasks wakes no other; work is shared when the monitor says so. What takes
//! less than 50 ms therefore usually runs on one worker: quick where tasks do nothing, and no
//! faster than one core where they do something.

use std::future::Future;

use super::{Executor, Timers};

/// smolscale's global executor.
#[derive(Clone, Copy, Debug)]
pub struct Smolscale;

// Its own `block_on` wants a future that is `Send` and `'static`, and enters a tokio runtime around
// it.
impl Executor for Smolscale {
    const NAME: &'static str = "smolscale";

    type Join<T: Send + 'static> = ::async_executor::Task<T>;

    fn start(_workers: usize) -> Self {
        Smolscale
    }

    #[inline]
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output> {
        ::smolscale::spawn(f)
    }

    #[inline]
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
        ::smolscale::spawn(f).detach();
    }
}

impl Timers for Smolscale {}
