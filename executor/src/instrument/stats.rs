//! What a runtime is doing.
#![forbid(unsafe_code)]

use std::panic::Location;

use crate::task::Id;
use crate::task::cell::Header;

/// Numbers of a runtime, each exact by itself; made by [`Handle::stats`](crate::Handle::stats).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks that are not over, blocking closures included.
    pub tasks: usize,
    /// Timers that are set.
    pub timers: usize,
    /// Tasks in the injector.
    pub injected: usize,
    /// Threads of the blocking pool.
    pub blocking_threads: usize,
    /// Most threads of the blocking pool; see [`Builder::max_blocking_threads`](crate::Builder::max_blocking_threads).
    pub max_blocking_threads: usize,
    /// Blocking closures that wait for a thread.
    pub blocking_queued: usize,
    /// Of each worker.
    pub workers: Vec<WorkerStats>,
}

/// Numbers of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Tasks it has polled.
    pub polls: u64,
    /// How often it has stolen from another.
    pub steals: u64,
    /// How often it has parked.
    pub parks: u64,
    /// Tasks in its queue.
    pub queued: usize,
}

/// One task; made by [`Handle::dump`](crate::Handle::dump).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskDump {
    /// Its identity.
    pub id: Id,
    /// The name it was given.
    pub name: Option<String>,
    /// Where it was spawned.
    pub place: &'static Location<'static>,
    /// `idle`, `scheduled`, `running` or `done`. One that has yielded is `running` also while it waits for its next turn.
    pub state: &'static str,
}

impl TaskDump {
    pub(crate) fn of(task: &Header) -> TaskDump {
        TaskDump {
            id: task.about.id(),
            name: task.about.name().map(|name| name.to_string()),
            place: task.about.spawned_at(),
            state: task.state.phase(),
        }
    }
}
