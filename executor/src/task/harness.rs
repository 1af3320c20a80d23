//! The functions of a cell's table: polling, closing, dropping.
//!
//! All user code runs here with the task's context current, and under [`panic::catch`].

use std::cell::Cell as Plain;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use heirloom_context::raw;

use super::cell::{Cell, Header, Outcome, Stage, VTable, release};
#[cfg(debug_assertions)]
use super::mistakes;
use super::panicked::TaskPanic;
use super::state::{AfterPending, AfterStart, Close, Seal};
use super::{Attendant, Schedule, budget, current, waker};
use crate::slab;
use crate::util::counters::Ending;
use crate::util::panic::{self, Unclaimed};

/// The table of a task; `telling` if its wake-ups are told: to its record, and by its scheduler.
#[inline(always)]
pub(crate) fn vtable<F: Future, S: Schedule>(telling: bool) -> &'static VTable {
    if telling { &Table::<F, S>::TELLING } else { &Table::<F, S>::TABLE }
}

struct Table<F, S>(std::marker::PhantomData<(F, S)>);

impl<F: Future, S: Schedule> Table<F, S> {
    const TABLE: VTable = VTable {
        run: run::<F, S>,
        cancel: |header| {
            // SAFETY: the task was claimed, so this thread has the stage; the cell has these types;
            // the task's own reference keeps it.
            unsafe { finish::<F, S>(header, TaskGuard::enter(header), Outcome::Cancelled, 0) }
        },
        schedule: |header| {
            // SAFETY: a live cell of these types; the runnable's reference was counted.
            unsafe { S::wake(header) }
        },
        free: |header| {
            // SAFETY: the last reference was given up.
            unsafe {
                Header::clear(header);
                S::free(header);
            }
        },
        stage: std::mem::offset_of!(Cell<F>, stage),
        #[cfg(debug_assertions)]
        reports_mistakes: |header| {
            // SAFETY: the caller has a reference of the task, which keeps the page, which keeps the
            // shared part.
            S::reports_mistakes(unsafe { slab::shared_of(header.cast()) })
        },
    };

    const TELLING: VTable = VTable {
        schedule: |header| {
            // SAFETY: as in `TABLE`.
            unsafe {
                header.as_ref().about.record().inspect(|record| record.woken());
                S::wake_and_tell(header);
            }
        },
        ..Self::TABLE
    };
}

/// Polls a task once, or as often as an attendant says. True if the runnable is to be queued again:
/// then it is the caller's.
///
/// # Safety
/// The caller gives up a runnable of a cell of these types.
unsafe fn run<F: Future, S: Schedule>(header: NonNull<Header>, attendant: Option<&dyn Attendant>) -> bool {
    // SAFETY: the runnable's reference keeps the cell alive; `start` gives this thread the stage.
    unsafe {
        match header.as_ref().state.start() {
            AfterStart::Poll { detached } => {
                poll::<F, S>(header, TaskGuard::enter(header), detached, attendant)
            }
            AfterStart::Cancel => {
                finish::<F, S>(header, TaskGuard::enter(header), Outcome::Cancelled, 1);
                false
            }
            AfterStart::Stale => {
                release(header, 1);
                false
            }
        }
    }
}

/// How far a poll has come: a panic leaves a future or nothing on the stage.
#[derive(Clone, Copy, PartialEq)]
enum PollPhase {
    Polling,
    Dropping,
}

/// Polls the future in its context; closes the task if the future is ready or panics. Returns what
/// [`run`] does.
///
/// # Safety
/// As `run`, and the caller has the stage, which is a future.
unsafe fn poll<F: Future, S: Schedule>(
    header: NonNull<Header>,
    guard: TaskGuard,
    detached: bool,
    attendant: Option<&dyn Attendant>,
) -> bool {
    // SAFETY: the caller has the stage, and a reference.
    unsafe {
        if detached {
            raw::set_execution(raw::execution().with_deadline(None));
        }
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        let phase = Plain::new(PollPhase::Polling);
        #[cfg(debug_assertions)]
        let began = (attendant.is_none() && !S::MAY_BLOCK).then(std::time::Instant::now);
        let polled = panic::catch(|| {
            let waker = waker::borrowed(header);
            let waker = attendant.map_or(&*waker, |attendant| {
                budget::start();
                attendant.waker()
            });
            let mut cx = Context::from_waker(waker);
            let mut polled = Pin::new_unchecked(&mut *(*stage).future).poll(&mut cx);
            // An abort does not wake an attendant, but a task that was cancelled meanwhile is not
            // polled again.
            while polled.is_pending()
                && attendant.is_some_and(Attendant::again)
                && !header.as_ref().state.is_cancelled()
            {
                budget::renew();
                polled = Pin::new_unchecked(&mut *(*stage).future).poll(&mut cx);
            }
            let Poll::Ready(output) = polled else { return false };
            // The output is written to the stage at once, piece by piece. An output that is written
            // in pieces and then copied as a whole makes the processor wait for the pieces, which
            // cost a tenth of a spawn.
            if std::mem::needs_drop::<F>() {
                let output = Unclaimed::new(output);
                phase.set(PollPhase::Dropping);
                ManuallyDrop::drop(&mut (*stage).future);
                put_output::<F>(stage, Outcome::Returned(output.into_inner()));
            } else {
                put_output::<F>(stage, Outcome::Returned(output));
            }
            true
        });
        #[cfg(debug_assertions)]
        if let Some(began) = began
            && S::reports_long_polls(slab::shared_of(header.cast()))
        {
            mistakes::poll_ended(header.as_ref(), began);
        }
        match polled {
            Ok(false) => {
                let yielded = current::has_yielded();
                drop(guard);
                match header.as_ref().state.pend(yielded) {
                    AfterPending::Idle => {}
                    // The caller queues the runnable. From then on another worker may free the
                    // task.
                    AfterPending::Requeue => return true,
                    AfterPending::Cancel => {
                        finish::<F, S>(header, TaskGuard::enter(header), Outcome::Cancelled, 1)
                    }
                }
            }
            // A task that has ended is closed without leaving its context in between: each poll has
            // one swap in and one out.
            Ok(true) => close::<F, S>(header, guard, Ending::Returned, 1),
            Err(panic) if phase.get() == PollPhase::Polling => {
                let panic = TaskPanic::new(panic, &header.as_ref().about);
                finish::<F, S>(header, guard, Outcome::Panicked(panic), 1);
            }
            Err(panic) => {
                let panic = TaskPanic::new(panic, &header.as_ref().about);
                abort_if_so_told::<S>(header, &panic);
                put_output::<F>(stage, Outcome::Panicked(panic));
                close::<F, S>(header, guard, Ending::Panicked, 1);
            }
        }
        false
    }
}

/// Writes the output to the stage.
///
/// # Safety
/// The stage is the caller's, and holds nothing.
#[inline(always)]
unsafe fn put_output<F: Future>(stage: *mut Stage<F>, outcome: Outcome<F::Output>) {
    // SAFETY: this thread has the stage, and nothing on it would need a drop.
    unsafe { (&raw mut (*stage).output).write(ManuallyDrop::new(outcome)) }
}

/// Ends a task that did not return: drops the future inside its context, then [closes](close) the
/// task.
///
/// # Safety
/// The caller has the stage, which is a future; and, besides the task's own reference, as many as
/// `references`, to be given up.
#[cold]
unsafe fn finish<F: Future, S: Schedule>(
    header: NonNull<Header>,
    guard: TaskGuard,
    mut outcome: Outcome<F::Output>,
    references: usize,
) {
    // SAFETY: the caller has the stage.
    unsafe {
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        #[cfg(debug_assertions)]
        let consequence = mistakes::Consequence::begin();
        let dropped = panic::catch(|| ManuallyDrop::drop(&mut (*stage).future));
        #[cfg(debug_assertions)]
        drop(consequence);
        // A panic of the future's destructor becomes the task's outcome.
        if let Err(panic) = dropped {
            let panic = TaskPanic::new(panic, &header.as_ref().about);
            if let Outcome::Panicked(former) = std::mem::replace(&mut outcome, Outcome::Panicked(panic)) {
                panic::discard(former.into_payload());
            }
        }
        let mut ending = Ending::Cancelled;
        if let Outcome::Panicked(panic) = &outcome {
            abort_if_so_told::<S>(header, panic);
            ending = Ending::Panicked;
        }
        put_output::<F>(stage, outcome);
        close::<F, S>(header, guard, ending, references);
    }
}

/// Ends the process, if that is what a panic does here. The report comes first: no joiner will see
/// the panic.
///
/// # Safety
/// The caller has a reference of the task, which is one of this scheduler.
#[cold]
unsafe fn abort_if_so_told<S: Schedule>(header: NonNull<Header>, panic: &TaskPanic) {
    // SAFETY: the reference keeps the task, and its page, which keeps the shared part.
    unsafe {
        if S::aborts_on_panic(slab::shared_of(header.cast())) {
            panic.report(&header.as_ref().about);
            std::process::abort();
        }
    }
}

/// Drops the context, publishes the end, wakes the joiner: steps 4 and 5 of the protocol.
///
/// # Safety
/// The caller has the stage, which is an output; and, besides the task's own reference, as many as
/// `references`, to be given up.
unsafe fn close<F: Future, S: Schedule>(
    header: NonNull<Header>,
    guard: TaskGuard,
    ending: Ending,
    references: usize,
) {
    // SAFETY: this thread has the stage until `seal`; afterwards it touches the output only if
    // there is no join handle. The references keep the cell until `complete`.
    unsafe {
        let task = header.as_ref();
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        let mut joiner = None;
        match task.state.seal() {
            Seal::Unclaimed => {
                if let Outcome::Panicked(panic) = &*(*stage).output {
                    panic.report(&task.about);
                }
                if std::mem::needs_drop::<F::Output>() || !matches!(&*(*stage).output, Outcome::Returned(_)) {
                    panic::swallow(|| ManuallyDrop::drop(&mut (*stage).output));
                }
            }
            Seal::Claimed => {}
            Seal::Awaited => joiner = Some(task.joiner.take()),
        }
        guard.leave_and_drop_context();
        // From here on the shared part may be gone, unless the caller holds a reference of it.
        S::ending(slab::shared_of(header.cast()), ending);
        loop {
            match task.state.complete(references, joiner.is_some()) {
                Close::TakeWaker => joiner = Some(task.joiner.take()),
                Close::Free => break (task.vtable.free)(header),
                Close::Nothing => break,
            }
        }
        let Some(joiner) = joiner else { return };
        // The waker of a task of this crate never panics.
        if waker::is_ours(&joiner) { joiner.wake() } else { panic::swallow(|| joiner.wake()) }
    }
}

/// The task and its context are current on this thread until the guard is dropped.
pub(super) struct TaskGuard {
    header: NonNull<Header>,
    saved: current::Saved,
}

impl TaskGuard {
    /// # Safety
    /// The caller has the task's live context and a reference until the guard is gone.
    #[inline]
    pub(super) unsafe fn enter(header: NonNull<Header>) -> TaskGuard {
        // SAFETY: the thread with the stage has the live context.
        let live = unsafe { &mut *header.as_ref().live.get() };
        // Again, if the destructors of a context that ends here have polled another task.
        while let Some(last) = raw::keep_spare_handles(live, current::is_worker_between_polls) {
            panic::swallow(|| drop(last));
        }
        raw::swap(live);
        TaskGuard { header, saved: current::enter(header) }
    }

    /// Leaves the task's context, and gives its handle up.
    #[inline]
    fn leave_and_drop_context(self) {
        let header = self.header;
        drop(self);
        // SAFETY: this thread has the live context, see `enter`.
        let live = unsafe { &mut *header.as_ref().live.get() };
        // Mostly another task has a handle of the same context: then no destructor runs.
        if let Some(last) = live.take_unique() {
            panic::swallow(|| drop(last));
        }
    }
}

impl Drop for TaskGuard {
    #[inline]
    fn drop(&mut self) {
        current::leave(self.saved);
        // SAFETY: this thread has the live context and a reference, see `enter`.
        raw::swap(unsafe { &mut *self.header.as_ref().live.get() });
        if let Some(last) = raw::settle_spare_handles() {
            panic::swallow(|| drop(last));
        }
    }
}
