//! What a thread is doing: the one cell that the hot paths look at.
//!
//! Each field belongs to one module, which alone reads and writes it, and says what it means. The pointers are those of types
//! of higher floors, or null; the function that sets one restores it before what it points to is gone. Without drop glue, so that every
//! function of this crate answers during thread teardown.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::ptr;

/// What kind of thread this is, whatever it has entered since.
#[derive(Clone, Copy)]
pub(crate) enum Owner {
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
    /// `task::budget`: units that are left in this poll, and how often none was left.
    pub(crate) budget: Cell<u32>,
    pub(crate) refused: Cell<u32>,
    /// `scheduler::current`: the runtime and the worker that this thread belongs to.
    pub(crate) runtime: Cell<*const ()>,
    pub(crate) worker: Cell<*const ()>,
    pub(crate) owner: Cell<Owner>,
    /// `clock`: the clock of that runtime.
    pub(crate) clock: Cell<*const ()>,
    /// `time::current`: the timers of that runtime, and this thread's part of them.
    pub(crate) timers: Cell<*const ()>,
    pub(crate) shard: Cell<usize>,
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
            owner: Cell::new(Owner::User),
            clock: Cell::new(ptr::null()),
            timers: Cell::new(ptr::null()),
            shard: Cell::new(0),
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
