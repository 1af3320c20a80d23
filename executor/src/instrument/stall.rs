//! A poll that takes too long, as data and as a line of text.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::dump::TaskDump;

/// What the [watchdog](crate::runtime::Builder::watchdog) calls.
pub(crate) type OnStall = Arc<dyn Fn(&Stall) + Send + Sync>;

/// A poll that has taken longer than the limit of the
/// [watchdog](crate::runtime::Builder::watchdog).
///
/// There are two for each such poll: one while it goes on, one when it has ended. As text it is a
/// line for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// The task that is polled: its name, where it was spawned; in an
    /// [inspected](crate::runtime::Builder::inspect) runtime its context, too.
    pub task: TaskDump,
    /// The index of the worker that polls it.
    pub worker: usize,
    /// How long the poll has taken. Without inspection up to a quarter of the limit more: that much
    /// may pass before the watchdog sees the poll.
    pub took: Duration,
    /// The poll has ended.
    pub ended: bool,
    /// Tasks that wait in the queue of this worker.
    pub waiting: usize,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stall { task, worker, took, ended, waiting } = self;
        match &task.name {
            Some(name) => write!(f, "a poll of task `{name}`")?,
            None => write!(f, "a poll of task {}", task.id)?,
        }
        let verb = if *ended { "took" } else { "has taken" };
        write!(f, ", spawned at {}, {verb} {} ms on worker {worker}", task.spawned_at, took.as_millis())?;
        if !ended {
            f.write_str(" and goes on")?;
        }
        let others = if *waiting == 1 { "task waits" } else { "tasks wait" };
        write!(f, "; {waiting} {others} there")?;
        let context = task.recorded.as_ref().map_or(&[][..], |recorded| &recorded.context);
        if !context.is_empty() {
            f.write_str(" [")?;
            super::dump::write_context(f, context)?;
            f.write_str("]")?;
        }
        Ok(())
    }
}
