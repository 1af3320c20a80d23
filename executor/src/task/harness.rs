//! What the table of a cell points to: polling, closing, dropping.
//!
//! Everything of the user's runs here with the task's context current, and under `catch_unwind`.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::task::{Context, Poll};

use heirloom_context::raw;

use super::cell::{Cell, Header, Outcome, Runnable, VTable, release};
use super::state::{Rest, Start};
use super::{Schedule, budget, current, waker};

pub(crate) fn vtable<F: Future, S: Schedule>() -> &'static VTable {
    &Table::<F, S>::TABLE
}

struct Table<F, S>(std::marker::PhantomData<(F, S)>);

impl<F: Future, S: Schedule> Table<F, S> {
    const TABLE: VTable = VTable {
        run: run::<F, S>,
        cancel: |header| {
            // SAFETY: the caller has claimed the task, which has this cell's types.
            unsafe {
                finish::<F, S>(header, Inside::enter(header.as_ref()), Outcome::Cancelled);
            }
        },
        schedule: |header| {
            // SAFETY: a live cell of these types; the reference for the runnable was counted.
            unsafe {
                let cell = header.cast::<Cell<F, S>>().as_ref();
                cell.scheduler.schedule(Runnable::from_raw(header));
            }
        },
        take_output: |header, target| {
            // SAFETY: the join handle's call: done, so the stage is its own; `target` has the output's type.
            unsafe {
                let stage = &mut *header.cast::<Cell<F, S>>().as_ref().stage.get();
                *target.cast::<Option<Outcome<F::Output>>>() = stage.take_output();
            }
        },
        drop_output: |header| {
            // SAFETY: the join handle's call: sealed, so the stage is its own.
            unsafe {
                let stage = &mut *header.cast::<Cell<F, S>>().as_ref().stage.get();
                drop(stage.take_output());
            }
        },
        free: |header| {
            // SAFETY: the last reference; `allocate` leaked this very box.
            let cell = unsafe { Box::from_raw(header.cast::<Cell<F, S>>().as_ptr()) };
            // The last task of a runtime that is gone takes the runtime's root context along.
            quietly(|| drop(cell));
        },
    };
}

/// Polls a task once. True if it is to be queued again: then the runnable is the caller's again.
///
/// # Safety
/// The caller gives up a runnable of a cell of these types.
unsafe fn run<F: Future, S: Schedule>(header: NonNull<Header>) -> bool {
    // SAFETY: the runnable's reference keeps the cell alive; the state gives us the stage.
    unsafe {
        let cell = header.cast::<Cell<F, S>>().as_ref();
        match cell.header.state.start() {
            Start::Stale => {}
            Start::Cancel => finish::<F, S>(header, Inside::enter(&cell.header), Outcome::Cancelled),
            Start::Poll { detached } => match poll::<F, S>(header, detached) {
                Some((inside, outcome)) => finish::<F, S>(header, inside, outcome),
                None => match cell.header.state.rest() {
                    Rest::Idle => {}
                    // Not queued from here, where the cell is borrowed: whoever takes it from the queue may free it.
                    Rest::Requeue => return true,
                    Rest::Cancel => finish::<F, S>(header, Inside::enter(&cell.header), Outcome::Cancelled),
                },
            },
        }
        // The runnable's own.
        release(header, 1);
        false
    }
}

/// Polls the future in its context; stays inside if that was the last poll.
///
/// # Safety
/// The caller has the stage, which is a future.
unsafe fn poll<'a, F: Future, S: Schedule>(
    header: NonNull<Header>,
    detached: bool,
) -> Option<(Inside<'a>, Outcome<F::Output>)> {
    // SAFETY: the caller has the stage.
    unsafe {
        let cell = header.cast::<Cell<F, S>>().as_ref();
        let inside = Inside::enter(header.as_ref());
        if detached {
            raw::set_execution(raw::execution().with_deadline(None));
        }
        let future = (*cell.stage.get()).future();
        let waker = waker::borrowed(header);
        let _budget = budget::refill();
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(&mut Context::from_waker(&waker))));
        // What has ended is closed without leaving the context in between: one swap in and one out per poll.
        match polled {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(output)) => Some((inside, Outcome::Returned(output))),
            Err(panic) => Some((inside, Outcome::Panicked(panic))),
        }
    }
}

/// Drops the future inside its context, stores the output, drops the context, tells the joiner. Steps 4 and 5 of the protocol.
///
/// # Safety
/// The caller has the stage, which is a future, and keeps a reference of its own.
unsafe fn finish<F: Future, S: Schedule>(
    header: NonNull<Header>,
    inside: Inside<'_>,
    outcome: Outcome<F::Output>,
) {
    // SAFETY: the caller has the stage until `seal`; afterwards it is touched only if there is no join handle.
    unsafe {
        let cell = header.cast::<Cell<F, S>>().as_ref();
        {
            let stage = &mut *cell.stage.get();
            let _inside = inside;
            let dropped = catch_unwind(AssertUnwindSafe(|| stage.drop_future()));
            let outcome = match dropped {
                Ok(()) => outcome,
                // A destructor's panic is the task's.
                Err(panic) => {
                    quietly(|| drop(outcome));
                    Outcome::Panicked(panic)
                }
            };
            if matches!(outcome, Outcome::Panicked(_)) {
                cell.scheduler.panicked();
            }
            stage.put_output(outcome);
            if !cell.header.state.seal() {
                // Nobody else looks at the stage any more.
                let unclaimed = (*cell.stage.get()).take_output();
                quietly(|| drop(unclaimed));
            }
        }
        let live = std::mem::take(&mut *cell.header.live.get());
        quietly(|| drop(live));
        let _registered = cell.scheduler.forget(&cell.header);
        cell.header.state.close();
        if let Some(joiner) = cell.header.join.take() {
            quietly(|| joiner.wake());
        }
    }
}

/// Runs foreign code whose panic is nobody's business: the panic hook has reported it.
fn quietly(f: impl FnOnce()) {
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
struct Inside<'a> {
    header: &'a Header,
    outer: current::Outer,
}

impl<'a> Inside<'a> {
    /// # Safety
    /// The caller has the task's live context until the guard is gone.
    unsafe fn enter(header: &'a Header) -> Inside<'a> {
        // SAFETY: the caller has it.
        raw::swap(unsafe { &mut *header.live.get() });
        Inside { header, outer: current::enter(header) }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        current::leave(self.outer);
        // SAFETY: as promised to `enter`.
        raw::swap(unsafe { &mut *self.header.live.get() });
    }
}
