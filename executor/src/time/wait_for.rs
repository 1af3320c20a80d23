//! A wait with a time limit.
//!
//! # Terms
//!
//! * The *operand* is the future inside the `wait_for`.
//! * The *limit* is the duration that the operand may take. It *starts* when it becomes a deadline.
//! * A *deadline* is the instant at which a limit ends.
//! * The *execution state* is the part of the thread's context that follows the call: the current
//!   deadline among others (see [`Execution`]).
//! * The *outer deadline* is the one that is current where the `wait_for` is polled.
//!
//! # States
//!
//! * **not started**: the `WaitFor` has a duration; before the first poll.
//! * **started**: it has a [`Sleep`], whose deadline is the limit's. The sleep takes a timer only
//!   once the operand is pending.
//!
//! # Transitions
//!
//! * LIM1, first poll without an outer deadline (`poll`): the operand is polled with the *limit* in
//!   the execution state, and the clock is not read, because reading it costs more than the rest of
//!   a `wait_for` around a future that is ready.
//! * LIM2, in LIM1 the operand asks for the deadline, or spawns a task that inherits it
//!   (`deadline::execution`): the limit in the execution state starts.
//! * LIM3, the operand was pending in LIM1 (`start_after_poll`): the limit starts now, or has
//!   started in LIM2, and a timer is taken.
//! * LIM4, first poll under an outer deadline (`poll`): the limit starts, because the two have to
//!   be compared.
//! * LIM5, further polls (`poll_started`): the operand is polled with the earlier of the two
//!   deadlines; if it is pending, the sleep is polled.
//!
//! # No limit is missed
//!
//! A limit that has started has a timer whenever its operand is pending. An outer deadline that
//! passes ends nothing in here: the `wait_for` that it comes from is polled by the same task, is
//! woken by its own timer, and drops what it holds. A panic in LIM1 leaves the limit not started;
//! the next poll repeats LIM1.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use heirloom_context::raw::{self, Execution};
use pin_project_lite::pin_project;

use super::sleep::Sleep;
use crate::clock::execution;
use crate::clock::now;
use crate::clock::{after, earlier};
use crate::eager;

/// Waits for `future`, but no longer than `limit`, counted from the first poll: from the poll's
/// end, or from when code inside first asks for the [`deadline`](super::deadline()). So a future
/// that is ready at once costs no look at the clock.
///
/// The future is polled in the same task: nothing is spawned or allocated, and the context is
/// shared. The future is polled at least once, and if it is ready its output is returned, also if
/// time is up. A timer is taken only once the future is pending. When time is up the result is
/// [`Elapsed`], also if the future is busy all the time, but only between its polls.
///
/// While the future is polled, the limit is the current [`deadline`](super::deadline()), unless a
/// `wait_for` further out has an earlier one. With [`Duration::MAX`] there is no limit.
///
/// Around a [`JoinHandle`](crate::JoinHandle) it cancels the task when time is up, because it drops
/// the handle then.
///
/// # Errors
///
/// [`Elapsed`] if time was up first.
///
/// # Cancel safety
///
/// Dropping the `WaitFor` drops the future and removes the timer. After `Elapsed` the future is
/// dropped with the `WaitFor`, at the end of the `.await`; to keep the future, wait for a `&mut` of
/// it.
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use std::time::Duration;
/// use heirloom::time::Elapsed;
/// use heirloom::wait_for;
///
/// heirloom::block_on(async {
///     assert_eq!(wait_for(async { 7 }, Duration::ZERO).await, Ok(7));
///
///     let result: Result<(), Elapsed> = wait_for(pending(), Duration::from_millis(5)).await;
///     assert!(result.is_err());
/// });
/// ```
#[doc(alias = "timeout")]
#[doc(alias = "fail_after")]
#[doc(alias = "move_on_after")]
#[doc(alias = "withTimeout")]
#[doc(alias = "or_timeout")]
pub fn wait_for<F: IntoFuture>(future: F, limit: Duration) -> WaitFor<F::IntoFuture> {
    WaitFor { future: future.into_future(), limit: LimitState::NotStarted(limit) }
}

/// Waits for `future`, but no longer than until `at`. Otherwise like [`wait_for`].
///
/// # Errors
///
/// [`Elapsed`] if the future was still pending then.
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use std::time::Instant;
/// use heirloom::wait_until;
///
/// heirloom::block_on(async {
///     let passed = Instant::now();
///     assert_eq!(wait_until(async { 7 }, passed).await, Ok(7));
///     assert!(wait_until(pending::<()>(), passed).await.is_err());
/// });
/// ```
#[doc(alias = "timeout_at")]
#[doc(alias = "fail_at")]
#[doc(alias = "move_on_at")]
pub fn wait_until<F: IntoFuture>(future: F, at: Instant) -> WaitFor<F::IntoFuture> {
    WaitFor { future: future.into_future(), limit: LimitState::Started(Sleep::new(Some(at))) }
}

pin_project! {
    /// A future with a limit; made by [`wait_for`] and [`wait_until`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct WaitFor<F> {
        #[pin]
        future: F,
        limit: LimitState,
    }
}

#[derive(Debug)]
enum LimitState {
    NotStarted(Duration),
    Started(Sleep),
}

impl LimitState {
    #[inline]
    fn start(&mut self, sleep: Sleep) -> &mut Sleep {
        *self = LimitState::Started(sleep);
        let LimitState::Started(sleep) = self else { unreachable!("just made") };
        sleep
    }
}

impl<F: Future> Future for WaitFor<F> {
    type Output = Result<F::Output, Elapsed>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let sleep = match this.limit {
            LimitState::Started(sleep) => sleep,
            LimitState::NotStarted(duration) => match with_limit(*duration) {
                // LIM1.
                Some(state) => {
                    let (polled, state) = with_execution(state, || this.future.poll(cx));
                    return match polled {
                        Poll::Ready(output) => Poll::Ready(Ok(output)),
                        Poll::Pending => start_after_poll(*duration, state, this.limit, cx).map(Err),
                    };
                }
                // LIM4.
                None => {
                    let sleep = Sleep::new(after(now(), *duration));
                    this.limit.start(sleep)
                }
            },
        };
        poll_started(sleep, cx, |cx| this.future.poll(cx))
    }
}

/// LIM3. `state` is the execution state as the poll has left it.
///
/// Out of line, like [`poll_started`], so that the rest is small enough to be inlined.
#[inline(never)]
fn start_after_poll(
    duration: Duration,
    state: Execution,
    limit: &mut LimitState,
    cx: &mut Context<'_>,
) -> Poll<Elapsed> {
    let now = now();
    let end = state.deadline().or_else(|| after(now, duration));
    let ahead = end.map_or(Duration::MAX, |end| end.saturating_duration_since(now));
    let sleep = limit.start(Sleep::ahead_by(ahead, end));
    sleep.within_budget(cx, Sleep::poll_elapsed).map(|()| Elapsed(()))
}

/// LIM5. `operand` polls the operand.
#[inline(never)]
fn poll_started<T>(
    sleep: &mut Sleep,
    cx: &mut Context<'_>,
    operand: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<Result<T, Elapsed>> {
    if eager::is_eager() {
        return poll_eagerly(sleep, cx, operand);
    }
    if let Poll::Ready(output) = with_deadline(sleep.deadline(), || operand(cx)) {
        return Poll::Ready(Ok(output));
    }
    // A limit that has waited ends also if the operand has spent the budget.
    sleep.within_budget(cx, Sleep::poll_elapsed).map(|()| Err(Elapsed(())))
}

/// LIM5 under the eager flag, where leaves block. No timer is needed if the thread that drives the
/// eager call waits itself.
#[cold]
fn poll_eagerly<T>(
    sleep: &mut Sleep,
    cx: &mut Context<'_>,
    operand: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<Result<T, Elapsed>> {
    // A deadline from outside of the eager call can end the wait only here.
    let end = earlier(sleep.deadline(), eager::unenforced());
    let limited = eager::limited();
    let polled = with_deadline(end, || operand(cx));
    drop(limited);
    if let Poll::Ready(output) = polled {
        return Poll::Ready(Ok(output));
    }
    let Some(end) = end else { return Poll::Pending };
    if end <= now() {
        return sleep.within_budget(cx, |_, _| Poll::Ready(())).map(|()| Err(Elapsed(())));
    }
    if eager::wake_at(cx, end) {
        return Poll::Pending;
    }
    sleep.poll_elapsed(cx).map(|()| Err(Elapsed(())))
}

/// A limit, started or none, of an operand that is no single future: the steps of a service, the
/// frames of a body. Each [`poll`](Self::poll) is LIM5.
#[cfg(feature = "tower")]
#[derive(Debug)]
pub(crate) struct StartedLimit(Sleep);

#[cfg(feature = "tower")]
impl StartedLimit {
    /// A limit that ends at the earlier of `at` and the current deadline.
    pub(crate) fn new(at: Option<Instant>) -> Self {
        StartedLimit(Sleep::new(earlier(execution().deadline(), at)))
    }

    /// Calls `f` with the limit as the deadline.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        with_deadline(self.0.deadline(), f)
    }

    /// Polls with the limit as the deadline. If that is pending, looks whether time is up.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        operand: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Elapsed>> {
        poll_started(&mut self.0, cx, operand)
    }

    /// Whether time is up, for an operand that may never be pending.
    pub(crate) fn check(&self) -> Result<(), Elapsed> {
        self.check_until(Duration::ZERO)
    }

    /// Whether no more time is left than that.
    pub(crate) fn check_until(&self, left: Duration) -> Result<(), Elapsed> {
        let is_up = |end: Instant| end.saturating_duration_since(now()) <= left;
        if self.0.deadline().is_some_and(is_up) { Err(Elapsed(())) } else { Ok(()) }
    }
}

/// The execution state with a limit that has not started; `None` under an outer deadline.
#[inline]
fn with_limit(limit: Duration) -> Option<Execution> {
    Some(raw::execution()).filter(|outer| *outer == Execution::NONE)?.with_limit(limit)
}

/// Calls `f` with the earlier of the current deadline and `own` as the current one.
fn with_deadline<R>(own: Option<Instant>, f: impl FnOnce() -> R) -> R {
    let outer = execution();
    with_execution(outer.with_deadline(earlier(outer.deadline(), own)), f).0
}

/// Calls `f` with the execution state, and returns what the state has become.
#[inline]
fn with_execution<R>(state: Execution, f: impl FnOnce() -> R) -> (R, Execution) {
    struct RestoreExecution(Execution);
    impl Drop for RestoreExecution {
        fn drop(&mut self) {
            raw::set_execution(self.0);
        }
    }
    let _restore = RestoreExecution(raw::set_execution(state));
    (f(), raw::execution())
}

/// Time was up before the future of a [`wait_for`] was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has elapsed")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}
