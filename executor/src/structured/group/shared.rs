//! What a group and its children have in common; the drawing in the parent module shows how it is used.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::GroupError;
use super::bells::{Bell, Bells, Waiter};
use crate::util::room;
use crate::{AbortHandle, CancelReason, JoinError, JoinHandle};

pub(super) struct Shared<E, T> {
    bells: Arc<Bells>,
    /// The phase is not `Open` any more; set under the lock, read by children before they begin.
    stopped: AtomicBool,
    state: Mutex<State<E, T>>,
}

struct State<E, T> {
    phase: Phase<E>,
    slots: Slab<Slot<T>>,
    /// Of children that have ended, in that order, until somebody asks for them.
    outputs: VecDeque<T>,
}

/// Goes downwards only.
pub(super) enum Phase<E> {
    Open,
    /// This child has panicked. Its join handle will say how.
    Panicking(usize),
    Failed(GroupError<E>),
    /// Nobody waits any more: joined or dropped.
    Closed,
}

/// A child that has not been joined.
struct Slot<T> {
    /// `None` before it is spawned and while it is being polled.
    handle: Option<JoinHandle<Option<T>>>,
    /// `None` before it is spawned.
    abort: Option<AbortHandle>,
    /// It is to be aborted as soon as it is spawned.
    doom: Option<CancelReason>,
    /// The bell was rung while the handle was away.
    again: bool,
    bell: Arc<Bell>,
}

impl<E, T> Shared<E, T> {
    pub(super) fn new() -> Arc<Self> {
        let state = State { phase: Phase::Open, slots: Slab::new(), outputs: VecDeque::new() };
        Arc::new(Shared { bells: Bells::new(), stopped: AtomicBool::new(false), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State<E, T>> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_stopped(&self) -> bool {
        // Pairs with the release stores under the lock.
        self.stopped.load(Ordering::Acquire)
    }

    pub(super) fn waiter(&self) -> Waiter<'_> {
        self.bells.waiter()
    }

    #[track_caller]
    pub(super) fn spawn<F>(self: &Arc<Self>, future: F) -> AbortHandle
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: Send + 'static,
        T: Send + 'static,
    {
        let place = self.reserve();
        let key = place.as_ref().map(|place| place.key);
        let handle = crate::spawn(Child { key, begun: false, shared: Arc::clone(self), future });
        let abort = handle.abort_handle();
        if let Some(place) = place {
            place.fill(handle, abort.clone());
        }
        // Without a place the group is over: the handle goes, and with it the task.
        abort
    }

    /// A slot for a child that is about to be spawned; none if the group is over.
    fn reserve(&self) -> Option<Place<'_, E, T>> {
        let mut state = self.lock();
        let doom = match state.phase {
            Phase::Open => None,
            Phase::Panicking(_) | Phase::Failed(_) => Some(CancelReason::SiblingFailed),
            Phase::Closed => return None,
        };
        let slot = state.slots.vacant_entry();
        let key = slot.key();
        let bell = Bell::new(key, &self.bells);
        slot.insert(Slot { handle: None, abort: None, doom, again: false, bell });
        Some(Place { shared: self, key, filled: false })
    }

    /// The first failure: cancels all children but the one it comes from. A later one is dropped.
    pub(super) fn fail(&self, key: Option<usize>, phase: Phase<E>) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Open) {
            drop(state);
            return drop(phase);
        }
        let siblings = self.stop(&mut state, key, phase);
        drop(state);
        siblings.iter().for_each(|sibling| sibling.abort_with(CancelReason::SiblingFailed));
    }

    #[must_use = "to be aborted when the lock is released"]
    fn stop(&self, state: &mut State<E, T>, key: Option<usize>, phase: Phase<E>) -> Vec<AbortHandle> {
        state.phase = phase;
        // Pairs with the acquire load of a child that is about to begin.
        self.stopped.store(true, Ordering::Release);
        state.doom(key, &CancelReason::SiblingFailed)
    }

    /// Polls the handles whose bells were rung, each once; whoever rings from now on wakes `cx`.
    pub(super) fn drive(&self, waiter: &mut Waiter<'_>, cx: &mut Context<'_>) {
        let mut rung = waiter.begin(cx.waker().clone());
        let mut settled = false;
        while let Some(key) = rung.pop_front() {
            let Some((mut handle, bell)) = self.take_handle(key) else { continue };
            #[cfg(all(test, not(loom)))]
            super::tests::count_handle_poll();
            match Pin::new(&mut handle).poll(&mut Context::from_waker(&Waker::from(bell))) {
                Poll::Ready(result) => {
                    self.settle(key, result);
                    settled = true;
                }
                Poll::Pending => {
                    if self.put_back(key, handle) {
                        // Rung while it was polled: most likely the budget is spent, and the next ones would say the
                        // same. The ring has seen to it that this is called again.
                        break;
                    }
                }
            }
        }
        waiter.end(rung, settled);
    }

    fn take_handle(&self, key: usize) -> Option<(JoinHandle<Option<T>>, Arc<Bell>)> {
        let mut state = self.lock();
        let slot = state.slots.get_mut(key)?;
        slot.bell.hush();
        let handle = slot.handle.take();
        // Away: its poller, or its spawner, will see to it.
        slot.again = handle.is_none();
        handle.map(|handle| (handle, Arc::clone(&slot.bell)))
    }

    /// True if the bell was rung again.
    fn put_back(&self, key: usize, handle: JoinHandle<Option<T>>) -> bool {
        let mut state = self.lock();
        let slot = &mut state.slots[key];
        slot.handle = Some(handle);
        let again = mem::take(&mut slot.again).then(|| Arc::clone(&slot.bell));
        let rung = slot.bell.has_rung();
        drop(state);
        if let Some(bell) = again {
            bell.ring();
        }
        rung
    }

    /// A child has ended.
    fn settle(&self, key: usize, result: Result<Option<T>, JoinError>) {
        let mut state = self.lock();
        let slot = state.slots.remove(key);
        room::trim_slab(&mut state.slots);
        let mut siblings = Vec::new();
        let mut dropped = None;
        match result {
            Ok(Some(output)) => state.outputs.push_back(output),
            // It has failed and said why, or never begun.
            Ok(None) => {}
            Err(error) => {
                let first = match state.phase {
                    Phase::Open => is_failure(&error),
                    Phase::Panicking(child) => child == key,
                    Phase::Failed(_) | Phase::Closed => false,
                };
                if first {
                    let phase = Phase::Failed(match error.reason() {
                        Some(reason) => GroupError::Cancelled(reason.clone()),
                        None => GroupError::Panicked(error),
                    });
                    siblings = self.stop(&mut state, Some(key), phase);
                } else {
                    dropped = Some(error);
                }
            }
        }
        drop(state);
        drop((slot, dropped));
        siblings.iter().for_each(|sibling| sibling.abort_with(CancelReason::SiblingFailed));
    }

    /// Waits for the last child, closes the group, and tells why it has failed if it has.
    pub(super) fn poll_ended(
        &self,
        waiter: &mut Waiter<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<GroupError<E>>> {
        self.drive(waiter, cx);
        let mut state = self.lock();
        if !state.slots.is_empty() {
            return Poll::Pending;
        }
        // Pairs with the acquire load of a child that is about to begin.
        self.stopped.store(true, Ordering::Release);
        match mem::replace(&mut state.phase, Phase::Closed) {
            Phase::Open | Phase::Closed => Poll::Ready(None),
            Phase::Failed(error) => Poll::Ready(Some(error)),
            Phase::Panicking(_) => unreachable!("the one that panics has a slot until it has settled"),
        }
    }

    /// The next result; `None` if there are none, and no children either.
    pub(super) fn poll_output(&self, waiter: &mut Waiter<'_>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.drive(waiter, cx);
        let mut state = self.lock();
        let output = state.outputs.pop_front();
        room::trim(&mut state.outputs);
        match output {
            Some(output) => Poll::Ready(Some(output)),
            None if state.slots.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    pub(super) fn abort_all(&self) {
        let children = self.lock().doom(None, &CancelReason::Aborted);
        children.iter().for_each(AbortHandle::abort);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// Drops what the group has: with the handles, the tasks.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        let phase = mem::replace(&mut state.phase, Phase::Closed);
        // Pairs with the acquire load of a child that is about to begin.
        self.stopped.store(true, Ordering::Release);
        let slots = mem::take(&mut state.slots);
        let outputs = mem::take(&mut state.outputs);
        drop(state);
        drop((slots, outputs, phase));
    }

    pub(super) fn take_outputs(&self) -> VecDeque<T> {
        mem::take(&mut self.lock().outputs)
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let children = self.lock().slots.len();
        let stopped = self.has_stopped();
        f.debug_struct(name).field("children", &children).field("stopped", &stopped).finish_non_exhaustive()
    }
}

/// Whether a child that did not say so itself has failed: a panic in the drop of its future, or the runtime's doing.
fn is_failure(error: &JoinError) -> bool {
    use CancelReason::{NoThread, RuntimeGone, Shutdown};
    error.reason().is_none_or(|reason| matches!(reason, Shutdown | RuntimeGone | NoThread))
}

impl<E, T> State<E, T> {
    /// Marks those that are being spawned; the others are the caller's to abort.
    #[must_use = "to be aborted when the lock is released"]
    fn doom(&mut self, except: Option<usize>, reason: &CancelReason) -> Vec<AbortHandle> {
        let mut children = Vec::new();
        for (key, slot) in &mut self.slots {
            match &slot.abort {
                _ if Some(key) == except => {}
                Some(abort) => children.push(abort.clone()),
                None => _ = slot.doom.get_or_insert_with(|| reason.clone()),
            }
        }
        children
    }
}

/// A reserved slot. Dropped unfilled, by a spawn that panics, it is given back.
struct Place<'a, E, T> {
    shared: &'a Shared<E, T>,
    key: usize,
    filled: bool,
}

impl<E, T> Place<'_, E, T> {
    fn fill(mut self, handle: JoinHandle<Option<T>>, abort: AbortHandle) {
        self.filled = true;
        let mut state = self.shared.lock();
        let Some(slot) = state.slots.get_mut(self.key) else {
            // Dropped meanwhile, through a handle of the group: the task goes, too.
            drop(state);
            return drop((handle, abort));
        };
        slot.handle = Some(handle);
        let doom = slot.doom.take();
        slot.abort = Some(abort.clone());
        let bell = Arc::clone(&slot.bell);
        drop(state);
        if let Some(reason) = doom {
            abort.abort_with(reason);
        }
        // Its handle is to be polled a first time.
        bell.ring();
    }
}

impl<E, T> Drop for Place<'_, E, T> {
    fn drop(&mut self) {
        if !self.filled {
            let slot = self.shared.lock().slots.try_remove(self.key);
            drop(slot);
            // It may have been the last that was waited for.
            self.shared.bells.wake();
        }
    }
}

pin_project_lite::pin_project! {
    /// What is spawned: says at once that it has failed. `None` if it has, or has never begun.
    struct Child<F, E, T> {
        // None if there was no slot, as the group was over.
        key: Option<usize>,
        begun: bool,
        shared: Arc<Shared<E, T>>,
        #[pin]
        future: F,
    }
}

impl<F: Future<Output = Result<T, E>>, E, T> Future for Child<F, E, T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.project();
        if !mem::replace(this.begun, true) && this.shared.has_stopped() {
            return Poll::Ready(None);
        }
        let unwinding = Unwinding { shared: this.shared, key: *this.key };
        let poll = this.future.poll(cx);
        mem::forget(unwinding);
        match poll {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(output)) => Poll::Ready(Some(output)),
            Poll::Ready(Err(error)) => {
                this.shared.fail(*this.key, Phase::Failed(GroupError::Failed(error)));
                Poll::Ready(None)
            }
        }
    }
}

/// Dropped by a panic only.
struct Unwinding<'a, E, T> {
    shared: &'a Shared<E, T>,
    key: Option<usize>,
}

impl<E, T> Drop for Unwinding<'_, E, T> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.fail(Some(key), Phase::Panicking(key));
        }
    }
}
