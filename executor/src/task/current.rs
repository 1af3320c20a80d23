//! Which task this thread is running.

use std::any::Any;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr::NonNull;
use std::task::Waker;

use heirloom_context::internal::RunningTask;

use super::cell::{Header, TaskRef};
use super::id::Id;
use super::{budget, waker};
use crate::util::thread_state;

/// The fields of the thread state that [`enter`] has replaced.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Saved {
    task: *const (),
    yielded: bool,
    budget: u32,
}

/// Makes a task current, with a full budget, until [`leave`] is called with the result.
#[inline]
pub(super) fn enter(task: NonNull<Header>) -> Saved {
    thread_state::with(|here| Saved {
        task: here.task.replace(task.as_ptr().cast_const().cast()),
        yielded: here.yielded.replace(false),
        budget: budget::refill(),
    })
}

/// Whether this thread is a worker that runs no task.
#[inline]
pub(super) fn is_worker_between_polls() -> bool {
    thread_state::with(|here| here.task.get().is_null() && !here.worker.get().is_null())
}

#[inline]
pub(super) fn leave(saved: Saved) {
    thread_state::with(|here| {
        here.task.set(saved.task);
        here.yielded.set(saved.yielded);
        budget::restore(saved.budget);
    });
}

/// Whether the task has yielded in this poll, see [`wake_later`].
#[inline]
pub(super) fn has_yielded() -> bool {
    thread_state::with(|here| here.yielded.get())
}

/// Whether this waker is that of the task that is being polled. An [attendant](super::Attendant)
/// has a task polled with another one.
#[inline]
pub(super) fn is_own(waker: &Waker) -> bool {
    let task = thread_state::with(|here| here.task.get());
    !task.is_null() && waker::is_of(waker, task.cast())
}

/// Wakes the task that is being polled when its poll is over: sets a note in the thread state, and
/// leaves the task's state word alone. Any other waker is woken at once.
#[inline]
pub(super) fn wake_later(waker: &Waker) {
    thread_state::with(|here| {
        if is_own(waker) {
            here.yielded.set(true);
        } else {
            waker.wake_by_ref();
        }
    });
}

/// The metadata of a task: for the task itself, and for [hooks](crate::runtime::Hooks).
///
/// A reference of the task, as an [`AbortHandle`](crate::task::AbortHandle) is: nothing is looked
/// up before it is asked for, and a copy costs one count. A copy that is kept keeps the task's
/// memory, but neither its future nor its output.
#[derive(Clone)]
pub struct TaskMeta(TaskRef);

/// The task that is running on this thread; `None` outside of tasks, also in
/// [`block_on`](crate::block_on).
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

/// Like [`current`], without a count.
#[inline]
pub(crate) fn with_current<R>(f: impl FnOnce(Option<&TaskMeta>) -> R) -> R {
    match NonNull::new(thread_state::with(|here| here.task.get()).cast_mut().cast()) {
        // SAFETY: the task is current while it is run on this thread, by a caller that has a
        // reference. The call of `f` lies within that time.
        Some(task) => unsafe { TaskMeta::lend(task, |task| f(Some(task))) },
        None => f(None),
    }
}

/// The running task for the texts of the context crate; `None` outside of tasks.
#[cold]
pub(crate) fn describe_current() -> Option<RunningTask> {
    with_current(|task| {
        let task = task?.0.header();
        Some(RunningTask { description: task.about.describe(), background: task.state.is_background() })
    })
}

impl TaskMeta {
    pub(crate) fn new(task: TaskRef) -> TaskMeta {
        TaskMeta(task)
    }

    /// Calls `f` with the metadata of a task.
    ///
    /// # Safety
    /// A reference of the task outlives the call.
    #[inline]
    pub(crate) unsafe fn lend<R>(task: NonNull<Header>, f: impl FnOnce(&TaskMeta) -> R) -> R {
        // SAFETY: the wrapper is not dropped, so it gives up no reference; the task's reference
        // outlives the call.
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

    /// A value that is kept with the task, for a [hook](crate::runtime::Hooks): made by the first
    /// call, the same in all later ones. A task has one such place; `None` if what is there is of
    /// another type.
    ///
    /// The value is dropped with the task's memory: when the task has ended and the last of its
    /// handles and wakers is gone, on the thread where that happens. A panic of its destructor is
    /// ignored.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use heirloom::Runtime;
    /// use heirloom::runtime::Hooks;
    /// use heirloom::task::TaskMeta;
    ///
    /// struct CountPolls;
    ///
    /// impl Hooks for CountPolls {
    ///     fn before_poll(&self, task: &TaskMeta) {
    ///         let polls = task.slot(|| AtomicU32::new(0)).expect("no other hook");
    ///         polls.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = Runtime::builder().hooks(Arc::new(CountPolls)).build()?;
    /// let polls = runtime.spawn(async {
    ///     heirloom::yield_now().await;
    ///     let task = heirloom::task::current().unwrap();
    ///     task.slot(|| AtomicU32::new(0)).unwrap().load(Ordering::Relaxed)
    /// });
    /// assert_eq!(runtime.block_on(polls).unwrap(), 2);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "extensions")]
    #[doc(alias = "task_local")]
    pub fn slot<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.header().about.slot(make)
    }

    /// Where the task was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.0.header().about.spawned_at()
    }
}

/// The name if the task has one, else the identity and where it was spawned.
impl fmt::Display for TaskMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "task {} spawned at {}", self.id(), self.spawned_at()),
        }
    }
}

impl fmt::Debug for TaskMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskMeta")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("spawned_at", &self.spawned_at())
            .finish()
    }
}
