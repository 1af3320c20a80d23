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
//!   owner                                         any other thread
//!   ─────                                         ────────────────
//!   A1  slot from the page at the head            R1  push the slot on the heap's stack
//!   A2  none: take the stack, slots home          R2  the stack is marked: lock the ownership;
//!   A3  still none: a further page                      it is free: do A2, free surplus pages
//!   F1  own slot: back to its page                      it is taken: nothing
//!   F2  page empty: keep a few, free the rest
//!
//!   owner that rests, or ends                     owner that is back
//!   ─────────────────────────                     ──────────────────
//!   O1  lock the ownership: it is free            B1  lock the ownership: it is taken
//!   O2  mark the stack    O3  do A2               B2  remove the mark
//! ```
//!
//! **No slot is forgotten.** The mark is a bit of the stack's head, so R1 and O2 are changes of one
//! word: R1 first, and O3 takes the slot; O2 first, and R1 sees the mark. A thread that has seen
//! the mark and comes to its R2 after B1 leaves the slot on the stack, where the owner finds it.
//!
//! **A page outlives its tasks, and what they need.** Each page holds the scheduler's shared part,
//! so a task that is not freed keeps it, whoever else is gone. A thread that pushes on a marked
//! stack holds it for itself meanwhile.
//!
//! # How the memory of a burst goes back
//!
//! F2 keeps [`KEPT`] empty pages, and slots on the stack keep theirs. The rest is the work of an
//! owner that has time. It *tidies* a heap of more than [`STOCK`] pages: all slots come home, and
//! of the empty pages those go back to the allocator that were empty since the last time; a load
//! that comes in bursts finds its pages again. When none is empty, the owner *rests* (O1 to O3).
//! From then on each thread that frees a slot also frees the pages: a handle
//! that is dropped hours later, while all workers sleep, leaves nothing behind.
//!
//! | heap | its owner tidies | and rests |
//! | --- | --- | --- |
//! | a worker's | before it parks, [`TIDY_AFTER`] since it first parked so | while it is parked then |
//! | for threads outside | the worker that keeps the time does, likewise | until the next spawn |
//! | a `LocalSet`'s | at the end of each poll of the set | until it polls or spawns again |
//! | for eager calls outside of runtimes | at the end of a thread's outermost call | until the next spawn |
//!
//! A worker that never parks does not tidy: it takes slots from the stack as it spawns. A page goes
//! back when all its slots are free; one task that lives on keeps its page, see
//! [`Runtime`](crate::Runtime#memory).
//!
//! [`TIDY_AFTER`]: crate::scheduler::budget::TIDY_AFTER

use std::alloc::{self, Layout};
use std::cell::Cell as Plain;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::cell::{Header, TaskRef};
use super::harness::quietly;
use super::state::State;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicUsize};
use crate::sync::{Mutex, UnsafeCell, lock, try_lock, weakened};

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
/// Empty pages that are kept where a heap is used from time to time only, by a local set or by eager
/// calls: a burst of ten thousand small tasks finds its pages again.
pub(crate) const SPARE: usize = 64;
/// The same of a worker, until it tidies: a burst of ten thousand tasks of a kibibyte finds its
/// pages again. To give a page to the system and to take it back costs some five microseconds.
const KEPT: usize = if cfg!(miri) { SPARE } else { 512 };
/// A heap of no more pages is not tidied: what a small load needs is not asked for each time, and
/// no worker gets up for it.
pub(crate) const STOCK: usize = 4;
/// Slots that come home in one go while an owner tidies. Each may be a wait for memory; together
/// they are some 50 µs, for which work that has arrived meanwhile waits.
const TIDY: usize = 1_000;

/// The mark of a heap whose ownership is free, in the head of its stack.
const MARK: usize = 1;

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

struct PagePtr(*mut Page);

// SAFETY: what of a page may be touched by whom is said above.
unsafe impl Send for PagePtr {}

/// The right to take slots of a heap, and to give them back directly.
#[derive(Debug)]
pub(crate) struct Owner(());

/// What only the owner of a heap touches.
struct Own {
    /// Per class, the pages with room.
    lists: [Plain<*mut Page>; CLASSES],
    /// Empty pages among them.
    empty: Plain<usize>,
    /// The fewest of them since the owner has tidied.
    unused: Plain<usize>,
    /// How many of them are kept.
    keep: Plain<usize>,
    /// What of the stack was taken, and is not home yet; linked as there.
    coming: UnsafeCell<*mut Header>,
    stage: Plain<Stage>,
    /// Of a heap without an owner: it is at rest, or has become untidy, which the next thread that
    /// takes a slot is to see to.
    news: Plain<bool>,
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

/// The head of a stack of freed slots.
///
/// In lines of its own (two are fetched at once): beside the owner's lock, that would go over to whoever frees, and back, for
/// each spawn from outside.
#[repr(align(128))]
struct Stack(AtomicPtr<Header>);

impl Stack {
    fn is_marked(&self) -> bool {
        self.0.load(Relaxed).addr() & MARK != 0
    }

    /// O2 and B2. Of what is on the stack, nothing is looked at; a slot pushed before is seen by
    /// the take that follows.
    fn mark(&self, mark: bool) {
        let mark = if mark { MARK } else { 0 };
        let change = |head: *mut Header| head.map_addr(|address| (address & !MARK) | mark);
        let mut head = self.0.load(Relaxed);
        while let Err(changed) = self.0.compare_exchange_weak(head, change(head), Relaxed, Relaxed) {
            head = changed;
        }
    }

    /// R1. `marked` is called before the slot is pushed on a marked stack. Whether it was.
    ///
    /// # Safety
    /// The slot is free, and the caller's; `this` is alive as long as that.
    unsafe fn push(this: *const Stack, slot: NonNull<Header>, mut marked: impl FnMut()) -> bool {
        // SAFETY: says the caller.
        unsafe {
            let stack = &raw const (*this).0;
            let mut head = (*stack).load(Relaxed);
            loop {
                let mark = head.addr() & MARK;
                if mark != 0 {
                    marked();
                }
                link(slot, head.map_addr(|address| address & !MARK));
                let new = slot.as_ptr().map_addr(|address| address | mark);
                // Pairs with the acquire in `take`: what the slot was last used for, and the link,
                // are seen there. Pushes and changes of the mark in between are read-modify-write
                // operations, which pass it on.
                let order = if weakened("push") { Relaxed } else { Release };
                match (*stack).compare_exchange_weak(head, new, order, Relaxed) {
                    Ok(_) => return mark != 0,
                    Err(changed) => head = changed,
                }
            }
        }
    }

    /// Takes all slots. The mark does not change meanwhile: the caller is the owner, or has the
    /// lock on the ownership.
    fn take(&self) -> *mut Header {
        let head = self.0.load(Relaxed);
        if head.addr() & !MARK == 0 {
            return ptr::null_mut();
        }
        let mark = ptr::without_provenance_mut(head.addr() & MARK);
        // Pairs with the release in `push`.
        let order = if weakened("take") { Relaxed } else { Acquire };
        self.0.swap(mark, order).map_addr(|address| address & !MARK)
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

impl Heap {
    pub(crate) fn new() -> Heap {
        Heap {
            stack: Stack(AtomicPtr::new(ptr::null_mut())),
            owned: Mutex::new(false),
            pages: Mutex::new(Vec::new()),
            bytes: AtomicUsize::new(0),
            own: Own {
                lists: [const { Plain::new(ptr::null_mut()) }; CLASSES],
                empty: Plain::new(0),
                unused: Plain::new(0),
                keep: Plain::new(KEPT),
                coming: UnsafeCell::new(ptr::null_mut()),
                stage: Plain::new(Stage::Active),
                news: Plain::new(false),
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
    pub(crate) unsafe fn take_locked<T>(&self, class: &Class, shared: &Arc<T>) -> (NonNull<Header>, bool) {
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
    pub(crate) unsafe fn take<T>(&self, _owner: &Owner, class: &Class, shared: &Arc<T>) -> NonNull<Header> {
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
    unsafe fn take_slowly<T>(&self, class: &Class, shared: &Arc<T>) -> NonNull<Header> {
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
            quietly(|| drop_shared(shared));
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
    unsafe fn put(&self, task: NonNull<Header>) {
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
    unsafe fn free_from_afar<T>(heap: *const Heap, task: NonNull<Header>) {
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
            Some((own, _)) if ptr::eq(own, heap) => own.put(task),
            _ => Heap::free_from_afar::<T>(heap, task),
        }
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
    unsafe fn pop(&self, page: *mut Page) -> Option<NonNull<Header>> {
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
    unsafe fn touch(&self, page: *mut Page) -> NonNull<Header> {
        // SAFETY: memory of the page that nobody has seen yet.
        unsafe {
            let index = (*page).touched.load(Relaxed);
            let slot = slot_at(page, index);
            (&raw mut (*slot.as_ptr()).state).write(State::vacant());
            #[cfg(loom)]
            (&raw mut (*slot.as_ptr()).link).write(UnsafeCell::new(ptr::null_mut()));
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
#[cfg(not(loom))]
#[inline]
unsafe fn next_free(slot: NonNull<Header>) -> *mut *mut Header {
    // SAFETY: memory of a slot.
    unsafe { (&raw mut (*slot.as_ptr()).vtable).cast() }
}

/// The slot that follows a free one.
///
/// # Safety
/// As [`next_free`]; it was linked.
#[inline]
unsafe fn linked(slot: NonNull<Header>) -> *mut Header {
    // SAFETY: says the caller.
    unsafe {
        #[cfg(loom)]
        return (*slot.as_ptr()).link.with(|next| *next);
        #[cfg(not(loom))]
        return *next_free(slot);
    }
}

/// # Safety
/// As [`next_free`].
#[inline]
unsafe fn link(slot: NonNull<Header>, next: *mut Header) {
    // SAFETY: says the caller.
    unsafe {
        #[cfg(loom)]
        (*slot.as_ptr()).link.with_mut(|link| *link = next);
        #[cfg(not(loom))]
        (*next_free(slot) = next);
    }
}

#[cfg(all(test, not(loom)))]
#[path = "page_tests.rs"]
mod tests;
/// Lets the system take the memory of a page that is about to be freed. An allocator gives memory
/// back from the top of what it has, if at all: glibc keeps a burst of pages for the sake of one
/// small block above them.
///
/// # Safety
/// The block is the caller's, is aligned to a page of the system's, and its content is not needed.
unsafe fn give_to_the_system(block: *mut u8, size: usize) {
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
