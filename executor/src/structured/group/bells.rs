//! Who was woken, and who is to be told.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::util::room;
use crate::util::sync::atomic::AtomicBool;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::{Mutex, MutexGuard, lock, weakened};
use crate::util::waker_set::{WakerSet, wake_all};

/// The list of rung bells, and who is to be woken by the next ring.
pub(super) struct Bells {
    state: Mutex<Rung>,
}

#[derive(Default)]
struct Rung {
    keys: VecDeque<usize>,
    waiters: WakerSet,
}

impl Bells {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Bells { state: Mutex::new(Rung::default()) })
    }

    pub(super) fn waiter(&self) -> Waiter<'_> {
        Waiter { bells: self, key: None }
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        lock(&self.state)
    }

    pub(super) fn wake(&self) {
        let wakers = self.lock().waiters.take();
        wake_all(wakers);
    }
}

/// A child was woken, or rather its joiner. A late ring, of a child whose slot is another's by now, costs one poll.
pub(super) struct Bell {
    key: usize,
    /// It is on the list.
    rung: AtomicBool,
    bells: Arc<Bells>,
}

impl Bell {
    pub(super) fn new(key: usize, bells: &Arc<Bells>) -> Arc<Self> {
        Arc::new(Bell { key, rung: AtomicBool::new(false), bells: Arc::clone(bells) })
    }

    /// Called when the key was taken from the list, before the child is polled: the next ring puts it there again.
    pub(super) fn hush(&self) {
        // Pairs with the release swap in `ring`: what its caller did before is seen by the poll.
        self.rung.swap(false, if weakened("hush") { Relaxed } else { Acquire });
    }

    pub(super) fn has_rung(&self) -> bool {
        self.rung.load(Relaxed)
    }

    pub(super) fn ring(&self) {
        // Pairs with the acquire swap in `hush`.
        if !self.rung.swap(true, if weakened("ring") { Relaxed } else { Release }) {
            let mut rung = self.bells.lock();
            rung.keys.push_back(self.key);
            let wakers = rung.waiters.take();
            drop(rung);
            wake_all(wakers);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// Somebody who awaits the group.
pub(super) struct Waiter<'a> {
    bells: &'a Bells,
    key: Option<usize>,
}

impl Waiter<'_> {
    /// Registers `waker` and takes the list, in one go.
    pub(super) fn begin(&mut self, waker: Waker) -> VecDeque<usize> {
        let mut rung = self.bells.lock();
        let former = rung.waiters.register(&mut self.key, waker);
        let keys = mem::take(&mut rung.keys);
        drop(rung);
        drop(former);
        keys
    }

    /// Gives back what was left of the list, and tells the other waiters if there is something for them.
    pub(super) fn end(&mut self, mut left: VecDeque<usize>, settled: bool) {
        if left.is_empty() && !settled {
            return;
        }
        let mut rung = self.bells.lock();
        left.append(&mut rung.keys);
        room::trim(&mut left);
        rung.keys = left;
        // A ring wakes all, so mostly there is nobody else registered.
        let wakers = rung.waiters.take_others(self.key);
        drop(rung);
        wake_all(wakers);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.bells.lock().waiters.remove(key);
            drop(waker);
        }
    }
}
