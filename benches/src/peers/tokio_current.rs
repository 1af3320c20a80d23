//! tokio's current-thread runtime, driven by one thread of its own, so that "outside" means here
//! what it means elsewhere.
//!
//! It has one worker by its nature. Driven by the caller's `block_on` it would have no outside at
//! all.

use std::future::Future;
use std::time::Duration;

use ::tokio::runtime::{Builder, Handle};

use super::tokio::by_handle;
use super::{Executor, Threads, Timers, Tokio, Unwrapped};

/// tokio's current-thread runtime.
#[derive(Clone, Copy, Debug)]
pub struct TokioCurrent(&'static Started);

#[derive(Debug)]
struct Started {
    handle: Handle,
    thread: Threads,
}

impl Executor for TokioCurrent {
    const NAME: &'static str = "tokio-current";

    fn start(_workers: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("no runtime to be had");
        let handle = runtime.handle().clone();
        let runtime = std::sync::Arc::new(runtime);
        let thread = Threads::start("tokio-current", 1, move |stopped| {
            let _ = runtime.block_on(stopped);
        });
        TokioCurrent(Box::leak(Box::new(Started { handle, thread })))
    }

    fn stop(self) {
        self.0.thread.stop();
    }

    by_handle!();
}

impl Timers for TokioCurrent {
    #[inline]
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        Tokio::<true>::sleep(duration)
    }

    #[inline]
    fn timeout<F: Future<Output: Send> + Send>(
        limit: Duration,
        f: F,
    ) -> impl Future<Output = Option<F::Output>> + Send {
        Tokio::<true>::timeout(limit, f)
    }
}
