//! Ticks at a steady pace.
#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::sleep::Sleep;
use crate::clock::now;
use crate::clock::{after, next_multiple};

/// How late a tick may be under [`MissedTicks::Delay`] without counting as missed.
///
/// Rounding and a busy machine delay a tick by so much; tokio has the same tolerance.
const TOLERANCE: Duration = Duration::from_millis(5);

/// Ticks once per `period`; the first time at once.
///
/// # Panics
///
/// If `period` is zero.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// heirloom::block_on(async {
///     let before = Instant::now();
///     let mut interval = heirloom::interval(Duration::from_millis(5));
///     for _ in 0..3 {
///         interval.tick().await; // after 0, 5 and 10 ms
///     }
///     assert!(before.elapsed() >= Duration::from_millis(10));
/// });
/// ```
#[doc(alias = "Ticker")]
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(now(), period)
}

/// The same as [`interval`], with the first tick at `start`.
///
/// # Panics
///
/// If `period` is zero.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use heirloom::time::interval_at;
///
/// heirloom::block_on(async {
///     let period = Duration::from_millis(5);
///     let start = Instant::now() + period;
///     assert_eq!(interval_at(start, period).tick().await, start);
/// });
/// ```
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(
        !period.is_zero(),
        "an interval's period must not be zero; to let others run, use `yield_now` in a loop"
    );
    Interval { sleep: Sleep::new(Some(start)), period, missed: MissedTicks::Burst }
}

/// What an [`Interval`] does after a tick was late because the caller asked too late.
///
/// With a period of 10, and a second tick that is taken at 35:
///
/// | policy | ticks are taken at | |
/// | --- | --- | --- |
/// | `Burst` | 0, 35, 35, 35, 40, 50 | none is lost: as many as if no tick had been late |
/// | `Delay` | 0, 35, 45, 55, 65 | a period between any two |
/// | `Skip` | 0, 35, 40, 50, 60 | missed ticks are left out, the rhythm stays |
#[doc(alias = "MissedTickBehavior")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissedTicks {
    /// Catches up: the missed ticks follow at once, one by one.
    #[default]
    Burst,
    /// Starts again: the next tick comes a period after the late tick was taken. A tick that is up
    /// to 5 ms late does not count as late.
    Delay,
    /// Leaves out missed ticks: the next tick comes at a whole number of periods after the start.
    Skip,
}

/// Ticks at a steady pace; made by [`interval`] and [`interval_at`].
///
/// It is also a [`Stream`] of ticks, which never ends: each item is what [`tick`](Interval::tick)
/// would return. The two may be mixed.
///
/// ```
/// use std::time::Duration;
/// use futures::StreamExt;
///
/// heirloom::block_on(async {
///     let period = Duration::from_millis(5);
///     let ticks: Vec<_> = heirloom::interval(period).take(3).collect().await;
///     assert_eq!(ticks[2], ticks[0] + 2 * period);
/// });
/// ```
#[derive(Debug)]
pub struct Interval {
    /// Until the next tick; for ever if its instant cannot be represented.
    sleep: Sleep,
    period: Duration,
    missed: MissedTicks,
}

impl Interval {
    /// Chooses what happens after a late tick. [`MissedTicks::Burst`] is the default.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use heirloom::time::{MissedTicks, interval};
    ///
    /// heirloom::block_on(async {
    ///     let period = Duration::from_millis(5);
    ///     let mut interval = interval(period).missed_tick_policy(MissedTicks::Skip);
    ///     interval.tick().await;
    /// });
    /// ```
    #[doc(alias = "set_missed_tick_behavior")]
    #[must_use]
    pub fn missed_tick_policy(self, missed: MissedTicks) -> Self {
        Interval { missed, ..self }
    }

    /// Waits for the next tick, and returns the instant for which it was due.
    ///
    /// # Cancel safety
    ///
    /// A tick that is not returned is not lost: the next call returns it.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(due) = self.sleep.deadline() else { return Poll::Pending };
        ready!(self.sleep.poll_leaf("interval", cx));
        let next = match self.missed {
            MissedTicks::Burst => after(due, self.period),
            MissedTicks::Skip => next_multiple(due, self.period, now()),
            MissedTicks::Delay => {
                let now = now();
                let is_late = now.saturating_duration_since(due) > TOLERANCE;
                after(if is_late { now } else { due }, self.period)
            }
        };
        self.sleep = Sleep::new(next);
        Poll::Ready(due)
    }

    /// Starts again: the next tick comes a period from now.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// heirloom::block_on(async {
    ///     let mut interval = heirloom::interval(Duration::from_millis(5));
    ///     interval.reset();
    ///     let before = Instant::now();
    ///     assert!(interval.tick().await >= before);
    /// });
    /// ```
    pub fn reset(&mut self) {
        self.sleep = Sleep::new(after(now(), self.period));
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.get_mut().poll_tick(cx).map(Some)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}
