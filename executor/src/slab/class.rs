//! Sizes of slots and pages.
#![forbid(unsafe_code)]

use std::alloc::Layout;

use super::page::HEAD;

/// Size and alignment of a page: a task's page is found by its address.
///
/// 32 KiB hold 250 small tasks, so that what a page costs is not felt, and are little enough for one of each size. And twice
/// that, with which glibc looks for something so aligned, is less than what it asks the kernel for each time: of 64 KiB, every
/// page was a mapping of its own, with two calls and 8 KiB besides.
pub(super) const PAGE: usize = 32 * 1024;
/// What of it is used. The rest is for the words in which an allocator keeps its books, or every second page would be left out.
pub(super) const ROOM: usize = PAGE - 64;
/// Sizes up to here differ by [`STEP`], those above are powers of two.
pub(super) const FINE: usize = 1024;
pub(super) const STEP: usize = 16;
/// Larger cells have a page each.
pub(super) const COARSE: usize = 8 * 1024;
/// How many sizes there are: fine ones, and powers of two from the smallest that is aligned to more than [`STEP`].
pub(super) const CLASSES: usize = FINE / STEP + (COARSE / STEP).ilog2() as usize;
/// Stands for no class: a page of one slot.
pub(super) const HUGE: usize = usize::MAX;
/// Empty pages that are kept where a heap is used from time to time only, by a local set or by eager
/// calls: a burst of ten thousand small tasks finds its pages again.
pub(crate) const SPARE: usize = 64;
/// The same of a worker, until it tidies: a burst of ten thousand tasks of a kibibyte finds its
/// pages again. To give a page to the system and to take it back costs some five microseconds.
pub(super) const KEPT: usize = if cfg!(miri) { SPARE } else { 512 };
/// A heap of no more pages is not tidied: what a small load needs is not asked for each time, and
/// no worker gets up for it.
pub(crate) const STOCK: usize = 4;
/// Slots that come home in one go while an owner tidies. Each may be a wait for memory; together
/// they are some 50 µs, for which work that has arrived meanwhile waits.
pub(super) const TIDY: usize = 1_000;

/// Where a cell of some layout goes; a constant of its types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(super) index: usize,
    pub(super) size: usize,
    /// Where the first slot begins.
    pub(super) first: usize,
    pub(super) page: Layout,
}

impl Class {
    pub(crate) const fn of(cell: Layout) -> Class {
        let (size, align) = (cell.size(), cell.align());
        assert!(align <= PAGE / 2, "a future's alignment must not exceed 16 KiB");
        if size <= FINE && align <= STEP && !ALONE {
            let steps = size.div_ceil(STEP);
            return Class::regular(steps - 1, steps * STEP);
        }
        let size = if size > align { size.next_power_of_two() } else { align };
        if size <= COARSE && !ALONE {
            return Class::regular(FINE / STEP + (size / STEP).ilog2() as usize - 1, size);
        }
        let first = if align > HEAD { align } else { HEAD };
        let Ok(page) = Layout::from_size_align(first + cell.size(), PAGE) else {
            panic!("a future must leave room for its header")
        };
        Class { index: HUGE, size: cell.size(), first, page }
    }

    const fn regular(index: usize, size: usize) -> Class {
        assert!(index < CLASSES);
        let first = if size.is_power_of_two() && size > HEAD { size } else { HEAD };
        let Ok(page) = Layout::from_size_align(ROOM, PAGE) else { unreachable!() };
        Class { index, size, first, page }
    }

    pub(super) const fn capacity(&self) -> usize {
        if self.index == HUGE { 1 } else { (ROOM - self.first) / self.size }
    }
}

/// Every task in a page of its own, so that memory checkers see what is used after it was freed. Miri is told to do without
/// when it is to look at the pages themselves.
pub(super) const ALONE: bool = cfg!(any(all(miri, not(heirloom_paged_tasks)), loom, heirloom_lone_tasks));
