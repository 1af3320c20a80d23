//! A heap: the pages that one spawner fills.

use std::alloc;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::class::{CLASSES, Class, HUGE, KEPT, PAGE, SPARE, STOCK, TIDY};
use super::page::{Page, PagePtr, Slot, give_to_the_system, link, linked, page_of, slot_at};
use super::stack::Stack;
use crate::util::panic;
use crate::util::sync::atomic::AtomicUsize;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::{Mutex, UnsafeCell, lock, try_lock, weakened};

/// The pages that one spawner fills: what everybody may see of them.
pub(crate) struct Heap {
    /// Freed by others; linked like the free slots of a page. The lowest bit is [`MARK`].
    stack: Stack,
    /// Whether there is an owner. Under this lock is also what a thread does to a heap that has
    /// none.
    owned: Mutex<bool>,
    pages: Mutex<Vec<PagePtr>>,
    /// Of all pages together. Changed by the owner; to other threads a guess.
    bytes: AtomicUsize,
    own: Own,
}

/// The right to take slots of a heap, and to give them back directly.
#[derive(Debug)]
pub(crate) struct Owner(());

/// What only the owner of a heap touches.
struct Own {
    /// Per class, the pages with room.
    lists: [Cell<*mut Page>; CLASSES],
    /// Empty pages among them.
    empty: Cell<usize>,
    /// The fewest of them since the owner has tidied.
    unused: Cell<usize>,
    /// How many of them are kept.
    keep: Cell<usize>,
    /// What of the stack was taken, and is not home yet; linked as there.
    coming: UnsafeCell<*mut Slot>,
    stage: Cell<Stage>,
    /// Of a heap without an owner: it is at rest, or has become untidy, which the next thread that
    /// takes a slot is to see to.
    news: Cell<bool>,
}

/// Whether there is an owner to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Active,
    /// O1 to O3.
    Resting,
    /// The same, for good.
    Ended,
}

// SAFETY: `own` is touched by the owner, or under the lock on the ownership while that is free. So
// are the pages' plain cells.
unsafe impl Send for Heap {}
// SAFETY: as above.
unsafe impl Sync for Heap {}

/// What tidying has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Tidied {
    /// There are more slots to be brought home: go on, when there is nothing else to do.
    Partly,
    /// There are empty pages that were in use a short time ago: see again after a while.
    NotYet,
    /// There is nothing left to do.
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
            owned: Mutex::new(false),
            pages: Mutex::new(Vec::new()),
            bytes: AtomicUsize::new(0),
            own: Own {
                lists: [const { Cell::new(ptr::null_mut()) }; CLASSES],
                empty: Cell::new(0),
                unused: Cell::new(0),
                keep: Cell::new(KEPT),
                coming: UnsafeCell::new(ptr::null_mut()),
                stage: Cell::new(Stage::Active),
                news: Cell::new(false),
            },
        }
    }

    /// Makes the caller the owner. There is one who has not [given it back](Self::orphan) at most.
    pub(crate) fn own(&self) -> Owner {
        *lock(&self.owned) = true;
        Owner(())
    }

    /// O1 to O3, for good. There may have been no owner all the time.
    ///
    /// # Safety
    /// `owner` is this heap's, and something else keeps the heap alive.
    pub(crate) unsafe fn orphan(&self, _owner: Option<Owner>) {
        let mut owned = lock(&self.owned);
        *owned = false;
        // SAFETY: says the caller; the ownership is free, and under its lock.
        unsafe { self.leave(Stage::Ended, 0) }
    }

    /// O1 to O3. The owner has nothing to do with the heap until it [is back](Self::back). So many
    /// empty pages are kept.
    ///
    /// # Safety
    /// `owner` is this heap's, and something else keeps the heap alive.
    pub(crate) unsafe fn rest(&self, _owner: &Owner, keep: usize) {
        let mut owned = lock(&self.owned);
        *owned = false;
        // SAFETY: says the caller; the ownership is free, and under its lock.
        unsafe { self.leave(Stage::Resting, keep) }
    }

    /// B1 and B2, by the owner.
    pub(crate) fn back(&self, _owner: &Owner) {
        let mut owned = lock(&self.owned);
        self.wake();
        *owned = true;
    }

    /// B2. The ownership is free, and under its lock.
    fn wake(&self) {
        self.own.stage.set(Stage::Active);
        self.own.keep.set(KEPT);
        self.stack.mark(false);
    }

    /// O2 and O3.
    ///
    /// # Safety
    /// The ownership is free, and the caller has its lock; something else keeps the heap alive.
    unsafe fn leave(&self, stage: Stage, keep: usize) {
        self.own.stage.set(stage);
        self.own.keep.set(keep);
        self.own.news.set(stage == Stage::Resting);
        self.stack.mark(true);
        // SAFETY: says the caller.
        unsafe { self.settle() }
    }

    /// O3 and R2: takes everything home and frees the empty pages that are not kept.
    ///
    /// # Safety
    /// As [`leave`](Self::leave).
    unsafe fn settle(&self) {
        // SAFETY: says the caller.
        unsafe {
            self.take_all_home();
            self.free_empty(self.own.keep.get());
        }
    }

    /// Frees empty pages until there are no more than `keep`.
    ///
    /// # Safety
    /// The caller is the owner, or has the lock on the ownership, which is free; something else
    /// keeps the heap alive.
    unsafe fn free_empty(&self, keep: usize) {
        if self.own.empty.get() <= keep {
            return;
        }
        for list in &self.own.lists {
            let mut page = list.get();
            // SAFETY: says the caller; pages in the lists are alive.
            unsafe {
                while self.own.empty.get() > keep && !page.is_null() {
                    let next = (*page).next.get();
                    if (*page).used.get() == 0 {
                        self.own.unlist(page);
                        self.own.empty.set(self.own.empty.get() - 1);
                        self.release(page);
                    }
                    page = next;
                }
            }
        }
        self.own.unused.set(self.own.unused.get().min(self.own.empty.get()));
    }

    /// Whether the heap is worth to be tidied, and then to be left at rest, by an owner that has
    /// time.
    pub(crate) fn is_untidy(&self) -> bool {
        self.exceeds(STOCK) && !self.stack.is_marked()
    }

    /// Whether there are more bytes than so many pages have.
    pub(crate) fn exceeds(&self, pages: usize) -> bool {
        self.bytes.load(Relaxed) > pages * PAGE
    }

    /// Takes slots home, a few at a time; then frees the pages that were empty since the last time.
    ///
    /// # Safety
    /// `owner` is this heap's, and something else keeps the heap alive.
    pub(crate) unsafe fn tidy(&self, _owner: &Owner) -> Tidied {
        // SAFETY: says the caller.
        unsafe { self.tidy_own() }
    }

    /// # Safety
    /// As [`free_empty`](Self::free_empty).
    unsafe fn tidy_own(&self) -> Tidied {
        // SAFETY: says the caller.
        unsafe {
            for _ in 0..TIDY {
                if !self.take_stack() {
                    let own = &self.own;
                    self.free_empty(own.empty.get() - own.unused.get());
                    own.unused.set(own.empty.get());
                    return if own.empty.get() > 0 { Tidied::NotYet } else { Tidied::Done };
                }
                self.bring_one_home();
            }
        }
        Tidied::Partly
    }

    /// Tidies a heap that has no owner, unless a thread just spawns; and leaves it at rest when
    /// that is done.
    ///
    /// # Safety
    /// Something else keeps the heap alive.
    pub(crate) unsafe fn tidy_unowned(&self) -> Tidied {
        let Some(owned) = try_lock(&self.owned) else { return Tidied::NotYet };
        debug_assert!(!*owned);
        if self.own.stage.get() != Stage::Active {
            return Tidied::Done;
        }
        // SAFETY: says the caller; the ownership is free, and under its lock.
        unsafe {
            let tidied = self.tidy_own();
            if tidied == Tidied::Done {
                self.leave(Stage::Resting, 0);
            }
            tidied
        }
    }

    /// O1 to O3 for a heap that has no owner: until the next spawn.
    ///
    /// # Safety
    /// Something else keeps the heap alive.
    pub(crate) unsafe fn rest_unowned(&self, keep: usize) {
        let owned = lock(&self.owned);
        debug_assert!(!*owned);
        if self.own.stage.get() == Stage::Active {
            // SAFETY: says the caller; the ownership is free, and under its lock.
            unsafe { self.leave(Stage::Resting, keep) }
        }
    }

    /// A1 to A3. A slot for a cell of this class, from a heap without an owner. And whether the
    /// heap has become [untidy](Self::is_untidy), so that a thread that has time should know.
    ///
    /// # Safety
    /// As [`take`](Self::take), and the heap was not [taken](Self::own).
    #[inline]
    pub(crate) unsafe fn take_locked<T>(&self, class: &Class, shared: &Arc<T>) -> (NonNull<Slot>, bool) {
        let owned = lock(&self.owned);
        debug_assert!(!*owned);
        // SAFETY: says the caller.
        let slot = unsafe { self.take(&Owner(()), class, shared) };
        if !self.own.news.get() {
            return (slot, false);
        }
        self.own.news.set(false);
        if self.own.stage.get() == Stage::Resting {
            self.wake();
        }
        (slot, self.is_untidy())
    }

    /// A1 to A3. A slot for a cell of this class. Its state word is vacant, or a finished task's; nothing else of it is
    /// initialised.
    ///
    /// # Safety
    /// `owner` is this heap's, which is part of `shared`, or lives as long.
    #[inline]
    pub(crate) unsafe fn take<T>(&self, _owner: &Owner, class: &Class, shared: &Arc<T>) -> NonNull<Slot> {
        // SAFETY: says the caller; pages in the lists are alive, and their plain cells the owner's.
        unsafe {
            if class.index != HUGE {
                let page = self.own.lists[class.index].get();
                if !page.is_null()
                    && let Some(slot) = self.own.pop(page)
                {
                    return slot;
                }
            }
            self.take_slowly(class, shared)
        }
    }

    /// # Safety
    /// As [`take`](Self::take).
    #[cold]
    unsafe fn take_slowly<T>(&self, class: &Class, shared: &Arc<T>) -> NonNull<Slot> {
        let own = &self.own;
        // SAFETY: as in `take`.
        unsafe {
            if class.index == HUGE {
                // A2. Such a page goes as soon as it is home, and this is the last occasion before a further one comes.
                self.take_all_home();
                let page = self.add_page(class, shared);
                own.empty.set(own.empty.get() + 1);
                return own.touch(page);
            }
            loop {
                let page = own.lists[class.index].get();
                if page.is_null() {
                    // A2, A3.
                    self.take_all_home();
                    if own.lists[class.index].get().is_null() {
                        let page = self.add_page(class, shared);
                        own.empty.set(own.empty.get() + 1);
                        own.list(page);
                    }
                    continue;
                }
                if let Some(slot) = own.pop(page) {
                    return slot;
                }
                if (*page).touched.load(Relaxed) < class.capacity() {
                    return own.touch(page);
                }
                own.unlist(page);
            }
        }
    }

    /// A3. A page of this class, with nothing in it, and in no list of the owner's.
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
            // SAFETY: made of an `Arc` of this type two lines above.
            drop_shared: |shared| drop(unsafe { Arc::<T>::from_raw(shared.cast()) }),
            class: *class,
            free: Cell::new(ptr::null_mut()),
            used: Cell::new(0),
            touched: AtomicUsize::new(0),
            listed: Cell::new(false),
            previous: Cell::new(ptr::null_mut()),
            next: Cell::new(ptr::null_mut()),
            place: Cell::new(pages.len()),
        };
        // SAFETY: fresh memory, large enough and aligned.
        unsafe { page.write(head) };
        pages.push(PagePtr(page));
        if self.grow(class.page.size() as isize) {
            self.own.news.set(true);
        }
        page
    }

    /// There are so many bytes more. Whether the heap has become larger than what is tidied.
    fn grow(&self, by: isize) -> bool {
        // One writer at a time: a load and a store do.
        let before = self.exceeds(STOCK);
        self.bytes.store(self.bytes.load(Relaxed).wrapping_add_signed(by), Relaxed);
        !before && self.exceeds(STOCK)
    }

    /// Frees a page.
    ///
    /// # Safety
    /// It is this heap's, empty, and in no list of the owner's; and something else keeps the heap alive.
    unsafe fn release(&self, page: *mut Page) {
        // SAFETY: says the caller. Walkers look at pages under the lock.
        unsafe {
            let mut pages = lock(&self.pages);
            let place = (*page).place.get();
            pages.swap_remove(place);
            if let Some(moved) = pages.get(place) {
                (*moved.0).place.set(place);
            }
            if pages.capacity() > SPARE && pages.len() < pages.capacity() / 4 {
                let room = pages.capacity() / 2;
                pages.shrink_to(room);
            }
            drop(pages);
            let Page { class, shared, drop_shared, .. } = page.read();
            self.grow(-(class.page.size() as isize));
            give_to_the_system(page.cast(), class.page.size());
            alloc::dealloc(page.cast(), class.page);
            // The last page of a runtime that is gone takes the runtime's root context along.
            panic::swallow(|| drop_shared(shared));
        }
    }

    /// A2, for all slots.
    ///
    /// # Safety
    /// As [`free_empty`](Self::free_empty).
    unsafe fn take_all_home(&self) {
        // SAFETY: says the caller.
        unsafe {
            while self.take_stack() {
                self.bring_one_home();
            }
        }
    }

    /// Takes the stack, unless slots are on their way. False if there are none.
    ///
    /// # Safety
    /// As [`free_empty`](Self::free_empty).
    unsafe fn take_stack(&self) -> bool {
        if self.own.is_some_coming() {
            return true;
        }
        let slots = self.stack.take();
        // SAFETY: `own` is the caller's.
        self.own.coming.with_mut(|coming| unsafe { *coming = slots });
        !slots.is_null()
    }

    /// Brings the next slot home.
    ///
    /// # Safety
    /// There is one; otherwise as [`free_empty`](Self::free_empty).
    #[inline]
    unsafe fn bring_one_home(&self) {
        // SAFETY: a freed slot, linked to the next; its page lives as long as it counts the slot as used.
        unsafe {
            let slot = NonNull::new_unchecked(self.own.coming.with(|coming| *coming));
            self.own.coming.with_mut(|coming| *coming = linked(slot));
            self.put(slot);
        }
    }

    /// F1 and F2.
    ///
    /// # Safety
    /// The task is gone, its slot in this heap; otherwise as [`free_empty`](Self::free_empty).
    #[inline]
    unsafe fn put(&self, task: NonNull<Slot>) {
        // SAFETY: says the caller.
        unsafe {
            let page = page_of(task).as_ptr();
            link(task, (*page).free.get());
            (*page).free.set(task.as_ptr());
            let used = (*page).used.get() - 1;
            (*page).used.set(used);
            if used == 0 || !(*page).listed.get() {
                self.put_slowly(page);
            }
        }
    }

    /// # Safety
    /// As [`put`](Self::put).
    #[cold]
    unsafe fn put_slowly(&self, page: *mut Page) {
        let own = &self.own;
        // SAFETY: as in `put`.
        unsafe {
            let huge = (*page).class.index == HUGE;
            if !huge && !(*page).listed.get() {
                own.list(page);
            }
            if (*page).used.get() == 0 {
                if !huge && own.empty.get() < own.keep.get() {
                    return own.empty.set(own.empty.get() + 1);
                }
                if !huge {
                    own.unlist(page);
                }
                self.release(page);
            }
        }
    }

    /// R1 and R2. The heap is no reference, for it may end with the slot: no argument may outlive what it points to.
    ///
    /// # Safety
    /// The task is gone, its slot in this heap, whose pages hold a `T`.
    unsafe fn free_from_afar<T>(heap: *const Heap, task: NonNull<Slot>) {
        // SAFETY: the slot is ours until it is pushed; it keeps its page, and the page what is shared, the heap included.
        unsafe {
            let mut keep: Option<Arc<T>> = None;
            let marked = Stack::push(&raw const (*heap).stack, task, || {
                if keep.is_none() {
                    let shared: *const T = page_of(task).as_ref().shared.cast();
                    Arc::increment_strong_count(shared);
                    keep = Some(Arc::from_raw(shared));
                }
            });
            // If there was no mark, nothing of the heap is touched from here on: the slot may have
            // been the last.
            if marked && !weakened("orphan look") {
                let owned = lock(&(*heap).owned);
                // The owner may be back: then the slot is on its stack.
                if !*owned || weakened("back look") {
                    (*heap).settle();
                }
            }
            // The last of a runtime that is gone takes its hooks and its root context along,
            // wherever this is.
            if let Some(keep) = keep {
                panic::swallow(|| drop(keep));
            }
        }
    }

    /// What `retain` makes of the slots that were ever used: the word of each may be read. A slot that is used for the first
    /// time meanwhile may be missing.
    pub(crate) fn each<R>(&self, retain: impl Fn(NonNull<Slot>) -> Option<R>) -> Vec<R> {
        let pages = lock(&self.pages);
        let mut all = Vec::new();
        for PagePtr(page) in &*pages {
            // SAFETY: pages are freed under the lock.
            unsafe {
                // Pairs with the release in `touch`.
                let touched = (**page).touched.load(Acquire);
                all.extend((0..touched).filter_map(|index| retain(slot_at(*page, index))));
            }
        }
        all
    }

    /// How many pages there are.
    #[cfg(test)]
    pub(crate) fn page_count(&self) -> usize {
        lock(&self.pages).len()
    }
}

impl Own {
    #[inline]
    fn is_some_coming(&self) -> bool {
        // SAFETY: `own` is the caller's.
        !self.coming.with(|coming| unsafe { *coming }).is_null()
    }

    /// One slot more is in use.
    ///
    /// # Safety
    /// The page is alive, and the owner's.
    #[inline]
    unsafe fn count(&self, page: *mut Page) {
        // SAFETY: says the caller.
        let used = unsafe { &(*page).used };
        if used.get() == 0 {
            let empty = self.empty.get() - 1;
            self.empty.set(empty);
            if empty < self.unused.get() {
                self.unused.set(empty);
            }
        }
        used.set(used.get() + 1);
    }

    /// Takes a slot that was used before, if there is one.
    ///
    /// # Safety
    /// The page is alive, and the owner's.
    #[inline]
    unsafe fn pop(&self, page: *mut Page) -> Option<NonNull<Slot>> {
        // SAFETY: says the caller; free slots are the owner's.
        unsafe {
            let slot = NonNull::new((*page).free.get())?;
            (*page).free.set(linked(slot));
            self.count(page);
            Some(slot)
        }
    }

    /// Takes a slot that was never used.
    ///
    /// # Safety
    /// There is one, and the page is the owner's.
    unsafe fn touch(&self, page: *mut Page) -> NonNull<Slot> {
        // SAFETY: memory of the page that nobody has seen yet.
        unsafe {
            let index = (*page).touched.load(Relaxed);
            let slot = slot_at(page, index);
            slot.write(Slot::vacant());
            // Pairs with the acquire in `each`.
            (*page).touched.store(index + 1, Release);
            self.count(page);
            slot
        }
    }

    /// Puts a page at the head of its list.
    ///
    /// # Safety
    /// The page and its list are the owner's; it is in none.
    unsafe fn list(&self, page: *mut Page) {
        // SAFETY: says the caller; what is listed is alive.
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
    /// It is in the owner's list of its class.
    unsafe fn unlist(&self, page: *mut Page) {
        // SAFETY: says the caller; what is listed is alive.
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

/// Gives a slot back: directly if it is in the caller's heap.
///
/// # Safety
/// The task is gone; it was spawned with a shared part of type `T`; what `mine` holds belongs together, and is kept alive
/// by the caller.
#[inline]
pub(crate) unsafe fn free<T>(slot: NonNull<Slot>, mine: Option<(&Heap, &Owner)>) {
    // SAFETY: says the caller.
    unsafe {
        let heap = page_of(slot).as_ref().heap;
        match mine {
            Some((own, _)) if ptr::eq(own, heap) => own.put(slot),
            _ => Heap::free_from_afar::<T>(heap, slot),
        }
    }
}
