//! Where the joiner leaves its waker. See the [protocol](super): write, then offer; seal, then take.

use std::mem::MaybeUninit;
use std::task::Waker;

use super::state::State;
use crate::sync::UnsafeCell;

/// The waker of whoever awaits the join handle, if the state word says so.
///
/// Until it is offered it is the handle's; from there on it is lent to the closer, who takes it when it sets SEALED, or at
/// the latest before it sets DONE. Before SEALED the handle can withdraw it. No lock: the word decides whose it is.
pub(crate) struct Joiner(UnsafeCell<MaybeUninit<Waker>>);

// SAFETY: wakers are; whose this one is says the state word.
unsafe impl Send for Joiner {}
// SAFETY: as above.
unsafe impl Sync for Joiner {}

impl Joiner {
    pub(crate) fn new() -> Joiner {
        Joiner(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Leaves a waker. False if the task is done: then there is nothing to wait for.
    ///
    /// # Safety
    /// The caller has the join handle; `state` is of the same task.
    pub(crate) unsafe fn register(&self, state: &State, waker: &Waker) -> bool {
        let known = state.has_waker();
        // SAFETY: it was written. Even if the closer takes it meanwhile, comparing its two words disturbs nobody.
        if known && self.0.with(|place| unsafe { (*place).assume_init_ref().will_wake(waker) }) {
            return !state.is_done();
        }
        // A stranger's code, as is the destructor of the former one, which goes last.
        let new = waker.clone();
        let mut _former = None;
        if known {
            // SAFETY: says the caller.
            _former = unsafe { self.withdraw(state) };
            if _former.is_none() {
                // The closer has another one, or is about to take it. It cannot be exchanged, so the joiner looks again
                // until the task is done: it has come with two wakers while a context's values were dropped.
                if state.is_done() {
                    return false;
                }
                waker.wake_by_ref();
                return true;
            }
        }
        // SAFETY: none is offered, so the place is the handle's.
        self.0.with_mut(|place| unsafe { (*place).write(new) });
        if state.offer_waker() {
            return true;
        }
        // SAFETY: written above, and still the handle's.
        _former = Some(unsafe { self.take() });
        false
    }

    /// Takes an offered waker back; none if the task is sealed: then it is the closer's.
    ///
    /// # Safety
    /// The caller has the join handle; a waker was offered.
    pub(crate) unsafe fn withdraw(&self, state: &State) -> Option<Waker> {
        // SAFETY: it was written, and if the task is not sealed it is the handle's again.
        state.withdraw_waker().then(|| unsafe { self.take() })
    }

    /// Takes the waker.
    ///
    /// # Safety
    /// There is one, and it is the caller's.
    pub(crate) unsafe fn take(&self) -> Waker {
        // SAFETY: says the caller.
        self.0.with(|place| unsafe { (*place).assume_init_read() })
    }
}
