//! The ambient deadline.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use heirloom_context::raw::{self, Execution};

use crate::clock::after;
use crate::clock::now;

/// When the time of the running code ends: the earliest limit of all [`wait_for`](super::wait_for())s around it. `None`
/// without any.
///
/// It is information, for what cannot be cut or is better not begun: a query that takes a timeout, a header that tells
/// the other side how long we wait. Nothing ends because it has passed, except the `wait_for` it comes from.
///
/// A deadline follows ownership: what is awaited sees it, and so does a spawned task or a blocking closure, which takes
/// the one that is current at the spawn call, until it is detached. In `wait_for(spawn(f), d)` the spawn call
/// stands outside, so `f` sees the deadline around it and not `d`; its task is cancelled when time is up, because its
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

/// The execution state, with a deadline if there is a limit: who asks first begins it.
#[inline]
pub(crate) fn execution() -> Execution {
    let execution = raw::execution();
    match execution.limit() {
        None => execution,
        Some(limit) => begin(execution, limit),
    }
}

#[cold]
fn begin(execution: Execution, limit: Duration) -> Execution {
    let begun = execution.with_deadline(after(now(), limit));
    raw::set_execution(begun);
    begun
}

/// How much is left until the [`deadline`], zero if it has passed; `None` without one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use heirloom::{remaining, wait_for};
///
/// heirloom::block_on(async {
///     let outer = Duration::from_secs(5);
///     let left = wait_for(wait_for(async { remaining() }, Duration::MAX), outer).await.unwrap().unwrap();
///     assert!(left.unwrap() <= outer);
/// });
/// ```
#[must_use]
pub fn remaining() -> Option<Duration> {
    deadline().map(|deadline| deadline.saturating_duration_since(now()))
}
