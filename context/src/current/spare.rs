//! Spare handles: a worker counts the handles of its tasks' bindings in batches.
//!
//! # The problem
//!
//! Each task has a handle of the bindings that it has inherited. In a tree of tasks all of these
//! are handles of the same bindings. Counting each up at the spawn, and down at the end of the
//! task, moves one cache line between the workers up to twice a task.
//!
//! # Terms
//!
//! * The **spare handles** of a thread are handles of one snapshot that are counted there, and that
//!   belong to nothing else.
//! * The thread **keeps for** a word while it may have spare handles of the snapshot that the word
//!   points to. For any other word than a snapshot's it has none.
//!
//! # Transitions
//!
//! * **SH1**, a worker begins a poll: [`Spares::keep_for`]. It keeps for the task's word. Spare
//!   handles of another snapshot are given back, by one subtraction.
//! * **SH2**, the snapshot is forked: [`Spares::fork`]. A spare handle is used; if there is none, a
//!   batch is counted first. The batch grows from one handle to [`BATCH_MAX`].
//! * **SH3**, a task ends: [`Spares::release`]. Its handle becomes a spare one. If all handles that
//!   are counted are spare ones of this thread, the snapshot ends.
//! * **SH4**, the task writes to its bindings, or the worker finds no further task:
//!   [`Spares::give_back`]. The spare handles are given back.
//!
//! # Why nothing is lost
//!
//! **Nothing is freed too early.** Each handle, spare or not, is counted. Handles are made of
//! handles, and SH3 frees only where this thread has all of them.
//!
//! **Nothing is kept long.** Between SH1 and SH4 the polled task has a handle itself. So spare
//! handles keep a snapshot alive only from the end of a poll to the worker's next SH1 or SH4, which
//! is its next look for a task. What the tasks of one worker alone have had ends in SH3, as if each
//! handle had been counted down.

use std::cell::Cell;
use std::ptr::NonNull;

use super::word::{Target, Word};
use crate::bindings::flat::{Header, release, retain};
use crate::bindings::{Bindings, LastHandle};
use crate::util::switches;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::util::sync::weakened;

/// How many handles are counted at once, at most.
const BATCH_MAX: usize = 64;

/// The spare handles of one thread.
pub(super) struct Spares {
    /// What is kept for. It may be gone, if there is no spare handle.
    of: Cell<Word>,
    count: Cell<usize>,
    /// How many handles are counted next time.
    batch: Cell<usize>,
}

impl Spares {
    pub(super) const fn new() -> Spares {
        Spares { of: Cell::new(Word::EMPTY), count: Cell::new(0), batch: Cell::new(1) }
    }

    /// Whether the thread keeps for this word.
    #[inline]
    pub(super) fn are_of(&self, word: Word) -> bool {
        !switches::SPARE_HANDLES || self.of.get() == word
    }

    /// Step SH1. If another snapshot ends thereby, destructors are left to the drop of the answer.
    pub(super) fn keep_for(&self, word: Word) -> Option<LastHandle> {
        let last = self.give_back();
        self.of.set(word);
        last
    }

    /// Step SH2: a further handle of the word's own bindings.
    ///
    /// # Safety
    /// What the word points to is alive.
    #[inline]
    pub(super) unsafe fn fork(&self, word: Word) -> Bindings {
        match word.target() {
            Target::Snapshot(header) if word == self.of.get() => {
                if self.count.get() == 0 {
                    let batch = self.batch.get();
                    // SAFETY: alive by this function's contract.
                    retain(unsafe { &header.as_ref().handles }, batch);
                    self.count.set(batch);
                    // The same word; but what it was read from may be gone, and this be another
                    // snapshot at that address.
                    self.of.set(word);
                    self.batch.set((2 * batch).min(BATCH_MAX));
                }
                self.count.set(self.count.get() - 1);
                // SAFETY: one of the handles that were counted.
                unsafe { Bindings::from_raw(header.as_ptr()) }
            }
            // SAFETY: as above.
            _ => unsafe { word.own_bindings() },
        }
    }

    /// Step SH3: gives the handle of a snapshot's word up. If it was the last, destructors are left
    /// to the drop of the answer.
    ///
    /// # Safety
    /// The word is that of the snapshot that begins at `header`, and owns a handle of it, which
    /// moves here.
    #[inline]
    pub(super) unsafe fn release(&self, word: Word, header: NonNull<Header>) -> Option<LastHandle> {
        if word != self.of.get() {
            // SAFETY: the handle moves into the bindings.
            return unsafe { Bindings::from_raw(header.as_ptr()) }.take_unique();
        }
        let spare = self.count.get() + 1;
        let look = if weakened("look for other handles") { Relaxed } else { Acquire };
        // SAFETY: the handle keeps it alive. The load pairs with the release subtraction of other
        // threads: what they have read happens before the end.
        if unsafe { header.as_ref() }.handles.load(look) != spare {
            self.count.set(spare);
            // As in `fork`.
            self.of.set(word);
            return None;
        }
        self.count.set(0);
        self.of.set(Word::EMPTY);
        // SAFETY: this thread has all handles.
        Some(unsafe { Bindings::end_of(header) })
    }

    /// Step SH4. If the snapshot ends, destructors are left to the drop of the answer.
    #[inline]
    pub(super) fn give_back(&self) -> Option<LastHandle> {
        let count = self.count.replace(0);
        let word = self.of.replace(Word::EMPTY);
        self.batch.set(1);
        match word.target() {
            // SAFETY: the spare handles keep it alive; there is none left in the second case.
            Target::Snapshot(header) if count != 0 && !weakened("return of spare handles") => unsafe {
                release(&header.as_ref().handles, count).then(|| Bindings::end_of(header))
            },
            _ => None,
        }
    }
}

#[cfg(all(test, loom))]
mod models;
