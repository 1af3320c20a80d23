//! One task after the other, on one worker.
//!
//! # The problem
//!
//! A task that has ended gives its context up before anybody hears of its end: who sees the output sees those values gone that only
//! this task had. A task that forks takes handles of its context for its children, and gives back what is left when it is swapped
//! out. All of that counts; and where workers share a context, as in a tree of tasks, the line with the count goes to and fro
//! between them: thirty nanoseconds each time rather than five. Counting per worker, in batches, would keep values alive
//! when the last task that shows them is over.
//!
//! # The turn
//!
//! But the next task mostly has the same context: a sibling, a child, a parent. So a worker lets go of a task it has polled only
//! when it has the next one in its hands:
//!
//! ```text
//!   E1  polled to its end and sealed, or pending and there is a stock, and somebody else has its context, too: the task
//!       stays running, and its context current
//!   E2  the next task was started, so it is this worker's. Its context is the same: the two change places, and the stock stays.
//!       An ended one's handle goes to the stock, and then its end is published; a pending one rests
//!   E3  it is another, or none is at hand: the context is left, and given up by an ended task; then the same
//! ```
//!
//! **This is no cache.** There is a stock only while the context is current, and while it is, this worker has a task that shows it
//! and is neither published as done nor idle. So values go with the last task that shows them, as if each had a count.
//!
//! **It delays nothing.** Between E1 and E2 or E3 the worker pops a task from where it is at hand, no more: before it looks
//! around (if there is anything to see), calls a sibling, searches or parks, it does E3. Whom E2 and E3 wake others can see
//! before the next poll, which may be a long one (`Schedule::passed_over`).
//!
//! **Foreign code finds no task started in the worker's hands.** Values that nobody else has are dropped in place of E1. If E2
//! or E3 still meets destructors, since somebody else has given the context up meanwhile, or a joiner that has come late and is
//! no task of this runtime's workers, or a task that was cancelled during its poll, then the next task is put back first: it is
//! scheduled, as it was, and may be claimed by a shutdown. (If a sibling is called first, the next one is popped by then, not
//! started. One that has yielded cannot be claimed there, and is cancelled right after.) Where variables have hooks, there
//! is no E1.
//!
//! Only a worker's own tasks take turns. Others that it may be given (a cancelled closure of the blocking pool, a task that was
//! begun outside of all runtimes) are polled after E3.
//!
//! # The joiner
//!
//! ```text
//!   J1  a task has ended, and its joiner is an idle task of the same runtime: the worker sets RUNNING in its word, which
//!       says that it is woken, started, and this worker's. Then E1, or what is done without a turn
//!   J2  the joiner is the next task: E2 or E3, and its poll finds the output
//! ```
//!
//! If the joiner is not idle, or the next slot has gone first often enough, or it is time to look around, then it is woken when
//! the end is published, with E2 or E3. (A tree's ends climb so often in a row that one in fifteen comes to that.) A joiner that
//! is no task of this runtime's workers is told as ever: E3 at once, then foreign code. Who comes as a joiner after E1 leaves a
//! waker, which the publishing finds.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::task::Waker;

use heirloom_context::raw::{self, DeferredDrop};

use super::cell::{Header, Runnable};
use super::harness::{self, Inside, tell};
use super::state::Rest as Rested;
use super::{Schedule, current, page, waker};

/// A worker's turn.
pub(crate) struct Turn {
    /// The task it has polled last, if that has not been let go. Its context is current, and so is the task. Null: there
    /// is none. No task is around it: a worker's loop is not inside of one.
    last: Cell<*mut Header>,
    /// What has become of it.
    phase: Cell<Phase>,
    /// The joiner of that, seized; or null.
    seized: Cell<*mut Header>,
    may_seize: Cell<bool>,
}

/// How a poll has left a task; in one word, for it is written and read with each poll.
#[derive(Clone, Copy)]
pub(super) struct Phase(*const ());

const _: () = assert!(align_of::<Header>() > 6, "a task's address must be none of these");

impl Phase {
    /// Its future was pending.
    pub(super) const PENDING: Phase = Phase(ptr::without_provenance(2));
    /// Sealed.
    const ENDED: Phase = Phase(ptr::without_provenance(4));
    /// Sealed, and its joiner was taken, and seized.
    const TOLD: Phase = Phase(ptr::without_provenance(6));
    /// Tag: the worker's reference is lent.
    const LENT: usize = 1;

    /// Sealed, and its joiner was taken: a task, to be woken when the end is published.
    fn owing(joiner: Waker) -> Phase {
        Phase(ManuallyDrop::new(joiner).data())
    }

    /// With so many references of the worker's: one or none.
    fn with(self, references: usize) -> Phase {
        Phase(self.0.map_addr(|address| if references == 0 { address | Self::LENT } else { address }))
    }

    fn references(self) -> usize {
        usize::from(self.0.addr() & Self::LENT == 0)
    }

    fn is(self, other: Phase) -> bool {
        self.0.addr() & !Self::LENT == other.0.addr()
    }

    /// Who is to be woken.
    ///
    /// # Safety
    /// It is asked once: the answer is the one waker there is.
    unsafe fn owed(self) -> Option<Waker> {
        let joiner = self.0.map_addr(|address| address & !Self::LENT);
        // SAFETY: from `owing`; that it is taken once says the caller.
        (joiner.addr() > Self::TOLD.0.addr()).then(|| unsafe { waker::from_data(joiner) })
    }
}

impl Turn {
    pub(crate) const fn new() -> Turn {
        Turn {
            last: Cell::new(ptr::null_mut()),
            phase: Cell::new(Phase::ENDED),
            seized: Cell::new(ptr::null_mut()),
            may_seize: Cell::new(false),
        }
    }

    /// Whether the joiner of the next task, if it ends, may be polled after it.
    #[inline]
    pub(crate) fn allow(&self, seize: bool) {
        self.may_seize.set(seize);
    }

    /// J1, if it is one of this worker's tasks, and idle.
    #[inline]
    pub(super) fn seize(&self, ended: NonNull<Header>, joiner: Waker) -> Result<(), Waker> {
        // SAFETY: the ended task is in this worker's hands; a waker keeps its own.
        let seized = sibling(&joiner, unsafe { page::shared_at(ended) })
            .filter(|task| self.may_seize.get() && unsafe { task.as_ref() }.state.seize());
        let Some(task) = seized else { return Err(joiner) };
        let _ = ManuallyDrop::new(joiner);
        self.seized.set(task.as_ptr());
        Ok(())
    }

    /// How a task that has ended is kept, whose joiner was taken if there was one; or the joiner, if that is none of this
    /// worker's tasks.
    #[inline]
    pub(super) fn foresee(&self, ended: NonNull<Header>, joiner: Option<Waker>) -> Result<Phase, Waker> {
        let Some(joiner) = joiner else { return Ok(Phase::ENDED) };
        match self.seize(ended, joiner) {
            Ok(()) => Ok(Phase::TOLD),
            // SAFETY: as in `seize`.
            Err(joiner) if sibling(&joiner, unsafe { page::shared_at(ended) }).is_some() => {
                Ok(Phase::owing(joiner))
            }
            Err(joiner) => Err(joiner),
        }
    }

    /// Who was seized by the task before.
    #[inline]
    pub(crate) fn seized(&self) -> Option<Runnable> {
        let task = NonNull::new(self.seized.get())?;
        self.seized.set(ptr::null_mut());
        // SAFETY: the reference was the waker's, and the stage is this worker's.
        Some(unsafe { Runnable::begun(task) })
    }

    /// Whether E1 is worth it for the task whose context is current. The tasks of models have none.
    #[inline]
    pub(super) fn is_worth_keeping(&self) -> bool {
        cfg!(loom) || raw::is_shared()
    }

    /// E1.
    #[inline]
    pub(super) fn keep(&self, polled: Inside, phase: Phase, references: usize) {
        debug_assert!(self.last.get().is_null(), "whoever comes next has begun with E2 or E3");
        self.last.set(polled.stay().as_ptr());
        self.phase.set(phase.with(references));
    }

    #[inline]
    fn take(&self) -> Option<(NonNull<Header>, Phase)> {
        let last = NonNull::new(self.last.replace(ptr::null_mut()))?;
        Some((last, self.phase.get()))
    }

    /// E2 or E3, and the next task's context is current; or what is to be seen to before.
    ///
    /// # Safety
    /// As [`Inside::enter`]; all tasks of the turn are of this scheduler, and of this worker's runtime.
    #[inline(always)]
    pub(super) unsafe fn enter<S: Schedule>(&self, next: NonNull<Header>) -> Result<Inside, Rest> {
        // SAFETY: says the caller.
        unsafe {
            match self.take() {
                None => Ok(Inside::enter_outermost(next)),
                Some((last, phase)) => match enter_after::<S>(last, phase, next) {
                    Rest::Nothing => Ok(Inside::outermost(next)),
                    rest => Err(rest),
                },
            }
        }
    }

    /// E3, if there is somebody; whether there was.
    #[inline]
    pub(crate) fn end<S: Schedule>(&self) -> bool {
        let Some((last, phase)) = self.take() else { return false };
        // SAFETY: this worker has the last task, and its context.
        unsafe { end::<S>(last, phase) }
        true
    }
}

/// The task that a waker wakes, if it is one of those that take turns, of the runtime whose shared part is [there](page::shared_at).
/// No foreign code runs when that is woken. (A local set calls whoever runs it; another runtime may go with its last task.)
#[inline]
fn sibling(joiner: &Waker, shared: *const ()) -> Option<NonNull<Header>> {
    let task = NonNull::new(joiner.data().cast::<Header>().cast_mut()).filter(|_| waker::is_ours(joiner))?;
    // SAFETY: a waker of ours keeps its task.
    unsafe { (task.as_ref().vtable.takes_turns && page::is_shared(task, shared)).then_some(task) }
}

/// What is left to be done for a task that is let go: mostly nothing; else foreign code.
#[must_use]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// Nothing, but somebody was woken.
    Woken,
    /// The task was cancelled while it was polled.
    Stop(NonNull<Header>, Phase),
    /// Its joiner, no sibling, has come late.
    Tell(Waker),
    /// Its values, which nobody has any more, and which go before its end is published.
    Bury(DeferredDrop, NonNull<Header>, Phase),
}

impl Rest {
    /// # Safety
    /// Nobody else sees to it, and no task is current.
    #[cold]
    pub(super) unsafe fn see_to<S: Schedule>(self) {
        // SAFETY: says the caller.
        unsafe {
            match self {
                Rest::Nothing | Rest::Woken => {}
                Rest::Stop(last, phase) => harness::stop(last, phase.references()),
                Rest::Tell(joiner) => tell(joiner),
                Rest::Bury(remains, last, phase) => {
                    harness::quietly(|| drop(remains));
                    let_go::<S>(last, phase).see_to::<S>();
                }
            }
        }
    }
}

/// The rest of [`Turn::enter`]: with nothing left to be done the next task is current, else it is not.
///
/// # Safety
/// As there; the worker has the last task, as is said there, and its context is current.
#[inline(never)]
unsafe fn enter_after<S: Schedule>(last: NonNull<Header>, phase: Phase, next: NonNull<Header>) -> Rest {
    // SAFETY: says the caller; two tasks have two contexts.
    unsafe {
        let live = &mut *last.as_ref().live.get();
        let relayed = raw::relay(live, &mut *next.as_ref().live.get());
        let mut rest = if relayed {
            current::begin(next);
            if !phase.is(Phase::PENDING) {
                // The next one has it too, so nothing ends with it.
                live.clear();
            }
            let_go::<S>(last, phase)
        } else {
            leave::<S>(last, phase)
        };
        if let Rest::Woken = rest {
            S::passed_over(page::shared_of(next));
            rest = Rest::Nothing;
        }
        match (&rest, relayed) {
            (Rest::Nothing, true) => {}
            (Rest::Nothing, false) => {
                Inside::enter_outermost(next).stay();
            }
            (_, true) => drop(Inside::outermost(next)),
            (_, false) => {}
        }
        rest
    }
}

/// E3.
///
/// # Safety
/// As [`enter_after`].
#[inline(never)]
unsafe fn end<S: Schedule>(last: NonNull<Header>, phase: Phase) {
    // SAFETY: says the caller.
    unsafe { leave::<S>(last, phase).see_to::<S>() }
}

/// E3, but for foreign code.
///
/// # Safety
/// As [`enter_after`].
unsafe fn leave<S: Schedule>(last: NonNull<Header>, phase: Phase) -> Rest {
    // SAFETY: says the caller.
    unsafe {
        drop(Inside::outermost(last));
        if !phase.is(Phase::PENDING)
            && let Some(remains) = (*last.as_ref().live.get()).take_unique()
        {
            return Rest::Bury(remains, last, phase);
        }
        let_go::<S>(last, phase)
    }
}

/// The last step: a pending task rests, the end of another one is published.
///
/// # Safety
/// As [`enter_after`], but that the task's context is not current, and gone if the task has ended.
#[inline]
unsafe fn let_go<S: Schedule>(last: NonNull<Header>, phase: Phase) -> Rest {
    // SAFETY: says the caller.
    unsafe {
        if !phase.is(Phase::PENDING) {
            let shared = page::shared_at(last);
            let owed = phase.owed();
            let taken = owed.is_some() || phase.is(Phase::TOLD);
            return match harness::end::<S>(last, phase.references(), taken).or(owed) {
                None => Rest::Nothing,
                Some(joiner) if sibling(&joiner, shared).is_some() => {
                    joiner.wake();
                    Rest::Woken
                }
                Some(joiner) => Rest::Tell(joiner),
            };
        }
        match last.as_ref().state.rest(false, phase.references()) {
            Rested::Idle => Rest::Nothing,
            Rested::Requeue => {
                S::requeue(page::shared_of(last), Runnable::from_raw(last));
                Rest::Woken
            }
            Rested::Cancel => Rest::Stop(last, phase),
        }
    }
}
