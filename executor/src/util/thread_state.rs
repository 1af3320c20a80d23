//! What a thread is doing: the one cell that the hot paths look at.
//!
//! Each field belongs to one module, which alone reads and writes the field and defines its
//! meaning. The pointers have types of higher floors, or are null; the guard that sets one restores
//! the former value before the target is gone. The cell has no drop glue, so that every function of
//! this crate answers during thread teardown.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::ptr;

/// The kind of this thread, which stays when the thread enters another runtime.
#[derive(Clone, Copy)]
pub(crate) enum ThreadKind {
    User,
    /// A worker, of any runtime.
    Worker(*const ()),
    /// A thread of a runtime's blocking pool.
    Pool(*const ()),
}

pub(crate) struct ThreadState {
    /// `task::current`: the task that is being polled, and whether it has yielded in this poll.
    pub(crate) task: Cell<*const ()>,
    pub(crate) yielded: Cell<bool>,
    /// `task::budget`: units that are left in this poll, and how often no unit was left.
    pub(crate) budget: Cell<u32>,
    pub(crate) refused: Cell<u32>,
    /// `scheduler::current`: the runtime and the worker that this thread belongs to.
    pub(crate) runtime: Cell<*const ()>,
    pub(crate) worker: Cell<*const ()>,
    pub(crate) kind: Cell<ThreadKind>,
    /// `clock`: the clock of that runtime.
    pub(crate) clock: Cell<*const ()>,
    /// `clock::manual`: the clock that this thread has a hold of.
    pub(crate) held: Cell<*const ()>,
    /// `time::current`: the timers of that runtime, and the index of this thread's shard of them.
    pub(crate) timers: Cell<*const ()>,
    pub(crate) shard: Cell<usize>,
    /// `util::counters`: those of this thread, if it is a worker.
    pub(crate) counters: Cell<*const ()>,
    /// `task::record`: when the last poll of this worker ended, if nothing came since; else zero.
    pub(crate) poll_ended: Cell<u64>,
    /// `task::record`: polls that are in progress, inside one another, of tasks with a record.
    pub(crate) recorded_polls: Cell<u32>,
    /// `task::record`: the group whose child is being spawned; else zero.
    pub(crate) group: Cell<u64>,
    /// `scheduler::current`: a number of this thread; zero if it has none yet.
    pub(crate) number: Cell<usize>,
    /// `eager::frame`: called before a leaf blocks this thread.
    pub(crate) before_blocking: Cell<Option<fn()>>,
    /// `eager::inline`: how many first polls are inside one another.
    pub(crate) nested_polls: Cell<usize>,
}

thread_local! {
    static STATE: ThreadState = const {
        ThreadState {
            task: Cell::new(ptr::null()),
            yielded: Cell::new(false),
            budget: Cell::new(u32::MAX),
            refused: Cell::new(0),
            runtime: Cell::new(ptr::null()),
            worker: Cell::new(ptr::null()),
            kind: Cell::new(ThreadKind::User),
            clock: Cell::new(ptr::null()),
            held: Cell::new(ptr::null()),
            timers: Cell::new(ptr::null()),
            shard: Cell::new(0),
            counters: Cell::new(ptr::null()),
            poll_ended: Cell::new(0),
            recorded_polls: Cell::new(0),
            group: Cell::new(0),
            number: Cell::new(0),
            before_blocking: Cell::new(None),
            nested_polls: Cell::new(0),
        }
    };
}

#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&ThreadState) -> R) -> R {
    STATE.with(f)
}
