//! A page: its head, its slots, and the way from a slot to its page.

use std::cell::Cell;
#[cfg(loom)]
use std::ptr;
use std::ptr::NonNull;

use super::class::{Class, PAGE};
use super::heap::Heap;
#[cfg(loom)]
use crate::util::sync::UnsafeCell;
use crate::util::sync::atomic::AtomicUsize;

/// What the slab needs of a slot: a first word, which stays a word while the page lives, and memory
/// behind the word for a link while the slot is free.
#[repr(C)]
pub(crate) struct SlotHead {
    pub(crate) word: AtomicUsize,
    /// In a model, which checks each access, the link is a field of its own.
    #[cfg(loom)]
    next: UnsafeCell<*mut SlotHead>,
}

impl SlotHead {
    /// The head of a slot that was never used. Its word is zero.
    pub(crate) fn vacant() -> SlotHead {
        SlotHead {
            word: AtomicUsize::new(0),
            #[cfg(loom)]
            next: UnsafeCell::new(ptr::null_mut()),
        }
    }
}

/// Size of the head of a page, rounded up.
pub(super) const HEAD: usize = size_of::<Page>().next_multiple_of(64);

/// The head of a page: first the fields that never change, which all threads read; from the next
/// cache line on, the fields that the owner changes.
#[repr(C)]
pub(super) struct Page {
    pub(super) heap: *const Heap,
    /// A counted reference of the scheduler's shared part, and the function that gives the
    /// reference up.
    pub(super) shared: *const (),
    pub(super) drop_shared: unsafe fn(*const ()),
    pub(super) class: Class,
    /// The first of the slots that were used and are free; the others are linked through them.
    pub(super) free: Cell<*mut SlotHead>,
    /// Slots in use.
    pub(super) in_use: Cell<usize>,
    /// Slots that were ever in_use: their state words may be read. Stored with release by the
    /// owner, loaded with acquire by walkers (`Heap::each`).
    pub(super) initialized: AtomicUsize,
    /// Whether the page is in the list of its class, and the neighbours there.
    pub(super) listed: Cell<bool>,
    pub(super) previous: Cell<*mut Page>,
    pub(super) next: Cell<*mut Page>,
    /// Index in the list of all pages; written under the lock of that list.
    pub(super) index: Cell<usize>,
}

pub(super) struct PagePtr(pub(super) *mut Page);

// SAFETY: which thread may touch which part of a page is said in the table of the protocol page.
unsafe impl Send for PagePtr {}

/// The page of a slot.
///
/// # Safety
/// `slot` points to a slot of a page that is alive.
pub(super) unsafe fn page_of(slot: NonNull<SlotHead>) -> NonNull<Page> {
    let page = slot.as_ptr().map_addr(|address| address & !(PAGE - 1)).cast();
    // SAFETY: slots begin within the first `PAGE` bytes of a page, and pages are aligned to `PAGE`.
    unsafe { NonNull::new_unchecked(page) }
}

/// The scheduler's shared part, which the page of a task keeps alive.
///
/// # Safety
/// `slot` is in use, by a task with a shared part of this type; the result is not used after
/// the task is freed.
pub(crate) unsafe fn shared_of<'a, T>(slot: NonNull<SlotHead>) -> &'a T {
    // SAFETY: the page of a slot in use is alive, and holds a reference of its shared part.
    unsafe { &*page_of(slot).as_ref().shared.cast() }
}

/// # Safety
/// `index` is below the page's capacity.
pub(super) unsafe fn slot_at(page: *mut Page, index: usize) -> NonNull<SlotHead> {
    // SAFETY: the index is below the capacity, so the slot is inside the page, which is one
    // allocation.
    unsafe {
        let class = &(*page).class;
        let slot = page.cast::<u8>().add(class.first + index * class.size).cast();
        NonNull::new_unchecked(slot)
    }
}

/// Address of a free slot's link: behind the word.
///
/// # Safety
/// The slot is free, and the caller's.
#[cfg(not(loom))]
#[inline]
unsafe fn next_free(slot: NonNull<SlotHead>) -> *mut *mut SlotHead {
    const { assert!(size_of::<SlotHead>() == size_of::<*mut SlotHead>()) };
    // SAFETY: a slot has room for a word and a link at least.
    unsafe { slot.as_ptr().cast::<*mut SlotHead>().add(1) }
}

/// The slot that a free slot links to.
///
/// # Safety
/// As [`next_free`]; the slot was linked.
#[inline]
pub(super) unsafe fn linked(slot: NonNull<SlotHead>) -> *mut SlotHead {
    // SAFETY: the slot is free and the caller's, so no other thread touches the link.
    unsafe {
        #[cfg(loom)]
        return (*slot.as_ptr()).next.with(|next| *next);
        #[cfg(not(loom))]
        return *next_free(slot);
    }
}

/// # Safety
/// As [`next_free`].
#[inline]
pub(super) unsafe fn link(slot: NonNull<SlotHead>, next: *mut SlotHead) {
    // SAFETY: the slot is free and the caller's, so no other thread touches the link.
    unsafe {
        #[cfg(loom)]
        (*slot.as_ptr()).next.with_mut(|link| *link = next);
        #[cfg(not(loom))]
        (*next_free(slot) = next);
    }
}

/// Gives the memory of a page that is about to be freed to the system. An allocator gives memory
/// back from its top only, if at all: glibc keeps a burst of pages for one small block above them.
///
/// # Safety
/// The block is the caller's, is aligned to a page of the system's, and its content is not needed.
pub(super) unsafe fn give_to_the_system(block: *mut u8, size: usize) {
    #[cfg(all(target_os = "linux", not(miri), not(loom)))]
    {
        // The pages of some systems are larger than half of ours. An error changes nothing.
        let whole = size / SYSTEM_PAGE * SYSTEM_PAGE;
        // SAFETY: the range is inside the caller's block, whose content is not needed.
        let _ = unsafe { crate::util::system::discard(block, whole) };
    }
    let _ = (block, size);
}

/// 4 KiB on nearly every system. Where the system's pages are larger, a page of ours may be a part
/// of one, and the call fails.
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
const SYSTEM_PAGE: usize = 4096;
