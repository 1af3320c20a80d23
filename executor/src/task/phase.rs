//! What a task is doing, for those who look at it from outside.
#![forbid(unsafe_code)]

use std::fmt;

/// What a task was doing when it was looked at; in a [`TaskDump`](crate::runtime::TaskDump).
///
/// ```
/// use heirloom::task::TaskState;
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = heirloom::Runtime::new()?;
/// runtime.spawn(std::future::pending::<()>()).detach();
/// runtime.wait_until_idle();
/// assert_eq!(runtime.dump()[0].state, TaskState::Idle);
/// assert_eq!(TaskState::Idle.to_string(), "idle");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// The task waits for a wake-up.
    Idle,
    /// The task was spawned or woken, and waits for a worker.
    Scheduled,
    /// The task is being polled. A task that has [yielded](crate::yield_now) counts as running
    /// while it waits for its next poll.
    Running,
    /// The task has ended, and its last poll is being completed.
    Done,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TaskState::Idle => "idle",
            TaskState::Scheduled => "scheduled",
            TaskState::Running => "running",
            TaskState::Done => "done",
        })
    }
}
