//! Where threads wait until a runtime is idle.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicUsize, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A condition variable. A notification costs a fence and a load while no thread waits.
#[derive(Default)]
pub(crate) struct IdleCondvar {
    waiting: AtomicUsize,
    mutex: Mutex<()>,
    condvar: Condvar,
}

impl IdleCondvar {
    /// Has the waiting threads look again.
    pub(crate) fn notify(&self) {
        // Pairs with the fence in `wait_until`: either this thread sees the waiting thread, or the
        // waiting thread sees the change.
        fence(SeqCst);
        if self.waiting.load(Relaxed) != 0 {
            drop(self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
            self.condvar.notify_all();
        }
    }

    /// Waits until `is_idle` is true. False if it is not at the deadline.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>, mut is_idle: impl FnMut() -> bool) -> bool {
        self.waiting.fetch_add(1, Relaxed);
        // Pairs with the fence in `notify`.
        fence(SeqCst);
        let mut guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = loop {
            if is_idle() {
                break true;
            }
            // Some changes do not notify (a queue that was just emptied): look again soon.
            let mut nap = Duration::from_millis(1);
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break is_idle();
                }
                nap = nap.min(left);
            }
            guard = self.condvar.wait_timeout(guard, nap).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(guard);
        self.waiting.fetch_sub(1, Relaxed);
        idle
    }
}
