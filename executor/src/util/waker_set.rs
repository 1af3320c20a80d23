//! The wakers of all tasks that wait for one event.
//!
//! The set lives under its owner's lock and calls no waker: the methods return the wakers that are
//! to be dropped or woken when the lock is released.
#![forbid(unsafe_code)]

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

use slab::Slab;

/// An emptied set keeps memory for this many wakers: one or two are the rule, more are a burst.
pub(crate) const KEPT_ROOM: usize = 64;

/// Wakers by key. A waiter keeps its key from its first registration until it is removed, woken or
/// not.
#[derive(Default)]
pub(crate) struct WakerSet {
    slots: Slab<Option<Waker>>,
}

impl WakerSet {
    /// Whether a registration of `waker` would change nothing.
    pub(crate) fn has(&self, key: Option<usize>, waker: &Waker) -> bool {
        key.is_some_and(|key| self.slots[key].as_ref().is_some_and(|known| known.will_wake(waker)))
    }

    /// Registers `waker` under the key, and returns the former waker.
    #[must_use = "a waker is dropped under no lock"]
    pub(crate) fn register(&mut self, key: &mut Option<usize>, waker: Waker) -> Option<Waker> {
        match *key {
            Some(key) => self.slots[key].replace(waker),
            None => {
                *key = Some(self.slots.insert(Some(waker)));
                None
            }
        }
    }

    #[must_use = "a waker is dropped under no lock"]
    pub(crate) fn remove(&mut self, key: usize) -> Option<Waker> {
        let waker = self.slots.remove(key);
        if self.slots.is_empty() && self.slots.capacity() > KEPT_ROOM {
            self.slots = Slab::new();
        }
        waker
    }

    /// Takes the wakers that have not been woken since they were registered.
    #[must_use = "they are owed a wake-up"]
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
    }

    /// Like [`take`](Self::take), except the waker under `key`.
    #[must_use = "they are owed a wake-up"]
    pub(crate) fn take_others(&mut self, key: Option<usize>) -> Vec<Waker> {
        let others = self.slots.iter_mut().filter(|(other, _)| Some(*other) != key);
        others.filter_map(|(_, waker)| waker.take()).collect()
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// Wakes all, even if one of them panics. The first panic goes on to the caller, unless the thread
/// is unwinding already.
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    let mut first = None;
    for waker in wakers {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            match first {
                None => first = Some(panic),
                // The payload's destructor could panic, too.
                Some(_) => mem::forget(panic),
            }
        }
    }
    match first {
        Some(panic) if std::thread::panicking() => mem::forget(panic),
        Some(panic) => resume_unwind(panic),
        None => {}
    }
}

/// Calls a waker, and ignores its panic.
pub(crate) fn wake(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        // The panic hook has reported the panic. The payload's destructor may panic in turn, while
        // other wakers wait: so it is forgotten.
        std::mem::forget(payload);
    }
}
