//! Contexts through a plain `tokio::spawn`, on runtimes that are otherwise as they always are.
//!
//! Built by `.ci/tokio_host`, with `--cfg tokio_unstable`; without it there is nothing here.
#![cfg(tokio_unstable)]

#[path = "hyper-util-0.1.21/src/spawner.rs"]
mod hyper_util;
#[path = "pooling-2.0.0/src/spawner.rs"]
mod pooling;

mod carried;
mod chain;
mod detached;
mod ends;
mod holes;
mod nested;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom_context::tokio::{Carry, carry};
use heirloom_context::{ContextVar, context_var};
use tokio::runtime::{Builder, Runtime};

context_var! {
    static REQUEST: u64;
    static OTHER: u64;
}

fn workers(count: usize) -> (Runtime, Carry) {
    let mut builder = Builder::new_multi_thread();
    let carry = carry(builder.worker_threads(count).enable_all());
    (builder.build().unwrap(), carry)
}

fn one_thread() -> (Runtime, Carry) {
    let mut builder = Builder::new_current_thread();
    let carry = carry(builder.enable_all());
    (builder.build().unwrap(), carry)
}

/// Both kinds of runtime.
fn each(test: impl Fn(Runtime, Carry)) {
    for (runtime, carry) in [one_thread(), workers(2)] {
        test(runtime, carry);
    }
}

/// A task has ended for its joiner shortly before its entry goes.
#[track_caller]
fn wait_until_none_is_left(carry: &Carry) {
    let limit = Instant::now() + Duration::from_secs(20);
    while carry.tasks() > 0 {
        assert!(Instant::now() < limit, "{} entries are left", carry.tasks());
        std::thread::yield_now();
    }
}

/// What was seen, by which thread ever.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Option<u64>>>>);

impl Seen {
    fn look(&self, var: &ContextVar<u64>) {
        self.0.lock().unwrap().push(var.get());
    }

    fn take(&self) -> Vec<Option<u64>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Looks when it is dropped.
    fn at_drop(&self) -> impl Send + use<> {
        struct Look(Seen);

        impl Drop for Look {
            fn drop(&mut self) {
                self.0.look(&REQUEST);
            }
        }

        Look(self.clone())
    }
}
