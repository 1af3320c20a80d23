//! The state word: flags below, references above. One method per transition; see the [protocol](super).
#![forbid(unsafe_code)]

use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::weakened;

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
/// One reference.
const REFERENCE: usize = 1 << 8;

#[derive(Debug)]
pub(crate) struct State(AtomicUsize);

/// What the caller of [`State::wake`] or [`State::cancel`] must do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The task was idle: schedule a runnable, whose reference was counted.
    Schedule,
    /// Nothing.
    Nothing,
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
pub(crate) enum Rest {
    /// Drop the runnable: the task is idle.
    Idle,
    /// Queue the runnable again.
    Requeue,
    /// Drop the future.
    Cancel,
}

/// What the join handle must do when it goes.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Nothing: whoever seals the task drops the output.
    Nothing,
    /// Schedule a runnable, whose reference was counted, so that the task is cancelled.
    Schedule,
    /// Drop the output, unless it was taken.
    DropOutput,
}

impl State {
    /// Scheduled, with as many references, one of them a join handle's if `join`.
    pub(crate) fn new(references: usize, join: bool) -> State {
        let join = if join { JOIN } else { 0 };
        State(AtomicUsize::new(SCHEDULED | join | (references * REFERENCE)))
    }

    /// Changes the word by `next` until it is still what `next` was given; `None` leaves it.
    fn update<R>(&self, mut next: impl FnMut(usize) -> (Option<usize>, R)) -> R {
        // Acquire: what the last transition published (stage, reason) is seen. Release: what was written before this
        // one is published to the next. Every transition is both, so the word's history is one chain.
        let mut current = self.0.load(Acquire);
        loop {
            let (next, result) = next(current);
            let Some(next) = next else { return result };
            match self.0.compare_exchange_weak(current, next, AcqRel, Acquire) {
                Ok(_) => return result,
                Err(changed) => current = changed,
            }
        }
    }

    /// Step 6. A wake-up.
    pub(crate) fn wake(&self) -> Wake {
        self.update(|word| {
            if word & (DONE | SCHEDULED | SEALED) != 0 {
                // Released all the same: the poll to come must see what the waker wrote before.
                return (Some(word), Wake::Nothing);
            }
            if word & RUNNING != 0 {
                return (Some(word | SCHEDULED), Wake::Nothing);
            }
            (Some((word | SCHEDULED) + REFERENCE), Wake::Schedule)
        })
    }

    /// Step 2. A runnable was taken from a queue.
    pub(crate) fn start(&self) -> Start {
        self.update(|word| {
            if word & (RUNNING | SEALED) != 0 {
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

    /// Step 3. A poll was pending.
    pub(crate) fn rest(&self) -> Rest {
        self.update(|word| {
            debug_assert!(word & RUNNING != 0);
            if word & CANCELLED != 0 {
                return (None, Rest::Cancel);
            }
            if word & SCHEDULED != 0 && !weakened("rest") {
                return (Some(word & !RUNNING), Rest::Requeue);
            }
            (Some(word & !RUNNING), Rest::Idle)
        })
    }

    /// Step 4. The future is gone. True if there is a join handle, whose the output now is.
    pub(crate) fn seal(&self) -> bool {
        let before = self.0.fetch_or(SEALED, AcqRel);
        debug_assert!(before & (RUNNING | SEALED | DONE) == RUNNING);
        before & JOIN != 0
    }

    /// Step 5. The context is gone.
    pub(crate) fn close(&self) {
        self.update(|word| (Some(word & !RUNNING | DONE), ()));
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
            if word & RUNNING != 0 {
                return (Some(word | CANCELLED), false);
            }
            (Some(word | CANCELLED | RUNNING), true)
        })
    }

    /// The join handle goes: the task is cancelled.
    pub(crate) fn leave(&self) -> Leave {
        self.update(|word| {
            debug_assert!(word & JOIN != 0);
            let next = word & !JOIN;
            if word & SEALED != 0 {
                return (Some(next), Leave::DropOutput);
            }
            let next = next | CANCELLED;
            if word & (SCHEDULED | RUNNING) != 0 {
                return (Some(next), Leave::Nothing);
            }
            (Some((next | SCHEDULED) + REFERENCE), Leave::Schedule)
        })
    }

    /// The join handle goes: the task goes on.
    pub(crate) fn detach(&self) -> Leave {
        self.update(|word| {
            debug_assert!(word & JOIN != 0);
            let next = word & !JOIN | DETACHED;
            if word & SEALED != 0 {
                return (Some(next), Leave::DropOutput);
            }
            (Some(next), Leave::Nothing)
        })
    }

    /// Whether the output is there. Pairs with the release in `close`.
    pub(crate) fn is_done(&self) -> bool {
        self.0.load(Acquire) & DONE != 0
    }

    /// A further reference.
    pub(crate) fn retain(&self) {
        // Long before the flags could be overrun: references can be leaked, memory is not that large.
        if self.0.fetch_add(REFERENCE, Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
    }

    /// Some references less; true for the last.
    pub(crate) fn release(&self, references: usize) -> bool {
        // Pairs with the acquire load: all use of the cell happens before it is freed. (A load rather than a fence,
        // which ThreadSanitizer does not follow.)
        let before = self.0.fetch_sub(references * REFERENCE, Release);
        debug_assert!(before / REFERENCE >= references);
        if before / REFERENCE != references {
            return false;
        }
        self.0.load(Acquire);
        true
    }

    /// What the task is doing, for a dump.
    pub(crate) fn phase(&self) -> &'static str {
        let word = self.0.load(Relaxed);
        match word {
            _ if word & SEALED != 0 => "done",
            _ if word & RUNNING != 0 => "running",
            _ if word & SCHEDULED != 0 => "scheduled",
            _ => "idle",
        }
    }
}
