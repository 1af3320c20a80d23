//! The one way to bound a wait.
//!
//! Around each poll of the operand, the earlier of the outer deadline and our own is the current one, in the
//! [execution state](heirloom_context::raw::Execution). That is all the two have to do with each other: an outer deadline
//! that passes cuts nothing in here, and need not, because the `wait_for` it comes from is polled by the same task,
//! is woken by its own timer, and drops what it holds.
//!
//! A look at the clock costs more than all the rest of a `wait_for` around a future that is ready. So around the first poll,
//! unless there is an outer deadline to compare with, the execution state has not a deadline but the limit. Whoever asks for
//! the deadline there, or copies it for a task, begins the limit; if nobody does, the end of the poll begins it.
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

/// Waits for `future`, but no longer than `limit`, counted from the first poll: from its end, or from when something in it
/// first needs the [`deadline`](crate::clock::deadline()), so that what is ready at once costs no look at the clock.
///
/// The future is polled in the same task: nothing is spawned or allocated, and the context is shared. It is polled at
/// least once, and if it is ready its output is returned, whatever the time; a timer is taken only once it is
/// pending. When time is up the result is [`Elapsed`], also if the future is busy all the time; but only between its
/// polls.
///
/// While the future is polled, the limit is the current [`deadline`](crate::clock::deadline()), unless one further out is
/// earlier. With [`Duration::MAX`] there is no limit.
///
/// Around a [`JoinHandle`](crate::JoinHandle) it cancels the task when time is up, because the handle is dropped then.
///
/// # Errors
///
/// [`Elapsed`] if time was up first.
///
/// # Cancel safety
///
/// Dropping it drops the future and removes the timer. After `Elapsed` the future is dropped with the `WaitFor`, that is,
/// at the end of the `.await`; to keep it, wait for a `&mut` of it.
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use std::time::Duration;
/// use heirloom::{Elapsed, wait_for};
///
/// heirloom::block_on(async {
///     assert_eq!(wait_for(async { 7 }, Duration::ZERO).await, Ok(7));
///
///     let result: Result<(), Elapsed> = wait_for(pending(), Duration::from_millis(5)).await;
///     assert!(result.is_err());
/// });
/// ```
pub fn wait_for<F: IntoFuture>(future: F, limit: Duration) -> WaitFor<F::IntoFuture> {
    WaitFor { future: future.into_future(), stage: Stage::Unbegun(limit) }
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
pub fn wait_until<F: IntoFuture>(future: F, at: Instant) -> WaitFor<F::IntoFuture> {
    WaitFor { future: future.into_future(), stage: Stage::Begun(Sleep::new(Some(at))) }
}

pin_project! {
    /// A future with a limit; made by [`wait_for`] and [`wait_until`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct WaitFor<F> {
        #[pin]
        future: F,
        stage: Stage,
    }
}

#[derive(Debug)]
enum Stage {
    /// The limit begins with the first poll.
    Unbegun(Duration),
    Begun(Sleep),
}

impl Stage {
    #[inline]
    fn begin(&mut self, sleep: Sleep) -> &mut Sleep {
        *self = Stage::Begun(sleep);
        let Stage::Begun(sleep) = self else { unreachable!("just made") };
        sleep
    }
}

impl<F: Future> Future for WaitFor<F> {
    type Output = Result<F::Output, Elapsed>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let sleep = match this.stage {
            Stage::Begun(sleep) => sleep,
            Stage::Unbegun(limit) => match unbegun(*limit) {
                Some(unbegun) => {
                    // If this panics, the limit has not begun.
                    let (polled, left) = with(unbegun, || this.future.poll(cx));
                    return match polled {
                        Poll::Ready(output) => Poll::Ready(Ok(output)),
                        Poll::Pending => begin(*limit, left, this.stage, cx).map(Err),
                    };
                }
                None => {
                    let sleep = Sleep::new(after(now(), *limit));
                    this.stage.begin(sleep)
                }
            },
        };
        poll_begun(this.future, sleep, cx)
    }
}

/// Takes a timer after a first poll, around which the limit had not begun. `left` is what that has left.
///
/// Out of line, like [`poll_begun`], so that the rest is small enough to become part of the caller.
#[inline(never)]
fn begin(limit: Duration, left: Execution, stage: &mut Stage, cx: &mut Context<'_>) -> Poll<Elapsed> {
    let now = now();
    // Somebody has begun it, or this does.
    let end = left.deadline().or_else(|| after(now, limit));
    let is_over = end.is_some_and(|end| end <= now);
    let sleep = stage.begin(if is_over { Sleep::new(end) } else { Sleep::ahead(end) });
    sleep.within_budget(cx, Sleep::poll_elapsed).map(|()| Elapsed(()))
}

/// What `poll` does when the limit has begun.
#[inline(never)]
fn poll_begun<F: Future>(
    future: Pin<&mut F>,
    sleep: &mut Sleep,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Elapsed>> {
    if eager::is_eager() {
        return poll_eagerly(future, sleep, cx);
    }
    if let Poll::Ready(output) = within(sleep.deadline(), || future.poll(cx)) {
        return Poll::Ready(Ok(output));
    }
    // A limit that has waited ends whatever the operand has left of the budget.
    sleep.within_budget(cx, Sleep::poll_elapsed).map(|()| Err(Elapsed(())))
}

/// What `poll` does where leaves block. Nobody needs a timer if it is the driver of the call who waits.
#[cold]
fn poll_eagerly<F: Future>(
    future: Pin<&mut F>,
    sleep: &mut Sleep,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Elapsed>> {
    // An outer limit that stands around the whole call can end it only here.
    let end = earlier(sleep.deadline(), eager::unenforced());
    let limited = eager::limited();
    let polled = within(end, || future.poll(cx));
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

/// The execution state with a limit that has not begun, where nothing has to be compared with it.
#[inline]
fn unbegun(limit: Duration) -> Option<Execution> {
    Some(raw::execution()).filter(|outer| *outer == Execution::NONE)?.with_limit(limit)
}

/// Calls `f` with the earlier of the current deadline and `own` as the current one.
fn within<R>(own: Option<Instant>, f: impl FnOnce() -> R) -> R {
    let outer = execution();
    with(outer.with_deadline(earlier(outer.deadline(), own)), f).0
}

/// Calls `f` with the execution state, and says what it has become.
#[inline]
fn with<R>(state: Execution, f: impl FnOnce() -> R) -> (R, Execution) {
    struct Restore(Execution);
    impl Drop for Restore {
        fn drop(&mut self) {
            raw::set_execution(self.0);
        }
    }
    let _restore = Restore(raw::set_execution(state));
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
