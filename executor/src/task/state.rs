//! The state word: flags below, references above. One method per transition; see the [protocol](super).
#![forbid(unsafe_code)]

use crate::slab::SlotHead;
use crate::util::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::util::sync::weakened;

/// A runnable exists, or the one that polls will be queued again.
const SCHEDULED: usize = 1;
/// Somebody has the stage.
const RUNNING: usize = 1 << 1;
/// The future is gone.
const SEALED: usize = 1 << 2;
/// The context is gone too, and the output is there for the join handle.
const DONE: usize = 1 << 3;
/// To be cancelled.
const CANCELLED: usize = 1 << 4;
/// There is a join handle.
const JOIN: usize = 1 << 5;
/// The handle let it go on alone.
const DETACHED: usize = 1 << 6;
/// The join handle's waker is in its place, for whoever closes the task.
const WAKER: usize = 1 << 7;
/// One reference.
const REFERENCE: usize = 1 << 8;

/// References to begin with: the task's own, which keeps it until it is done, the runnable's, the join handle's.
const FIRST: usize = 3;

#[repr(transparent)]
pub(crate) struct State(SlotHead);

/// What the caller of a transition that wakes must do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The task was idle: schedule a runnable, which has a reference.
    Schedule,
    /// Nothing.
    Nothing,
    /// Free the cell: the reference that was given up was the last.
    Free,
}

/// What the owner of a runnable must do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Poll it.
    Poll { detached: bool },
    /// Drop the future.
    Cancel,
    /// The runnable is stale: drop it.
    Stale,
}

/// What the owner of a runnable must do when a poll was pending.
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

/// Whose the output is, when the task is sealed.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// Nobody's: drop it.
    Unclaimed,
    /// The join handle's.
    Claimed,
    /// The join handle's, whose waker is now the closer's: take it.
    Awaited,
}

/// What whoever has closed the task must do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Nothing: its references are given up.
    Nothing,
    /// Free the cell: its references were the last.
    Free,
    /// Nothing has changed: take the waker that the join handle has offered meanwhile, then try again.
    TakeWaker,
}

/// What the join handle must do when it goes.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Nothing: its reference is given up, or became a runnable's, which must be scheduled.
    Gone(Wake),
    /// Take its waker back, then try again.
    TakeWaker,
    /// Drop the output, unless it was taken, then give the reference up.
    DropOutput,
}

impl State {
    /// Of memory that is no task yet.
    #[cfg(test)]
    pub(crate) fn vacant() -> State {
        State(SlotHead::vacant())
    }

    /// Step 1. Scheduled, with a join handle. Pairs with the acquire in `try_retain`, by which a walker gets to see the rest.
    pub(crate) fn publish(&self) {
        let order = if weakened("publish") { Relaxed } else { Release };
        self.0.word.store(SCHEDULED | JOIN | (FIRST * REFERENCE), order);
    }

    /// Changes the word by `next` until it is still what `next` was given; `None` leaves it.
    #[inline]
    fn update<R>(&self, mut next: impl FnMut(usize) -> (Option<usize>, R)) -> R {
        // Acquire: what the last transition published (stage, reason) is seen. Release: what was written before this
        // one is published to the next. Every transition is both, so the word's history is one chain.
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

    /// Step 6. A wake-up.
    #[inline]
    pub(crate) fn wake(&self) -> Wake {
        self.update(|word| {
            if word & (DONE | SEALED) != 0 {
                return (None, Wake::Nothing);
            }
            if word & SCHEDULED != 0 {
                // Released all the same: the poll to come must see what the waker wrote before.
                return (Some(word), Wake::Nothing);
            }
            if word & RUNNING != 0 {
                return (Some(word | SCHEDULED), Wake::Nothing);
            }
            (Some((word | SCHEDULED) + REFERENCE), Wake::Schedule)
        })
    }

    /// Step 6, by a waker that is given up: its reference becomes the runnable's.
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
    pub(crate) fn start(&self) -> Start {
        self.update(|word| {
            if word & (RUNNING | SEALED | DONE) != 0 {
                return (None, Start::Stale);
            }
            debug_assert!(word & SCHEDULED != 0, "a runnable of a task that is not scheduled");
            let next = word & !SCHEDULED | RUNNING;
            if word & CANCELLED != 0 {
                return (Some(next), Start::Cancel);
            }
            (Some(next), Start::Poll { detached: word & DETACHED != 0 })
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
            // Never the last: the task's own reference stays.
            (Some((word & !RUNNING) - REFERENCE), AfterPending::Idle)
        })
    }

    /// Step 4. The future is gone.
    #[inline]
    pub(crate) fn seal(&self) -> Seal {
        // A handle that is gone does not come back, so nobody else will look at the output.
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

    /// Step 5. The context is gone. Gives the task's own reference up, and `others` besides. `taken`: the closer has the
    /// join handle's waker.
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

    /// Step 7. Asks for the end. The reason was written before.
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

    /// Step 8. Takes an idle or scheduled task away from its queue, to be cancelled by the caller. False if it is running (then
    /// it is cancelled after its poll) or over.
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

    /// Step 9. The join handle goes: the task goes on if `detach`, else it is cancelled.
    #[inline]
    pub(crate) fn leave(&self, detach: bool) -> Leave {
        self.update(|word| {
            debug_assert!(word & JOIN != 0);
            if word & (SEALED | DONE) != 0 {
                return (None, Leave::DropOutput);
            }
            if word & WAKER != 0 {
                return (None, Leave::TakeWaker);
            }
            let next = word & !JOIN;
            if detach {
                return (Some((next | DETACHED) - REFERENCE), Leave::Gone(Wake::Nothing));
            }
            if word & (SCHEDULED | RUNNING) != 0 {
                return (Some((next | CANCELLED) - REFERENCE), Leave::Gone(Wake::Nothing));
            }
            (Some(next | CANCELLED | SCHEDULED), Leave::Gone(Wake::Schedule))
        })
    }

    /// Step 10. The join handle's waker was written. False if the task is done: then the waker is still the handle's.
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

    /// Step 11. The join handle wants its waker back. False if the task is sealed: then it is the closer's.
    #[inline]
    pub(crate) fn withdraw_waker(&self) -> bool {
        self.update(|word| {
            debug_assert!(word & JOIN != 0);
            if word & (SEALED | DONE) != 0 { (None, false) } else { (Some(word & !WAKER), true) }
        })
    }

    /// Whether a waker was offered. For the join handle, which alone changes that.
    #[inline]
    pub(crate) fn has_waker(&self) -> bool {
        self.0.word.load(Relaxed) & WAKER != 0
    }

    /// Whether the output is there. Pairs with the release in `complete`.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.0.word.load(Acquire) & DONE != 0
    }

    /// Whether its end was asked for.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.word.load(Relaxed) & CANCELLED != 0
    }

    /// A further reference.
    #[inline]
    pub(crate) fn retain(&self) {
        // Long before the flags could be overrun: references can be leaked, memory is not that large.
        if self.0.word.fetch_add(REFERENCE, Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
    }

    /// A reference from nothing but the memory: none if there is no task in it, or one that is over.
    pub(crate) fn try_retain(&self) -> bool {
        self.update(|word| {
            if word < REFERENCE || word & DONE != 0 {
                return (None, false);
            }
            (Some(word + REFERENCE), true)
        })
    }

    /// Some references less; true for the last.
    #[inline]
    pub(crate) fn release(&self, references: usize) -> bool {
        // If all there are are the caller's, nobody can make more of them, but from a task that is
        // not over. Acquire as below.
        let word = self.0.word.load(if weakened("fast release") { Relaxed } else { Acquire });
        if word & DONE != 0 && word / REFERENCE == references {
            self.0.word.store(0, Relaxed);
            return true;
        }
        // Pairs with the acquire load: all use of the cell happens before it is freed. (A load rather than a fence,
        // which ThreadSanitizer does not follow.)
        let order = if weakened("release") { Relaxed } else { Release };
        let before = self.0.word.fetch_sub(references * REFERENCE, order);
        debug_assert!(before / REFERENCE >= references);
        if before / REFERENCE != references {
            return false;
        }
        self.0.word.load(if weakened("last release") { Relaxed } else { Acquire });
        true
    }

    /// What the task is doing, for a dump.
    pub(crate) fn phase(&self) -> &'static str {
        let word = self.0.word.load(Relaxed);
        match word {
            // Who has no handle is not sealed.
            _ if word & (SEALED | DONE) != 0 => "done",
            _ if word & RUNNING != 0 => "running",
            _ if word & SCHEDULED != 0 => "scheduled",
            _ => "idle",
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_done_at_the_end_with_a_handle_and_without() {
        for detach in [false, true] {
            let state = State::vacant();
            state.publish();
            assert_eq!(state.phase(), "scheduled");
            assert_eq!(state.start(), Start::Poll { detached: false });
            assert_eq!(state.phase(), "running");
            if detach {
                assert_eq!(state.leave(true), Leave::Gone(Wake::Nothing));
            }
            assert_eq!(state.seal(), if detach { Seal::Unclaimed } else { Seal::Claimed });
            assert_eq!(state.complete(1, false), if detach { Close::Free } else { Close::Nothing });
            assert_eq!(state.phase(), "done", "detached: {detach}");
        }
    }
}
