//! The ambient deadline.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use heirloom_context::raw::{self, Execution};

use crate::clock::after;
use crate::clock::now;

/// The instant at which the time of the running code is up: the earliest limit of all
/// [`wait_for`](crate::wait_for())s around it. `None` without any.
///
/// The deadline is information, for work that cannot be interrupted or is better not started: a
/// query that takes a timeout, a header that tells the peer how long the caller waits. A deadline
/// that passes ends nothing, except the `wait_for` that it comes from.
///
/// A deadline follows ownership. A future that is awaited sees it. A spawned task or a blocking
/// closure sees the deadline that was current at the spawn call, until the task is detached. In
/// `wait_for(spawn(f), d)` the spawn call stands outside, so `f` sees the deadline around it and
/// not `d`; the task is cancelled when time is up, because its handle is dropped.
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
#[doc(alias = "current_effective_deadline")]
#[inline]
#[must_use]
pub fn deadline() -> Option<Instant> {
    execution().deadline()
}

/// The execution state. If it has the limit of a [`wait_for`](crate::wait_for()) that has not
/// started, this call starts the limit, which is then a deadline.
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
    let started = execution.with_deadline(after(now(), limit));
    raw::set_execution(started);
    started
}

/// How much time is left until the [`deadline`]: zero if it has passed, `None` without a deadline.
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
