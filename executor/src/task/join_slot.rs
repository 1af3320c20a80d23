//! Where the joiner leaves its waker. See the [protocol](super): register, then look; done, then take.

use std::task::Waker;

use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{UnsafeCell, spin, weakened};

#[derive(Debug)]
pub(crate) struct JoinSlot {
    locked: AtomicBool,
    waker: UnsafeCell<Option<Waker>>,
}

// SAFETY: the waker is only touched under the lock.
unsafe impl Send for JoinSlot {}
// SAFETY: as above.
unsafe impl Sync for JoinSlot {}

impl JoinSlot {
    pub(crate) fn new() -> JoinSlot {
        JoinSlot { locked: AtomicBool::new(false), waker: UnsafeCell::new(None) }
    }

    /// Puts a waker in, and drops the former one outside the lock: wakers are strangers' code.
    pub(crate) fn register(&self, waker: Option<Waker>) {
        drop(self.exchange(waker));
    }

    /// Takes the waker out.
    pub(crate) fn take(&self) -> Option<Waker> {
        self.exchange(None)
    }

    fn exchange(&self, waker: Option<Waker>) -> Option<Waker> {
        let mut turn = 0;
        // Pairs with the release store below. Also: if the closer was here first, its DONE is seen by us afterwards.
        while self.locked.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
            spin(turn);
            turn = turn.saturating_add(1);
        }
        // SAFETY: locked; a plain exchange runs no foreign code.
        let former = self.waker.with_mut(|place| unsafe { place.replace(waker) });
        // Pairs with the acquire exchange above.
        self.locked.store(false, if weakened("join unlock") { Relaxed } else { Release });
        former
    }
}
