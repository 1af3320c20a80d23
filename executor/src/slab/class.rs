//! Sizes of slots and pages.
#![forbid(unsafe_code)]

use std::alloc::Layout;

use super::page::HEAD;

/// Size and alignment of a page: the page of a slot is found by the slot's address.
///
/// 32 KiB hold 250 small tasks, so that the cost of a page is not felt, and are few enough for one
/// page of each class. Twice this size is still below what glibc asks the kernel for at a time,
/// when it looks for a block of this alignment. Pages of 64 KiB were a mapping of their own each,
/// with two system calls and 8 KiB besides.
pub(super) const PAGE: usize = 32 * 1024;
/// The part of a page that is used. The rest is for the allocator's own words: without it, every
/// second aligned block would be left out.
pub(super) const ROOM: usize = PAGE - 64;
/// Classes up to this size differ by [`STEP`]; the sizes of larger classes are powers of two.
pub(super) const FINE: usize = 1024;
pub(super) const STEP: usize = 16;
/// Larger cells have a page of their own.
pub(super) const COARSE: usize = 8 * 1024;
/// The number of classes: those up to [`FINE`], and powers of two from the smallest that is aligned
/// to more than [`STEP`].
pub(super) const CLASSES: usize = FINE / STEP + (COARSE / STEP).ilog2() as usize;
/// In place of a class: a page of one slot.
pub(super) const HUGE: usize = usize::MAX;
/// Empty pages that are kept in a heap that is used from time to time only, by a local set or by
/// eager calls: a burst of ten thousand small tasks finds its pages again.
pub(crate) const SPARE: usize = 64;
/// Empty pages that an active heap keeps until its owner tidies: a burst of ten thousand tasks of a
/// kibibyte finds its pages again. Giving a page to the system and taking it back costs about five
/// microseconds.
pub(super) const KEPT: usize = if cfg!(miri) { SPARE } else { 512 };
/// A heap of at most this many pages is not tidied: the needs of a small load are not asked for
/// again each time, and no worker gets up for them.
pub(crate) const STOCK: usize = 4;
/// Pending frees that an owner reclaims at a time while it tidies. Each may be a wait for memory;
/// together they take about 50 µs, for which work that has arrived meanwhile waits.
pub(super) const TIDY: usize = 1_000;
/// Bytes of pending frees that are reclaimed one by one, one with each slot that is taken.
///
/// Each slot is in the cache of the processor that freed it, and to walk a chain of them waits for
/// memory each time. One by one, the next is fetched meanwhile: row `spawn-outside` takes 0.7 of
/// the time. The rest of a longer chain is reclaimed at once, so that the memory of a burst goes
/// back.
pub(super) const RECLAIM_SLOWLY: usize = SPARE * PAGE;

/// The class of a cell of some layout; a constant of the cell's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(super) index: usize,
    pub(super) size: usize,
    /// Offset of the first slot in the page.
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

/// Every task has a page of its own, so that memory checkers see a use after a free. Miri is told
/// otherwise when it is to look at the pages themselves.
pub(super) const ALONE: bool = cfg!(any(all(miri, not(heirloom_paged_tasks)), loom, heirloom_lone_tasks));
