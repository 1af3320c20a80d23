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
use std::task::{Context, Poll, Waker};

use heirloom_context::raw;

use super::cell::{After, Cell, Header, Outcome, Stage, VTable, With, release};
use super::state::{Close, Rest as Rested, Seal, Start};
use super::turn::{Phase, Rest, Turn};
use super::{Attendant, Schedule, budget, current, page, waker};

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
        takes_turns: S::TAKES_TURNS,
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

/// Polls a task once. True if it is to be queued again: then the runnable is the caller's again.
///
/// # Safety
/// The caller gives up a runnable of a cell of these types.
unsafe fn run<F: Future, S: Schedule>(header: NonNull<Header>, begun: bool, with: With<'_>) -> After {
    // SAFETY: the runnable's reference keeps the cell alive; the state gives us the stage.
    unsafe {
        let state = &header.as_ref().state;
        let mut start = if begun { state.resume() } else { state.start() };
        let inside = loop {
            if start == Start::Stale {
                release(header, 1);
                return After::Nothing;
            }
            match with.enter::<S>(header) {
                Ok(inside) => break inside,
                Err(rest) => {
                    // While foreign code runs, this task is not in its way.
                    state.put_back();
                    rest.see_to::<S>();
                    S::passed_over(page::shared_of(header));
                    start = state.start();
                }
            }
        };
        match start {
            Start::Poll { detached } => poll::<F, S>(header, inside, detached, with),
            Start::Cancel | Start::Stale => {
                finish::<F, S>(header, inside, Outcome::Cancelled, 1);
                After::Nothing
            }
        }
    }
}

impl With<'_> {
    fn attendant(&self) -> Option<&dyn Attendant> {
        if let With::Attendant(attendant) = self { Some(*attendant) } else { None }
    }

    fn turn(&self) -> Option<&Turn> {
        if let With::Turn(turn) = self { Some(turn) } else { None }
    }

    /// # Safety
    /// As [`Inside::enter`].
    #[inline(always)]
    unsafe fn enter<S: Schedule>(&self, header: NonNull<Header>) -> Result<Inside, Rest> {
        // SAFETY: says the caller.
        unsafe {
            match self {
                With::Turn(turn) => turn.enter::<S>(header),
                With::Nobody | With::Attendant(_) => Ok(Inside::enter(header)),
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
        quietly(|| unsafe { ManuallyDrop::drop(&mut self.0) });
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

/// Polls the future in its context, once, or as often as an attendant wants; closes the task if that was the last time.
/// True as for `run`.
///
/// # Safety
/// As `run`, and the caller has the stage, which is a future.
unsafe fn poll<F: Future, S: Schedule>(
    header: NonNull<Header>,
    inside: Inside,
    detached: bool,
    with: With<'_>,
) -> After {
    // SAFETY: the caller has the stage, and a reference.
    unsafe {
        let attendant = with.attendant();
        if detached {
            raw::set_execution(raw::execution().with_deadline(None));
        }
        let stage = header.cast::<Cell<F>>().as_ref().stage.get();
        let progress = Plain::new(Progress::Polling);
        current::begin_lending();
        // What is the caller's of them.
        let references = Plain::new(1);
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
            references.set(usize::from(!current::end_lending()));
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
                let yielded = inside.yielded();
                let state = &header.as_ref().state;
                let rest = match with.turn() {
                    // Whoever takes it from the queue goes on where this worker stops.
                    Some(_) if yielded => {
                        drop(inside);
                        if references.replace(1) == 0 {
                            state.retain();
                        }
                        match state.stay() {
                            Rested::Requeue => return After::QueueBegun,
                            rest => rest,
                        }
                    }
                    Some(turn) if (cfg!(loom) || raw::has_stock()) && turn.is_worth_keeping() => {
                        turn.keep(inside, Phase::PENDING, references.get());
                        return After::Nothing;
                    }
                    _ => {
                        drop(inside);
                        state.rest(yielded, references.get())
                    }
                };
                match rest {
                    Rested::Idle => {}
                    // Not queued from here: whoever takes it from the queue may free it.
                    Rested::Requeue => return After::Queue,
                    Rested::Cancel => {
                        finish::<F, S>(header, Inside::enter(header), Outcome::Cancelled, references.get());
                    }
                }
            }
            // What has ended is closed without leaving the context in between: one swap in and one out per poll.
            Ok(true) => close::<F, S>(header, inside, references.get(), with.turn()),
            Err(panic) if progress.get() == Progress::Polling => {
                let references = usize::from(!current::end_lending());
                finish::<F, S>(header, inside, Outcome::Panicked(panic), references);
            }
            Err(panic) => {
                S::panicked(page::shared_of(header));
                put::<F>(stage, Outcome::Panicked(panic));
                close::<F, S>(header, inside, references.get(), None);
            }
        }
        After::Nothing
    }
}

/// Cancels a task that was being polled.
///
/// # Safety
/// The caller has the stage, which is a future, and gives `references` up.
#[cold]
pub(super) unsafe fn stop(header: NonNull<Header>, references: usize) {
    // SAFETY: says the caller; the table is this cell's. Without a reference nothing is touched afterwards.
    unsafe {
        (header.as_ref().vtable.cancel)(header);
        if references != 0 {
            release(header, references);
        }
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
            discard(former);
        }
        if matches!(outcome, Outcome::Panicked(_)) {
            S::panicked(page::shared_of(header));
        }
        put::<F>(stage, outcome);
        close::<F, S>(header, inside, references, None);
    }
}

/// Drops the context, tells the joiner. Steps 4 and 5 of the protocol; in a turn, 5 perhaps later.
///
/// # Safety
/// The caller has the stage, which is an output; and, besides the task's own reference, `references` to give up.
unsafe fn close<F: Future, S: Schedule>(
    header: NonNull<Header>,
    inside: Inside,
    references: usize,
    turn: Option<&Turn>,
) {
    // SAFETY: the caller has the stage until `seal`; afterwards it is touched only if there is no join handle. The
    // references keep the cell until `close`.
    unsafe {
        let task = header.as_ref();
        let mut joiner = None;
        match task.state.seal() {
            Seal::Unclaimed => {
                if std::mem::needs_drop::<F::Output>()
                    || !matches!(
                        &*(*header.cast::<Cell<F>>().as_ref().stage.get()).output,
                        Outcome::Returned(_)
                    )
                {
                    let stage = header.cast::<Cell<F>>().as_ref().stage.get();
                    quietly(|| ManuallyDrop::drop(&mut (*stage).output));
                }
            }
            Seal::Claimed => {}
            Seal::Awaited => joiner = Some(task.joiner.take()),
        }
        let taken = joiner.is_some();
        match turn {
            Some(turn) if turn.is_worth_keeping() => match turn.foresee(header, joiner) {
                Ok(phase) => return turn.keep(inside, phase, references),
                Err(foreign) => {
                    inside.leave_for_good();
                    joiner = Some(foreign);
                }
            },
            // Values that end with this task do so now, when no other is in this worker's hands.
            Some(turn) => {
                inside.leave_for_good();
                joiner = joiner.and_then(|joiner| turn.seize(header, joiner).err());
            }
            None => inside.leave_for_good(),
        }
        if let Some(joiner) = end::<S>(header, references, taken).or(joiner) {
            tell(joiner);
        }
    }
}

/// Publishes that a task is done. Step 5 of the protocol. Returns who has come as a joiner since 4, if the joiner's waker was not
/// `taken` then.
///
/// # Safety
/// The task is sealed, its context gone; the caller gives up its own reference, and `references` besides.
#[inline]
pub(super) unsafe fn end<S: Schedule>(
    header: NonNull<Header>,
    references: usize,
    mut taken: bool,
) -> Option<Waker> {
    let mut joiner = None;
    // SAFETY: the references keep the cell until `close`.
    unsafe {
        let task = header.as_ref();
        // From here on the shared part may be gone, unless it is the caller's.
        S::ending(page::shared_of(header));
        loop {
            match task.state.close(references, taken) {
                Close::TakeWaker => {
                    joiner = Some(task.joiner.take());
                    taken = true;
                }
                Close::Free => break (task.vtable.free)(header),
                Close::Nothing => break,
            }
        }
    }
    joiner
}

/// Wakes a joiner. A waker of ours passes no panic on.
#[inline]
pub(super) fn tell(joiner: Waker) {
    if waker::is_ours(&joiner) { joiner.wake() } else { quietly(|| joiner.wake()) }
}

/// Runs foreign code whose panic is nobody's business: the panic hook has reported it.
pub(crate) fn quietly(f: impl FnOnce()) {
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
pub(super) struct Inside {
    header: NonNull<Header>,
    outer: current::Outer,
}

impl Inside {
    /// # Safety
    /// The caller has the task's live context, and a reference, until the guard is gone.
    #[inline]
    pub(super) unsafe fn enter(header: NonNull<Header>) -> Inside {
        // SAFETY: the caller has it.
        raw::swap(unsafe { &mut *header.as_ref().live.get() });
        Inside { header, outer: current::enter(header) }
    }

    /// The same where no task is current: nothing is kept, for a copy of what was just written to the stack would wait for it.
    ///
    /// # Safety
    /// As [`enter`](Self::enter).
    #[inline]
    pub(super) unsafe fn enter_outermost(header: NonNull<Header>) -> Inside {
        // SAFETY: the caller has it.
        raw::swap(unsafe { &mut *header.as_ref().live.get() });
        current::begin(header);
        // SAFETY: just made current.
        unsafe { Inside::outermost(header) }
    }

    /// What [`enter`](Self::enter) returned where no task was current.
    ///
    /// # Safety
    /// The task and its context are current, and nobody else is to leave them.
    #[inline]
    pub(super) unsafe fn outermost(header: NonNull<Header>) -> Inside {
        Inside { header, outer: current::Outer::NOTHING }
    }

    /// Leaves the task and its context current, for whoever knows the way [back](Self::outermost).
    #[inline]
    pub(super) fn stay(self) -> NonNull<Header> {
        // The threads of a model share one thread-local.
        debug_assert!(cfg!(loom) || self.outer == current::Outer::NOTHING);
        ManuallyDrop::new(self).header
    }

    /// Leaves the task's context, and drops it.
    #[inline]
    pub(super) fn leave_for_good(self) {
        let header = self.header;
        drop(self);
        // SAFETY: promised to `enter`.
        let live = unsafe { &mut *header.as_ref().live.get() };
        // Mostly somebody else has it too: then nothing of anybody's runs.
        if let Some(remains) = live.take_unique() {
            quietly(|| drop(remains));
        }
    }

    /// Whether the task has asked for another turn in this poll; see `budget::yield_now`.
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
