//! The state word: flags below, references above. One method per transition; see the
//! [protocol](super::protocol).
#![forbid(unsafe_code)]

use super::TaskState;
use crate::slab::SlotHead;
use crate::util::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::util::sync::weakened;

/// A runnable exists, or the poll in progress will be followed by another.
const SCHEDULED: usize = 1;
/// One thread has the stage.
const RUNNING: usize = 1 << 1;
/// The future is gone.
const SEALED: usize = 1 << 2;
/// The context is gone too, and the output is there for the join handle.
const DONE: usize = 1 << 3;
/// The task is to be cancelled.
const CANCELLED: usize = 1 << 4;
/// The join handle exists.
const JOIN: usize = 1 << 5;
/// The join handle let the task run on alone.
const DETACHED: usize = 1 << 6;
/// The joiner's waker lies in the header, for the closer.
const WAKER: usize = 1 << 7;
/// The task was never polled.
const FRESH: usize = 1 << 8;
/// The task has inherited nothing from its spawner. Never changes.
const BACKGROUND: usize = 1 << 9;
/// One reference.
const REFERENCE: usize = 1 << 10;

/// References of a new task: the task's own, which keeps it until it is done, the runnable's, the
/// join handle's.
const FIRST: usize = 3;

#[repr(transparent)]
pub(crate) struct StateWord(SlotHead);

/// What the caller of a transition that wakes a task must do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The task was idle: schedule a runnable, whose reference is counted.
    Schedule,
    /// Nothing.
    Nothing,
    /// Free the cell: the reference that was given up was the last.
    Free,
}

/// What the owner of a runnable must do after `start`.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterStart {
    /// Poll the task.
    Poll { detached: bool },
    /// Drop the future.
    Cancel,
    /// The runnable is stale: drop it.
    Stale,
}

/// What the owner of a runnable must do after `pend`.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterPending {
    /// Nothing: the task is idle, and the runnable's reference is given up.
    Idle,
    /// Queue the runnable again.
    Requeue,
    /// Drop the future.
    Cancel,
}

/// Who gets the output, when the task is sealed.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// No handle exists: drop the output.
    Unclaimed,
    /// The join handle.
    Claimed,
    /// The join handle, which has left its waker: the closer takes the waker.
    Awaited,
}

/// What the closer must do after `complete`.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Nothing: the closer's references are given up.
    Nothing,
    /// Free the cell: the closer's references were the last.
    Free,
    /// The word has not changed: take the waker that the join handle has offered meanwhile, then
    /// try again.
    TakeWaker,
}

/// What the join handle must do after `release_handle`.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterRelease {
    /// The handle's reference is given up; or it became a runnable's, which must be scheduled.
    Released(Wake),
    /// Take the waker back, then try again.
    TakeWaker,
    /// Drop the output, unless it was taken; then give the reference up.
    DropOutput,
}

impl StateWord {
    /// The word of memory that is no task yet.
    #[cfg(test)]
    pub(crate) fn vacant() -> StateWord {
        StateWord(SlotHead::vacant())
    }

    /// Step 1. The task is scheduled, with a join handle. Pairs with the acquire in `try_retain`: a
    /// walker that sees the word sees the rest of the header.
    pub(crate) fn publish(&self, background: bool) {
        let order = if weakened("publish") { Relaxed } else { Release };
        let flags = SCHEDULED | JOIN | FRESH | if background { BACKGROUND } else { 0 };
        self.0.word.store(flags | (FIRST * REFERENCE), order);
    }

    /// Changes the word to what `next` makes of it, and tries again if another thread was first;
    /// `None` leaves the word.
    #[inline]
    fn update<R>(&self, mut next: impl FnMut(usize) -> (Option<usize>, R)) -> R {
        // Acquire: this transition sees what the last one published (stage, reason). Release: it
        // publishes what was written before it to the next. Every transition does both, so the
        // history of the word is one chain.
        let mut current = self.0.word.load(Acquire);
        loop {
            let (next, result) = next(current);
            let Some(next) = next else { return result };
            match self.0.word.compare_exchange_weak(current, next, AcqRel, Acquire) {
                Ok(_) => return result,
                Err(changed) => current = changed,
            }
        }
    }

    /// Step 6. A wake-up by reference.
    #[inline]
    pub(crate) fn wake(&self) -> Wake {
        self.update(|word| {
            if word & (DONE | SEALED) != 0 {
                return (None, Wake::Nothing);
            }
            if word & SCHEDULED != 0 {
                // The word is written all the same, with release: the poll to come must see what
                // the waker wrote.
                return (Some(word), Wake::Nothing);
            }
            if word & RUNNING != 0 {
                return (Some(word | SCHEDULED), Wake::Nothing);
            }
            (Some((word | SCHEDULED) + REFERENCE), Wake::Schedule)
        })
    }

    /// Step 6, by a waker that is given up: the waker's reference becomes the runnable's.
    #[inline]
    pub(crate) fn wake_owned(&self) -> Wake {
        self.update(|word| {
            if word & (DONE | SCHEDULED | SEALED | RUNNING) == 0 {
                return (Some(word | SCHEDULED), Wake::Schedule);
            }
            let woken = if word & (DONE | SCHEDULED | SEALED) == 0 { word | SCHEDULED } else { word };
            let next = woken - REFERENCE;
            (Some(next), if next < REFERENCE { Wake::Free } else { Wake::Nothing })
        })
    }

    /// Step 2. A runnable was taken from a queue.
    #[inline]
    pub(crate) fn start(&self) -> AfterStart {
        self.update(|word| {
            if word & (RUNNING | SEALED | DONE) != 0 {
                return (None, AfterStart::Stale);
            }
            debug_assert!(word & SCHEDULED != 0, "a runnable of a task that is not scheduled");
            let next = word & !SCHEDULED | RUNNING;
            if word & CANCELLED != 0 && !weakened("start look") {
                return (Some(next), AfterStart::Cancel);
            }
            (Some(next & !FRESH), AfterStart::Poll { detached: word & DETACHED != 0 })
        })
    }

    /// Step 3. A poll was pending; `yielded` if the task is to be queued again in any case.
    #[inline]
    pub(crate) fn pend(&self, yielded: bool) -> AfterPending {
        self.update(|word| {
            debug_assert!(word & RUNNING != 0);
            if word & CANCELLED != 0 {
                return (None, AfterPending::Cancel);
            }
            if (yielded || word & SCHEDULED != 0) && !weakened("pend") {
                return (Some(word & !RUNNING | SCHEDULED), AfterPending::Requeue);
            }
            // This reference is never the last: the task's own is left.
            (Some((word & !RUNNING) - REFERENCE), AfterPending::Idle)
        })
    }

    /// Step 4. The future is gone.
    #[inline]
    pub(crate) fn seal(&self) -> Seal {
        // A handle that is gone does not come back, so without JOIN no other thread will look at
        // the output.
        if self.0.word.load(Acquire) & JOIN == 0 {
            return Seal::Unclaimed;
        }
        let before = self.0.word.fetch_or(SEALED, AcqRel);
        debug_assert!(before & (RUNNING | SEALED | DONE) == RUNNING);
        match before & (JOIN | WAKER) {
            0 => Seal::Unclaimed,
            JOIN => Seal::Claimed,
            _ => Seal::Awaited,
        }
    }

    /// Step 5. The context is gone. Gives up the task's own reference and `others` besides.
    /// `taken`: the closer has the joiner's waker.
    #[inline]
    pub(crate) fn complete(&self, others: usize, taken: bool) -> Close {
        self.update(|word| {
            debug_assert!(word & RUNNING != 0);
            if !taken && word & WAKER != 0 && !weakened("late offer") {
                return (None, Close::TakeWaker);
            }
            let next = (word & !RUNNING | DONE) - (others + 1) * REFERENCE;
            (Some(next), if next < REFERENCE { Close::Free } else { Close::Nothing })
        })
    }

    /// Step 7. Asks for the end of the task. The reason was written before.
    pub(crate) fn cancel(&self) -> Wake {
        self.update(|word| {
            if word & (SEALED | DONE) != 0 {
                return (None, Wake::Nothing);
            }
            let next = word | CANCELLED;
            if word & (SCHEDULED | RUNNING) != 0 {
                return (Some(next), Wake::Nothing);
            }
            (Some((next | SCHEDULED) + REFERENCE), Wake::Schedule)
        })
    }

    /// Step 8. Takes an idle or scheduled task away from its queue, for the caller to cancel. False
    /// if the task is running (it is then cancelled after its poll) or done.
    pub(crate) fn claim(&self) -> bool {
        self.update(|word| {
            if word & (SEALED | DONE) != 0 {
                return (None, false);
            }
            if word & RUNNING != 0 && !weakened("claim look") {
                return (Some(word | CANCELLED), false);
            }
            (Some(word | CANCELLED | RUNNING), true)
        })
    }

    /// Step 9. The join handle is released: with `detach` the task runs on, else it is cancelled.
    #[inline]
    pub(crate) fn release_handle(&self, detach: bool) -> AfterRelease {
        self.update(|word| {
            debug_assert!(word & JOIN != 0);
            if word & (SEALED | DONE) != 0 {
                return (None, AfterRelease::DropOutput);
            }
            if word & WAKER != 0 {
                return (None, AfterRelease::TakeWaker);
            }
            let next = word & !JOIN;
            if detach {
                return (Some((next | DETACHED) - REFERENCE), AfterRelease::Released(Wake::Nothing));
            }
            if word & (SCHEDULED | RUNNING) != 0 {
                return (Some((next | CANCELLED) - REFERENCE), AfterRelease::Released(Wake::Nothing));
            }
            (Some(next | CANCELLED | SCHEDULED), AfterRelease::Released(Wake::Schedule))
        })
    }

    /// Step 10. The joiner's waker was written to the header. False if the task is done: then the
    /// waker is still the handle's.
    #[inline]
    pub(crate) fn offer_waker(&self) -> bool {
        if weakened("offer order") {
            return self.0.word.fetch_or(WAKER, Relaxed) & DONE == 0;
        }
        self.update(|word| {
            debug_assert!(word & (JOIN | WAKER) == JOIN);
            if word & DONE != 0 && !weakened("offer look") {
                (None, false)
            } else {
                (Some(word | WAKER), true)
            }
        })
    }

    /// Step 11. The join handle takes the waker back. False if the task is sealed: then the waker
    /// is the closer's.
    #[inline]
    pub(crate) fn withdraw_waker(&self) -> bool {
        self.update(|word| {
            debug_assert!(word & JOIN != 0);
            if word & (SEALED | DONE) != 0 { (None, false) } else { (Some(word & !WAKER), true) }
        })
    }

    /// Whether a waker was offered. For the join handle, which alone changes that flag.
    #[inline]
    pub(crate) fn has_waker(&self) -> bool {
        self.0.word.load(Relaxed) & WAKER != 0
    }

    /// Whether the task is done. Pairs with the release in `complete`: the caller sees the output.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.0.word.load(Acquire) & DONE != 0
    }

    /// Whether the end of the task was asked for.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.word.load(Relaxed) & CANCELLED != 0
    }

    /// Whether no poll of the task has begun. Orders nothing. For the join handle of a task that is
    /// cancelled, a yes is final.
    #[cfg(debug_assertions)]
    pub(crate) fn is_fresh(&self) -> bool {
        self.0.word.load(Relaxed) & FRESH != 0
    }

    /// Counts a further reference.
    #[inline]
    pub(crate) fn retain(&self) {
        // Aborts long before the count could overflow: references can be leaked, but memory is not
        // that large.
        if self.0.word.fetch_add(REFERENCE, Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
    }

    /// Counts a reference of the task in a slot. False if there is no task in the slot, or one that
    /// is done.
    pub(crate) fn try_retain(&self) -> bool {
        self.update(|word| {
            if word < REFERENCE || word & DONE != 0 {
                return (None, false);
            }
            (Some(word + REFERENCE), true)
        })
    }

    /// Gives references up; true if they were the last.
    #[inline]
    pub(crate) fn release(&self, references: usize) -> bool {
        // If the caller has all references, no other thread can make more: new ones come from
        // references, or from a walker while the task is not done. Acquire as below.
        let word = self.0.word.load(if weakened("fast release") { Relaxed } else { Acquire });
        if word & DONE != 0 && word / REFERENCE == references {
            self.0.word.store(0, Relaxed);
            return true;
        }
        // Pairs with the acquire load below: all use of the cell happens before the cell is freed.
        // (A load rather than a fence, which ThreadSanitizer does not follow.)
        let order = if weakened("release") { Relaxed } else { Release };
        let before = self.0.word.fetch_sub(references * REFERENCE, order);
        debug_assert!(before / REFERENCE >= references);
        if before / REFERENCE != references {
            return false;
        }
        self.0.word.load(if weakened("last release") { Relaxed } else { Acquire });
        true
    }

    pub(crate) fn is_background(&self) -> bool {
        self.0.word.load(Relaxed) & BACKGROUND != 0
    }

    /// What the task in a slot is doing; `None` if there is no task in the slot.
    pub(crate) fn phase_if_used(&self) -> Option<TaskState> {
        let word = self.0.word.load(Relaxed);
        (word >= REFERENCE).then(|| phase_of(word))
    }

    /// What the task is doing, and how many wakers and abort handles it has: the references besides
    /// the task's own, the runnable's, the join handle's, and the caller's. For a dump.
    pub(crate) fn phase_and_wakers(&self) -> (TaskState, usize) {
        let word = self.0.word.load(Relaxed);
        let counted = |flags: usize| usize::from(word & flags != 0);
        let own = usize::from(word & DONE == 0);
        let others = own + counted(SCHEDULED | RUNNING) + counted(JOIN) + 1;
        (phase_of(word), (word / REFERENCE).saturating_sub(others))
    }

    /// What the task is doing, for a dump.
    pub(crate) fn phase(&self) -> TaskState {
        phase_of(self.0.word.load(Relaxed))
    }
}

fn phase_of(word: usize) -> TaskState {
    match word {
        // A task without a handle goes from running to done, and is not sealed.
        _ if word & (SEALED | DONE) != 0 => TaskState::Done,
        _ if word & RUNNING != 0 => TaskState::Running,
        _ if word & SCHEDULED != 0 => TaskState::Scheduled,
        _ => TaskState::Idle,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_done_at_the_end_with_a_handle_and_without() {
        for detach in [false, true] {
            let state = StateWord::vacant();
            state.publish(false);
            assert_eq!(state.phase(), TaskState::Scheduled);
            assert_eq!(state.start(), AfterStart::Poll { detached: false });
            assert_eq!(state.phase(), TaskState::Running);
            if detach {
                assert_eq!(state.release_handle(true), AfterRelease::Released(Wake::Nothing));
            }
            assert_eq!(state.seal(), if detach { Seal::Unclaimed } else { Seal::Claimed });
            assert_eq!(state.complete(1, false), if detach { Close::Free } else { Close::Nothing });
            assert_eq!(state.phase(), TaskState::Done, "detached: {detach}");
        }
    }
}
