//! Spare handles: a worker counts in batches where very many tasks share their bindings.
//!
//! # The problem
//!
//! Each task has a handle of the bindings that it has inherited. In a large tree of tasks all of
//! these are handles of the same bindings. To count each up at the spawn, and down at the end of
//! the task, moves one cache line between the workers up to twice a task.
//!
//! # Terms
//!
//! * A thread is a **worker** if it has said how many of its kind there are ([`Spares::begin`]).
//! * The **spare handles** of a worker are handles of one snapshot that are counted and belong to
//!   nothing else: [`MOST`] at most.
//! * A worker **keeps for** a word while it may have spare handles of the snapshot that the word
//!   points to.
//! * A snapshot is **busy** if it has more handles than all workers of its kind can have spare, and
//!   [`BUSY`] besides. Only of busy snapshots there are spare handles: all others are counted as if
//!   there were none.
//!
//! # Transitions
//!
//! * **SH1**, a worker begins a poll: [`Spares::keep_for`]. It keeps for the task's word. Spare
//!   handles of another snapshot are given back.
//! * **SH2**, the snapshot is forked: [`Spares::fork`]. A spare handle is used. If there is none, a
//!   handle is counted; a [`BATCH`] if the snapshot was busy at the last count.
//! * **SH3**, a task ends: [`Spares::release`]. If the snapshot is busy, its handle becomes a spare
//!   one. Otherwise it is given up, and the spare ones with it.
//! * **SH4**, a poll ends: [`Spares::settle`]. If the snapshot is not busy any more, the spare
//!   handles are given back.
//! * **SH5**, the task writes to its bindings, or the worker finds no further task:
//!   [`Spares::give_back`]. The spare handles are given back.
//!
//! # Why nothing is lost
//!
//! **Nothing is freed too early.** Each handle, spare or not, is counted, and handles are made of
//! handles.
//!
//! **Nothing is kept.** During a poll the task has a handle itself. A worker that has spare handles
//! after SH3 or SH4 has seen [`BUSY`] handles that are not spare. So spare handles keep a snapshot
//! alive only if so many tasks end until the worker's next SH1 or SH5, which is its next look for a
//! task.

use std::cell::Cell;
use std::ptr::NonNull;

use super::word::{Target, Word};
use crate::bindings::flat::{Header, release, retain};
use crate::bindings::{Bindings, LastHandle};
use crate::util::switches;
use crate::util::sync::atomic::Ordering::Relaxed;
use crate::util::sync::weakened;

/// How many handles are counted at once. A model has less.
const BATCH: usize = if cfg!(loom) { 2 } else { 64 };
/// How many spare handles a worker has at most.
const MOST: usize = 2 * BATCH;
/// How many tasks would have to end between two looks of one worker, for a value to be dropped
/// later than without spare handles.
const BUSY: usize = if cfg!(loom) { 0 } else { 1024 };

/// The spare handles of one thread.
pub(super) struct Spares {
    /// What is kept for. It may be gone, if there is no spare handle.
    of: Cell<Word>,
    count: Cell<usize>,
    /// The snapshot was busy at the last count.
    is_busy: Cell<bool>,
    /// A snapshot is busy if more handles than this are no spare ones of this thread.
    busy_above: Cell<usize>,
}

impl Spares {
    /// Of a thread that is no worker.
    pub(super) const fn new() -> Spares {
        Spares {
            of: Cell::new(Word::EMPTY),
            count: Cell::new(0),
            is_busy: Cell::new(false),
            busy_above: Cell::new(usize::MAX),
        }
    }

    /// The thread is one of so many workers from now on.
    pub(super) fn begin(&self, workers: usize) {
        if switches::SPARE_HANDLES {
            self.busy_above.set(workers.saturating_sub(1).saturating_mul(MOST).saturating_add(BUSY));
        }
    }

    /// Whether there is nothing to do in step SH1.
    #[inline]
    pub(super) fn are_of(&self, word: Word) -> bool {
        self.of.get() == word || self.busy_above.get() == usize::MAX
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
        // SAFETY: alive by this function's contract; each handle that is made was counted, here or
        // in an earlier batch.
        unsafe {
            let Target::Snapshot(header) = word.target() else { return word.own_bindings() };
            if word != self.of.get() {
                return word.own_bindings();
            }
            if self.count.get() == 0 {
                let batch = if self.is_busy.get() { BATCH } else { 1 };
                self.note(retain(&header.as_ref().handles, batch));
                self.count.set(batch);
            }
            self.count.set(self.count.get() - 1);
            Bindings::from_raw(header.as_ptr())
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
        // SAFETY: the handle moves along.
        unsafe {
            if word != self.of.get() {
                return Bindings::from_raw(header.as_ptr()).take_unique();
            }
            if !self.is_busy.get() {
                let left = release(&header.as_ref().handles, 1);
                self.note(left);
                return (left == 0).then(|| LastHandle::of(header));
            }
            self.count.set(self.count.get() + 1);
            self.settle_at(header)
        }
    }

    /// Step SH4. Returns what [`give_back`](Self::give_back) does.
    #[inline]
    pub(super) fn settle(&self) -> Option<LastHandle> {
        if self.count.get() == 0 {
            return None;
        }
        let Target::Snapshot(header) = self.of.get().target() else { return None };
        // SAFETY: the spare handles keep it alive.
        unsafe { self.settle_at(header) }
    }

    /// # Safety
    /// What is kept for begins at `header`, and there are spare handles.
    unsafe fn settle_at(&self, header: NonNull<Header>) -> Option<LastHandle> {
        let spare = self.count.get();
        // SAFETY: the spare handles keep it alive, and those that are counted down are no spare
        // ones any more. (Relaxed: the count decides only how many that are.)
        unsafe {
            let handles = &header.as_ref().handles;
            self.note(handles.load(Relaxed) - spare);
            let many = match self.is_busy.get() {
                true if spare < MOST => return None,
                true => BATCH,
                false => spare,
            };
            self.count.set(spare - many);
            (release(handles, many) == 0).then(|| LastHandle::of(header))
        }
    }

    /// Step SH5. If the snapshot ends, destructors are left to the drop of the answer.
    #[inline]
    pub(super) fn give_back(&self) -> Option<LastHandle> {
        self.is_busy.set(false);
        match (self.of.replace(Word::EMPTY).target(), self.count.replace(0)) {
            (Target::Snapshot(header), count @ 1..) if !weakened("return of spare handles") => {
                // SAFETY: the spare handles keep it alive until they are counted down.
                unsafe { (release(&header.as_ref().handles, count) == 0).then(|| LastHandle::of(header)) }
            }
            _ => None,
        }
    }

    /// Notes that there are so many handles besides the spare ones of this thread, or a few more.
    #[inline]
    fn note(&self, others: usize) {
        self.is_busy.set(others > self.busy_above.get());
    }
}

#[cfg(all(test, loom))]
mod models;
