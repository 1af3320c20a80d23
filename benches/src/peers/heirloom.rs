//! Ours. `Heirloom<8>` has eight variables bound in the spawner's context, which every task inherits: its figures are the
//! ones that count. `Heirloom<0>` has none.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use heirloom::{Context, Handle, JoinHandle, Runtime, context_var};

use super::{Executor, Timers, Unwrapped};

macro_rules! variables {
    ($($name:ident)*) => {
        context_var! { $(static $name: u64;)* }

        /// How many variables there are to bind.
        pub const MOST_BOUND: usize = [$(stringify!($name)),*].len();

        /// Binds the first `count` variables in the current context.
        fn bind(count: usize) {
            let mut bound = 0;
            $(
                if bound < count {
                    $name.set(bound as u64);
                    bound += 1;
                }
            )*
            assert_eq!(bound, count, "there are not so many variables to bind");
        }
    };
}

variables! {
    V0 V1 V2 V3 V4 V5 V6 V7 V8 V9 V10 V11 V12 V13 V14 V15 V16 V17 V18 V19 V20 V21 V22 V23 V24 V25 V26 V27 V28 V29 V30 V31
}

/// Heirloom, with `BOUND` variables in the context that every task inherits.
#[derive(Clone, Copy, Debug)]
pub struct Heirloom<const BOUND: usize>(&'static Started);

#[derive(Debug)]
struct Started {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

impl<const BOUND: usize> Heirloom<BOUND> {
    /// The runtime's handle, which also tells its numbers.
    pub fn handle(&self) -> &'static Handle {
        &self.0.handle
    }
}

impl<const BOUND: usize> Executor for Heirloom<BOUND> {
    const NAME: &'static str = match BOUND {
        0 => "heirloom-bare",
        1 => "heirloom-1",
        8 => "heirloom",
        32 => "heirloom-32",
        _ => panic!("no name for so many variables"),
    };

    type Join<T: Send + 'static> = Unwrapped<JoinHandle<T>>;

    fn start(workers: usize) -> Self {
        let runtime = Runtime::builder().workers(workers).build().expect("no thread for a worker");
        let handle = runtime.handle().clone();
        Heirloom(Box::leak(Box::new(Started { handle, runtime: Mutex::new(Some(runtime)) })))
    }

    fn stop(self) {
        drop(self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn within<R>(f: impl FnOnce() -> R) -> R {
        Context::empty().run(|| {
            bind(BOUND);
            f()
        })
    }

    #[inline]
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output> {
        Unwrapped(self.0.handle.spawn(f))
    }

    #[inline]
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
        self.0.handle.spawn(f).detach();
    }

    fn block_on<F: Future>(&self, f: F) -> F::Output {
        self.0.handle.block_on(f)
    }

    #[inline]
    fn yield_now() -> impl Future<Output = ()> + Send {
        heirloom::yield_now()
    }
}

impl<const BOUND: usize> Timers for Heirloom<BOUND> {
    #[inline]
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        heirloom::sleep(duration)
    }

    #[inline]
    async fn timeout<F: Future<Output: Send> + Send>(limit: Duration, f: F) -> Option<F::Output> {
        heirloom::wait_for(f, limit).await.ok()
    }
}
