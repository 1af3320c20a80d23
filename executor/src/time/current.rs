//! Where a future finds the timers of the runtime that polls it.

use std::ptr;
use std::sync::Arc;

use super::driver::Timers;
use crate::clock;
use crate::util::thread_state;

/// Restores what was current before.
#[must_use = "dropping it ends what `enter` has begun"]
pub(crate) struct TimersGuard<'a> {
    timers: *const (),
    shard: usize,
    _clock: clock::ClockGuard<'a>,
}

/// Makes `timers` those of the futures that this thread polls, and `shard` the one that they use.
pub(crate) fn enter(timers: &Arc<Timers>, shard: usize) -> TimersGuard<'_> {
    thread_state::with(|state| TimersGuard {
        timers: state.timers.replace(ptr::from_ref(timers).cast()),
        shard: state.shard.replace(shard),
        _clock: clock::enter(timers.clock()),
    })
}

impl Drop for TimersGuard<'_> {
    fn drop(&mut self) {
        thread_state::with(|state| {
            state.timers.set(self.timers);
            state.shard.set(self.shard);
        });
    }
}

/// The current timers and shard, if there are any.
pub(super) fn current() -> Option<(Arc<Timers>, usize)> {
    let (timers, shard) = thread_state::with(|state| (state.timers.get(), state.shard.get()));
    // SAFETY: `TimersGuard` sets it for as long as it borrows the timers, on this thread.
    let timers = unsafe { timers.cast::<Arc<Timers>>().as_ref() }?;
    Some((Arc::clone(timers), shard))
}
