//! A task's memory, and the references to it.

use std::alloc::Layout;
use std::any::Any;
use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr::NonNull;

use heirloom_context::raw::Live;

use super::current::TaskMeta;
use super::harness;
use super::info::About;
use super::join_waker::Joiner;
use super::state::{State, Wake};
use super::{Attendant, Schedule};
use crate::slab::{Class, Heap, SlotHead};
use crate::task::join_handle::{CancelReason, JoinHandle};

/// What is known of every task.
#[repr(C)]
pub(crate) struct Header {
    /// First, for it stays one while the slot is free; see `page.rs`.
    pub(crate) state: State,
    pub(crate) vtable: &'static VTable,
    /// Whoever runs the task has it; empty once the task is done.
    pub(crate) live: UnsafeCell<Live>,
    pub(crate) joiner: Joiner,
    pub(crate) about: About,
}

// A word more is a word more for every task there is.
const _: () = assert!(cfg!(loom) || size_of::<Header>() <= 6 * size_of::<u64>());

/// What depends on the types of the future, the output and the scheduler.
///
/// Every function takes the header that begins a `Cell` of the types the table was made for.
pub(crate) struct VTable {
    /// Takes a runnable, and polls the task. True if the runnable is the caller's again.
    pub(crate) run: unsafe fn(NonNull<Header>, Option<&dyn Attendant>) -> bool,
    /// Drops the future, by the thread that has claimed the task.
    pub(crate) cancel: unsafe fn(NonNull<Header>),
    pub(crate) schedule: unsafe fn(NonNull<Header>),
    pub(crate) free: unsafe fn(NonNull<Header>),
    /// Where the stage is.
    pub(crate) stage: usize,
}

/// How a task ended.
pub(crate) enum Outcome<T> {
    Returned(T),
    Panicked(Box<dyn Any + Send>),
    Cancelled,
}

#[repr(C)]
pub(crate) struct Cell<F: Future> {
    pub(crate) header: Header,
    pub(crate) stage: UnsafeCell<Stage<F>>,
}

/// The future, then the output, then nothing: which, says the [protocol](super).
///
/// A union rather than an enum: a future may be larger than a worker's stack, and is never moved; neither is whatever
/// would have its size.
pub(crate) union Stage<F: Future> {
    pub(crate) future: ManuallyDrop<F>,
    pub(crate) output: ManuallyDrop<Outcome<F::Output>>,
}

/// What a task is made of, besides its future.
pub(crate) struct Parts {
    pub(crate) live: Live,
    pub(crate) place: &'static Location<'static>,
    pub(crate) name: Option<Cow<'static, str>>,
    /// It has nothing of its spawner, foreign ambient states included.
    pub(crate) background: bool,
    pub(crate) begin: Begin,
}

/// Where a task is polled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Wherever its scheduler does it.
    Queued,
    /// Where it is spawned, before the spawn returns.
    Polled,
    /// There as well, and again and again until it is done: the spawner runs async code synchronously.
    Driven,
}

/// The references with which a task begins, besides its own.
pub(crate) struct Spawned<T> {
    pub(crate) runnable: Runnable,
    pub(crate) join: JoinHandle<T>,
}

/// Where a task's output is, once it is there.
///
/// # Safety
/// The task is in use, and has this output.
#[inline]
pub(crate) unsafe fn output_of<T>(task: NonNull<Header>) -> *mut Outcome<T> {
    // SAFETY: the table is that of this cell, in which the stage begins there.
    unsafe { task.as_ptr().byte_add(task.as_ref().vtable.stage).cast() }
}

/// Where a future's cell goes.
pub(crate) const fn class<F: Future>() -> &'static Class {
    const { &Class::of(Layout::new::<Cell<F>>()) }
}

/// Makes a task in a slot.
///
/// # Safety
/// The slot was taken for the [`class`] of this future, from a heap whose pages hold an `S::Shared`. The future and its
/// output are `Send`; or the scheduler sees to it that the task is run, cancelled and shut down on this thread alone, and
/// the join handle stays here.
#[inline]
pub(crate) unsafe fn spawn<F, S>(slot: NonNull<SlotHead>, future: F, parts: Parts) -> Spawned<F::Output>
where
    F: Future + 'static,
    S: Schedule,
{
    let slot = slot.cast::<Header>();
    let cell: *mut Cell<F> = slot.as_ptr().cast();
    // SAFETY: the slot is large enough, and ours until it is published. Its state word is one already.
    unsafe {
        (&raw mut (*cell).stage).cast::<F>().write(future);
        let header = slot.as_ptr();
        (&raw mut (*header).vtable).write(harness::vtable::<F, S>());
        (&raw mut (*header).live).write(UnsafeCell::new(parts.live));
        (&raw mut (*header).joiner).write(Joiner::new());
        (&raw mut (*header).about).write(About::new(parts.place, parts.name));
        (*header).state.publish();
        Spawned { runnable: Runnable::from_raw(slot), join: JoinHandle::new(TaskRef::from_raw(slot)) }
    }
}

impl Header {
    /// Drops what is left of a task that is over, but for its slot.
    ///
    /// # Safety
    /// Nobody else has a reference.
    pub(crate) unsafe fn clear(task: NonNull<Header>) {
        // SAFETY: says the caller. The state stays a state, the waker was taken, the rest needs no drop.
        unsafe {
            (&raw mut (*task.as_ptr()).live).drop_in_place();
            (&raw mut (*task.as_ptr()).about).drop_in_place();
        }
    }
}

/// A counted reference.
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: through a reference one can wake, cancel and count, all of which any thread may do; the stage is touched only
// by whoever the protocol gives it to. Whether the future and its output may change threads is checked where tasks are
// made.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

// Panics of tasks are caught by whoever runs them; a reference sees no half-done state.
impl std::panic::UnwindSafe for TaskRef {}
impl std::panic::RefUnwindSafe for TaskRef {}

impl TaskRef {
    /// # Safety
    /// The caller gives up a counted reference.
    pub(crate) unsafe fn from_raw(header: NonNull<Header>) -> TaskRef {
        TaskRef(header)
    }

    /// References of all tasks of a heap that are not done. One that is spawned meanwhile may be missing.
    pub(crate) fn all(heap: &Heap) -> Vec<TaskRef> {
        heap.each(|slot| {
            let task = slot.cast::<Header>();
            // SAFETY: the word of a slot that was used stays a state word while the page lives.
            unsafe { (*task.as_ptr()).state.try_retain().then(|| TaskRef(task)) }
        })
    }

    pub(crate) fn as_raw(&self) -> NonNull<Header> {
        self.0
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the reference keeps it alive.
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

    /// Asks for the task's end.
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

    /// Cancels the task here and now, unless it is being polled: then after its poll.
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
        // SAFETY: the reference is the runnable's now, or was given up as the last; the table is this cell's.
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

impl Drop for TaskRef {
    fn drop(&mut self) {
        // SAFETY: given up here.
        unsafe { release(self.0, 1) }
    }
}

/// Gives references up, and frees the cell with the last.
///
/// # Safety
/// They are the caller's.
pub(crate) unsafe fn release(header: NonNull<Header>, references: usize) {
    // SAFETY: alive until released.
    unsafe {
        if header.as_ref().state.release(references) {
            (header.as_ref().vtable.free)(header);
        }
    }
}

/// The permission to poll a task once.
///
/// Dropped without being run, it cancels the task: the queue it was in is gone.
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

    /// A further reference of the task.
    pub(crate) fn reference(&self) -> TaskRef {
        self.0.clone()
    }

    /// Lends what is known of the task.
    #[inline]
    pub(crate) fn with_meta<R>(&self, f: impl FnOnce(&TaskMeta) -> R) -> R {
        // SAFETY: the runnable has a reference.
        unsafe { TaskMeta::lend(self.0.as_raw(), f) }
    }

    /// Polls the task once, or cancels it. Returns the runnable if the task was woken during the poll or has yielded: it
    /// belongs behind the other tasks.
    #[must_use]
    #[inline]
    pub(crate) fn run(self) -> Option<Runnable> {
        self.run_with(None)
    }

    /// The same, but polls the task until it is done or the attendant says no.
    #[must_use]
    pub(crate) fn run_attended(self, attendant: &dyn Attendant) -> Option<Runnable> {
        self.run_with(Some(attendant))
    }

    #[inline]
    fn run_with(self, attendant: Option<&dyn Attendant>) -> Option<Runnable> {
        let task = ManuallyDrop::new(self).0.as_raw();
        // SAFETY: the table is this cell's. The reference goes along with the call, and comes back if the answer says so.
        unsafe { (task.as_ref().vtable.run)(task, attendant).then(|| Runnable::from_raw(task)) }
    }
}

impl Drop for Runnable {
    fn drop(&mut self) {
        self.0.shut_down(CancelReason::RuntimeGone);
    }
}
