//! What the table of a cell points to: polling, closing, dropping.
//!
//! Everything of the user's runs here with the task's context current, and under `catch_unwind`.

use std::any::Any;
use std::cell::Cell as Plain;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use heirloom_context::raw;

use super::cell::{Cell, Header, Outcome, Runnable, VTable, release};
use super::state::{Close, Rest, Start};
use super::{Schedule, current, page, waker};

pub(crate) fn vtable<F: Future, S: Schedule>() -> &'static VTable {
    &Table::<F, S>::TABLE
}

struct Table<F, S>(std::marker::PhantomData<(F, S)>);

impl<F: Future, S: Schedule> Table<F, S> {
    const TABLE: VTable = VTable {
        run: run::<F, S>,
        cancel: |header| {
            // SAFETY: the caller has claimed the task, which has this cell's types, and keeps its own reference.
            unsafe { finish::<F, S>(header, Inside::enter(header), Some(Outcome::Cancelled), 0) }
        },
        schedule: |header| {
            // SAFETY: a live cell of these types; the reference for the runnable was counted. What is shared lives
            // longer than the call: it is the caller's, or the scheduler keeps it as long as it keeps the task.
            unsafe { S::schedule(page::shared_of(header), Runnable::from_raw(header)) }
        },
        take_output: |header, target| {
            // SAFETY: the join handle's call: done, so the stage is its own, and an output; `target` has its type.
            unsafe {
                *target.cast::<Option<Outcome<F::Output>>>() = Some(take_output::<F>(header));
            }
        },
        drop_output: |header| {
            // SAFETY: the join handle's call: sealed, so the stage is its own, and an output.
            drop(unsafe { take_output::<F>(header) });
        },
        free: |header| {
            // SAFETY: the last reference.
            unsafe {
                Header::clear(header);
                S::free(header);
            }
        },
    };
}

/// # Safety
/// The stage is the caller's, and an output.
unsafe fn take_output<F: Future>(header: NonNull<Header>) -> Outcome<F::Output> {
    // SAFETY: says the caller.
    unsafe {
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        ManuallyDrop::take(&mut (*stage).output)
    }
}

/// Polls a task once. True if it is to be queued again: then the runnable is the caller's again.
///
/// # Safety
/// The caller gives up a runnable of a cell of these types.
unsafe fn run<F: Future, S: Schedule>(header: NonNull<Header>) -> bool {
    // SAFETY: the runnable's reference keeps the cell alive; the state gives us the stage.
    unsafe {
        match header.as_ref().state.start() {
            Start::Stale => release(header, 1),
            Start::Cancel => finish::<F, S>(header, Inside::enter(header), Some(Outcome::Cancelled), 1),
            Start::Poll { detached } => return poll::<F, S>(header, detached),
        }
        false
    }
}

/// How far a poll has come: what a panic leaves behind depends on it.
#[derive(Clone, Copy, PartialEq)]
enum Progress {
    Polling,
    Dropping,
}

/// Polls the future in its context, once; closes the task if that was the last time. True as for `run`.
///
/// # Safety
/// As `run`, and the caller has the stage, which is a future.
unsafe fn poll<F: Future, S: Schedule>(header: NonNull<Header>, detached: bool) -> bool {
    // SAFETY: the caller has the stage, and a reference.
    unsafe {
        let inside = Inside::enter(header);
        if detached {
            raw::set_execution(raw::execution().with_deadline(None));
        }
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        let progress = Plain::new(Progress::Polling);
        let mut output = None;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let waker = waker::borrowed(header);
            let future = Pin::new_unchecked(&mut *(*stage).future);
            match future.poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => false,
                Poll::Ready(ready) => {
                    output = Some(Outcome::Returned(ready));
                    progress.set(Progress::Dropping);
                    ManuallyDrop::drop(&mut (*stage).future);
                    true
                }
            }
        }));
        match polled {
            Ok(false) => {
                let yielded = inside.yielded();
                drop(inside);
                match header.as_ref().state.rest(yielded) {
                    Rest::Idle => return false,
                    // Not queued from here: whoever takes it from the queue may free it.
                    Rest::Requeue => return true,
                    Rest::Cancel => {
                        finish::<F, S>(header, Inside::enter(header), Some(Outcome::Cancelled), 1);
                    }
                }
            }
            // What has ended is closed without leaving the context in between: one swap in and one out per poll.
            Ok(true) => finish_without::<F, S>(header, inside, output, 1),
            Err(panic) => match progress.get() {
                Progress::Polling => finish::<F, S>(header, inside, Some(Outcome::Panicked(panic)), 1),
                Progress::Dropping => {
                    quietly(|| drop(output));
                    finish_without::<F, S>(header, inside, Some(Outcome::Panicked(panic)), 1);
                }
            },
        }
        false
    }
}

/// Drops the future inside its context, then goes on as [`finish_without`].
///
/// # Safety
/// The caller has the stage, which is a future; and, besides the task's own reference, `references` to give up.
#[cold]
unsafe fn finish<F: Future, S: Schedule>(
    header: NonNull<Header>,
    inside: Inside,
    mut outcome: Option<Outcome<F::Output>>,
    references: usize,
) {
    // SAFETY: the caller has the stage.
    unsafe {
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        let dropped = catch_unwind(AssertUnwindSafe(|| ManuallyDrop::drop(&mut (*stage).future)));
        // A destructor's panic is the task's.
        if let Err(panic) = dropped {
            quietly(|| drop(outcome.take()));
            outcome = Some(Outcome::Panicked(panic));
        }
        finish_without::<F, S>(header, inside, outcome, references);
    }
}

/// Stores the output, drops the context, tells the joiner. Steps 4 and 5 of the protocol.
///
/// # Safety
/// The caller has the stage, whose future is gone; and, besides the task's own reference, `references` to give up.
unsafe fn finish_without<F: Future, S: Schedule>(
    header: NonNull<Header>,
    inside: Inside,
    outcome: Option<Outcome<F::Output>>,
    references: usize,
) {
    // SAFETY: the caller has the stage until `seal`; afterwards it is touched only if there is no join handle. The
    // references keep the cell until `close`.
    unsafe {
        let task = header.as_ref();
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        if let Some(outcome) = outcome {
            if matches!(outcome, Outcome::Panicked(_)) {
                S::panicked(page::shared_of(header));
            }
            (&raw mut (*stage).output).write(ManuallyDrop::new(outcome));
        }
        if !task.state.seal() {
            // Nobody else looks at the stage any more.
            quietly(|| ManuallyDrop::drop(&mut (*stage).output));
        }
        drop(inside);
        let live = std::mem::take(&mut *task.live.get());
        if !live.is_nothing() {
            quietly(|| drop(live));
        }
        // From here on the shared part may be gone, unless it is the caller's.
        S::ending(page::shared_of(header));
        match task.state.close(references) {
            Close::Nothing => {}
            Close::Wake => {
                let joiner = task.joiner.take();
                release(header, references + 1);
                quietly(|| joiner.wake());
            }
            Close::Free => (task.vtable.free)(header),
        }
    }
}

/// Runs foreign code whose panic is nobody's business: the panic hook has reported it.
pub(super) fn quietly(f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        discard(panic);
    }
}

/// Drops a panic's payload, whose destructor may panic in its turn.
pub(crate) fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// The task's context is current on this thread, and the task is, until this is dropped.
struct Inside {
    header: NonNull<Header>,
    outer: current::Outer,
}

impl Inside {
    /// # Safety
    /// The caller has the task's live context, and a reference, until the guard is gone.
    #[inline]
    unsafe fn enter(header: NonNull<Header>) -> Inside {
        // SAFETY: the caller has it.
        raw::swap(unsafe { &mut *header.as_ref().live.get() });
        Inside { header, outer: current::enter(header) }
    }

    /// Whether the task has asked for another turn in this poll; see [`budget::yield_now`].
    fn yielded(&self) -> bool {
        current::has_yielded()
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
