//! tokio's multi-thread runtime, which every ratio refers to.
//!
//! `Tokio<true>` is as `#[tokio::main]` starts it, with the I/O driver and the timers on.
//! `Tokio<false>` has the timers only: its workers never ask the system for events, so it shows
//! what the driver costs in rows that do no I/O.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::tokio::runtime::{Builder, Handle, Runtime};

use super::{Executor, Timers, Unwrapped};

/// What both runtimes do by their handle.
macro_rules! by_handle {
    () => {
        type Join<T: Send + 'static> = Unwrapped<::tokio::task::JoinHandle<T>>;

        #[inline]
        fn spawn<F>(&self, f: F) -> Self::Join<F::Output>
        where
            F: Future<Output: Send + 'static> + Send + 'static,
        {
            Unwrapped(self.0.handle.spawn(f))
        }

        #[inline]
        fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
            drop(self.0.handle.spawn(f));
        }

        fn block_on<F: Future>(&self, f: F) -> F::Output {
            self.0.handle.block_on(f)
        }

        #[inline]
        fn yield_now() -> impl Future<Output = ()> + Send {
            ::tokio::task::yield_now()
        }
    };
}
pub(super) use by_handle;

/// tokio's multi-thread runtime.
#[derive(Clone, Copy, Debug)]
pub struct Tokio<const IO: bool>(&'static Started);

#[derive(Debug)]
struct Started {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

impl<const IO: bool> Tokio<IO> {
    /// The runtime's handle, which also tells its numbers.
    pub fn handle(&self) -> &'static Handle {
        &self.0.handle
    }
}

impl<const IO: bool> Executor for Tokio<IO> {
    const NAME: &'static str = if IO { "tokio" } else { "tokio-no-io" };

    fn start(workers: usize) -> Self {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(workers);
        let builder = if IO { builder.enable_all() } else { builder.enable_time() };
        let runtime = builder.build().expect("no thread for a worker");
        let handle = runtime.handle().clone();
        Tokio(Box::leak(Box::new(Started { handle, runtime: Mutex::new(Some(runtime)) })))
    }

    fn stop(self) {
        drop(self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    by_handle!();
}

impl<const IO: bool> Timers for Tokio<IO> {
    #[inline]
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        ::tokio::time::sleep(duration)
    }

    #[inline]
    async fn timeout<F: Future<Output: Send> + Send>(limit: Duration, f: F) -> Option<F::Output> {
        ::tokio::time::timeout(limit, f).await.ok()
    }
}
