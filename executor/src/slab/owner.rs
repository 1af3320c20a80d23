//! The part of a heap that its owner alone touches: the lists of pages with room.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::class::{CLASSES, KEPT};
use super::page::{Page, SlotHead, linked, slot_at};
use crate::util::sync::UnsafeCell;
use crate::util::sync::atomic::Ordering::{Relaxed, Release};

/// The part of a heap that its owner alone touches.
pub(super) struct OwnerData {
    /// For each class, the pages with room.
    pub(super) lists: [Cell<*mut Page>; CLASSES],
    /// Empty pages in the lists.
    pub(super) empty_pages: Cell<usize>,
    /// The fewest empty pages since the owner last tidied.
    pub(super) fewest_empty: Cell<usize>,
    /// How many empty pages are kept.
    pub(super) keep: Cell<usize>,
    /// Pending frees that were taken from the stack; linked as there.
    pub(super) pending_frees: UnsafeCell<*mut SlotHead>,
    /// How many bytes more of them are reclaimed one by one.
    pub(super) reclaim_budget: Cell<usize>,
    pub(super) state: Cell<HeapState>,
    /// For a heap without an owner: it rests or has become untidy, and the next thread that takes a
    /// slot reports that.
    pub(super) untidy_unreported: Cell<bool>,
}

/// See the [protocol](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeapState {
    Active,
    /// After O1 to O3, until the owner resumes or the next spawn.
    Resting,
    /// After O1 to O3, for good.
    Ended,
}

impl OwnerData {
    pub(super) fn new() -> OwnerData {
        OwnerData {
            lists: [const { Cell::new(ptr::null_mut()) }; CLASSES],
            empty_pages: Cell::new(0),
            fewest_empty: Cell::new(0),
            keep: Cell::new(KEPT),
            pending_frees: UnsafeCell::new(ptr::null_mut()),
            reclaim_budget: Cell::new(0),
            state: Cell::new(HeapState::Active),
            untidy_unreported: Cell::new(false),
        }
    }

    #[inline]
    pub(super) fn has_pending_frees(&self) -> bool {
        // SAFETY: `data` is touched by this thread alone: the owner's, or the lock holder's.
        !self.pending_frees.with(|pending_frees| unsafe { *pending_frees }).is_null()
    }

    /// Counts one more slot in use.
    ///
    /// # Safety
    /// The page is alive, and the owner's.
    #[inline]
    pub(super) unsafe fn count_taken(&self, page: *mut Page) {
        // SAFETY: the page is alive, and its plain cells are the owner's.
        let used = unsafe { &(*page).in_use };
        if used.get() == 0 {
            let empty = self.empty_pages.get() - 1;
            self.empty_pages.set(empty);
            if empty < self.fewest_empty.get() {
                self.fewest_empty.set(empty);
            }
        }
        used.set(used.get() + 1);
    }

    /// Takes a slot that was used before, if there is one.
    ///
    /// # Safety
    /// The page is alive, and the owner's.
    #[inline]
    pub(super) unsafe fn pop(&self, page: *mut Page) -> Option<NonNull<SlotHead>> {
        // SAFETY: the page is alive; its plain cells and free slots are the owner's.
        unsafe {
            let slot = NonNull::new((*page).free.get())?;
            (*page).free.set(linked(slot));
            self.count_taken(page);
            Some(slot)
        }
    }

    /// Takes the next slot that was never used.
    ///
    /// # Safety
    /// There is one, and the page is the owner's.
    pub(super) unsafe fn init_next(&self, page: *mut Page) -> NonNull<SlotHead> {
        // SAFETY: the slot is inside the page, and no thread looks at it before `touched` is
        // stored.
        unsafe {
            let index = (*page).initialized.load(Relaxed);
            let slot = slot_at(page, index);
            slot.write(SlotHead::vacant());
            // Pairs with the acquire in `Heap::each`: a walker that sees the new number sees the
            // slot's word.
            (*page).initialized.store(index + 1, Release);
            self.count_taken(page);
            slot
        }
    }

    /// Puts a page at the head of its list.
    ///
    /// # Safety
    /// The page and its list are the owner's; the page is in no list.
    pub(super) unsafe fn list(&self, page: *mut Page) {
        // SAFETY: the page, the list and its neighbours are the owner's; a page in a list is alive.
        unsafe {
            let list = &self.lists[(*page).class.index];
            (*page).previous.set(ptr::null_mut());
            (*page).next.set(list.get());
            if let Some(next) = list.get().as_ref() {
                next.previous.set(page);
            }
            list.set(page);
            (*page).listed.set(true);
        }
    }

    /// Takes a page out of its list.
    ///
    /// # Safety
    /// The page is in the owner's list of its class.
    pub(super) unsafe fn unlist(&self, page: *mut Page) {
        // SAFETY: the page, the list and its neighbours are the owner's; a page in a list is alive.
        unsafe {
            let (previous, next) = ((*page).previous.get(), (*page).next.get());
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.lists[(*page).class.index].set(next),
            }
            if let Some(next) = next.as_ref() {
                next.previous.set(previous);
            }
            (*page).listed.set(false);
        }
    }
}
