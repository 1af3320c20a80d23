//! The ambient deadline.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use heirloom_context::raw::{self, Execution};

use crate::clock::after;
use crate::clock::now;

/// The deadline of the running code: the earliest limit of all [`wait_for`](crate::wait_for)s
/// around it. `None` without any.
///
/// The deadline is information for code that cannot be cut short or that had better not start: a
/// query that takes a timeout, a header that tells the other side how long this side waits. When
/// the deadline passes, only its `wait_for` ends.
///
/// A deadline follows ownership: an awaited future sees it, and so does a spawned task or a
/// blocking closure, which takes the deadline that is current at the spawn call, until it is
/// detached. In `wait_for(spawn(f), d)` the spawn call stands outside, so `f` sees the deadline
/// around the `wait_for` and not `d`; the task of `f` is cancelled when `d` is over, because its
/// handle is dropped.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use heirloom::{deadline, wait_for};
///
/// heirloom::block_on(async {
///     assert_eq!(deadline(), None);
///     let inside = wait_for(async { deadline() }, Duration::from_secs(5)).await.unwrap();
///     assert!(inside.is_some());
///     assert_eq!(deadline(), None);
/// });
/// ```
#[inline]
#[must_use]
pub fn deadline() -> Option<Instant> {
    execution().deadline()
}

/// The execution state, with a deadline if there is a limit: the first read starts the limit.
#[inline]
pub(crate) fn execution() -> Execution {
    let execution = raw::execution();
    match execution.limit() {
        None => execution,
        Some(limit) => start_limit(execution, limit),
    }
}

#[cold]
fn start_limit(execution: Execution, limit: Duration) -> Execution {
    let begun = execution.with_deadline(after(now(), limit));
    raw::set_execution(begun);
    begun
}

/// The time that is left until the [`deadline`]: zero if it has passed, `None` without one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use heirloom::{remaining, wait_for};
///
/// heirloom::block_on(async {
///     let outer = Duration::from_secs(5);
///     let inner = wait_for(async { remaining() }, Duration::MAX);
///     let left = wait_for(inner, outer).await.unwrap().unwrap();
///     assert!(left.unwrap() <= outer);
/// });
/// ```
#[must_use]
pub fn remaining() -> Option<Duration> {
    deadline().map(|deadline| deadline.saturating_duration_since(now()))
}
