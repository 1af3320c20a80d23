//! The current timers of a thread, which the futures use that the thread polls.

use std::ptr;
use std::sync::Arc;

use super::driver::Timers;
use crate::clock;
use crate::util::thread_state;

/// Dropping it makes the former timers current again.
#[must_use = "dropping it ends the effect of `enter`"]
pub(crate) struct TimersGuard<'a> {
    timers: *const (),
    shard: usize,
    _clock: clock::ClockGuard<'a>,
}

/// Makes `timers` and their clock current on this thread, and `shard` the shard that new timers go
/// to.
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

/// Calls `f` with the current timers, if there are any, and the current shard. `f` calls no foreign
/// code, which might end what has made the timers current.
pub(super) fn with_current<R>(f: impl FnOnce(Option<&Timers>, usize) -> R) -> R {
    let (timers, shard) = thread_state::with(|state| (state.timers.get(), state.shard.get()));
    // SAFETY: the pointer is that of timers which a `TimersGuard` of this thread borrows. Neither
    // this function nor `f` drops the guard, and the reference ends with this call.
    f(unsafe { timers.cast::<Arc<Timers>>().as_ref() }.map(|timers| &**timers), shard)
}
