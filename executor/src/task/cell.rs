//! A task's memory, and the references to it.

use std::any::Any;
use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use heirloom_context::raw::Live;

use super::Schedule;
use super::harness;
use super::id::Id;
use super::join_slot::JoinSlot;
use super::state::{Leave, State, Wake};
use crate::join_handle::{CancelReason, JoinHandle};

/// What is known of every task.
pub(crate) struct Header {
    pub(crate) state: State,
    pub(crate) vtable: &'static VTable,
    /// Whoever runs the task has it; empty once the task is done.
    pub(crate) live: UnsafeCell<Live>,
    pub(crate) join: JoinSlot,
    /// Why it was cancelled; null: it was not, or was aborted without a reason. A leaked box.
    reason: AtomicPtr<CancelReason>,
    /// Where the registry has it; see `scheduler::registry`.
    pub(crate) place_in_registry: AtomicU64,
    pub(crate) id: Id,
    pub(crate) place: &'static Location<'static>,
    pub(crate) name: Option<Cow<'static, str>>,
}

/// What depends on the types of the future, the output and the scheduler.
///
/// Every function takes the header that begins a `Cell` of the types the table was made for.
pub(crate) struct VTable {
    /// True if the runnable is to be queued again; else its reference is gone.
    pub(crate) run: unsafe fn(NonNull<Header>) -> bool,
    /// Drops the future, by the thread that has claimed the task.
    pub(crate) cancel: unsafe fn(NonNull<Header>),
    pub(crate) schedule: unsafe fn(NonNull<Header>),
    /// Moves the output to an `Option<Outcome<T>>`.
    pub(crate) take_output: unsafe fn(NonNull<Header>, *mut ()),
    pub(crate) drop_output: unsafe fn(NonNull<Header>),
    pub(crate) free: unsafe fn(NonNull<Header>),
}

/// How a task ended.
pub(crate) enum Outcome<T> {
    Returned(T),
    Panicked(Box<dyn Any + Send>),
    Cancelled,
}

#[repr(C)]
pub(crate) struct Cell<F: Future, S> {
    pub(crate) header: Header,
    pub(crate) scheduler: S,
    pub(crate) stage: UnsafeCell<Stage<F>>,
}

/// The future, then the output, then nothing.
///
/// A tag and a union rather than an enum: a future may be larger than a worker's stack, and is never moved; neither is
/// whatever would have its size.
pub(crate) struct Stage<F: Future> {
    holds: Holds,
    contents: Contents<F>,
}

enum Holds {
    Future,
    Output,
    Nothing,
}

union Contents<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Outcome<F::Output>>,
}

impl<F: Future> Stage<F> {
    fn new(future: F) -> Self {
        Stage { holds: Holds::Future, contents: Contents { future: ManuallyDrop::new(future) } }
    }

    /// The future, pinned: it is dropped where it is.
    ///
    /// # Safety
    /// The stage is in its cell, and holds the future.
    pub(crate) unsafe fn future(&mut self) -> Pin<&mut F> {
        debug_assert!(matches!(self.holds, Holds::Future));
        // SAFETY: says the caller.
        unsafe { Pin::new_unchecked(&mut self.contents.future) }
    }

    /// Drops the future, if it is there. It is gone also if its destructor panics.
    pub(crate) fn drop_future(&mut self) {
        if matches!(self.holds, Holds::Future) {
            self.holds = Holds::Nothing;
            // SAFETY: the tag said so, and says no longer so.
            unsafe { ManuallyDrop::drop(&mut self.contents.future) }
        }
    }

    /// Puts the output where the future was.
    pub(crate) fn put_output(&mut self, output: Outcome<F::Output>) {
        debug_assert!(matches!(self.holds, Holds::Nothing));
        self.contents.output = ManuallyDrop::new(output);
        self.holds = Holds::Output;
    }

    /// Takes the output, if it is there.
    pub(crate) fn take_output(&mut self) -> Option<Outcome<F::Output>> {
        if !matches!(self.holds, Holds::Output) {
            return None;
        }
        self.holds = Holds::Nothing;
        // SAFETY: the tag said so, and says no longer so.
        Some(unsafe { ManuallyDrop::take(&mut self.contents.output) })
    }
}

impl<F: Future> Drop for Stage<F> {
    fn drop(&mut self) {
        self.drop_future();
        drop(self.take_output());
    }
}

/// What a task is made of, besides its future and its scheduler.
pub(crate) struct Parts {
    pub(crate) live: Live,
    pub(crate) place: &'static Location<'static>,
    pub(crate) name: Option<Cow<'static, str>>,
}

/// The three references with which a task begins.
pub(crate) struct Spawned<T> {
    pub(crate) registered: TaskRef,
    pub(crate) runnable: Runnable,
    pub(crate) join: JoinHandle<T>,
}

/// Makes a task that any thread may run.
pub(crate) fn spawn<F, S>(future: F, scheduler: S, parts: Parts) -> Spawned<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
    S: Schedule,
{
    // SAFETY: the future and its output are `Send`.
    unsafe { spawn_unchecked(future, scheduler, parts) }
}

/// Makes a task.
///
/// # Safety
/// The future and its output are `Send`; or the scheduler sees to it that the task is run, cancelled and shut down on
/// this thread alone, and the join handle stays here.
pub(crate) unsafe fn spawn_unchecked<F, S>(future: F, scheduler: S, parts: Parts) -> Spawned<F::Output>
where
    F: Future + 'static,
    S: Schedule,
{
    let header = Header {
        state: State::new(3, true),
        vtable: harness::vtable::<F, S>(),
        live: UnsafeCell::new(parts.live),
        join: JoinSlot::new(),
        reason: AtomicPtr::default(),
        place_in_registry: AtomicU64::new(u64::MAX),
        id: Id::next(),
        place: parts.place,
        name: parts.name,
    };
    let cell = Cell { header, scheduler, stage: UnsafeCell::new(Stage::new(future)) };
    // `Cell` is `repr(C)` and begins with its header.
    let header = NonNull::from(Box::leak(Box::new(cell))).cast();
    // SAFETY: three references, and a state that says scheduled and joined.
    unsafe {
        Spawned {
            registered: TaskRef::from_raw(header),
            runnable: Runnable::from_raw(header),
            join: JoinHandle::new(TaskRef::from_raw(header)),
        }
    }
}

impl Header {
    /// Why the task was cancelled.
    pub(crate) fn reason(&self) -> CancelReason {
        // SAFETY: set once, and freed with the header.
        match unsafe { self.reason.load(Ordering::Acquire).as_ref() } {
            Some(reason) => reason.clone(),
            None => CancelReason::Aborted,
        }
    }

    /// Says why, if nobody has.
    pub(crate) fn set_reason(&self, reason: CancelReason) {
        let boxed = Box::into_raw(Box::new(reason));
        let first =
            self.reason.compare_exchange(std::ptr::null_mut(), boxed, Ordering::AcqRel, Ordering::Acquire);
        if first.is_err() {
            // SAFETY: ours, and not shared.
            drop(unsafe { Box::from_raw(boxed) });
        }
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        let reason = *self.reason.get_mut();
        if !reason.is_null() {
            // SAFETY: leaked by `set_reason`, and nobody else's any more.
            drop(unsafe { Box::from_raw(reason) });
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
    fn schedule(&self) {
        // SAFETY: the table is this cell's.
        unsafe { (self.header().vtable.schedule)(self.0) }
    }

    /// Asks for the task's end.
    pub(crate) fn cancel(&self, reason: Option<CancelReason>) {
        if self.header().state.is_done() {
            return;
        }
        if let Some(reason) = reason {
            self.header().set_reason(reason);
        }
        if self.header().state.cancel() == Wake::Schedule {
            self.schedule();
        }
    }

    /// Cancels the task here and now, unless it is being polled: then after its poll.
    pub(crate) fn shut_down(&self, reason: CancelReason) {
        self.header().set_reason(reason);
        if self.header().state.claim() {
            // SAFETY: the table is this cell's, and the task was claimed.
            unsafe { (self.header().vtable.cancel)(self.0) }
        }
    }

    /// The join handle goes. True if the output is to be dropped.
    pub(crate) fn leave(&self, leave: Leave) {
        match leave {
            Leave::Nothing => {}
            Leave::Schedule => self.schedule(),
            // SAFETY: sealed with a handle, so the output is the handle's; the table is this cell's.
            Leave::DropOutput => unsafe { (self.header().vtable.drop_output)(self.0) },
        }
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
        // SAFETY: says the caller.
        Runnable(unsafe { TaskRef::from_raw(header) })
    }

    pub(crate) fn into_raw(self) -> NonNull<Header> {
        let header = self.0.as_raw();
        std::mem::forget(self);
        header
    }

    pub(crate) fn header(&self) -> &Header {
        self.0.header()
    }

    /// Hands it to the task's scheduler.
    pub(crate) fn schedule(self) {
        let header = self.into_raw();
        // SAFETY: the table is this cell's; the runnable's reference goes along.
        unsafe { (header.as_ref().vtable.schedule)(header) }
    }

    /// Polls the task once, or cancels it. Gives the runnable back if the task was woken meanwhile, or has yielded: it
    /// belongs behind the others.
    #[must_use]
    pub(crate) fn run(self) -> Option<Runnable> {
        let header = self.into_raw();
        // SAFETY: the table is this cell's; the reference goes along, and comes back if the answer says so.
        unsafe { (header.as_ref().vtable.run)(header).then(|| Runnable::from_raw(header)) }
    }
}

impl Drop for Runnable {
    fn drop(&mut self) {
        self.0.shut_down(CancelReason::RuntimeGone);
    }
}
