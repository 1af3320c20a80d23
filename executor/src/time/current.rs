//! Where a future finds the timers of the runtime that polls it.

use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

use super::driver::Timers;
use crate::util::thread_state;

/// Restores what was current before.
#[must_use = "dropping it ends what `enter` has begun"]
pub(crate) struct Entered<'a> {
    timers: *const (),
    shard: usize,
    _timers: PhantomData<&'a Arc<Timers>>,
}

/// Makes `timers` those of the futures that this thread polls, and `shard` the one that they use.
pub(crate) fn enter(timers: &Arc<Timers>, shard: usize) -> Entered<'_> {
    thread_state::with(|state| Entered {
        timers: state.timers.replace(ptr::from_ref(timers).cast()),
        shard: state.shard.replace(shard),
        _timers: PhantomData,
    })
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        thread_state::with(|state| {
            state.timers.set(self.timers);
            state.shard.set(self.shard);
        });
    }
}

/// Calls `f` with the current timers and shard, if there are any.
#[inline]
fn with_current<R>(f: impl FnOnce(Option<(&Arc<Timers>, usize)>) -> R) -> R {
    let (timers, shard) = thread_state::with(|state| (state.timers.get(), state.shard.get()));
    // SAFETY: set for as long as an `Entered` borrows the timers, on this thread.
    f(unsafe { timers.cast::<Arc<Timers>>().as_ref() }.map(|timers| (timers, shard)))
}

/// The current timers and shard, if there are any.
pub(super) fn current() -> Option<(Arc<Timers>, usize)> {
    with_current(|current| current.map(|(timers, shard)| (Arc::clone(timers), shard)))
}

/// The present, by the clock of the current timers, else by the machine's.
pub(crate) fn now() -> Instant {
    with_current(|current| current.map_or_else(Instant::now, |(timers, _)| timers.clock().now()))
}
