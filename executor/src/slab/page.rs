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

/// What the slab needs of what stands in a slot: a word in front, which stays a word while the page lives; and memory behind it
/// for a link, while the slot is free.
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) word: AtomicUsize,
    /// In a model, where each access is checked, the link is a field of its own.
    #[cfg(loom)]
    next: UnsafeCell<*mut Slot>,
}

impl Slot {
    /// A slot that was never used. Its word is zero.
    pub(crate) fn vacant() -> Slot {
        Slot {
            word: AtomicUsize::new(0),
            #[cfg(loom)]
            next: UnsafeCell::new(ptr::null_mut()),
        }
    }
}

/// What stands at the beginning of a page, rounded up.
pub(super) const HEAD: usize = size_of::<Page>().next_multiple_of(64);

/// The head of a page. First what never changes, which others look at; a cache line further what the owner changes.
#[repr(C)]
pub(super) struct Page {
    pub(super) heap: *const Heap,
    /// A counted reference of the scheduler's shared part, and how to give it back.
    pub(super) shared: *const (),
    pub(super) drop_shared: unsafe fn(*const ()),
    pub(super) class: Class,
    /// The first of the slots that were used and are free; the rest is linked through them.
    pub(super) free: Cell<*mut Slot>,
    /// Slots in use.
    pub(super) used: Cell<usize>,
    /// Slots that were ever used: their state words may be read.
    pub(super) touched: AtomicUsize,
    /// Whether it is in its class's list, and its neighbours there.
    pub(super) listed: Cell<bool>,
    pub(super) previous: Cell<*mut Page>,
    pub(super) next: Cell<*mut Page>,
    /// Where it stands among all pages; under their lock.
    pub(super) place: Cell<usize>,
}

pub(super) struct PagePtr(pub(super) *mut Page);

// SAFETY: what of a page may be touched by whom is said above.
unsafe impl Send for PagePtr {}

/// The page a task is in.
///
/// # Safety
/// `task` points to a slot in use.
pub(super) unsafe fn page_of(task: NonNull<Slot>) -> NonNull<Page> {
    let page = task.as_ptr().map_addr(|address| address & !(PAGE - 1)).cast();
    // SAFETY: slots begin within the first PAGE bytes of a page, which is aligned so.
    unsafe { NonNull::new_unchecked(page) }
}

/// The scheduler's shared part that a task's page keeps alive.
///
/// # Safety
/// `task` is in use, and was spawned with a shared part of this type; the answer lives as long as the task.
pub(crate) unsafe fn shared_of<'a, T>(task: NonNull<Slot>) -> &'a T {
    // SAFETY: says the caller.
    unsafe { &*page_of(task).as_ref().shared.cast() }
}

/// # Safety
/// `index` is below the page's capacity.
pub(super) unsafe fn slot_at(page: *mut Page, index: usize) -> NonNull<Slot> {
    // SAFETY: says the caller; the page is one allocation.
    unsafe {
        let class = &(*page).class;
        let slot = page.cast::<u8>().add(class.first + index * class.size).cast();
        NonNull::new_unchecked(slot)
    }
}

/// Where a free slot keeps its successor: behind the word.
///
/// # Safety
/// The slot is free, and the caller's.
#[cfg(not(loom))]
#[inline]
unsafe fn next_free(slot: NonNull<Slot>) -> *mut *mut Slot {
    const { assert!(size_of::<Slot>() == size_of::<*mut Slot>()) };
    // SAFETY: a slot has room for a word and a link at least.
    unsafe { slot.as_ptr().cast::<*mut Slot>().add(1) }
}

/// The slot that follows a free one.
///
/// # Safety
/// As [`next_free`]; it was linked.
#[inline]
pub(super) unsafe fn linked(slot: NonNull<Slot>) -> *mut Slot {
    // SAFETY: says the caller.
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
pub(super) unsafe fn link(slot: NonNull<Slot>, next: *mut Slot) {
    // SAFETY: says the caller.
    unsafe {
        #[cfg(loom)]
        (*slot.as_ptr()).next.with_mut(|link| *link = next);
        #[cfg(not(loom))]
        (*next_free(slot) = next);
    }
}

/// Lets the system take the memory of a page that is about to be freed. An allocator gives memory
/// back from the top of what it has, if at all: glibc keeps a burst of pages for the sake of one
/// small block above them.
///
/// # Safety
/// The block is the caller's, is aligned to a page of the system's, and its content is not needed.
pub(super) unsafe fn give_to_the_system(block: *mut u8, size: usize) {
    #[cfg(all(target_os = "linux", not(miri), not(loom)))]
    {
        use rustix::mm::{Advice, madvise};
        // The pages of some systems are larger than half of ours. An error changes nothing.
        let whole = size / SYSTEM_PAGE * SYSTEM_PAGE;
        // SAFETY: the content is not needed, says the caller; the range is within the block.
        let _ = unsafe { madvise(block.cast(), whole, Advice::LinuxDontNeed) };
    }
    let _ = (block, size);
}

/// 4 KiB nearly everywhere; where they are larger, ours may be part of one, and the call fails.
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
const SYSTEM_PAGE: usize = 4096;
