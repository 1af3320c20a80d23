//! A clock that is moved by hand, and who may move it.
//!
//! # Terms
//!
//! * *Virtual time* is the time of a runtime whose clock is a manual clock: it stands still while
//!   anything can run, and *jumps* to the next timer when nothing can.
//! * The *worker* is the one worker of that runtime. It alone jumps, when it has nothing to do.
//! * A *hold* says that another thread of the runtime may act now: a thread in `block_on` that is
//!   not parked, or a blocking closure that is queued or runs.
//! * A *waiter* is a thread that is parked in `block_on`. Without a waiter no program needs the
//!   time to go on.
//!
//! # States
//!
//! A clock is **held** while there are holds, **idle** without holds and waiters, and else
//! **free**.
//!
//! # Transitions
//!
//! | step | event | function | effect |
//! | --- | --- | --- | --- |
//! | VT1 | a closure is queued, a `block_on` begins | `Hold::new` | a hold more |
//! | VT2 | the closure or the `block_on` is over | `Hold::drop` | a hold less; the last one: unparks the worker |
//! | VT3 | the thread parks in `block_on` | `ManualClock::park` | a hold becomes a waiter; the last hold: unparks the worker |
//! | VT4 | the parked thread is woken | `ManualClock::woken` | a waiter becomes a hold |
//! | VT5 | the worker has nothing to do | `ManualClock::jump` | free: asks for the next timer, and moves the clock there; else nothing |
//!
//! # Why the clock does not jump too early
//!
//! Holds and waiters are counted under one lock, and VT5 reads the queues and the timers under it,
//! after it has seen that there is no hold. What a thread does while it has a hold comes before
//! its VT2 or VT3, so VT5 sees it. A thread without a hold does nothing before VT4, which is done
//! by the thread that wakes it: the worker, which is then not in VT5, or a thread with a hold. A
//! thread that the runtime does not know has no hold, and the clock does not wait for it.
//!
//! VT4 may come before the VT3 that it undoes: the counts are signed.
//!
//! # Why the worker does not sleep on
//!
//! The worker announces its sleep, then tries VT5, then parks. If VT5 finds a hold, the VT2 or VT3
//! of that hold comes later, finds the announced worker, and unparks it.

use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::NEVER;
use crate::util::report::complain;
use crate::util::sync::{Mutex, lock, weakened};
use crate::util::thread_state;

/// The last instant of the clock, in nanoseconds since its origin: 584 years. It is less than the
/// tick of a timer that is never due, so that such a timer is not due at the clock's end either.
pub(super) const END: u64 = NEVER - 2;

/// A clock that stands still until it is moved: for tests and simulations.
pub(crate) struct ManualClock {
    origin: Instant,
    /// Nanoseconds since the origin. Relaxed everywhere: the number orders no other memory.
    elapsed: AtomicU64,
    users: Mutex<Users>,
    /// Unparks the worker, if it sleeps or is about to; called under no lock.
    unpark: Box<dyn Fn() + Send + Sync>,
    reported_stuck: AtomicBool,
}

#[derive(Debug, Default)]
struct Users {
    holds: isize,
    waiters: isize,
}

impl ManualClock {
    /// A clock that stands at its own origin, and that no worker moves.
    #[cfg(test)]
    pub(crate) fn new() -> Arc<Self> {
        ManualClock::with_worker(Box::new(|| ()))
    }

    /// A clock that stands at its own origin. `unpark` unparks the worker that moves it.
    pub(crate) fn with_worker(unpark: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        let (origin, elapsed) = (Instant::now(), AtomicU64::new(0));
        let users = Mutex::new(Users::default());
        Arc::new(ManualClock { origin, elapsed, users, unpark, reported_stuck: AtomicBool::new(false) })
    }

    pub(super) fn origin(&self) -> Instant {
        self.origin
    }

    /// The clock's instant.
    pub(crate) fn now(&self) -> Instant {
        let elapsed = Duration::from_nanos(self.elapsed.load(Ordering::Relaxed));
        // At most 584 years, which a platform's `Instant` may be unable to hold.
        self.origin.checked_add(elapsed).unwrap_or(self.origin)
    }

    /// Moves the clock forward, at most to its [`END`].
    #[cfg(all(test, not(loom)))]
    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let add = |elapsed: u64| Some(elapsed.saturating_add(by).min(END));
        let _ = self.elapsed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Moves the clock forward to `instant`, unless it stands there or later. Returns `false`, and
    /// leaves the clock where it is, if `instant` is after its [`END`].
    pub(crate) fn advance_to(&self, instant: Instant) -> bool {
        let elapsed = instant.saturating_duration_since(self.origin).as_nanos();
        match u64::try_from(elapsed) {
            Ok(elapsed @ ..=END) => {
                self.elapsed.fetch_max(elapsed, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    /// Sets the clock, also backwards.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn set(&self, elapsed: Duration) {
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(END).min(END);
        self.elapsed.store(elapsed, Ordering::Relaxed);
    }

    /// VT5. Moves the clock to the instant that `next` returns. `next` is called if the clock is
    /// free; it looks at the queues and at the timers. Returns whether the clock stands there.
    pub(crate) fn jump(&self, next: impl Fn() -> Option<Instant>) -> bool {
        let early = weakened("the holds before the queues").then(&next);
        let users = lock(&self.users);
        if users.holds != 0 || users.waiters <= 0 {
            return false;
        }
        let Some(next) = early.unwrap_or_else(next) else { return false };
        self.advance_to(next)
    }

    /// The clock is free, there is nothing to run, and no timer to jump to: none at all, or none
    /// before the clock's [`END`]. Most often a test that would hang.
    #[cold]
    pub(crate) fn report_stuck(&self) {
        if !self.reported_stuck.swap(true, Ordering::Relaxed) {
            complain(format_args!(
                "in virtual time, `block_on` waits, no task can run, and no timer is set that will be due: this is \
                 for ever, unless a thread outside of the runtime wakes one"
            ));
        }
    }

    /// VT3.
    pub(crate) fn park(&self) {
        self.release(1);
    }

    /// VT4.
    pub(crate) fn woken(&self) {
        let mut users = lock(&self.users);
        users.holds += 1;
        users.waiters -= 1;
    }

    /// A hold less, and `waiters` more.
    fn release(&self, waiters: isize) {
        if weakened("the release before the unpark") {
            (self.unpark)();
        }
        let mut users = lock(&self.users);
        users.holds -= 1;
        users.waiters += waiters;
        let last = users.holds == 0;
        drop(users);
        if last && !weakened("the release before the unpark") {
            (self.unpark)();
        }
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// A hold of a manual clock; nothing with another clock.
#[derive(Debug)]
pub(crate) struct Hold(Option<Arc<ManualClock>>);

impl Hold {
    /// VT1.
    pub(crate) fn new(clock: Option<&Arc<ManualClock>>) -> Hold {
        if let Some(clock) = clock {
            lock(&clock.users).holds += 1;
        }
        Hold(clock.cloned())
    }
}

/// VT2.
impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(clock) = &self.0 {
            clock.release(0);
        }
    }
}

/// Says that this thread acts under a hold, until it is dropped.
#[derive(Debug)]
pub(crate) struct ThreadHold {
    /// The clock that the thread had a hold of before.
    former: *const (),
    _hold: Hold,
}

impl ThreadHold {
    /// The hold is that of the closure that this thread runs.
    pub(crate) fn of_closure(hold: &Hold) -> ThreadHold {
        ThreadHold::enter(hold.0.as_ref(), Hold(None))
    }

    /// A hold of its own, unless the thread has one of this clock: then a `block_on` inside it,
    /// when it parks, parks the holder.
    pub(crate) fn of_block_on(clock: Option<&Arc<ManualClock>>) -> ThreadHold {
        let held = thread_state::with(|state| state.held.get());
        ThreadHold::enter(clock, Hold::new(clock.filter(|clock| !ptr::eq(Arc::as_ptr(clock).cast(), held))))
    }

    fn enter(clock: Option<&Arc<ManualClock>>, hold: Hold) -> ThreadHold {
        let former = thread_state::with(|state| match clock {
            Some(clock) => state.held.replace(Arc::as_ptr(clock).cast()),
            None => state.held.get(),
        });
        ThreadHold { former, _hold: hold }
    }
}

impl Drop for ThreadHold {
    fn drop(&mut self) {
        thread_state::with(|state| state.held.set(self.former));
    }
}

#[cfg(all(test, loom))]
#[path = "models.rs"]
mod models;
