//! Where tasks live: pages of slots, each page owned by whoever spawns into it.
//!
//! A spawn takes a slot and a completion gives it back, a few loads and stores each; the general allocator is asked for
//! whole pages only. And since tasks stand in pages, all tasks of a runtime can be found ([`Heap::each`]) without a
//! list that every spawn and every completion would have to lock.
//!
//! The scheme is mimalloc's (Leijen, Zorn, de Moura: *Mimalloc: Free List Sharding in Action*, 2019), for one kind of
//! object.
//!
//! # Who may touch what
//!
//! | what | who |
//! | --- | --- |
//! | free slots of a page, the list of pages with room | the heap's [`Owner`]: one worker, or whoever holds its lock |
//! | a slot in use | as the task's [protocol](super) says |
//! | the state word of any slot that was ever used | anybody, at any time: it stays a state word while the page lives |
//! | the stack of slots that others have freed | anybody pushes; the owner takes all of it |
//! | the list of all pages | under its lock: the owner to change it, walkers to read it |
//!
//! ```text
//!   owner                                         anybody else
//!   ─────                                         ────────────
//!   A1  slot from the page at the head            R1  push the slot on the heap's stack
//!   A2  none: take the stack, slots home          R2  the heap is orphaned: lock its owner, do A2
//!   A3  still none: a further page
//!   F1  own slot: back to its page                orphan (the worker ends)
//!   F2  page empty: keep a few, free the rest     O1  put the owner under its lock
//!                                                 O2  mark the stack orphaned    O3  do A2
//! ```
//!
//! **Slots come home one by one**, one with each spawn, while the next is fetched: each is in the cache of whoever has freed
//! it, and to walk a chain of them takes as long as the memory of another processor, each time. (10,000 tasks spawned from
//! outside: a fifth of the spawner's time.) That is a chain's first two megabytes; what is left of a longer one comes at once,
//! so that the memory of a burst goes back.
//!
//! **No slot is forgotten.** The mark is a bit of the stack's head, so R1 and O2 are changes of one word: R1 first, and
//! O3 takes the slot; O2 first, and R1 sees the mark.
//!
//! **A page outlives its tasks, and what they need.** Each page holds the scheduler's shared part, so a task that is not
//! freed keeps it, whoever else is gone. Who pushes on an orphaned heap holds it for himself meanwhile.

use std::alloc::{self, Layout};
use std::cell::Cell as Plain;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::cell::{Header, TaskRef};
use super::harness::quietly;
use super::state::State;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicUsize};
use crate::sync::{Mutex, lock, weakened};

/// Size and alignment of a page: a task's page is found by its address.
///
/// 32 KiB hold 250 small tasks, so that what a page costs is not felt, and are little enough for one of each size. And twice
/// that, with which glibc looks for something so aligned, is less than what it asks the kernel for each time: of 64 KiB, every
/// page was a mapping of its own, with two calls and 8 KiB besides.
const PAGE: usize = 32 * 1024;
/// What of it is used. The rest is for the words in which an allocator keeps its books, or every second page would be left out.
const ROOM: usize = PAGE - 64;
/// Sizes up to here differ by [`STEP`], those above are powers of two.
const FINE: usize = 1024;
const STEP: usize = 16;
/// Larger cells have a page each.
const COARSE: usize = 8 * 1024;
/// How many sizes there are: fine ones, and powers of two from the smallest that is aligned to more than [`STEP`].
const CLASSES: usize = FINE / STEP + (COARSE / STEP).ilog2() as usize;
/// Stands for no class: a page of one slot.
const HUGE: usize = usize::MAX;
/// Empty pages an owner keeps: a burst of ten thousand small tasks finds its pages again.
const SPARE: usize = 64;

/// The mark of an orphaned heap, in the head of its stack.
const ORPHANED: usize = 1;

/// Where a cell of some layout goes; a constant of its types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    index: usize,
    size: usize,
    /// Where the first slot begins.
    first: usize,
    page: Layout,
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

    const fn capacity(&self) -> usize {
        if self.index == HUGE { 1 } else { (ROOM - self.first) / self.size }
    }
}

/// Every task in a page of its own, so that memory checkers see what is used after it was freed. Miri is told to do without
/// when it is to look at the pages themselves.
const ALONE: bool = cfg!(any(all(miri, not(heirloom_paged_tasks)), loom, heirloom_lone_tasks));

/// What stands at the beginning of a page, rounded up.
const HEAD: usize = size_of::<Page>().next_multiple_of(64);

/// The head of a page. First what never changes, which others look at; a cache line further what the owner changes.
#[repr(C)]
struct Page {
    heap: *const Heap,
    /// A counted reference of the scheduler's shared part, and how to give it back.
    shared: *const (),
    drop_shared: unsafe fn(*const ()),
    class: Class,
    /// The first of the slots that were used and are free; the rest is linked through them.
    free: Plain<*mut Header>,
    /// Slots in use.
    used: Plain<usize>,
    /// Slots that were ever used: their state words may be read.
    touched: AtomicUsize,
    /// Whether it is in its class's list, and its neighbours there.
    listed: Plain<bool>,
    previous: Plain<*mut Page>,
    next: Plain<*mut Page>,
    /// Where it stands among all pages; under their lock.
    place: Plain<usize>,
}

/// The pages that one spawner fills: what everybody may see of them.
pub(crate) struct Heap {
    /// Freed by others; linked like the free slots of a page. The lowest bit is [`ORPHANED`].
    stack: Stack,
    pages: Mutex<Vec<PagePtr>>,
    /// While nobody owns the heap.
    owner: Mutex<Owner>,
}

struct PagePtr(*mut Page);

// SAFETY: what of a page may be touched by whom is said above.
unsafe impl Send for PagePtr {}

/// The right to take slots of a heap, and to give them back directly.
pub(crate) struct Owner {
    /// Per class, the pages with room.
    lists: Box<[Plain<*mut Page>; CLASSES]>,
    /// Empty pages among them.
    empty: Plain<usize>,
    /// What of the stack was taken, and is not home yet; linked as there.
    coming: Plain<*mut Header>,
    /// How many bytes more of that may take their time.
    time: Plain<usize>,
}

// SAFETY: the right moves as a whole; the pages' plain cells are touched by whoever has it.
unsafe impl Send for Owner {}

/// The head of a stack of freed slots.
///
/// In lines of its own (two are fetched at once): beside the owner's lock, that would go over to whoever frees, and back, for
/// each spawn from outside.
#[repr(align(128))]
struct Stack(AtomicPtr<Header>);

impl Stack {
    /// O2. Pairs with the exchange in `free_from_afar`: slots pushed before are seen.
    fn fetch_or_mark(&self) {
        let mut head = self.0.load(Relaxed);
        while let Err(changed) =
            self.0.compare_exchange_weak(head, head.map_addr(|address| address | ORPHANED), AcqRel, Relaxed)
        {
            head = changed;
        }
    }
}

impl std::fmt::Debug for Heap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heap").field("pages", &lock(&self.pages).len()).finish_non_exhaustive()
    }
}

/// The page a task is in.
///
/// # Safety
/// `task` points to a slot in use.
unsafe fn page_of(task: NonNull<Header>) -> NonNull<Page> {
    let page = task.as_ptr().map_addr(|address| address & !(PAGE - 1)).cast();
    // SAFETY: slots begin within the first PAGE bytes of a page, which is aligned so.
    unsafe { NonNull::new_unchecked(page) }
}

/// The scheduler's shared part that a task's page keeps alive.
///
/// # Safety
/// `task` is in use, and was spawned with a shared part of this type; the answer lives as long as the task.
pub(crate) unsafe fn shared_of<'a, T>(task: NonNull<Header>) -> &'a T {
    // SAFETY: says the caller.
    unsafe { &*page_of(task).as_ref().shared.cast() }
}

/// Where that is.
///
/// # Safety
/// The task is in use.
#[inline]
pub(crate) unsafe fn shared_at(task: NonNull<Header>) -> *const () {
    // SAFETY: says the caller.
    unsafe { page_of(task).as_ref() }.shared
}

/// Whether it is there. Only the task's page is looked at.
///
/// # Safety
/// The task is in use.
#[inline]
pub(crate) unsafe fn is_shared<T>(task: NonNull<Header>, shared: *const T) -> bool {
    // SAFETY: says the caller.
    ptr::eq(unsafe { shared_at(task) }, shared.cast())
}

impl Heap {
    pub(crate) fn new() -> Heap {
        Heap {
            stack: Stack(AtomicPtr::new(ptr::null_mut())),
            pages: Mutex::new(Vec::new()),
            owner: Mutex::new(Owner::new()),
        }
    }

    /// Makes the caller the owner. There is one who has not [given it back](Self::orphan) at most.
    pub(crate) fn own(&self) -> Owner {
        std::mem::replace(&mut lock(&self.owner), Owner::new())
    }

    /// O1 to O3. The owner is put back if there is one; it may have been here all the time.
    ///
    /// # Safety
    /// `owner` is this heap's, and something else keeps the heap alive.
    pub(crate) unsafe fn orphan(&self, owner: Option<Owner>) {
        let mut place = lock(&self.owner);
        if let Some(owner) = owner {
            *place = owner;
        }
        self.stack.fetch_or_mark();
        // SAFETY: the owner is this heap's.
        unsafe { self.settle(&place) };
    }

    /// O3 and R2: takes everything home and frees what is empty.
    ///
    /// # Safety
    /// `owner` is this heap's, and something else keeps the heap alive.
    unsafe fn settle(&self, owner: &Owner) {
        // SAFETY: says the caller; pages in the lists are alive.
        unsafe {
            self.take_all_home(owner);
            for list in &*owner.lists {
                let mut page = list.get();
                while !page.is_null() {
                    let next = (*page).next.get();
                    if (*page).used.get() == 0 {
                        owner.unlist(page);
                        owner.empty.set(owner.empty.get() - 1);
                        self.release(page);
                    }
                    page = next;
                }
            }
        }
    }

    /// A1 to A3. A slot for a cell of this class, by whoever holds the lock on the owner.
    ///
    /// # Safety
    /// As [`take`](Self::take), and the owner was not [taken](Self::own).
    pub(crate) unsafe fn take_locked<T>(&self, class: &Class, shared: &Arc<T>) -> NonNull<Header> {
        // SAFETY: says the caller.
        unsafe { self.take(&lock(&self.owner), class, shared) }
    }

    /// A1 to A3. A slot for a cell of this class. Its state word is vacant, or a finished task's; nothing else of it is
    /// initialised.
    ///
    /// # Safety
    /// `owner` is this heap's, which is part of `shared`, or lives as long.
    #[inline]
    pub(crate) unsafe fn take<T>(&self, owner: &Owner, class: &Class, shared: &Arc<T>) -> NonNull<Header> {
        // SAFETY: says the caller; pages in the lists are alive, and their plain cells the owner's.
        unsafe {
            if class.index != HUGE {
                if !owner.coming.get().is_null() {
                    self.bring_home(owner);
                }
                let page = owner.lists[class.index].get();
                if !page.is_null()
                    && let Some(slot) = owner.pop(page)
                {
                    return slot;
                }
            }
            self.take_slowly(owner, class, shared)
        }
    }

    /// # Safety
    /// As [`take`](Self::take).
    #[cold]
    unsafe fn take_slowly<T>(&self, owner: &Owner, class: &Class, shared: &Arc<T>) -> NonNull<Header> {
        // SAFETY: as in `take`.
        unsafe {
            if class.index == HUGE {
                // A2. Such a page goes as soon as it is home, and this is the last occasion before a further one comes.
                self.take_all_home(owner);
                let page = self.add_page(class, shared);
                owner.empty.set(owner.empty.get() + 1);
                return owner.touch(page);
            }
            loop {
                let page = owner.lists[class.index].get();
                if page.is_null() {
                    // A2, A3.
                    if !self.take_home(owner, class) {
                        let page = self.add_page(class, shared);
                        owner.empty.set(owner.empty.get() + 1);
                        owner.list(page);
                    }
                    continue;
                }
                if let Some(slot) = owner.pop(page) {
                    return slot;
                }
                if (*page).touched.load(Relaxed) < class.capacity() {
                    return owner.touch(page);
                }
                owner.unlist(page);
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
            free: Plain::new(ptr::null_mut()),
            used: Plain::new(0),
            touched: AtomicUsize::new(0),
            listed: Plain::new(false),
            previous: Plain::new(ptr::null_mut()),
            next: Plain::new(ptr::null_mut()),
            place: Plain::new(pages.len()),
        };
        // SAFETY: fresh memory, large enough and aligned.
        unsafe { page.write(head) };
        pages.push(PagePtr(page));
        page
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
            drop(pages);
            let Page { class, shared, drop_shared, .. } = page.read();
            alloc::dealloc(page.cast(), class.page);
            // The last page of a runtime that is gone takes the runtime's root context along.
            quietly(|| drop_shared(shared));
        }
    }

    /// A2, until there is room for this class. False if there is none.
    ///
    /// # Safety
    /// `owner` is this heap's, and something else keeps the heap alive.
    unsafe fn take_home(&self, owner: &Owner, class: &Class) -> bool {
        // SAFETY: says the caller.
        unsafe {
            while self.take_stack(owner) {
                self.bring_home(owner);
                if !owner.lists[class.index].get().is_null() {
                    return true;
                }
            }
            false
        }
    }

    /// A2, for all slots.
    ///
    /// # Safety
    /// As [`take_home`](Self::take_home).
    unsafe fn take_all_home(&self, owner: &Owner) {
        // SAFETY: says the caller.
        unsafe {
            while self.take_stack(owner) {
                self.bring_home(owner);
            }
        }
    }

    /// Takes the stack, unless slots are on their way. False if there are none.
    fn take_stack(&self, owner: &Owner) -> bool {
        if !owner.coming.get().is_null() {
            return true;
        }
        let head = self.stack.0.load(Relaxed);
        if head.addr() & !ORPHANED == 0 {
            return false;
        }
        // The mark does not change while somebody is the owner. Pairs with the exchange in `free_from_afar`: the slots'
        // last use, and their links, are seen.
        let mark = ptr::without_provenance_mut(head.addr() & ORPHANED);
        let slots = self.stack.0.swap(mark, AcqRel).map_addr(|address| address & !ORPHANED);
        owner.coming.set(slots);
        owner.time.set(SPARE * PAGE);
        true
    }

    /// Brings the next slot home, or all of them if it has taken too long.
    ///
    /// # Safety
    /// There is one; `owner` is this heap's, and something else keeps the heap alive.
    unsafe fn bring_home(&self, owner: &Owner) {
        // SAFETY: a freed slot, linked to the next; its page lives as long as it counts the slot as used.
        unsafe {
            while let Some(slot) = NonNull::new(owner.coming.get()) {
                let next = *next_free(slot);
                owner.coming.set(next);
                fetch(next);
                let size = page_of(slot).as_ref().class.size;
                self.put(owner, slot);
                if owner.time.get() >= size {
                    return owner.time.set(owner.time.get() - size);
                }
            }
        }
    }

    /// F1 and F2.
    ///
    /// # Safety
    /// The task is gone, its slot in this heap, and `owner` the heap's; something else keeps the heap alive.
    #[inline]
    unsafe fn put(&self, owner: &Owner, task: NonNull<Header>) {
        // SAFETY: says the caller.
        unsafe {
            let page = page_of(task).as_ptr();
            *next_free(task) = (*page).free.get();
            (*page).free.set(task.as_ptr());
            let used = (*page).used.get() - 1;
            (*page).used.set(used);
            if used == 0 || !(*page).listed.get() {
                self.put_slowly(owner, page);
            }
        }
    }

    /// # Safety
    /// As [`put`](Self::put).
    #[cold]
    unsafe fn put_slowly(&self, owner: &Owner, page: *mut Page) {
        // SAFETY: as in `put`.
        unsafe {
            let huge = (*page).class.index == HUGE;
            if !huge && !(*page).listed.get() {
                owner.list(page);
            }
            if (*page).used.get() == 0 {
                if !huge && owner.empty.get() < SPARE {
                    return owner.empty.set(owner.empty.get() + 1);
                }
                if !huge {
                    owner.unlist(page);
                }
                self.release(page);
            }
        }
    }

    /// R1 and R2. The heap is no reference, for it may end with the slot: no argument may outlive what it points to.
    ///
    /// # Safety
    /// The task is gone, its slot in this heap, whose pages hold a `T`.
    unsafe fn free_from_afar<T>(heap: *const Heap, task: NonNull<Header>) {
        // SAFETY: the slot is ours until it is pushed; it keeps its page, and the page what is shared, the heap included.
        unsafe {
            let stack = &raw const (*heap).stack.0;
            let mut keep: Option<Arc<T>> = None;
            let mut head = (*stack).load(Relaxed);
            loop {
                let mark = head.addr() & ORPHANED;
                if mark != 0 && keep.is_none() {
                    let shared: *const T = page_of(task).as_ref().shared.cast();
                    Arc::increment_strong_count(shared);
                    keep = Some(Arc::from_raw(shared));
                }
                *next_free(task) = head.map_addr(|address| address & !ORPHANED);
                let new = task.as_ptr().map_addr(|address| address | mark);
                // Pairs with the exchange in `take_home`, and with that in `fetch_or_mark`.
                match (*stack).compare_exchange_weak(head, new, AcqRel, Relaxed) {
                    Ok(_) => break,
                    Err(changed) => head = changed,
                }
            }
            // If there was no mark, nothing of the heap is touched from here on: the slot may have been the last.
            if let Some(keep) = keep
                && !weakened("orphan look")
            {
                // Whoever holds the lock is the owner of what is orphaned.
                (*heap).settle(&lock(&(*heap).owner));
                // The last of a runtime that is gone takes its hooks and its root context along, wherever this is.
                quietly(|| drop(keep));
            }
        }
    }

    /// References to all tasks that are not over. One that is spawned meanwhile may be missing.
    pub(crate) fn each(&self) -> Vec<TaskRef> {
        let pages = lock(&self.pages);
        let mut tasks = Vec::new();
        for PagePtr(page) in &*pages {
            // SAFETY: pages are freed under the lock; of a slot that was touched, the state word may be read.
            unsafe {
                // Pairs with the release in `touch`.
                for index in 0..(**page).touched.load(Acquire) {
                    let task = slot_at(*page, index);
                    if (*task.as_ptr()).state.try_retain() {
                        tasks.push(TaskRef::from_raw(task));
                    }
                }
            }
        }
        tasks
    }

    /// How many pages there are.
    #[cfg(test)]
    pub(crate) fn page_count(&self) -> usize {
        lock(&self.pages).len()
    }
}

/// Gives a slot back: directly if it is in the caller's heap.
///
/// # Safety
/// The task is gone; it was spawned with a shared part of type `T`; what `mine` holds belongs together, and is kept alive
/// by the caller.
#[inline]
pub(crate) unsafe fn free<T>(task: NonNull<Header>, mine: Option<(&Heap, &Owner)>) {
    // SAFETY: says the caller.
    unsafe {
        let heap = page_of(task).as_ref().heap;
        match mine {
            Some((own, owner)) if ptr::eq(own, heap) => own.put(owner, task),
            _ => Heap::free_from_afar::<T>(heap, task),
        }
    }
}

impl Owner {
    fn new() -> Owner {
        Owner {
            lists: Box::new([const { Plain::new(ptr::null_mut()) }; CLASSES]),
            empty: Plain::new(0),
            coming: Plain::new(ptr::null_mut()),
            time: Plain::new(0),
        }
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
            self.empty.set(self.empty.get() - 1);
        }
        used.set(used.get() + 1);
    }

    /// Takes a slot that was used before, if there is one.
    ///
    /// # Safety
    /// The page is alive, and the owner's.
    #[inline]
    unsafe fn pop(&self, page: *mut Page) -> Option<NonNull<Header>> {
        // SAFETY: says the caller; free slots are the owner's.
        unsafe {
            let slot = NonNull::new((*page).free.get())?;
            (*page).free.set(*next_free(slot));
            self.count(page);
            Some(slot)
        }
    }

    /// Takes a slot that was never used.
    ///
    /// # Safety
    /// There is one, and the page is the owner's.
    unsafe fn touch(&self, page: *mut Page) -> NonNull<Header> {
        // SAFETY: memory of the page that nobody has seen yet.
        unsafe {
            let index = (*page).touched.load(Relaxed);
            let slot = slot_at(page, index);
            (&raw mut (*slot.as_ptr()).state).write(State::vacant());
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

/// # Safety
/// `index` is below the page's capacity.
unsafe fn slot_at(page: *mut Page, index: usize) -> NonNull<Header> {
    // SAFETY: says the caller; the page is one allocation.
    unsafe {
        let class = &(*page).class;
        let slot = page.cast::<u8>().add(class.first + index * class.size).cast();
        NonNull::new_unchecked(slot)
    }
}

/// Where a free slot keeps its successor: any word but the first, which remains a state.
///
/// # Safety
/// The slot is free, and the caller's.
#[inline]
unsafe fn next_free(slot: NonNull<Header>) -> *mut *mut Header {
    // SAFETY: memory of a slot.
    unsafe { (&raw mut (*slot.as_ptr()).vtable).cast() }
}

/// Asks for a slot's memory, without a wait for it.
#[inline]
fn fetch(slot: *mut Header) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a hint, which may be wrong.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(slot.cast()) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = slot;
}

#[cfg(all(test, not(loom)))]
#[path = "page_tests.rs"]
mod tests;
