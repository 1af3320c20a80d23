//! The current timers of a thread: those that the futures use which it polls.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use super::driver::Timers;

type Current = Option<(Arc<Timers>, usize)>;

thread_local! {
    static CURRENT: RefCell<Current> = const { RefCell::new(None) };
}

/// Dropping it makes the former timers current again.
#[must_use = "dropping it ends the effect of `enter`"]
pub(crate) struct TimersGuard {
    before: Current,
    /// Not `Send`: the guard belongs to its thread.
    _thread: PhantomData<*const ()>,
}

/// Makes `timers` current on this thread, and `shard` the shard that new timers go to.
pub(crate) fn enter(timers: Arc<Timers>, shard: usize) -> TimersGuard {
    TimersGuard { before: replace(Some((timers, shard))), _thread: PhantomData }
}

impl Drop for TimersGuard {
    fn drop(&mut self) {
        let _ = replace(self.before.take());
    }
}

/// In a thread that is being torn down no timers are current, and this changes nothing.
fn replace(new: Current) -> Current {
    CURRENT.try_with(|current| current.replace(new)).unwrap_or(None)
}

/// The current timers and shard, if any.
pub(super) fn current() -> Current {
    CURRENT.try_with(|current| current.borrow().clone()).unwrap_or(None)
}

/// The present, by the clock of the current timers; without any, by the machine's clock.
pub(crate) fn now() -> Instant {
    let now = |current: &RefCell<Current>| current.borrow().as_ref().map(|(timers, _)| timers.clock().now());
    CURRENT.try_with(now).unwrap_or(None).unwrap_or_else(Instant::now)
}
