//! What a runtime is doing: numbers and lists, as plain data.
//!
//! Pure data has public fields and is `#[non_exhaustive]`, so that fields can be added: nothing
//! about it can be done but reading it. Types that stand for something that lives (a task, a
//! runtime, a report that keeps tasks) have getters.
#![forbid(unsafe_code)]

use std::panic::Location;

use crate::task::cell::Header;
use crate::task::{Id, TaskState};

/// Numbers of a runtime, each exact by itself; made by [`Handle::stats`](crate::Handle::stats).
#[doc(alias = "RuntimeMetrics")]
#[doc(alias = "metrics")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks that have not ended, blocking closures included.
    pub tasks: usize,
    /// Timers that are set.
    pub timers: usize,
    /// Tasks in the injector: spawned or woken by threads that are no workers, and not yet taken by
    /// one.
    pub injected: usize,
    /// Threads of the blocking pool.
    pub blocking_threads: usize,
    /// Most threads of the blocking pool; see
    /// [`Builder::max_blocking_threads`](crate::runtime::Builder::max_blocking_threads).
    pub max_blocking_threads: usize,
    /// Blocking closures that wait for a thread.
    pub blocking_queued: usize,
    /// The numbers of each worker.
    pub workers: Vec<WorkerStats>,
}

/// Numbers of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Tasks that the worker has polled, each poll counted.
    pub polls: u64,
    /// How often the worker has stolen tasks from another.
    pub steals: u64,
    /// How often the worker has parked.
    pub parks: u64,
    /// Tasks in the worker's queue.
    pub queued: usize,
}

/// One task that has not ended; made by [`Handle::dump`](crate::Handle::dump).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskDump {
    /// The task's identity.
    pub id: Id,
    /// The name given by [`task::Builder::name`](crate::task::Builder::name).
    pub name: Option<String>,
    /// Where the task was spawned.
    pub spawned_at: &'static Location<'static>,
    /// What the task was doing.
    pub state: TaskState,
}

impl TaskDump {
    pub(crate) fn of(task: &Header) -> TaskDump {
        TaskDump {
            id: task.about.id(),
            name: task.about.name().map(|name| name.to_string()),
            spawned_at: task.about.spawned_at(),
            state: task.state.phase(),
        }
    }
}
