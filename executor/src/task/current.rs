//! Which task this thread is running.

use std::borrow::Cow;
use std::cell::Cell;
use std::panic::Location;
use std::ptr;

use super::cell::Header;
use super::id::Id;

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static CURRENT: Cell<*const Header> = const { Cell::new(ptr::null()) };
}

/// What was current before.
#[derive(Clone, Copy)]
pub(super) struct Outer(*const Header);

/// Makes a task current until [`leave`] is called with the answer.
pub(super) fn enter(task: &Header) -> Outer {
    Outer(CURRENT.replace(task))
}

pub(super) fn leave(outer: Outer) {
    CURRENT.set(outer.0);
}

/// What is known of a task: for the task itself, and for [hooks](crate::Hooks).
#[derive(Clone, Debug)]
pub struct TaskMeta {
    id: Id,
    name: Option<Cow<'static, str>>,
    place: &'static Location<'static>,
}

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
    // SAFETY: set for as long as the task is being run on this thread, by whoever keeps it alive.
    let header = unsafe { CURRENT.get().as_ref() }?;
    Some(TaskMeta::of(header))
}

impl TaskMeta {
    pub(crate) fn of(task: &Header) -> TaskMeta {
        TaskMeta { id: task.id, name: task.name.clone(), place: task.place }
    }

    /// The task's identity.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The name given by [`Builder::name`](super::Builder::name).
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it was spawned.
    pub fn place(&self) -> &'static Location<'static> {
        self.place
    }
}
