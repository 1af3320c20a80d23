//! [`Sleep`], by which all futures of this module wait.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::current::with_current;
use super::driver::{TimerKey, TimerState};
use crate::clock::now;
use crate::clock::{MILLISECOND, Rounding, after, block_until, earlier};
use crate::eager::{self, NotReady};
use crate::runtime::default_timers;
use crate::task::budget::Claim;
use crate::task::{Leaf, record};

/// Waits until `duration` has passed, counted from this call.
///
/// Never early; late by what timers are rounded up by, and by the delay of the machine. An instant
/// that is less than 1 ms ahead is rounded up by 16 µs at most, any other by a 32nd of the time and
/// by 1 ms at most; an idle runtime gets up for it at the end of the millisecond
/// ([details](crate::time#precision)). With [`Duration::MAX`], or another duration that leads
/// beyond the last [`Instant`], the future waits for ever and takes no timer. With
/// [`Duration::ZERO`] it is ready at its first poll: to let other tasks run, use
/// [`yield_now`](crate::yield_now).
///
/// A duration of 1 ms or more is assumed to lie ahead at the first poll, without another look at
/// the clock: if that poll comes late, the future may be pending once, for a moment.
///
/// # Cancel safety
///
/// Dropping the future removes its timer: no entry stays, and no wake-up comes.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// heirloom::block_on(async {
///     let before = Instant::now();
///     heirloom::sleep(Duration::from_millis(10)).await;
///     assert!(before.elapsed() >= Duration::from_millis(10));
/// });
/// ```
#[doc(alias = "delay")]
#[doc(alias = "Timer")]
#[doc(alias = "After")]
pub fn sleep(duration: Duration) -> Sleep {
    let deadline = after(now(), duration);
    Sleep::ahead_by(duration, deadline)
}

/// Waits until `at`. An instant that has passed is ready at the first poll. Otherwise like
/// [`sleep`].
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// heirloom::block_on(async {
///     let at = Instant::now() + Duration::from_millis(10);
///     heirloom::sleep_until(at).await;
///     assert!(Instant::now() >= at);
///     heirloom::sleep_until(at).await;
/// });
/// ```
#[doc(alias = "Timer")]
pub fn sleep_until(at: Instant) -> Sleep {
    Sleep::new(Some(at))
}

/// Waits until an instant; made by [`sleep`] and [`sleep_until`].
///
/// When it is pending for the first time, it takes a timer of the runtime that polls it, or of the
/// default runtime if none does, and keeps that timer. Once ready it stays ready until it is
/// [`reset`](Sleep::reset).
#[must_use = "futures do nothing unless they are polled"]
pub struct Sleep {
    /// `None`: never.
    deadline: Option<Instant>,
    state: SleepState,
}

// Only a waker may panic, under no lock: no state is left half changed.
impl std::panic::UnwindSafe for Sleep {}
impl std::panic::RefUnwindSafe for Sleep {}

enum SleepState {
    /// Without a timer.
    NoTimer,
    /// The same, and the deadline was a millisecond ahead, or more, a short while ago: the first
    /// poll does not read the clock, which costs as much as a timer.
    AssumedAhead(Rounding),
    Waiting(ActiveTimer),
    /// The deadline has passed, and the budget was spent.
    BudgetSpent,
    Elapsed,
}

/// A timer, which is removed when this is dropped.
struct ActiveTimer(TimerKey);

impl Drop for ActiveTimer {
    fn drop(&mut self) {
        self.0.remove();
    }
}

impl Sleep {
    pub(super) fn new(deadline: Option<Instant>) -> Self {
        Sleep { deadline, state: SleepState::NoTimer }
    }

    /// A sleep whose deadline was so far ahead just now.
    pub(super) fn ahead_by(ahead: Duration, deadline: Option<Instant>) -> Self {
        let is_near = ahead < MILLISECOND;
        let assumed = SleepState::AssumedAhead(Rounding::for_deadline_in(ahead));
        Sleep { deadline, state: if is_near { SleepState::NoTimer } else { assumed } }
    }

    /// The instant that it waits for; `None` if it waits for ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Makes it wait until `at`, whether it is waiting, is ready, or was never polled.
    ///
    /// The task that waits for it stays registered: it is woken at the new instant, earlier or
    /// later, without another poll. Only if the old instant has passed, and the task was woken for
    /// it, the next poll registers the task again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::pin::pin;
    /// use std::time::{Duration, Instant};
    ///
    /// heirloom::block_on(async {
    ///     let mut sleep = pin!(heirloom::sleep(Duration::MAX));
    ///     sleep.as_mut().reset(Instant::now() + Duration::from_millis(1));
    ///     sleep.await;
    /// });
    /// ```
    pub fn reset(self: Pin<&mut Self>, at: Instant) {
        let this = self.get_mut();
        this.deadline = Some(at);
        if let SleepState::Waiting(registration) = &this.state
            && registration.0.reset(at) == TimerState::Armed
        {
            return;
        }
        this.state = SleepState::NoTimer;
    }

    /// Polls under the name of the operation that this sleep is part of.
    pub(super) fn poll_leaf(&mut self, leaf: &'static str, cx: &mut Context<'_>) -> Poll<()> {
        self.within_budget(cx, |sleep, cx| match eager::is_eager() {
            true => sleep.poll_eagerly(leaf, cx),
            false => sleep.poll_elapsed(cx),
        })
    }

    /// Polls by `elapsed`. If that is ready, consumes a unit of the budget, unless the sleep was
    /// pending before.
    #[inline]
    pub(super) fn within_budget(
        &mut self,
        cx: &mut Context<'_>,
        elapsed: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        let mut claim = Claim::new(matches!(self.state, SleepState::Waiting(_) | SleepState::BudgetSpent));
        ready!(elapsed(self, cx));
        let polled = claim.complete(cx);
        if polled.is_pending() {
            self.state = SleepState::BudgetSpent;
        }
        polled
    }

    /// Blocks the thread until the deadline.
    #[cold]
    fn poll_eagerly(&mut self, leaf: &'static str, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if matches!(self.state, SleepState::Elapsed)
                || self.deadline.is_some_and(|deadline| now() >= deadline)
            {
                self.state = SleepState::Elapsed;
                return Poll::Ready(());
            }
            match eager::not_ready(cx, leaf) {
                NotReady::Suspend => return self.poll_elapsed(cx),
                NotReady::Pending => return Poll::Pending,
                NotReady::Block(until) => block_until(earlier(self.deadline, until)),
            }
        }
    }

    /// Polls regardless of the budget and of the eager flag.
    pub(super) fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        // None if the deadline has passed.
        let rounding = |now| {
            let ahead = deadline.saturating_duration_since(now);
            (!ahead.is_zero()).then(|| Rounding::for_deadline_in(ahead))
        };
        let rounding = match &self.state {
            SleepState::Elapsed => return Poll::Ready(()),
            SleepState::BudgetSpent => None,
            SleepState::NoTimer => rounding(now()),
            SleepState::AssumedAhead(rounding) => Some(*rounding),
            SleepState::Waiting(ActiveTimer(timer)) => {
                let rounding = rounding(timer.clock().now());
                // If the deadline has passed, the timer need not change its waker.
                match rounding.map(|_| timer.set_waker(cx.waker())) {
                    Some(TimerState::Armed) => {
                        record::waits_for(|| Leaf::Sleep { until: deadline });
                        return Poll::Pending;
                    }
                    None | Some(TimerState::Fired) => None,
                    // The runtime of the timer has ended; the thread that polls has another.
                    Some(TimerState::Closed) => rounding,
                }
            }
        };
        let Some(rounding) = rounding else {
            self.state = SleepState::Elapsed;
            return Poll::Ready(());
        };
        self.state = insert_timer(deadline, rounding, cx);
        record::waits_for(|| Leaf::Sleep { until: deadline });
        Poll::Pending
    }
}

/// Takes a timer of the current runtime, or of the default one.
fn insert_timer(deadline: Instant, rounding: Rounding, cx: &Context<'_>) -> SleepState {
    // Cloning calls foreign code: not while the current timers are borrowed.
    let waker = cx.waker().clone();
    let inserted = with_current(|timers, shard| match timers {
        Some(timers) => timers.insert(shard, deadline, rounding, waker),
        None => Err(waker),
    });
    match inserted.or_else(|waker| default_timers().insert(0, deadline, rounding, waker)) {
        Ok(key) => SleepState::Waiting(ActiveTimer(key)),
        // Only while the process ends, and the default runtime with it.
        Err(_) => SleepState::NoTimer,
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().poll_leaf("sleep", cx)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
