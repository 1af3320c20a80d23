//! What the table of a cell points to: polling, closing, dropping.
//!
//! Everything of the user's runs here with the task's context current, and under `catch_unwind`.

use std::cell::Cell as Plain;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use heirloom_context::raw;

use super::cell::{Cell, Header, Outcome, Stage, VTable, release};
use super::state::{AfterPending, Close, Seal, Start};
use super::{Attendant, Schedule, budget, current, waker};
use crate::slab;
use crate::util::panic;

pub(crate) fn vtable<F: Future, S: Schedule>() -> &'static VTable {
    &Table::<F, S>::TABLE
}

struct Table<F, S>(std::marker::PhantomData<(F, S)>);

impl<F: Future, S: Schedule> Table<F, S> {
    const TABLE: VTable = VTable {
        run: run::<F, S>,
        cancel: |header| {
            // SAFETY: the caller has claimed the task, which has this cell's types, and keeps its own reference.
            unsafe { finish::<F, S>(header, Inside::enter(header), Outcome::Cancelled, 0) }
        },
        schedule: |header| {
            // SAFETY: a live cell of these types; the reference for the runnable was counted.
            unsafe { S::wake(header) }
        },
        free: |header| {
            // SAFETY: the last reference.
            unsafe {
                Header::clear(header);
                S::free(header);
            }
        },
        stage: std::mem::offset_of!(Cell<F>, stage),
    };
}

/// Polls a task once, or as often as an attendant wants. True if the runnable is to be queued again: then it is the
/// caller's.
///
/// # Safety
/// The caller gives up a runnable of a cell of these types.
unsafe fn run<F: Future, S: Schedule>(header: NonNull<Header>, attendant: Option<&dyn Attendant>) -> bool {
    // SAFETY: the runnable's reference keeps the cell alive; the state gives us the stage.
    unsafe {
        match header.as_ref().state.start() {
            Start::Poll { detached } => poll::<F, S>(header, Inside::enter(header), detached, attendant),
            Start::Cancel => {
                finish::<F, S>(header, Inside::enter(header), Outcome::Cancelled, 1);
                false
            }
            Start::Stale => {
                release(header, 1);
                false
            }
        }
    }
}

/// How far a poll has come: what a panic leaves behind depends on it.
#[derive(Clone, Copy, PartialEq)]
enum Progress {
    Polling,
    Dropping,
}

/// An output whose future is being dropped. If that panics, so may the output's destructor.
struct Unclaimed<T>(ManuallyDrop<T>);

impl<T> Drop for Unclaimed<T> {
    fn drop(&mut self) {
        // SAFETY: dropped once; `into_inner` forgets the rest.
        panic::swallow(|| unsafe { ManuallyDrop::drop(&mut self.0) });
    }
}

impl<T> Unclaimed<T> {
    #[inline]
    fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: not dropped any more.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

/// Polls the future in its context; closes the task if that was the last time. Returns what [`run`] does.
///
/// # Safety
/// As `run`, and the caller has the stage, which is a future.
unsafe fn poll<F: Future, S: Schedule>(
    header: NonNull<Header>,
    inside: Inside,
    detached: bool,
    attendant: Option<&dyn Attendant>,
) -> bool {
    // SAFETY: the caller has the stage, and a reference.
    unsafe {
        if detached {
            raw::set_execution(raw::execution().with_deadline(None));
        }
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        let progress = Plain::new(Progress::Polling);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let waker = waker::borrowed(header);
            let waker = attendant.map_or(&*waker, |attendant| {
                budget::start();
                attendant.waker()
            });
            let mut cx = Context::from_waker(waker);
            let mut polled = Pin::new_unchecked(&mut *(*stage).future).poll(&mut cx);
            // Nobody wakes an attendant for it, but what was cancelled while he waited is not polled again.
            while polled.is_pending()
                && attendant.is_some_and(Attendant::again)
                && !header.as_ref().state.is_cancelled()
            {
                budget::renew();
                polled = Pin::new_unchecked(&mut *(*stage).future).poll(&mut cx);
            }
            let Poll::Ready(output) = polled else { return false };
            // The output is written where it stays, piece by piece: what was written in pieces and is then copied as
            // a whole makes the processor wait for the pieces, which cost a tenth of a spawn.
            if std::mem::needs_drop::<F>() {
                let output = Unclaimed(ManuallyDrop::new(output));
                progress.set(Progress::Dropping);
                ManuallyDrop::drop(&mut (*stage).future);
                put::<F>(stage, Outcome::Returned(output.into_inner()));
            } else {
                put::<F>(stage, Outcome::Returned(output));
            }
            true
        }));
        match polled {
            Ok(false) => {
                let yielded = current::has_yielded();
                drop(inside);
                match header.as_ref().state.pend(yielded) {
                    AfterPending::Idle => {}
                    // The caller queues the runnable: the worker that takes it from the queue may free the task.
                    AfterPending::Requeue => return true,
                    AfterPending::Cancel => {
                        finish::<F, S>(header, Inside::enter(header), Outcome::Cancelled, 1)
                    }
                }
            }
            // A task that has ended is closed without leaving its context in between: one swap in and one out per poll.
            Ok(true) => close::<F, S>(header, inside, 1),
            Err(panic) if progress.get() == Progress::Polling => {
                finish::<F, S>(header, inside, Outcome::Panicked(panic), 1);
            }
            Err(panic) => {
                S::panicked(slab::shared_of(header.cast()));
                put::<F>(stage, Outcome::Panicked(panic));
                close::<F, S>(header, inside, 1);
            }
        }
        false
    }
}

/// Puts the output where the future was.
///
/// # Safety
/// The stage is the caller's, and holds nothing.
#[inline(always)]
unsafe fn put<F: Future>(stage: *mut Stage<F>, outcome: Outcome<F::Output>) {
    // SAFETY: says the caller.
    unsafe { (&raw mut (*stage).output).write(ManuallyDrop::new(outcome)) }
}

/// Ends a task that did not return: drops the future inside its context, then [closes](close).
///
/// # Safety
/// The caller has the stage, which is a future; and, besides the task's own reference, `references` to give up.
#[cold]
unsafe fn finish<F: Future, S: Schedule>(
    header: NonNull<Header>,
    inside: Inside,
    mut outcome: Outcome<F::Output>,
    references: usize,
) {
    // SAFETY: the caller has the stage.
    unsafe {
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        let dropped = catch_unwind(AssertUnwindSafe(|| ManuallyDrop::drop(&mut (*stage).future)));
        // A destructor's panic is the task's.
        if let Err(panic) = dropped
            && let Outcome::Panicked(former) = std::mem::replace(&mut outcome, Outcome::Panicked(panic))
        {
            panic::discard(former);
        }
        if matches!(outcome, Outcome::Panicked(_)) {
            S::panicked(slab::shared_of(header.cast()));
        }
        put::<F>(stage, outcome);
        close::<F, S>(header, inside, references);
    }
}

/// Drops the context, publishes the end, tells the joiner. Steps 4 and 5 of the protocol.
///
/// # Safety
/// The caller has the stage, which is an output; and, besides the task's own reference, `references` to give up.
unsafe fn close<F: Future, S: Schedule>(header: NonNull<Header>, inside: Inside, references: usize) {
    // SAFETY: the caller has the stage until `seal`; afterwards it is touched only if there is no join handle. The
    // references keep the cell until `State::complete`.
    unsafe {
        let task = header.as_ref();
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        let mut joiner = None;
        match task.state.seal() {
            Seal::Unclaimed => {
                if std::mem::needs_drop::<F::Output>() || !matches!(&*(*stage).output, Outcome::Returned(_)) {
                    panic::swallow(|| ManuallyDrop::drop(&mut (*stage).output));
                }
            }
            Seal::Claimed => {}
            Seal::Awaited => joiner = Some(task.joiner.take()),
        }
        inside.leave_for_good();
        // From here on the shared part may be gone, unless it is the caller's.
        S::ending(slab::shared_of(header.cast()));
        loop {
            match task.state.complete(references, joiner.is_some()) {
                Close::TakeWaker => joiner = Some(task.joiner.take()),
                Close::Free => break (task.vtable.free)(header),
                Close::Nothing => break,
            }
        }
        let Some(joiner) = joiner else { return };
        // A waker of ours passes no panic on.
        if waker::is_ours(&joiner) { joiner.wake() } else { panic::swallow(|| joiner.wake()) }
    }
}

/// The task and its context are current on this thread until this is dropped.
pub(super) struct Inside {
    header: NonNull<Header>,
    outer: current::Outer,
}

impl Inside {
    /// # Safety
    /// The caller has the task's live context, and a reference, until the guard is gone.
    #[inline]
    pub(super) unsafe fn enter(header: NonNull<Header>) -> Inside {
        // SAFETY: the caller has the live context.
        raw::swap(unsafe { &mut *header.as_ref().live.get() });
        Inside { header, outer: current::enter(header) }
    }

    /// Leaves the task's context, and gives it up.
    #[inline]
    fn leave_for_good(self) {
        let header = self.header;
        drop(self);
        // SAFETY: promised to `enter`.
        let live = unsafe { &mut *header.as_ref().live.get() };
        // Mostly another task has the context, too: then no destructor runs.
        if let Some(last) = live.take_unique() {
            panic::swallow(|| drop(last));
        }
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        current::leave(self.outer);
        // SAFETY: as promised to `enter`.
        raw::swap(unsafe { &mut *self.header.as_ref().live.get() });
    }
}
