//! Which task this thread is running.

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr::NonNull;
use std::task::Waker;

use super::cell::{Header, TaskRef};
use super::id::Id;
use super::{budget, waker};
use crate::util::thread_state;

/// What was current before.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Outer {
    task: *const (),
    yielded: bool,
    budget: u32,
}

/// Makes a task current, with a full budget, until [`leave`] is called with the answer.
#[inline]
pub(super) fn enter(task: NonNull<Header>) -> Outer {
    thread_state::with(|here| Outer {
        task: here.task.replace(task.as_ptr().cast_const().cast()),
        yielded: here.yielded.replace(false),
        budget: budget::refill(),
    })
}

#[inline]
pub(super) fn leave(outer: Outer) {
    thread_state::with(|here| {
        here.task.set(outer.task);
        here.yielded.set(outer.yielded);
        budget::restore(outer.budget);
    });
}

/// Whether [`wake_later`] was told so, in this poll.
#[inline]
pub(super) fn has_yielded() -> bool {
    thread_state::with(|here| here.yielded.get())
}

/// Wakes the task that is being polled, by this waker, for the time after the poll. If it is one of ours, its state is
/// not even looked at.
#[inline]
pub(super) fn wake_later(waker: &Waker) {
    thread_state::with(|here| {
        if !here.task.get().is_null() && waker::is_of(waker, here.task.get().cast()) {
            here.yielded.set(true);
        } else {
            waker.wake_by_ref();
        }
    });
}

/// What is known of a task: for the task itself, and for [hooks](crate::Hooks).
///
/// A reference of the task, as an [`AbortHandle`](crate::AbortHandle) is: nothing is looked up
/// before it is asked for, and a copy is one count. A copy that is kept keeps the task's memory,
/// not its future nor its output.
#[derive(Clone)]
pub struct TaskMeta(TaskRef);

/// The task that is running on this thread; `None` outside of tasks, also in [`block_on`](crate::block_on).
///
/// ```
/// # heirloom::block_on(async {
/// let handle = heirloom::task::Builder::new().name("worker").spawn(async {
///     heirloom::task::current().unwrap().name().map(str::to_owned)
/// });
/// assert_eq!(handle.await.unwrap().as_deref(), Some("worker"));
/// # });
/// ```
pub fn current() -> Option<TaskMeta> {
    with_current(|task| task.cloned())
}

/// The same without a count.
#[inline]
pub(crate) fn with_current<R>(f: impl FnOnce(Option<&TaskMeta>) -> R) -> R {
    match NonNull::new(thread_state::with(|here| here.task.get()).cast_mut().cast()) {
        // SAFETY: current for as long as the task is being run on this thread, by a caller that has a
        // reference. The call of `f` is within that time.
        Some(task) => unsafe { TaskMeta::lend(task, |task| f(Some(task))) },
        None => f(None),
    }
}

impl TaskMeta {
    /// Lends what is known of a task.
    ///
    /// # Safety
    /// A reference of the task outlives the call.
    #[inline]
    pub(super) unsafe fn lend<R>(task: NonNull<Header>, f: impl FnOnce(&TaskMeta) -> R) -> R {
        // SAFETY: not dropped, so that the reference need not be this one's own.
        let meta = ManuallyDrop::new(TaskMeta(unsafe { TaskRef::from_raw(task) }));
        f(&meta)
    }

    /// The task's identity.
    pub fn id(&self) -> Id {
        self.0.header().about.id()
    }

    /// The name given by [`Builder::name`](super::Builder::name).
    pub fn name(&self) -> Option<&str> {
        self.0.header().about.name().map(|name| &**name)
    }

    /// Where it was spawned.
    pub fn place(&self) -> &'static Location<'static> {
        self.0.header().about.spawned_at()
    }
}

impl fmt::Debug for TaskMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskMeta")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("place", &self.place())
            .finish()
    }
}
