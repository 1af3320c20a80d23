//! Where the contexts of tasks lie between their polls: a table by task id.
//!
//! # What tokio's hooks say, and in which order
//!
//! For one task the hooks are: spawn, then *before* and *after* around each poll, and terminate.
//! Each poll happens after the spawn hook, and one thread at a time is about to begin a poll. No
//! more than that holds:
//!
//! * Before a poll ends the task may be queued again. So another thread may be in *before* of the
//!   next poll while the first thread is not yet in *after*.
//! * Terminate comes inside the last poll, on its thread. But when a runtime shuts down, terminate
//!   comes on another thread, without *before* and *after* around it. At the same time a worker may
//!   have the task from its queue, and call *before* and *after* around a poll that does nothing.
//! * On a runtime that has shut down, or is about to, terminate may come before the spawn hook, or
//!   at the same time.
//! * Closures of the blocking pool have terminate alone.
//!
//! So neither an entry's contents nor its end may rely on tokio's order.
//!
//! # States of a slot
//!
//! | state | meaning | whose are the contents |
//! | --- | --- | --- |
//! | zero | **free** | of the next claimer |
//! | id | **idle**: a task's state, between polls | of the next locker |
//! | id and [`LOCKED`] | **locked**: a poll, or a change | of the thread that locked it |
//!
//! # Transitions
//!
//! | step | by | from, to |
//! | --- | --- | --- |
//! | **TK1** | spawn claims a slot: [`TaskTable::insert`] | free, locked |
//! | **TK2** | spawn has stored the task's state there | locked, idle |
//! | **TK3** | *before* locks the slot: [`TaskTable::enter`]; while it is locked elsewhere, *before* waits | idle, locked |
//! | **TK4** | *after* gives the slot back: [`TaskTable::leave`] | locked, idle |
//! | **TK5** | terminate inside the poll notes the end in the contents: [`TaskTable::end`] | locked, locked |
//! | **TK6** | *after* finds the note, and takes the contents | locked, free |
//! | **TK7** | terminate elsewhere locks the slot and takes the contents | idle, locked, free |
//! | **TK8** | terminate finds no slot: it leaves a mark, and looks again | – |
//! | **TK9** | spawn, having claimed its slot, finds the mark | locked, free |
//!
//! # Why nothing is lost
//!
//! Contents are touched between the compare-and-exchange that locked the slot, an acquire, and the
//! store that unlocks it, a release. TK3 waits for TK4 of the poll before: a few instructions of
//! another thread, no poll; for that poll has given the task back to the scheduler already. TK7
//! waits for the same, or for TK2.
//!
//! TK8 and TK1 are the two halves of a store and a load each: terminate stores its mark, then looks
//! for the slot; spawn claims the slot, then looks for the mark. Between the two steps of each
//! stands a sequentially consistent fence, so at least one sees the other's; and only one of TK7
//! and TK9 gets the slot. The one that finds its counterpart takes the mark away.
//!
//! # What may be left
//!
//! For the end of a blocking closure no spawn comes, and nothing that tokio says there tells it
//! from the end of a task. So its mark stays. Hence there is room for a fixed number of [`Marks`],
//! and a new one takes the place of the oldest in its row.
//!
//! Therefore an entry is left if all of this happens: while a runtime shuts down, a thread is in a
//! spawn call; tokio ends the task there, and the thread is interrupted before it is in the hook;
//! until it goes on, [`ROW`] blocking closures end whose marks lie in the task's row. Closures that
//! were called one after the other are spread over the rows, so that takes 8 times 64 of them. Such
//! an entry is never found again: no other task gets its id. It goes with the table, which the
//! runtimes of the builder and their `Carry` share.

use std::array;
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use crate::util::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, fence};
use crate::util::sync::{Mutex, UnsafeCell, fence_after_locked, lock, spin, weakened};

/// See the states. Ids stay far below.
const LOCKED: u64 = 1 << 63;
const FREE: u64 = 0;

/// The first segment has so many slots, as a power of two; each further one twice as many as the
/// one before.
const FIRST_BITS: usize = if cfg!(loom) { 1 } else { 8 };
/// With the last one there is room for more tasks than memory has.
const SEGMENTS: usize = 24;
/// A task lies at one of so many places of a segment. If all are taken, a segment is added: at
/// about half of the load.
const REACH: usize = if cfg!(loom) { 2 } else { 16 };
/// How many rows of marks there are, each a cache line long.
const ROWS: usize = if cfg!(loom) { 1 } else { 64 };
const ROW: usize = if cfg!(loom) { 2 } else { 8 };

/// What the hooks have stored, by task id. Steps are described above.
pub(super) struct TaskTable<T> {
    /// Where the newest segment begins, which gets the next tasks. The lowest bits, which are free,
    /// say by which power of two it is long. So a lookup has to wait for one load alone.
    newest: AtomicPtr<TaskSlot<T>>,
    /// Made one after the other, and never taken away.
    segments: [Segment<T>; SEGMENTS],
    /// How many segments there are.
    count: AtomicUsize,
    growing: Mutex<()>,
    marks: Box<[Marks; ROWS]>,
}

struct Segment<T> {
    slots: OnceLock<Box<[TaskSlot<T>]>>,
    /// The id that this segment was added for. Tasks with lower ids are rarely here, those with
    /// higher ones mostly here or in a later segment: this says where to look first.
    since: AtomicU64,
}

/// As large as a cache line, since tasks next to each other are polled by different threads.
#[repr(align(64))]
struct TaskSlot<T> {
    state: AtomicU64,
    /// The thread whose poll has the slot locked, else zero. A thread reads its own number here
    /// only if it wrote the number itself and has not left since.
    poller: AtomicUsize,
    contents: UnsafeCell<Contents<T>>,
}

/// The marks of step TK8: ids of tasks that had ended when they were not known yet. Zero is none.
#[repr(align(64))]
struct Marks([AtomicU64; ROW]);

struct Contents<T> {
    value: T,
    /// The note of step TK5.
    ended: bool,
}

// SAFETY: contents are touched by the thread that has their slot locked, and lock and unlock are a
// pair of acquire and release.
unsafe impl<T: Send> Sync for TaskTable<T> {}
// SAFETY: the pointer is to slots that the table owns; they go where it goes.
unsafe impl<T: Send> Send for TaskTable<T> {}

impl<T: Default> TaskSlot<T> {
    fn free() -> Self {
        TaskSlot {
            state: AtomicU64::new(FREE),
            poller: AtomicUsize::new(0),
            contents: UnsafeCell::new(Contents { value: T::default(), ended: false }),
        }
    }

    /// Locks the slot if it is this task's, and idle. Else returns its state.
    #[inline]
    fn try_lock(&self, id: u64) -> Result<u64, u64> {
        // Pairs with the release store in `unlock`.
        self.state.compare_exchange(id, id | LOCKED, Acquire, Relaxed)
    }

    /// Locks the slot of this task; waits while another thread has it locked. `false` if the slot
    /// is no longer the task's, or if `thread` itself polls the task.
    fn lock(&self, id: u64, thread: usize) -> bool {
        let mut round = 0;
        while let Err(seen) = self.try_lock(id) {
            if seen != id | LOCKED || self.poller.load(Relaxed) == thread {
                return false;
            }
            spin(round);
            round += 1;
        }
        true
    }

    /// Locks the slot for a new task, if it is free.
    #[inline]
    fn claim(&self, id: u64) -> bool {
        // Pairs with the release store in `unlock`.
        self.state.load(Relaxed) == FREE
            && self.state.compare_exchange(FREE, id | LOCKED, Acquire, Relaxed).is_ok()
    }

    /// Stores `state` in place of the lock.
    #[inline]
    fn unlock(&self, state: u64) {
        // Pairs with the acquire in `lock` and in `claim`.
        self.state.store(state, if weakened("task slot: release") { Relaxed } else { Release });
    }

    /// The contents, for the thread that has the slot locked.
    ///
    /// # Safety
    /// The caller has the slot locked, and `f` does not get here again.
    #[inline]
    unsafe fn with<R>(&self, f: impl FnOnce(&mut Contents<T>) -> R) -> R {
        // SAFETY: locked by the caller, by this function's contract.
        self.contents.with_mut(|contents| f(unsafe { &mut *contents }))
    }

    /// Takes the contents and frees the slot.
    ///
    /// # Safety
    /// The caller has the slot locked.
    #[inline]
    unsafe fn take(&self) -> T {
        // SAFETY: locked by the caller; nothing else is called inside.
        let taken = unsafe {
            self.with(|contents| mem::replace(contents, Contents { value: T::default(), ended: false }))
        };
        self.unlock(FREE);
        taken.value
    }
}

impl Marks {
    /// Adds a mark, in place of the oldest if there is no room.
    fn put(&self, id: u64) {
        loop {
            let marks = self.0.iter().map(|mark| (mark.load(Relaxed), mark));
            let (seen, oldest) = marks.min_by_key(|(seen, _)| *seen).expect("a row has places");
            if oldest.compare_exchange(seen, id, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Takes the mark of this task away, if there is one.
    #[inline]
    fn take(&self, id: u64) -> bool {
        let mark = self.0.iter().find(|mark| mark.load(Relaxed) == id);
        mark.is_some_and(|mark| mark.compare_exchange(id, 0, Relaxed, Relaxed).is_ok())
    }
}

impl<T: Default> Segment<T> {
    fn new() -> Self {
        Segment { slots: OnceLock::new(), since: AtomicU64::new(0) }
    }

    /// The places of a task, the likeliest first.
    #[inline]
    fn places(&self, id: u64) -> impl Iterator<Item = &TaskSlot<T>> {
        let slots = self.slots.get().map_or(&[][..], |slots| slots);
        let home = home(id, slots.len().max(2).ilog2());
        (0..REACH.min(slots.len())).map(move |step| &slots[(home + step) & (slots.len() - 1)])
    }
}

/// The likeliest place of a task among `2^bits`. By the golden ratio, ids that follow each other,
/// or stand in a regular distance, lie apart.
#[inline]
fn home(id: u64, bits: u32) -> usize {
    (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - bits)) as usize
}

impl<T: Default> TaskTable<T> {
    pub(super) fn new() -> Self {
        let table = TaskTable {
            newest: AtomicPtr::new(ptr::null_mut()),
            segments: array::from_fn(|_| Segment::new()),
            count: AtomicUsize::new(0),
            growing: Mutex::new(()),
            marks: Box::new(array::from_fn(|_| Marks(array::from_fn(|_| AtomicU64::new(0))))),
        };
        table.add(0, 0);
        table
    }

    /// Makes a segment, which is the newest one then.
    fn add(&self, index: usize, since: u64) {
        let bits = FIRST_BITS + index;
        let Segment { slots, since: stored } = &self.segments[index];
        stored.store(since, Relaxed);
        let slots = slots.get_or_init(|| (0..1 << bits).map(|_| TaskSlot::free()).collect());
        // Each pairs with the acquire loads of the same.
        self.count.store(index + 1, Release);
        self.newest.store(slots.as_ptr().cast_mut().map_addr(|address| address | bits), Release);
    }

    /// Adds a segment, unless that was done since `count` was read. `false` without room for one.
    #[cold]
    fn grow(&self, count: usize, id: u64) -> bool {
        let _growing = lock(&self.growing);
        if count == SEGMENTS {
            return false;
        }
        if self.count.load(Relaxed) == count {
            self.add(count, id);
        }
        true
    }

    /// The likeliest slot of a task.
    #[inline]
    fn likeliest(&self, id: u64) -> &TaskSlot<T> {
        let newest = self.newest.load(Acquire);
        let bits = (newest.addr() % align_of::<TaskSlot<T>>()) as u32;
        let first = newest.map_addr(|address| address & !(align_of::<TaskSlot<T>>() - 1));
        // SAFETY: `add` made it of a slice of `2^bits` slots, which goes with the table, and `home`
        // is less.
        unsafe { &*first.add(home(id, bits)) }
    }

    /// The slot of a task.
    #[inline(always)]
    fn find(&self, id: u64) -> Option<&TaskSlot<T>> {
        let slot = self.likeliest(id);
        // The slot of a task stays that until the task's own steps free it; so a look is enough.
        if slot.state.load(Relaxed) & !LOCKED == id { Some(slot) } else { self.find_further(id) }
    }

    /// The same where the likeliest place is not the one: first in the segment that was the newest
    /// when the task was spawned, as far as ids can tell.
    #[inline(never)]
    fn find_further(&self, id: u64) -> Option<&TaskSlot<T>> {
        let segments = &self.segments[..self.count.load(Acquire)];
        let then = segments.iter().rposition(|segment| segment.since.load(Relaxed) <= id).unwrap_or(0);
        let order = (0..=then).rev().chain(then + 1..segments.len());
        let mut places = order.flat_map(|index| segments[index].places(id));
        places.find(|slot| slot.state.load(Relaxed) & !LOCKED == id)
    }

    /// Step TK1. `None` without room.
    #[inline]
    fn claim(&self, id: u64) -> Option<&TaskSlot<T>> {
        let likeliest = self.likeliest(id);
        if likeliest.claim(id) { Some(likeliest) } else { self.claim_further(id) }
    }

    #[inline(never)]
    fn claim_further(&self, id: u64) -> Option<&TaskSlot<T>> {
        loop {
            let count = self.count.load(Acquire);
            let claimed = self.segments[count - 1].places(id).find(|slot| slot.claim(id));
            if claimed.is_some() || !self.grow(count, id) {
                return claimed;
            }
        }
    }

    fn marks(&self, id: u64) -> &Marks {
        &self.marks[id as usize % ROWS]
    }

    /// A task is spawned. Its value comes back if the task has ended already.
    #[inline]
    pub(super) fn insert(&self, id: u64, value: T) -> Result<(), T> {
        let Some(slot) = self.claim(id) else { return Err(value) };
        if !weakened("task table: fence of spawn") {
            // After the exchange in `claim`; pairs with the fence in `end`.
            fence_after_locked();
        }
        if self.marks(id).take(id) {
            slot.unlock(FREE);
            return Err(value);
        }
        // SAFETY: claimed, which is locked.
        let empty = unsafe { slot.with(|contents| mem::replace(&mut contents.value, value)) };
        slot.unlock(id);
        drop(empty);
        Ok(())
    }

    /// A poll of the task begins on `thread`, which is not zero. Does nothing for a task that is
    /// not in the table.
    #[inline]
    pub(super) fn enter(&self, id: u64, thread: usize, install: impl FnOnce(&mut T)) {
        // Without a look first: mostly the likeliest slot is the task's, and idle.
        let likeliest = self.likeliest(id);
        let slot =
            if likeliest.try_lock(id).is_ok() { Some(likeliest) } else { self.lock_further(id, thread) };
        if let Some(slot) = slot {
            slot.poller.store(thread, Relaxed);
            // SAFETY: just locked. `install` may call hooks of variables, which get at other tasks'
            // slots alone.
            unsafe { slot.with(|contents| install(&mut contents.value)) };
        }
    }

    #[inline(never)]
    fn lock_further(&self, id: u64, thread: usize) -> Option<&TaskSlot<T>> {
        self.find(id).filter(|slot| slot.lock(id, thread))
    }

    /// The poll that began on `thread` ends. Returns the task's value if the task has ended.
    #[inline]
    pub(super) fn leave(&self, id: u64, thread: usize, take_back: impl FnOnce(&mut T)) -> Option<T> {
        let slot = self.find(id)?;
        if slot.poller.load(Relaxed) != thread {
            return None;
        }
        // SAFETY: locked by this thread in `enter`, and not left since. As there.
        let ended = unsafe {
            slot.with(|contents| {
                take_back(&mut contents.value);
                contents.ended
            })
        };
        slot.poller.store(0, Relaxed);
        if ended {
            // SAFETY: still locked.
            return Some(unsafe { slot.take() });
        }
        slot.unlock(id);
        None
    }

    /// The task has ended, as seen by `thread`. Returns its value, unless the poll that goes on
    /// there is to return it.
    pub(super) fn end(&self, id: u64, thread: usize) -> Option<T> {
        let slot = self.find(id).or_else(|| {
            self.marks(id).put(id);
            if !weakened("task table: fence of terminate") {
                // Pairs with the one in `insert`.
                fence(SeqCst);
            }
            self.find(id).inspect(|_| _ = self.marks(id).take(id))
        })?;
        if slot.poller.load(Relaxed) == thread {
            // SAFETY: locked by this thread in `enter`, and not left since.
            unsafe { slot.with(|contents| contents.ended = true) };
            return None;
        }
        // SAFETY: `lock` has just locked it.
        slot.lock(id, thread).then(|| unsafe { slot.take() })
    }

    /// How many tasks are in the table.
    pub(super) fn len(&self) -> usize {
        let slots = self.segments.iter().filter_map(|segment| segment.slots.get()).flatten();
        slots.filter(|slot| slot.state.load(Relaxed) != FREE).count()
    }

    /// Takes all values that no poll has.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let mut taken = Vec::new();
        for slot in self.segments.iter().filter_map(|segment| segment.slots.get()).flatten() {
            let id = slot.state.load(Relaxed);
            if id & LOCKED == 0 && id != FREE {
                // SAFETY: `&mut self`, so no other thread is here.
                taken.push(unsafe { slot.take() });
            }
        }
        taken
    }
}

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(loom)))]
mod tests;
