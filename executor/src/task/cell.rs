//! The memory of a task, and references to the task.

use std::alloc::Layout;
use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::panic::Location;
use std::ptr::NonNull;

use heirloom_context::CrossingKind;
use heirloom_context::raw::Live;

use super::current::TaskMeta;
use super::harness;
use super::info::TaskInfo;
use super::join_waker::JoinWaker;
use super::leaf::Leaf;
use super::lent::Pointer;
use super::panicked::TaskPanic;
use super::state::{StateWord, Wake};
use super::{Attendant, Schedule, TaskState};
use crate::slab::{Class, Heap, SlotHead};
use crate::task::join_handle::{CancelReason, JoinHandle};

/// The part of a cell that does not depend on the types of the future and its output.
#[repr(C)]
pub(crate) struct Header {
    /// The first field: it stays a state word while the slot is free; see [`slab`](crate::slab).
    pub(crate) state: StateWord,
    pub(crate) vtable: &'static VTable,
    /// The task's context: belongs to the thread that has set RUNNING; empty once the task is done.
    pub(crate) live: UnsafeCell<Live>,
    pub(crate) joiner: JoinWaker,
    pub(crate) about: TaskInfo,
}

// A further word would be paid by each task.
const _: () = assert!(cfg!(loom) || size_of::<Header>() <= 6 * size_of::<u64>());

/// What depends on the types of the future, the output and the scheduler.
///
/// Each function takes the header of a `Cell` of the types that the table was made for.
pub(crate) struct VTable {
    /// Takes a runnable, and polls the task. True if the runnable is the caller's again.
    pub(crate) run: unsafe fn(NonNull<Header>, Option<&dyn Attendant>) -> bool,
    /// Drops the future and closes the task. Called by the thread that has claimed the task.
    pub(crate) cancel: unsafe fn(NonNull<Header>),
    pub(crate) schedule: unsafe fn(NonNull<Header>),
    pub(crate) free: unsafe fn(NonNull<Header>),
    /// Offset of the stage in the cell.
    pub(crate) stage: usize,
    /// Whether mistakes with the task are reported.
    #[cfg(debug_assertions)]
    pub(crate) reports_mistakes: unsafe fn(NonNull<Header>) -> bool,
}

/// How a task ended.
pub(crate) enum Outcome<T> {
    Returned(T),
    Panicked(Box<TaskPanic>),
    Cancelled,
}

#[repr(C)]
pub(crate) struct Cell<F: Future> {
    pub(crate) header: Header,
    pub(crate) stage: UnsafeCell<Stage<F>>,
}

/// The future, then the output, then nothing, as the [protocol](super) says.
///
/// A union rather than an enum: a future may be larger than a worker's stack, so no value of the
/// future's size is ever moved.
pub(crate) union Stage<F: Future> {
    pub(crate) future: ManuallyDrop<F>,
    pub(crate) output: ManuallyDrop<Outcome<F::Output>>,
}

/// The parts of a task besides its future.
pub(crate) struct Parts {
    pub(crate) live: Live,
    pub(crate) place: &'static Location<'static>,
    pub(crate) name: Option<Cow<'static, str>>,
    /// Which ambient states go along.
    pub(crate) kind: CrossingKind,
    pub(crate) begin: Begin,
}

#[cfg(test)]
impl Parts {
    /// The parts of a task without a context, a name or hooks.
    #[track_caller]
    pub(crate) fn plain() -> Parts {
        let (live, place) = (Live::empty(), Location::caller());
        let kind = CrossingKind::Task;
        Parts { live, place, name: None, kind, begin: Begin::Queued }
    }
}

/// Where a task is first polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// By its scheduler.
    Queued,
    /// By the spawner, before the spawn returns.
    Polled,
    /// By the spawner, again and again until the task is done: the spawner runs async code
    /// synchronously.
    Driven,
}

/// The references of a new task, besides the task's own.
pub(crate) struct Spawned<T> {
    pub(crate) runnable: Runnable,
    pub(crate) join: JoinHandle<T>,
}

/// Address of a task's output, once it is there.
///
/// # Safety
/// The task is in use, and has this output.
#[inline]
pub(crate) unsafe fn output_of<T>(task: NonNull<Header>) -> *mut Outcome<T> {
    // SAFETY: the table was made for this cell, in which the stage begins at that offset.
    unsafe { task.as_ptr().byte_add(task.as_ref().vtable.stage).cast() }
}

/// The slab class of a future's cell.
pub(crate) const fn class<F: Future>() -> &'static Class {
    const { &Class::of(Layout::new::<Cell<F>>()) }
}

/// A future that begins with another one: a task of `Self` may run as a task of `F`.
///
/// # Safety
/// A value of this type has an `F` at its address, whose output is also this type's.
#[allow(dead_code, reason = "it is a bound, which the oldest supported compiler takes for no use")]
pub(crate) unsafe trait BeginsWith<F: Future>: Future<Output = F::Output> {}

// SAFETY: the same.
unsafe impl<F: Future> BeginsWith<F> for F {}

/// What else happens at the spawn of a task, on the spawner's thread.
pub(crate) trait OnSpawn<F: Future> {
    /// The future, and what is stored with it.
    type Stored: BeginsWith<F>;

    fn store(&self, future: F) -> Self::Stored;

    /// The task is complete, and no other thread knows of it. True if what is stored with the
    /// future does nothing and needs no drop: then the task runs as one of the future alone. A
    /// panic cancels the task, and reaches the spawner.
    fn prepare(&self, stored: &mut Self::Stored, kind: CrossingKind, task: &mut Unpublished<'_>) -> bool;

    /// Whether the task's wake-ups are told: to its record, and by its scheduler
    /// ([`Schedule::wake_and_tell`]).
    fn tells_of_wake_ups(&self) -> bool;

    /// The task is published, and was not handed to its scheduler.
    fn spawned(&self, task: &Runnable);
}

/// Nothing.
impl<F: Future> OnSpawn<F> for () {
    type Stored = F;

    #[inline(always)]
    fn store(&self, future: F) -> F {
        future
    }

    #[inline(always)]
    fn prepare(&self, _: &mut F, _: CrossingKind, _: &mut Unpublished<'_>) -> bool {
        false
    }

    #[inline(always)]
    fn tells_of_wake_ups(&self) -> bool {
        false
    }

    #[inline(always)]
    fn spawned(&self, _: &Runnable) {}
}

/// A task that no other thread knows of.
pub(crate) struct Unpublished<'a> {
    pub(crate) about: &'a mut TaskInfo,
    /// Mostly the compiler knows that it has no name.
    is_named: bool,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) live: &'a Live,
}

impl Unpublished<'_> {
    #[inline(always)]
    pub(crate) fn name(&self) -> Option<&str> {
        if self.is_named { self.about.name().map(|name| &**name) } else { None }
    }
}

/// Makes a task in a slot.
///
/// # Safety
/// The slot was taken for the [`class`] of what is stored for this future, from a heap whose pages
/// hold an `S::Shared`. The future and its output are `Send`; or the scheduler runs, cancels and
/// shuts down the task on this thread alone, and the join handle stays on this thread.
#[inline]
pub(crate) unsafe fn spawn<F, S, O>(
    slot: NonNull<SlotHead>,
    future: F,
    parts: Parts,
    on_spawn: &O,
) -> Spawned<F::Output>
where
    F: Future + 'static,
    S: Schedule,
    O: OnSpawn<F, Stored: 'static>,
{
    // Where the task runs as one of the future alone, its stage is where the other one would be.
    const { assert!(offset_of!(Cell<F>, stage) == offset_of!(Cell<O::Stored>, stage)) }
    let slot = slot.cast::<Header>();
    let cell: *mut Cell<O::Stored> = slot.as_ptr().cast();
    // SAFETY: the slot is large enough, and this thread's until the word is published. The word is
    // a state word already. What is stored begins with the future, so that its cell, up to the end
    // of the future or the output, is one of the future.
    unsafe {
        let stored = (&raw mut (*cell).stage).cast::<O::Stored>();
        stored.write(on_spawn.store(future));
        let header = slot.as_ptr();
        (&raw mut (*header).vtable).write(harness::vtable::<O::Stored, S>(on_spawn.tells_of_wake_ups()));
        (&raw mut (*header).live).write(UnsafeCell::new(parts.live));
        (&raw mut (*header).joiner).write(JoinWaker::new());
        let is_named = parts.name.is_some();
        (&raw mut (*header).about).write(TaskInfo::new(parts.place, parts.name));
        let background = matches!(parts.kind, CrossingKind::Background);
        let publish = Publish::<F::Output>(slot, background, PhantomData);
        let (about, live) = (&mut (*header).about, &*(*header).live.get());
        let mut task = Unpublished { about, is_named, spawned_at: parts.place, live };
        if on_spawn.prepare(&mut *stored, parts.kind, &mut task) {
            (&raw mut (*header).vtable).write(harness::vtable::<F, S>(on_spawn.tells_of_wake_ups()));
        }
        publish.now()
    }
}

/// The references of a task that is complete and not published, and whether the task is one of the
/// background. If it is dropped, the task is cancelled.
struct Publish<T>(NonNull<Header>, bool, PhantomData<T>);

impl<T> Publish<T> {
    #[inline]
    fn now(self) -> Spawned<T> {
        let Publish(slot, background, _) = *ManuallyDrop::new(self);
        // SAFETY: `spawn` has written the cell, which is published once: here or in `drop`.
        unsafe {
            slot.as_ref().state.publish(background);
            Spawned { runnable: Runnable::from_raw(slot), join: JoinHandle::new(TaskRef::from_raw(slot)) }
        }
    }
}

impl<T> Drop for Publish<T> {
    #[cold]
    fn drop(&mut self) {
        let Spawned { runnable, join } = Publish(self.0, self.1, self.2).now();
        // The runnable first: then the handle is one of a task that has ended.
        drop(runnable);
        drop(join);
    }
}

impl Header {
    /// The task as what its joiner waits for. Its identity is not made for that.
    pub(crate) fn as_leaf(&self) -> Leaf {
        let record = self.about.record();
        Leaf::Join {
            task: record.map(|_| self.about.id()),
            spawned_at: self.about.spawned_at(),
            blocking: record.is_some_and(|record| record.blocking),
        }
    }

    /// Drops what is left of a task that is done. The slot stays.
    ///
    /// # Safety
    /// The caller has given up the last reference.
    #[inline(always)]
    pub(crate) unsafe fn clear(task: NonNull<Header>) {
        // SAFETY: no reference is left, so the header is this thread's. The word stays a state
        // word, the joiner's waker was taken, the other fields need no drop.
        unsafe {
            (&raw mut (*task.as_ptr()).live).drop_in_place();
            (&raw mut (*task.as_ptr()).about).drop_in_place();
        }
    }
}

/// A counted reference.
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: through a reference a thread can wake, cancel and count, which any thread may do. The
// stage is touched only by the thread to which the protocol gives it. Whether the future and its
// output may change threads is checked where tasks are made.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

// Panics of tasks are caught where tasks are polled; a reference sees no half-done state.
impl std::panic::UnwindSafe for TaskRef {}
impl std::panic::RefUnwindSafe for TaskRef {}

impl TaskRef {
    /// # Safety
    /// The caller gives up a counted reference.
    pub(crate) unsafe fn from_raw(header: NonNull<Header>) -> TaskRef {
        TaskRef(header)
    }

    /// References of all tasks of a heap that are not done. A task that is spawned meanwhile may be
    /// missing.
    pub(crate) fn all(heap: &Heap) -> Vec<TaskRef> {
        heap.each(|slot| {
            let task = slot.cast::<Header>();
            // SAFETY: the word of a slot that was ever used stays a state word while the page
            // lives.
            unsafe { (*task.as_ptr()).state.try_retain().then(|| TaskRef(task)) }
        })
    }

    /// Calls `f` with the state of each task of a heap.
    pub(crate) fn each_state(heap: &Heap, mut f: impl FnMut(TaskState)) {
        heap.each(|slot| -> Option<()> {
            // SAFETY: the word of a slot that was ever used stays a state word while the page
            // lives.
            unsafe { (*slot.cast::<Header>().as_ptr()).state.phase_if_used() }.map(&mut f);
            None
        });
    }

    pub(crate) fn as_raw(&self) -> NonNull<Header> {
        self.0
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the reference keeps the cell alive.
        unsafe { self.0.as_ref() }
    }

    /// Wakes the task.
    pub(crate) fn wake(&self) {
        if self.header().state.wake() == Wake::Schedule {
            self.schedule();
        }
    }

    /// Hands a runnable, whose reference was counted by the transition, to the scheduler.
    pub(crate) fn schedule(&self) {
        // SAFETY: the table is this cell's.
        unsafe { (self.header().vtable.schedule)(self.0) }
    }

    /// Asks for the end of the task.
    pub(crate) fn cancel(&self, reason: Option<CancelReason>) {
        if self.header().state.is_done() {
            return;
        }
        match reason {
            Some(reason) => self.header().about.set_reason(reason),
            None => self.header().about.set_aborted(),
        }
        if self.header().state.cancel() == Wake::Schedule {
            self.schedule();
        }
    }

    /// Cancels the task on this thread, unless it is being polled: then the task is cancelled after
    /// its poll.
    pub(crate) fn shut_down(&self, reason: CancelReason) {
        self.header().about.set_reason(reason);
        if self.header().state.claim() {
            // SAFETY: the table is this cell's, and the task was claimed.
            unsafe { (self.header().vtable.cancel)(self.0) }
        }
    }

    /// Wakes the task, and gives the reference up.
    #[inline]
    pub(crate) fn wake_owned(self) {
        let task = self.into_raw();
        // SAFETY: `Wake` says whether the reference is the runnable's now, or was the last; the
        // table is this cell's.
        unsafe {
            match task.as_ref().state.wake_owned() {
                Wake::Nothing => {}
                Wake::Schedule => (task.as_ref().vtable.schedule)(task),
                Wake::Free => (task.as_ref().vtable.free)(task),
            }
        }
    }

    pub(crate) fn into_raw(self) -> NonNull<Header> {
        let header = self.0;
        std::mem::forget(self);
        header
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> TaskRef {
        self.header().state.retain();
        TaskRef(self.0)
    }
}

// SAFETY: `from_word` gives the counted reference back; headers are aligned to a word.
unsafe impl Pointer for TaskRef {
    type Target = Header;

    fn into_word(self) -> NonNull<Header> {
        self.into_raw()
    }

    unsafe fn from_word(word: NonNull<Header>) -> TaskRef {
        // SAFETY: a counted reference, which is given up.
        unsafe { TaskRef::from_raw(word) }
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        // SAFETY: the reference is counted, and not used after this.
        unsafe { release(self.0, 1) }
    }
}

/// Gives references up; with the last one, frees the cell.
///
/// # Safety
/// The references are counted, and the caller uses them no more.
pub(crate) unsafe fn release(header: NonNull<Header>, references: usize) {
    // SAFETY: the references keep the cell alive until they are released.
    unsafe {
        if header.as_ref().state.release(references) {
            (header.as_ref().vtable.free)(header);
        }
    }
}

/// The permission to poll a task once.
///
/// A runnable that is dropped cancels the task: the queue that held the runnable is gone.
pub(crate) struct Runnable(TaskRef);

impl Runnable {
    /// # Safety
    /// The caller gives up a reference that a transition has counted for a runnable.
    pub(crate) unsafe fn from_raw(header: NonNull<Header>) -> Runnable {
        // SAFETY: a counted reference.
        Runnable(unsafe { TaskRef::from_raw(header) })
    }

    pub(crate) fn header(&self) -> &Header {
        self.0.header()
    }

    /// Counts a further reference of the task.
    pub(crate) fn reference(&self) -> TaskRef {
        self.0.clone()
    }

    /// Calls `f` with the task's metadata.
    #[inline]
    pub(crate) fn with_meta<R>(&self, f: impl FnOnce(&TaskMeta) -> R) -> R {
        // SAFETY: the runnable has a reference.
        unsafe { TaskMeta::lend(self.0.as_raw(), f) }
    }

    /// Polls the task once, or cancels it. Returns the runnable if the task was woken during the
    /// poll or has yielded: the caller queues it behind other tasks.
    #[must_use]
    #[inline]
    pub(crate) fn run(self) -> Option<Runnable> {
        self.run_with(None)
    }

    /// Like [`run`](Self::run), but polls the task again until it is done or the attendant
    /// declines.
    #[must_use]
    pub(crate) fn run_attended(self, attendant: &dyn Attendant) -> Option<Runnable> {
        self.run_with(Some(attendant))
    }

    #[inline]
    fn run_with(self, attendant: Option<&dyn Attendant>) -> Option<Runnable> {
        let task = ManuallyDrop::new(self).0.as_raw();
        // SAFETY: the table is this cell's. The call takes the runnable's reference, and gives it
        // back if it returns true.
        unsafe { (task.as_ref().vtable.run)(task, attendant).then(|| Runnable::from_raw(task)) }
    }
}

impl Drop for Runnable {
    fn drop(&mut self) {
        self.0.shut_down(CancelReason::RuntimeGone);
    }
}
