//! A heap: the pages that one owner fills.

use std::alloc;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::class::{Class, HUGE, KEPT, PAGE, RECLAIM_SLOWLY, ROOM, SPARE, STEP, STOCK, TIDY};
use super::owner::{HeapState, OwnerData};
use super::page::{Page, PagePtr, SlotHead, give_to_the_system, link, linked, page_of, slot_at};
use super::stack::Stack;
use crate::util::panic;
use crate::util::switches::SLOT_RECLAIM;
use crate::util::sync::atomic::AtomicUsize;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::util::sync::{Mutex, lock, try_lock, weakened};

/// A heap, in the parts that all threads may touch, and the owner's [part](OwnerData).
pub(crate) struct Heap {
    /// Slots that were freed remotely, linked as the free slots of a page. The lowest bit of the
    /// head is the mark.
    stack: Stack,
    /// Whether the heap has an active owner. A thread that changes a heap without one holds this
    /// lock.
    ownership: Mutex<bool>,
    pages: Mutex<Vec<PagePtr>>,
    /// Size of all pages together. Changed by the owner; to other threads an estimate.
    bytes: AtomicUsize,
    data: OwnerData,
}

/// The right to take slots of a heap, and to free them locally.
#[derive(Debug)]
pub(crate) struct Owner(());

// SAFETY: the owner touches `data` and the plain cells of the pages; while the ownership is free, a
// thread that holds the lock on it does.
unsafe impl Send for Heap {}
// SAFETY: as above.
unsafe impl Sync for Heap {}

/// How far [tidying](Heap::tidy) has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Tidied {
    /// Pending frees are left: the owner continues when it has nothing else to do.
    Partly,
    /// Some empty pages were in use a short time ago: the owner looks again after a while.
    NotYet,
    /// Nothing is left to do.
    Done,
}

impl std::fmt::Debug for Heap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heap").field("pages", &lock(&self.pages).len()).finish_non_exhaustive()
    }
}

impl Heap {
    pub(crate) fn new() -> Heap {
        Heap {
            stack: Stack::new(),
            ownership: Mutex::new(false),
            pages: Mutex::new(Vec::new()),
            bytes: AtomicUsize::new(0),
            data: OwnerData::new(),
        }
    }

    /// Makes the caller the owner. At most one owner has not [ended](Self::end) the heap.
    pub(crate) fn acquire(&self) -> Owner {
        *lock(&self.ownership) = true;
        Owner(())
    }

    /// O1 to O3, for good. A heap that never had an owner ends likewise.
    ///
    /// # Safety
    /// `owner` is this heap's, and something else keeps the heap alive.
    pub(crate) unsafe fn end(&self, _owner: Option<Owner>) {
        let mut owned = lock(&self.ownership);
        *owned = false;
        // SAFETY: the ownership is free, and this thread has its lock; the heap is kept alive
        // meanwhile.
        unsafe { self.deactivate(HeapState::Ended, 0) }
    }

    /// O1 to O3. The owner leaves the heap alone until it [resumes](Self::resume). `keep` empty
    /// pages are kept.
    ///
    /// # Safety
    /// `owner` is this heap's, and something else keeps the heap alive.
    pub(crate) unsafe fn rest(&self, _owner: &Owner, keep: usize) {
        let mut owned = lock(&self.ownership);
        *owned = false;
        // SAFETY: the ownership is free, and this thread has its lock; the heap is kept alive
        // meanwhile.
        unsafe { self.deactivate(HeapState::Resting, keep) }
    }

    /// O4 and O5, by the owner.
    pub(crate) fn resume(&self, _owner: &Owner) {
        let mut owned = lock(&self.ownership);
        self.activate();
        *owned = true;
    }

    /// O5. The ownership is free, and the caller has its lock.
    fn activate(&self) {
        self.data.state.set(HeapState::Active);
        self.data.keep.set(KEPT);
        self.stack.mark(false);
    }

    /// O2 and O3.
    ///
    /// # Safety
    /// The ownership is free, and the caller has its lock; something else keeps the heap alive.
    unsafe fn deactivate(&self, state: HeapState, keep: usize) {
        self.data.state.set(state);
        self.data.keep.set(keep);
        self.data.untidy_unreported.set(state == HeapState::Resting);
        self.stack.mark(true);
        // SAFETY: the ownership is free, and this thread has its lock; the heap is kept alive
        // meanwhile.
        unsafe { self.reclaim_all() }
    }

    /// O3 and X2: reclaims all pending frees, and frees the empty pages that are not kept.
    ///
    /// # Safety
    /// As [`deactivate`](Self::deactivate).
    unsafe fn reclaim_all(&self) {
        // SAFETY: the ownership is free, and this thread has its lock; the heap is kept alive
        // meanwhile.
        unsafe {
            self.reclaim_pending();
            self.free_empty_pages(self.data.keep.get());
        }
    }

    /// Frees empty pages until there are no more than `keep`.
    ///
    /// # Safety
    /// The caller is the owner, or has the lock on the ownership, which is free; something else
    /// keeps the heap alive.
    unsafe fn free_empty_pages(&self, keep: usize) {
        if self.data.empty_pages.get() <= keep {
            return;
        }
        for list in &self.data.lists {
            let mut page = list.get();
            // SAFETY: pages in the lists are alive, and the lists are touched by this thread alone.
            unsafe {
                while self.data.empty_pages.get() > keep && !page.is_null() {
                    let next = (*page).next.get();
                    if (*page).in_use.get() == 0 {
                        self.data.unlist(page);
                        self.data.empty_pages.set(self.data.empty_pages.get() - 1);
                        self.free_page(page);
                    }
                    page = next;
                }
            }
        }
        self.data.fewest_empty.set(self.data.fewest_empty.get().min(self.data.empty_pages.get()));
    }

    /// Whether it pays to tidy the heap, and then to leave it at rest, for an owner that has time.
    pub(crate) fn is_untidy(&self) -> bool {
        self.exceeds(STOCK) && !self.stack.is_marked()
    }

    /// Whether the heap is larger than `pages` pages.
    pub(crate) fn exceeds(&self, pages: usize) -> bool {
        self.bytes.load(Relaxed) > pages * PAGE
    }

    /// Reclaims some pending frees; after the last, frees the pages that were empty since the owner
    /// last tidied.
    ///
    /// # Safety
    /// `owner` is this heap's, and something else keeps the heap alive.
    pub(crate) unsafe fn tidy(&self, _owner: &Owner) -> Tidied {
        // SAFETY: the caller is the owner.
        unsafe { self.tidy_pages() }
    }

    /// # Safety
    /// As [`free_empty_pages`](Self::free_empty_pages).
    unsafe fn tidy_pages(&self) -> Tidied {
        // SAFETY: no other thread touches `data` meanwhile, and the heap is kept alive.
        unsafe {
            for _ in 0..TIDY {
                if !self.fetch_pending() {
                    let data = &self.data;
                    self.free_empty_pages(data.empty_pages.get() - data.fewest_empty.get());
                    data.fewest_empty.set(data.empty_pages.get());
                    return if data.empty_pages.get() > 0 { Tidied::NotYet } else { Tidied::Done };
                }
                self.reclaim_one();
            }
        }
        Tidied::Partly
    }

    /// Tidies a heap that has no owner, unless another thread has its lock; after that, leaves the
    /// heap at rest.
    ///
    /// # Safety
    /// Something else keeps the heap alive.
    pub(crate) unsafe fn tidy_unowned(&self) -> Tidied {
        let Some(owned) = try_lock(&self.ownership) else { return Tidied::NotYet };
        debug_assert!(!*owned);
        if self.data.state.get() != HeapState::Active {
            return Tidied::Done;
        }
        // SAFETY: the ownership is free, and this thread has its lock; the heap is kept alive
        // meanwhile.
        unsafe {
            let tidied = self.tidy_pages();
            if tidied == Tidied::Done {
                self.deactivate(HeapState::Resting, 0);
            }
            tidied
        }
    }

    /// O1 to O3 for a heap that has no owner: until the next spawn.
    ///
    /// # Safety
    /// Something else keeps the heap alive.
    pub(crate) unsafe fn rest_unowned(&self, keep: usize) {
        let owned = lock(&self.ownership);
        debug_assert!(!*owned);
        if self.data.state.get() == HeapState::Active {
            // SAFETY: the ownership is free, and this thread has its lock; the heap is kept alive
            // meanwhile.
            unsafe { self.deactivate(HeapState::Resting, keep) }
        }
    }

    /// A1 to A3. A slot for a cell of this class, from a heap without an owner. The flag is true if
    /// the heap has become [untidy](Self::is_untidy), so that a thread that has time should be
    /// told.
    ///
    /// # Safety
    /// As [`take`](Self::take), and the heap was not [acquired](Self::acquire).
    #[inline]
    pub(crate) unsafe fn take_locked<T>(&self, class: &Class, shared: &Arc<T>) -> (NonNull<SlotHead>, bool) {
        let owned = lock(&self.ownership);
        debug_assert!(!*owned);
        // SAFETY: the ownership is free, and this thread has its lock, which is as good as an
        // owner.
        let slot = unsafe { self.take(&Owner(()), class, shared) };
        if !self.data.untidy_unreported.get() {
            return (slot, false);
        }
        self.data.untidy_unreported.set(false);
        if self.data.state.get() == HeapState::Resting {
            self.activate();
        }
        (slot, self.is_untidy())
    }

    /// A1 to A3. A slot for a cell of this class. The slot's state word is zero, or a finished
    /// task's; nothing else of the slot is initialised.
    ///
    /// # Safety
    /// `owner` is this heap's; the heap is part of `shared`, or lives as long.
    #[inline]
    pub(crate) unsafe fn take<T>(&self, _owner: &Owner, class: &Class, shared: &Arc<T>) -> NonNull<SlotHead> {
        // SAFETY: pages in the lists are alive, and their plain cells the owner's, as are the
        // lists.
        unsafe {
            if class.index != HUGE {
                if self.data.has_pending_frees() {
                    self.reclaim_some();
                }
                let page = self.data.lists[class.index].get();
                if !page.is_null()
                    && let Some(slot) = self.data.pop(page)
                {
                    return slot;
                }
            }
            self.take_slow(class, shared)
        }
    }

    /// # Safety
    /// As [`take`](Self::take).
    #[cold]
    unsafe fn take_slow<T>(&self, class: &Class, shared: &Arc<T>) -> NonNull<SlotHead> {
        let data = &self.data;
        // SAFETY: as in `take`.
        unsafe {
            if class.index == HUGE {
                // A2. A page of one slot is freed as soon as its slot is reclaimed, and this is the
                // last occasion before the next such page is allocated.
                self.reclaim_pending();
                let page = self.add_page(class, shared);
                data.empty_pages.set(data.empty_pages.get() + 1);
                return data.init_next(page);
            }
            loop {
                let page = data.lists[class.index].get();
                if page.is_null() {
                    // A2, A3.
                    while data.lists[class.index].get().is_null() && self.fetch_pending() {
                        self.reclaim_some();
                    }
                    if data.lists[class.index].get().is_null() {
                        let page = self.add_page(class, shared);
                        data.empty_pages.set(data.empty_pages.get() + 1);
                        data.list(page);
                    }
                    continue;
                }
                if let Some(slot) = data.pop(page) {
                    return slot;
                }
                if (*page).initialized.load(Relaxed) < class.capacity() {
                    return data.init_next(page);
                }
                data.unlist(page);
            }
        }
    }

    /// A3. An empty page of this class, in no list of the owner's.
    fn add_page<T>(&self, class: &Class, shared: &Arc<T>) -> *mut Page {
        // SAFETY: the layout is not empty.
        let page: *mut Page = unsafe { alloc::alloc(class.page) }.cast();
        if page.is_null() {
            alloc::handle_alloc_error(class.page);
        }
        let mut pages = lock(&self.pages);
        let head = Page {
            heap: self,
            shared: Arc::into_raw(Arc::clone(shared)).cast(),
            // SAFETY: made from an `Arc` of this type two lines above.
            drop_shared: |shared| drop(unsafe { Arc::<T>::from_raw(shared.cast()) }),
            class: *class,
            free: Cell::new(ptr::null_mut()),
            in_use: Cell::new(0),
            initialized: AtomicUsize::new(0),
            listed: Cell::new(false),
            previous: Cell::new(ptr::null_mut()),
            next: Cell::new(ptr::null_mut()),
            index: Cell::new(pages.len()),
        };
        // SAFETY: fresh memory, large enough and aligned.
        unsafe { page.write(head) };
        pages.push(PagePtr(page));
        if self.add_bytes(class.page.size() as isize) {
            self.data.untidy_unreported.set(true);
        }
        page
    }

    /// Changes the size by `by` bytes. Returns whether the heap has become larger than what is
    /// tidied.
    fn add_bytes(&self, by: isize) -> bool {
        // There is one writer at a time, so a load and a store are enough.
        let before = self.exceeds(STOCK);
        self.bytes.store(self.bytes.load(Relaxed).wrapping_add_signed(by), Relaxed);
        !before && self.exceeds(STOCK)
    }

    /// Frees a page.
    ///
    /// # Safety
    /// The page is this heap's, empty, and in no list of the owner's; and something else keeps the
    /// heap alive.
    unsafe fn free_page(&self, page: *mut Page) {
        // SAFETY: the page is empty and in no list of the owner's; walkers look at pages under the
        // lock.
        unsafe {
            let mut pages = lock(&self.pages);
            let index = (*page).index.get();
            pages.swap_remove(index);
            if let Some(moved) = pages.get(index) {
                (*moved.0).index.set(index);
            }
            if pages.capacity() > SPARE && pages.len() < pages.capacity() / 4 {
                let room = pages.capacity() / 2;
                pages.shrink_to(room);
            }
            drop(pages);
            let Page { class, shared, drop_shared, .. } = page.read();
            self.add_bytes(-(class.page.size() as isize));
            give_to_the_system(page.cast(), class.page.size());
            alloc::dealloc(page.cast(), class.page);
            // The last page of a runtime that is gone drops the runtime's root context.
            panic::swallow(|| drop_shared(shared));
        }
    }

    /// A2: reclaims all pending frees.
    ///
    /// # Safety
    /// As [`free_empty_pages`](Self::free_empty_pages).
    unsafe fn reclaim_pending(&self) {
        // SAFETY: no other thread touches `data` meanwhile, and the heap is kept alive.
        unsafe {
            while self.fetch_pending() {
                let _ = self.reclaim_one();
            }
        }
    }

    /// Takes the stack, unless pending frees are left from the last take. Returns false if there
    /// are none.
    ///
    /// # Safety
    /// As [`free_empty_pages`](Self::free_empty_pages).
    unsafe fn fetch_pending(&self) -> bool {
        if self.data.has_pending_frees() {
            return true;
        }
        let slots = self.stack.take();
        // SAFETY: `data` is touched by this thread alone: the owner's, or the lock holder's.
        self.data.pending_frees.with_mut(|pending_frees| unsafe { *pending_frees = slots });
        self.data.reclaim_budget.set(RECLAIM_SLOWLY);
        !slots.is_null()
    }

    /// Puts the next pending free back into its page; or all of them, if the budget of this take of
    /// the stack is spent.
    ///
    /// # Safety
    /// There is a pending free; otherwise as [`free_empty_pages`](Self::free_empty_pages).
    unsafe fn reclaim_some(&self) {
        // SAFETY: no other thread touches `data` meanwhile, and the heap is kept alive.
        unsafe {
            while self.data.has_pending_frees() {
                let size = self.reclaim_one();
                let budget = self.data.reclaim_budget.get();
                if SLOT_RECLAIM && budget >= size {
                    return self.data.reclaim_budget.set(budget - size);
                }
            }
        }
    }

    /// Puts the next pending free back into its page. Returns its size in bytes.
    ///
    /// # Safety
    /// There is a pending free; otherwise as [`free_empty_pages`](Self::free_empty_pages).
    #[inline]
    unsafe fn reclaim_one(&self) -> usize {
        // SAFETY: a freed slot, linked to the next. The page lives, since it counts the slot as in
        // use.
        unsafe {
            let slot = NonNull::new_unchecked(self.data.pending_frees.with(|pending_frees| *pending_frees));
            let next = linked(slot);
            self.data.pending_frees.with_mut(|pending_frees| *pending_frees = next);
            prefetch(next);
            let size = page_of(slot).as_ref().class.size;
            self.free_local(slot);
            size
        }
    }

    /// L1 and L2.
    ///
    /// # Safety
    /// The task is gone, and its slot is in this heap; otherwise as
    /// [`free_empty_pages`](Self::free_empty_pages).
    #[inline]
    unsafe fn free_local(&self, slot: NonNull<SlotHead>) {
        // SAFETY: the slot is free and in a page of this heap, whose plain cells are the owner's.
        unsafe {
            let page = page_of(slot).as_ptr();
            link(slot, (*page).free.get());
            (*page).free.set(slot.as_ptr());
            let used = (*page).in_use.get() - 1;
            (*page).in_use.set(used);
            if used == 0 || !(*page).listed.get() {
                self.free_local_slow(page);
            }
        }
    }

    /// # Safety
    /// As [`free_local`](Self::free_local).
    #[cold]
    unsafe fn free_local_slow(&self, page: *mut Page) {
        let data = &self.data;
        // SAFETY: as in `free_local`.
        unsafe {
            let huge = (*page).class.index == HUGE;
            if !huge && !(*page).listed.get() {
                data.list(page);
            }
            if (*page).in_use.get() == 0 {
                if !huge && data.empty_pages.get() < data.keep.get() {
                    return data.empty_pages.set(data.empty_pages.get() + 1);
                }
                if !huge {
                    data.unlist(page);
                }
                self.free_page(page);
            }
        }
    }

    /// X1 and X2. The heap is passed as a raw pointer, since it may end with the slot, and a
    /// reference must not outlive its target.
    ///
    /// # Safety
    /// The task is gone; its slot is in this heap, whose pages hold a `T`.
    unsafe fn free_remote<T>(heap: *const Heap, slot: NonNull<SlotHead>) {
        // SAFETY: the slot is this thread's until it is pushed. Until then the slot keeps its page,
        // and the page keeps the shared part, which contains the heap. After that `keep` does, if
        // the stack was marked.
        unsafe {
            let mut keep: Option<Arc<T>> = None;
            let marked = Stack::push(&raw const (*heap).stack, slot, || {
                if keep.is_none() {
                    let shared: *const T = page_of(slot).as_ref().shared.cast();
                    Arc::increment_strong_count(shared);
                    keep = Some(Arc::from_raw(shared));
                }
            });
            // Without the mark, the heap is not touched from here on: the slot may have been the
            // last.
            if marked && !weakened("mark look") {
                let owned = lock(&(*heap).ownership);
                // If the owner has resumed (O4), it finds the slot on its stack.
                if !*owned || weakened("ownership look") {
                    (*heap).reclaim_all();
                }
            }
            // This may be the last reference of a runtime that is gone: then its hooks and its root
            // context are dropped here.
            if let Some(keep) = keep {
                panic::swallow(|| drop(keep));
            }
        }
    }

    /// Calls `look` with each slot that was ever used, and returns the results. `look` may read the
    /// word of the slot. A slot that is first used meanwhile may be missing.
    ///
    /// The pages are locked for one page at a time, so that the owner waits for no more than that.
    pub(crate) fn each<R>(&self, mut look: impl FnMut(NonNull<SlotHead>) -> Option<R>) -> Vec<R> {
        let mut all = Vec::new();
        let mut seen = Vec::new();
        let mut left = usize::MAX;
        loop {
            if left != usize::MAX {
                // Not under the lock, where a long list would be copied.
                all.reserve(ROOM / STEP);
            }
            let pages = lock(&self.pages);
            // From the last to the first: when a page goes, the last one takes its place. So a page
            // that was not seen stays among the first `left`; one that was seen may come again.
            left = left.min(pages.len());
            let Some(PagePtr(page)) = left.checked_sub(1).map(|last| &pages[last]) else { return all };
            left -= 1;
            let Err(place) = seen.binary_search(page) else { continue };
            seen.insert(place, *page);
            // SAFETY: pages are freed under the lock, which this thread holds.
            unsafe {
                // Pairs with the release in `init_next`.
                let initialized = (**page).initialized.load(Acquire);
                all.extend((0..initialized).filter_map(|index| look(slot_at(*page, index))));
            }
        }
    }

    /// How many pages there are.
    #[cfg(test)]
    pub(crate) fn page_count(&self) -> usize {
        lock(&self.pages).len()
    }
}

/// Frees a slot: locally if it is in the caller's heap, else remotely.
///
/// # Safety
/// The task is gone; it was spawned with a shared part of type `T`. The owner in `mine` is that of
/// the heap in `mine`, which the caller keeps alive.
#[inline]
pub(crate) unsafe fn free<T>(slot: NonNull<SlotHead>, mine: Option<(&Heap, &Owner)>) {
    // SAFETY: the slot keeps its page alive until it is freed, and the page knows its heap.
    unsafe {
        let heap = page_of(slot).as_ref().heap;
        match mine {
            Some((local, _)) if ptr::eq(local, heap) => local.free_local(slot),
            _ => Heap::free_remote::<T>(heap, slot),
        }
    }
}

/// Asks for the memory of a slot, without waiting for it.
#[inline]
fn prefetch(slot: *mut SlotHead) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a hint, which may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(slot.cast()) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = slot;
}
