//! The ready list: which children are to be polled, and which waiters are to be woken for them.
//!
//! Terms as in the [protocol](super::protocol). A child waker is **unqueued**, or **queued**: its
//! key is on the list.
//!
//! | step | event | function | effect |
//! | --- | --- | --- | --- |
//! | RL1 | a child is woken | `ChildWaker::wake_by_ref` | unqueued -> queued; pushes the key, wakes all waiters |
//! | RL2 | a waiter takes the list | `GroupWaiter::take_ready` | registers its waker and takes all keys, under one lock |
//! | RL3 | the waiter takes a key | `ChildWaker::clear_queued` | queued -> unqueued, before it polls the child's handle |
//! | RL4 | the waiter is done | `GroupWaiter::put_back` | puts back the keys it did not poll, wakes the others |
//!
//! # Why no wake-up is lost
//!
//! The list and the waiters' wakers are under one lock. A push that comes before RL2 is on the list
//! that the waiter takes; a push that comes after RL2 finds the waiter's waker. A wake-up between
//! the push and RL3 does nothing, and RL3 sees what its child did before: the swap of RL1 releases,
//! that of RL3 acquires. A wake-up after RL3 pushes again.
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

/// The keys of the children to be polled, and the wakers of the waiters that poll them.
pub(super) struct ReadyList {
    state: Mutex<ReadyState>,
}

#[derive(Default)]
struct ReadyState {
    keys: VecDeque<usize>,
    waiters: WakerSet,
}

impl ReadyList {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(ReadyList { state: Mutex::new(ReadyState::default()) })
    }

    pub(super) fn waiter(&self) -> GroupWaiter<'_> {
        GroupWaiter { list: self, key: None }
    }

    fn lock(&self) -> MutexGuard<'_, ReadyState> {
        lock(&self.state)
    }

    pub(super) fn wake_waiters(&self) {
        let wakers = self.lock().waiters.take();
        wake_all(wakers);
    }
}

/// The waker with which the group polls the join handle of one child.
///
/// A clone may outlive the child. If its slot's key was given to another child meanwhile, a wake-up
/// costs one poll of that child's handle.
pub(super) struct ChildWaker {
    key: usize,
    /// The key is on the list.
    queued: AtomicBool,
    list: Arc<ReadyList>,
}

impl ChildWaker {
    pub(super) fn new(key: usize, list: &Arc<ReadyList>) -> Arc<Self> {
        Arc::new(ChildWaker { key, queued: AtomicBool::new(false), list: Arc::clone(list) })
    }

    /// RL3. Called between taking the key from the list and polling the child's handle.
    pub(super) fn clear_queued(&self) {
        // Pairs with the release swap in `wake_by_ref`: the poll sees what the waker's caller did
        // before.
        self.queued.swap(false, if weakened("clear_queued") { Relaxed } else { Acquire });
    }

    pub(super) fn is_queued(&self) -> bool {
        // Orders nothing: the caller only skips work that the list brings again.
        self.queued.load(Relaxed)
    }
}

impl Wake for ChildWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// RL1.
    fn wake_by_ref(self: &Arc<Self>) {
        // Pairs with the acquire swap in `clear_queued`.
        if !self.queued.swap(true, if weakened("wake") { Relaxed } else { Release }) {
            let mut state = self.list.lock();
            state.keys.push_back(self.key);
            let wakers = state.waiters.take();
            drop(state);
            wake_all(wakers);
        }
    }
}

/// A future that awaits the group, as the ready list knows it.
pub(super) struct GroupWaiter<'a> {
    list: &'a ReadyList,
    /// The key of its waker in `waiters`, from its first registration on.
    key: Option<usize>,
}

impl GroupWaiter<'_> {
    /// RL2. Registers `waker` and takes the list, under one lock.
    pub(super) fn take_ready(&mut self, waker: Waker) -> VecDeque<usize> {
        let mut state = self.list.lock();
        let former = state.waiters.register(&mut self.key, waker);
        let keys = mem::take(&mut state.keys);
        drop(state);
        drop(former);
        keys
    }

    /// RL4. Puts back the keys that this waiter has not polled. Wakes the other waiters if there
    /// are such keys, or if a child has `ended`, which may be what they wait for.
    pub(super) fn put_back(&mut self, mut unpolled: VecDeque<usize>, ended: bool) {
        if unpolled.is_empty() && !ended {
            return;
        }
        let mut state = self.list.lock();
        unpolled.append(&mut state.keys);
        room::trim(&mut unpolled);
        state.keys = unpolled;
        // RL1 takes the wakers of all waiters, so here there is mostly no other one.
        let wakers = state.waiters.take_others(self.key);
        drop(state);
        wake_all(wakers);
    }
}

impl Drop for GroupWaiter<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.list.lock().waiters.remove(key);
            drop(waker);
        }
    }
}
