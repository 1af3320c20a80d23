//! A set of wakers, of the tasks that wait for one event.
//!
//! The set lives under its owner's lock and never calls a waker: it returns the wakers that the
//! owner must drop or wake after it has released the lock.
#![forbid(unsafe_code)]

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

use slab::Slab;

/// An empty set keeps the memory of so many wakers. One or two waiters are the rule; the memory of
/// a burst is freed.
pub(crate) const KEPT_ROOM: usize = 64;

/// Wakers by key. A waiter keeps its key from its first registration until it is removed, also
/// after it was woken.
#[derive(Default)]
pub(crate) struct WakerSet {
    slots: Slab<Option<Waker>>,
}

impl WakerSet {
    /// Whether `waker` is registered under `key` already.
    pub(crate) fn has(&self, key: Option<usize>, waker: &Waker) -> bool {
        key.is_some_and(|key| self.slots[key].as_ref().is_some_and(|known| known.will_wake(waker)))
    }

    /// Registers `waker`, and returns the former waker of this waiter.
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

    /// Ends a waiter's registration, and returns its waker.
    #[must_use = "a waker is dropped under no lock"]
    pub(crate) fn remove(&mut self, key: usize) -> Option<Waker> {
        let waker = self.slots.remove(key);
        if self.slots.is_empty() && self.slots.capacity() > KEPT_ROOM {
            self.slots = Slab::new();
        }
        waker
    }

    /// Takes the wakers of the waiters that have not been woken since they registered.
    #[must_use = "wake them, under no lock"]
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
    }

    /// The same, except for the waiter under `key`.
    #[must_use = "wake them, under no lock"]
    pub(crate) fn take_others(&mut self, key: Option<usize>) -> Vec<Waker> {
        let others = self.slots.iter_mut().filter(|(other, _)| Some(*other) != key);
        others.filter_map(|(_, waker)| waker.take()).collect()
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// A waker for tests and models that counts how often it was woken. Models do not explore the
/// counter, which is the standard library's.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct WakeCount(std::sync::atomic::AtomicUsize);

#[cfg(test)]
impl WakeCount {
    pub(crate) fn get(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(not(loom))]
    pub(crate) fn reset(&self) {
        self.0.store(0, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
impl std::task::Wake for WakeCount {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Wakes all, also after a waker has panicked. The first panic is resumed at the end, unless the
/// thread is unwinding already.
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    let mut first = None;
    for waker in wakers {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            match first {
                None => first = Some(panic),
                // The payload's destructor could panic.
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

/// Wakes, and discards a panic.
pub(crate) fn wake(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        // The panic hook has reported the panic. The payload's destructor could panic, and other
        // wakers are still to be woken.
        std::mem::forget(payload);
    }
}
