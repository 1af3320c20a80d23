//! async-executor's two executors on threads of ours, as its documentation shows it, with
//! async-io's timers. `StaticExecutor` keeps no list of active tasks, since it is never dropped.

use std::future::Future;

use ::async_executor::{Executor as Inner, StaticExecutor, Task};

use super::{Executor, Threads, Timers};

macro_rules! on_threads {
    ($(#[$doc:meta])* $peer:ident, $name:literal, $inner:ty, $leaked:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $peer(&'static (&'static $inner, Threads));

        impl Executor for $peer {
            const NAME: &'static str = $name;

            type Join<T: Send + 'static> = Task<T>;

            fn start(workers: usize) -> Self {
                let executor: &'static $inner = $leaked;
                let threads = Threads::start($name, workers, |stopped| {
                    let _ = futures_lite::future::block_on(executor.run(stopped));
                });
                $peer(Box::leak(Box::new((executor, threads))))
            }

            fn stop(self) {
                self.0.1.stop();
            }

            #[inline]
            fn spawn<F>(&self, f: F) -> Self::Join<F::Output>
            where
                F: Future<Output: Send + 'static> + Send + 'static,
            {
                self.0.0.spawn(f)
            }

            #[inline]
            fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
                self.0.0.spawn(f).detach();
            }
        }

        impl Timers for $peer {}
    };
}

on_threads! {
    /// async-executor's `Executor`.
    AsyncExecutor, "async-executor", Inner<'static>, Box::leak(Box::new(Inner::new()))
}
on_threads! {
    /// async-executor's `StaticExecutor`.
    StaticAsyncExecutor, "static-executor", StaticExecutor, Inner::new().leak()
}
