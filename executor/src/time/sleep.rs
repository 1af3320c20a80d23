//! The future that every other one here waits with.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use super::current::current;
use super::driver::{TimerKey, TimerState, Timers};
use crate::clock::now;
use crate::clock::{TICK, after, earlier};
use crate::eager::{self, NotReady};
use crate::runtime::default_timers;
use crate::task::budget::Claim;

/// Waits until `duration` has passed, counted from this call.
///
/// Never early; late by up to a millisecond, by which timers are rounded up, and by what the machine is late. With
/// [`Duration::MAX`], or anything else that leads beyond what an [`Instant`] can tell, it waits for ever and takes no
/// timer. With [`Duration::ZERO`] it is ready at its first poll: to let others run, use
/// [`yield_now`](crate::yield_now). A millisecond or more is taken to lie ahead when it is first polled, without another look
/// at the clock: if that poll comes late, it may be pending once, for a moment.
///
/// # Cancel safety
///
/// Dropping it removes its timer: no entry stays, and no wake-up comes.
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
pub fn sleep(duration: Duration) -> Sleep {
    let deadline = after(now(), duration);
    if duration < TICK { Sleep::new(deadline) } else { Sleep::ahead(deadline) }
}

/// Waits until `at`; what has passed is ready at its first poll. Otherwise like [`sleep`].
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
pub fn sleep_until(at: Instant) -> Sleep {
    Sleep::new(Some(at))
}

/// Waits until an instant; made by [`sleep`] and [`sleep_until`].
///
/// It takes a timer of the runtime that polls it first, or of the default runtime if none does, when it is pending for
/// the first time, and keeps that one. Once ready it stays so until it is [`reset`](Sleep::reset).
#[must_use = "futures do nothing unless they are polled"]
pub struct Sleep {
    /// `None`: never.
    deadline: Option<Instant>,
    state: State,
}

// Whatever panics is a waker, under no lock; a sleep sees no half-done state.
impl std::panic::UnwindSafe for Sleep {}
impl std::panic::RefUnwindSafe for Sleep {}

enum State {
    /// Without a timer.
    Idle,
    /// The same, and its instant was ahead a short while ago. A look at the clock costs as much as a timer.
    Ahead,
    Waiting(Registration),
    /// Its instant has come, and the budget was spent.
    Refused,
    Elapsed,
}

/// A timer, which ends with it.
struct Registration {
    timers: Arc<Timers>,
    key: TimerKey,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.timers.remove(&self.key);
    }
}

impl Sleep {
    pub(super) fn new(deadline: Option<Instant>) -> Self {
        Sleep { deadline, state: State::Idle }
    }

    /// One whose instant is ahead.
    pub(super) fn ahead(deadline: Option<Instant>) -> Self {
        Sleep { deadline, state: State::Ahead }
    }

    /// The instant it waits for; `None` if it waits for ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Makes it wait until `at`, whether it is waiting, is ready, or was never polled.
    ///
    /// The task that waits for it stays registered: it need not poll again to be woken at the new instant, be it earlier
    /// or later. Only if the old one has passed, and the task was woken for it, the next poll registers anew.
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
        if let State::Waiting(registration) = &this.state
            && registration.timers.reset(&registration.key, at) == TimerState::Armed
        {
            return;
        }
        this.state = State::Idle;
    }

    /// What `poll` does, by the name of what it is part of.
    pub(super) fn poll_leaf(&mut self, leaf: &'static str, cx: &mut Context<'_>) -> Poll<()> {
        self.within_budget(cx, |sleep, cx| match eager::is_eager() {
            true => sleep.poll_eagerly(leaf, cx),
            false => sleep.poll_elapsed(cx),
        })
    }

    /// Asks `elapsed`, and consumes a unit of the budget unless the sleep was pending before.
    #[inline]
    pub(super) fn within_budget(
        &mut self,
        cx: &mut Context<'_>,
        elapsed: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        let mut claim = Claim::new(matches!(self.state, State::Waiting(_) | State::Refused));
        ready!(elapsed(self, cx));
        let polled = claim.complete(cx);
        if polled.is_pending() {
            self.state = State::Refused;
        }
        polled
    }

    /// Blocks the thread.
    #[cold]
    fn poll_eagerly(&mut self, leaf: &'static str, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if matches!(self.state, State::Elapsed) || self.deadline.is_some_and(|deadline| now() >= deadline)
            {
                self.state = State::Elapsed;
                return Poll::Ready(());
            }
            match eager::not_ready(cx, leaf) {
                NotReady::Suspend => return self.poll_elapsed(cx),
                NotReady::Pending => return Poll::Pending,
                NotReady::Block(until) => {
                    let until = earlier(self.deadline, until);
                    let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(now()));
                    thread::sleep(left);
                }
            }
        }
    }

    /// Whatever is left of the budget, and whether or not leaves are to block.
    pub(super) fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let elapsed = match &self.state {
            State::Elapsed => return Poll::Ready(()),
            State::Refused => true,
            State::Idle => now() >= deadline,
            State::Ahead => false,
            State::Waiting(Registration { timers, key }) => {
                // Its timers may be late, and need not be bothered then.
                timers.clock().now() >= deadline
                    || match timers.set_waker(key, cx.waker()) {
                        TimerState::Armed => return Poll::Pending,
                        TimerState::Fired => true,
                        // Whoever polls now has other timers.
                        TimerState::Closed => false,
                    }
            }
        };
        self.state = if elapsed { State::Elapsed } else { register(deadline, cx) };
        if elapsed { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Takes a timer of the current runtime, or of the default one.
fn register(deadline: Instant, cx: &Context<'_>) -> State {
    let insert = |(timers, shard): (Arc<Timers>, usize)| {
        let key = timers.insert(shard, deadline, cx.waker().clone())?;
        Some(State::Waiting(Registration { timers, key }))
    };
    let registered = current().and_then(insert).or_else(|| insert((default_timers(), 0)));
    // The default runtime ends with the process.
    registered.unwrap_or(State::Idle)
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
