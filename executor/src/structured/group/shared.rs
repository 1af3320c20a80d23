//! What a group, its handles and its children share. Terms and steps as in the
//! [protocol](super::protocol).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

use super::GroupError;
use super::ready_list::{ChildWaker, GroupWaiter, ReadyList};
use crate::JoinHandle;
use crate::task::{AbortHandle, CancelReason, JoinError, Leaf, record};
use crate::util::room;
use crate::util::sync::{Mutex, MutexGuard, lock};

pub(super) struct GroupShared<E, T> {
    ready_list: Arc<ReadyList>,
    /// The phase is past `Open`. Stored under the lock, loaded without it by children before they
    /// start.
    stopped: AtomicBool,
    state: Mutex<GroupState<E, T>>,
}

struct GroupState<E, T> {
    phase: Phase<E>,
    slots: Slab<ChildSlot<T>>,
    /// Of children that have ended, in that order, until a waiter takes them.
    outputs: VecDeque<T>,
}

/// It only moves downwards.
pub(super) enum Phase<E> {
    Open,
    /// The child of this key panicked. Its join handle will say how.
    Panicking(usize),
    /// The first failure.
    Failed(GroupError<E>),
    /// The group was joined or dropped.
    Closed,
}

/// The slot of a child that has not been joined.
struct ChildSlot<T> {
    /// `None` while the slot is reserved or polled.
    handle: Option<JoinHandle<Option<T>>>,
    /// `None` while the slot is reserved.
    abort: Option<AbortHandle>,
    /// In a reserved slot: abort the child when the slot is filled, for this reason.
    abort_on_spawn: Option<CancelReason>,
    /// Makes a result of the child's panic or cancellation, which is then no failure of the group.
    catch: Option<fn(JoinError) -> T>,
    /// The child was woken while the handle was out of the slot: wake it again when the handle is
    /// back.
    repoll: bool,
    waker: Arc<ChildWaker>,
}

impl<E, T> GroupShared<E, T> {
    pub(super) fn new() -> Arc<Self> {
        let state = GroupState { phase: Phase::Open, slots: Slab::new(), outputs: VecDeque::new() };
        Arc::new(GroupShared {
            ready_list: ReadyList::new(),
            stopped: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, GroupState<E, T>> {
        lock(&self.state)
    }

    pub(super) fn has_stopped(&self) -> bool {
        // Pairs with the release store in `stop`: a child that sees it does not run after the
        // failure.
        self.stopped.load(Ordering::Acquire)
    }

    /// Called under the lock, with each change of the phase.
    fn stop(&self) {
        // Pairs with the acquire load in `has_stopped`.
        self.stopped.store(true, Ordering::Release);
    }

    pub(super) fn waiter(&self) -> GroupWaiter<'_> {
        self.ready_list.waiter()
    }

    /// GR1. A slot for a child that is about to be spawned; without a key if the group is closed.
    /// `catch` makes a result of the child's panic or cancellation.
    pub(super) fn reserve_slot(&self, catch: Option<fn(JoinError) -> T>) -> ReservedSlot<'_, E, T> {
        let mut state = self.lock();
        let abort_on_spawn = match state.phase {
            Phase::Open => None,
            Phase::Panicking(_) | Phase::Failed(_) => Some(CancelReason::SiblingFailed),
            Phase::Closed => return ReservedSlot { shared: self, key: None },
        };
        let slot = state.slots.vacant_entry();
        let key = slot.key();
        let waker = ChildWaker::new(key, &self.ready_list);
        slot.insert(ChildSlot { handle: None, abort: None, abort_on_spawn, catch, repoll: false, waker });
        ReservedSlot { shared: self, key: Some(key) }
    }

    /// GR3. The first failure: cancels all children except the one of `key`. A later failure is
    /// dropped.
    pub(super) fn fail(&self, key: Option<usize>, failure: Phase<E>) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Open) {
            drop(state);
            return drop(failure);
        }
        state.phase = failure;
        self.stop();
        let siblings = state.children_to_abort(key, &CancelReason::SiblingFailed);
        drop(state);
        abort_siblings(&siblings);
    }

    /// GR4. Polls the handles of the children on the ready list, each once. A wake-up that comes
    /// later wakes `cx`.
    pub(super) fn poll_ready_children(&self, waiter: &mut GroupWaiter<'_>, cx: &mut Context<'_>) {
        let mut ready = waiter.take_ready(cx.waker().clone());
        let mut ended = false;
        while let Some(key) = ready.pop_front() {
            let Some((mut handle, waker)) = self.take_handle(key) else { continue };
            #[cfg(all(test, not(loom)))]
            super::tests::count_handle_poll();
            match Pin::new(&mut handle).poll(&mut Context::from_waker(&Waker::from(waker))) {
                Poll::Ready(result) => {
                    self.remove_ended(key, result);
                    ended = true;
                }
                Poll::Pending => {
                    if self.put_handle_back(key, handle) {
                        // Woken during its poll: most likely the budget is spent, and the other
                        // handles would report the same. That wake-up has woken `cx`.
                        break;
                    }
                }
            }
        }
        waiter.put_back(ready, ended);
    }

    fn take_handle(&self, key: usize) -> Option<(JoinHandle<Option<T>>, Arc<ChildWaker>)> {
        let mut state = self.lock();
        let slot = state.slots.get_mut(key)?;
        slot.waker.clear_queued();
        let handle = slot.handle.take();
        // Without a handle: `put_handle_back` or `fill` will bring it, and wake the child again.
        slot.repoll = handle.is_none();
        handle.map(|handle| (handle, Arc::clone(&slot.waker)))
    }

    /// True if the child was woken since `take_handle`.
    fn put_handle_back(&self, key: usize, handle: JoinHandle<Option<T>>) -> bool {
        let mut state = self.lock();
        let slot = &mut state.slots[key];
        slot.handle = Some(handle);
        let repoll = mem::take(&mut slot.repoll).then(|| Arc::clone(&slot.waker));
        let queued = slot.waker.is_queued();
        drop(state);
        if let Some(waker) = repoll {
            waker.wake();
        }
        queued
    }

    /// GR5. Frees the slot of a child that has ended.
    fn remove_ended(&self, key: usize, result: Result<Option<T>, JoinError>) {
        let mut state = self.lock();
        let slot = state.slots.remove(key);
        room::trim_slab(&mut state.slots);
        let mut siblings = Vec::new();
        let mut dropped = None;
        match (result, slot.catch) {
            (Ok(Some(output)), _) => state.outputs.push_back(output),
            // The child has reported its failure itself (GR3), or was never started.
            (Ok(None), _) => {}
            (Err(error), Some(catch)) => state.outputs.push_back(catch(error)),
            (Err(error), None) => {
                let first = match state.phase {
                    Phase::Open => is_failure(&error),
                    Phase::Panicking(child) => child == key,
                    Phase::Failed(_) | Phase::Closed => false,
                };
                if first {
                    state.phase = Phase::Failed(match error.reason() {
                        Some(reason) => GroupError::Cancelled(reason.clone()),
                        None => GroupError::Panicked(error),
                    });
                    self.stop();
                    siblings = state.children_to_abort(None, &CancelReason::SiblingFailed);
                } else {
                    dropped = Some(error);
                }
            }
        }
        drop(state);
        drop((slot, dropped));
        abort_siblings(&siblings);
    }

    /// GR6. Waits for the last child, closes the group, and returns the failure if there was one.
    pub(super) fn poll_ended(
        &self,
        waiter: &mut GroupWaiter<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<GroupError<E>>> {
        record::waits_for_one(Leaf::Group, || {
            self.poll_ready_children(waiter, cx);
            let state = self.lock();
            if state.slots.is_empty() { Poll::Ready(self.end(state)) } else { Poll::Pending }
        })
    }

    /// GR6. Closes a group without slots, and returns the failure if there was one.
    fn end(&self, mut state: MutexGuard<'_, GroupState<E, T>>) -> Option<GroupError<E>> {
        debug_assert!(state.slots.is_empty());
        self.stop();
        let phase = mem::replace(&mut state.phase, Phase::Closed);
        drop(state);
        match phase {
            Phase::Open | Phase::Closed => None,
            Phase::Failed(error) => {
                // The other waiters learn that the group has ended.
                self.ready_list.wake_waiters();
                Some(error)
            }
            Phase::Panicking(_) => {
                unreachable!("the child that panics has a slot until GR5, which sets `Failed`")
            }
        }
    }

    /// The next result; the failure, when all children have ended; `None` if there are neither
    /// results nor children nor a failure.
    pub(super) fn poll_result(
        &self,
        waiter: &mut GroupWaiter<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, GroupError<E>>>> {
        record::waits_for_one(Leaf::Group, || {
            self.poll_ready_children(waiter, cx);
            let mut state = self.lock();
            if let Some(output) = state.pop_output() {
                return Poll::Ready(Some(Ok(output)));
            }
            if !state.slots.is_empty() {
                return Poll::Pending;
            }
            // An open group stays open: it may get children again.
            let failed = matches!(state.phase, Phase::Failed(_));
            Poll::Ready(if failed { self.end(state).map(Err) } else { None })
        })
    }

    /// For the body of a scope, which is dropped when the group has failed: the next result; `None`
    /// if there are neither results nor children.
    pub(super) fn poll_output(&self, waiter: &mut GroupWaiter<'_>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        record::waits_for_one(Leaf::Group, || {
            self.poll_ready_children(waiter, cx);
            let mut state = self.lock();
            if matches!(state.phase, Phase::Panicking(_) | Phase::Failed(_)) {
                // The end of the child that has failed wakes the scope, which drops the body.
                return Poll::Pending;
            }
            match state.pop_output() {
                Some(output) => Poll::Ready(Some(output)),
                None if state.slots.is_empty() => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
    }

    pub(super) fn abort_all(&self) {
        let children = self.lock().children_to_abort(None, &CancelReason::Aborted);
        children.iter().for_each(AbortHandle::abort);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// GR7. Drops the slots: that cancels the children.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        let phase = mem::replace(&mut state.phase, Phase::Closed);
        self.stop();
        let slots = mem::take(&mut state.slots);
        let outputs = mem::take(&mut state.outputs);
        drop(state);
        slots.into_iter().filter_map(|(_, slot)| slot.handle).for_each(JoinHandle::discard);
        drop((outputs, phase));
    }

    pub(super) fn take_outputs(&self) -> VecDeque<T> {
        mem::take(&mut self.lock().outputs)
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let children = self.len();
        let stopped = self.has_stopped();
        f.debug_struct(name).field("children", &children).field("stopped", &stopped).finish_non_exhaustive()
    }

    /// Calls the code of a child. A panic in it fails the group at once, before it reaches the
    /// harness.
    fn run_child<R>(&self, key: Option<usize>, f: impl FnOnce() -> R) -> R {
        let on_panic = PanicGuard { shared: self, key };
        let result = f();
        mem::forget(on_panic);
        result
    }

    /// What a child's task returns: its output, or `None` after its error has failed the group.
    fn output_of(&self, key: Option<usize>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.fail(key, Phase::Failed(GroupError::Failed(error)))).ok()
    }
}

fn abort_siblings(siblings: &[AbortHandle]) {
    siblings.iter().for_each(|sibling| sibling.abort_with(CancelReason::SiblingFailed));
}

/// Whether the error of a child that did not report it itself fails the group: a panic in the drop
/// of its future, or a cancellation by its runtime.
fn is_failure(error: &JoinError) -> bool {
    use CancelReason::{NoThread, RuntimeGone, Shutdown};
    error.reason().is_none_or(|reason| matches!(reason, Shutdown | RuntimeGone | NoThread))
}

impl<E, T> GroupState<E, T> {
    fn pop_output(&mut self) -> Option<T> {
        let output = self.outputs.pop_front();
        room::trim(&mut self.outputs);
        output
    }

    /// All children except the one of `except`. Those in reserved slots are marked, to be aborted
    /// by `fill`; the others are returned.
    #[must_use = "to be aborted when the lock is released"]
    fn children_to_abort(&mut self, except: Option<usize>, reason: &CancelReason) -> Vec<AbortHandle> {
        let mut children = Vec::new();
        for (key, slot) in &mut self.slots {
            match &slot.abort {
                _ if Some(key) == except => {}
                Some(abort) => children.push(abort.clone()),
                None => _ = slot.abort_on_spawn.get_or_insert_with(|| reason.clone()),
            }
        }
        children
    }
}

/// A slot between GR1 and GR2. A spawn that panics drops it unfilled, which frees the slot.
pub(super) struct ReservedSlot<'a, E, T> {
    shared: &'a GroupShared<E, T>,
    /// `None` once the slot is filled, and if the group was closed before.
    pub(super) key: Option<usize>,
}

impl<E, T> ReservedSlot<'_, E, T> {
    /// GR2. Puts the handle into the slot. If the group was closed the handle is dropped: that
    /// cancels the child.
    pub(super) fn fill(mut self, handle: JoinHandle<Option<T>>) -> AbortHandle {
        let abort = handle.abort_handle();
        let Some(key) = self.key.take() else {
            handle.discard();
            return abort;
        };
        let mut state = self.shared.lock();
        let Some(slot) = state.slots.get_mut(key) else {
            // GR7 came in between, through a handle of the group on another thread.
            drop(state);
            handle.discard();
            return abort;
        };
        slot.handle = Some(handle);
        let reason = slot.abort_on_spawn.take();
        slot.abort = Some(abort.clone());
        let waker = Arc::clone(&slot.waker);
        drop(state);
        if let Some(reason) = reason {
            abort.abort_with(reason);
        }
        // The handle is to be polled a first time.
        waker.wake();
        abort
    }
}

impl<E, T> Drop for ReservedSlot<'_, E, T> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let slot = self.shared.lock().slots.try_remove(key);
            drop(slot);
            // It may have been the last slot for which waiters waited.
            self.shared.ready_list.wake_waiters();
        }
    }
}

pin_project_lite::pin_project! {
    /// The future of a child's task. Fails the group in the poll in which the child fails. Its
    /// output is `None` if the child failed, or was not started because the group had failed
    /// before.
    pub(super) struct Child<F, E, T> {
        // `None` if the group was closed: then there is no slot.
        pub(super) key: Option<usize>,
        pub(super) started: bool,
        pub(super) shared: Arc<GroupShared<E, T>>,
        #[pin]
        pub(super) future: F,
    }
}

/// The closure of a child that blocks, which does what [`Child`] does.
pub(super) fn blocking_child<E, T>(
    key: Option<usize>,
    shared: Arc<GroupShared<E, T>>,
    f: impl FnOnce() -> Result<T, E>,
) -> impl FnOnce() -> Option<T> {
    move || {
        if shared.has_stopped() {
            return None;
        }
        let result = shared.run_child(key, f);
        shared.output_of(key, result)
    }
}

impl<F: Future<Output = Result<T, E>>, E, T> Future for Child<F, E, T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.project();
        if !mem::replace(this.started, true) && this.shared.has_stopped() {
            return Poll::Ready(None);
        }
        let poll = this.shared.run_child(*this.key, || this.future.poll(cx));
        poll.map(|result| this.shared.output_of(*this.key, result))
    }
}

/// Dropped only by a panic of a child.
struct PanicGuard<'a, E, T> {
    shared: &'a GroupShared<E, T>,
    key: Option<usize>,
}

impl<E, T> Drop for PanicGuard<'_, E, T> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.fail(Some(key), Phase::Panicking(key));
        }
    }
}
