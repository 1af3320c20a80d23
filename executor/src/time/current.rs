//! Where a future finds the timers of the runtime that polls it.
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

/// Puts back what was current before.
#[must_use = "dropping it ends what `enter` has begun"]
pub(crate) struct Entered {
    before: Current,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

/// Makes `timers` those of the futures that this thread polls, and `shard` the one that they use.
pub(crate) fn enter(timers: Arc<Timers>, shard: usize) -> Entered {
    Entered { before: replace(Some((timers, shard))), _thread: PhantomData }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = replace(self.before.take());
    }
}

/// In a thread that is being torn down nothing is current, and nothing becomes so.
fn replace(new: Current) -> Current {
    CURRENT.try_with(|current| current.replace(new)).unwrap_or(None)
}

/// The current timers and shard, if any.
pub(super) fn current() -> Current {
    CURRENT.try_with(|current| current.borrow().clone()).unwrap_or(None)
}

/// The present, by the clock of the current timers, else by the machine's.
pub(crate) fn now() -> Instant {
    let now = |current: &RefCell<Current>| current.borrow().as_ref().map(|(timers, _)| timers.clock().now());
    CURRENT.try_with(now).unwrap_or(None).unwrap_or_else(Instant::now)
}
