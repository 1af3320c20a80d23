//! Instants and ticks. All arithmetic on instants is here: it saturates, and it rounds up.
//!
//! A tick is a millisecond since the clock's origin. Deadlines are rounded *up* to a tick and the
//! present is rounded *down*, so that what is due by its tick is due by its instant: no timer is
//! early. A deadline beyond the last tick has the tick [`NEVER`], one beyond the last `Instant` is
//! `None`: both are pending for ever.
mod deadline;
mod manual;

pub(crate) use deadline::execution;
pub use deadline::{deadline, remaining};
pub(crate) use manual::{Hold, ManualClock, ThreadHold};

use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::util::thread_state;

/// The tick that is never reached.
pub(crate) const NEVER: u64 = u64::MAX;

const NANOSECONDS_PER_TICK: u32 = 1_000_000;

/// The length of a tick.
pub(crate) const TICK: Duration = Duration::from_nanos(NANOSECONDS_PER_TICK as u64);

/// The present, by the clock of the runtime that this thread belongs to, else by the machine's
/// clock.
///
/// [`Instant::now`], except in [virtual time](crate::runtime::Builder::virtual_time): there it is
/// the instant that deadlines and timers are compared with, which the machine's clock knows nothing
/// of.
///
/// ```
/// use std::time::Duration;
/// use heirloom::time::now;
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = heirloom::Runtime::builder().virtual_time().build()?;
/// runtime.block_on(async {
///     let before = now();
///     heirloom::sleep(Duration::from_secs(3_600)).await;
///     assert_eq!(now() - before, Duration::from_secs(3_600));
/// });
/// # Ok(()) }
/// ```
#[must_use]
pub fn now() -> Instant {
    with_current(|clock| clock.map_or_else(Instant::now, Clock::now))
}

/// Calls `f` with the clock of the runtime that this thread belongs to, if there is one.
fn with_current<R>(f: impl FnOnce(Option<&Clock>) -> R) -> R {
    let clock = thread_state::with(|state| state.clock.get()).cast::<Clock>();
    // SAFETY: the pointer is that of a clock which a `ClockGuard` of this thread borrows, and the
    // reference ends with this call.
    f(unsafe { clock.as_ref() })
}

/// The current clock, if it is one that is moved by hand.
pub(crate) fn current_manual() -> Option<Arc<ManualClock>> {
    with_current(|clock| clock.and_then(|clock| clock.manual.clone()))
}

/// Waits until `until` in a thread that can do nothing else meanwhile. In virtual time the thread
/// moves the clock itself, and does not wait.
pub(crate) fn block_until(until: Option<Instant>) {
    match (current_manual(), until) {
        (Some(clock), Some(until)) => clock.advance_to(until),
        (_, until) => {
            std::thread::sleep(until.map_or(Duration::MAX, |at| at.saturating_duration_since(now())))
        }
    }
}

/// Dropping it makes the former clock of this thread current again.
pub(crate) struct ClockGuard<'a> {
    clock: *const (),
    _clock: PhantomData<&'a Clock>,
}

/// Makes `clock` the clock of this thread until the guard is dropped.
pub(crate) fn enter(clock: &Clock) -> ClockGuard<'_> {
    let former = thread_state::with(|state| state.clock.replace(ptr::from_ref(clock).cast()));
    ClockGuard { clock: former, _clock: PhantomData }
}

impl Drop for ClockGuard<'_> {
    fn drop(&mut self) {
        thread_state::with(|state| state.clock.set(self.clock));
    }
}

/// The source of a runtime's time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// `None` for the machine's clock.
    manual: Option<Arc<ManualClock>>,
}

impl Clock {
    /// The machine's monotonic clock; tick 0 is now.
    pub(crate) fn real() -> Self {
        Clock { origin: Instant::now(), manual: None }
    }

    /// A clock that is moved by hand.
    pub(crate) fn manual(clock: &Arc<ManualClock>) -> Self {
        Clock { origin: clock.origin(), manual: Some(clock.clone()) }
    }

    /// A clock that is moved by hand, if it is one.
    pub(crate) fn as_manual(&self) -> Option<&Arc<ManualClock>> {
        self.manual.as_ref()
    }

    /// The present.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match &self.manual {
            None => Instant::now(),
            Some(manual) => manual.now(),
        }
    }

    /// The present tick, rounded down.
    pub(crate) fn tick(&self) -> u64 {
        let elapsed = self.now().saturating_duration_since(self.origin);
        u64::try_from(elapsed.as_millis()).unwrap_or(NEVER).min(NEVER - 1)
    }

    /// The first tick that is not before `deadline`; [`NEVER`] if there is none.
    pub(crate) fn tick_of(&self, deadline: Instant) -> u64 {
        let elapsed = deadline.saturating_duration_since(self.origin);
        let partial = u128::from(!elapsed.subsec_nanos().is_multiple_of(NANOSECONDS_PER_TICK));
        u64::try_from(elapsed.as_millis() + partial).unwrap_or(NEVER)
    }

    /// The instant at which `tick` begins; `None` if it is never reached.
    pub(crate) fn instant_of(&self, tick: u64) -> Option<Instant> {
        if tick == NEVER {
            return None;
        }
        self.origin.checked_add(Duration::from_millis(tick))
    }
}

/// `duration` after `now`; `None` for an instant that no `Instant` can hold, which is never
/// reached.
#[inline]
pub(crate) fn after(now: Instant, duration: Duration) -> Option<Instant> {
    now.checked_add(duration)
}

/// The earlier of two instants, where `None` is never reached.
#[inline]
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The first instant after `now` that is a whole number of periods, at least one, after `start`.
pub(crate) fn next_multiple(start: Instant, period: Duration, now: Instant) -> Option<Instant> {
    const NANOSECONDS_PER_SECOND: u128 = 1_000_000_000;
    let late = now.saturating_duration_since(start);
    // The remainder is less than the period and at most `late`, so both parts fit.
    let part = late.as_nanos() % period.as_nanos();
    let part = Duration::new((part / NANOSECONDS_PER_SECOND) as u64, (part % NANOSECONDS_PER_SECOND) as u32);
    after(start.max(now), period - part)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn clock() -> (Arc<ManualClock>, Clock) {
        let manual = ManualClock::new();
        (manual.clone(), Clock::manual(&manual))
    }

    #[test]
    fn deadlines_are_rounded_up_and_the_present_down() {
        let (manual, clock) = clock();
        let origin = manual.now();
        for (nanoseconds, up, down) in
            [(0, 0, 0), (1, 1, 0), (999_999, 1, 0), (1_000_000, 1, 1), (1_000_001, 2, 1)]
        {
            manual.set(Duration::from_nanos(nanoseconds));
            assert_eq!(clock.tick_of(origin + Duration::from_nanos(nanoseconds)), up);
            assert_eq!(clock.tick(), down);
        }
    }

    #[test]
    fn a_deadline_whose_tick_is_reached_is_reached() {
        let (manual, clock) = clock();
        let origin = manual.now();
        for deadline in (0..5_000_000).step_by(333_333) {
            for now in (0..5_000_000).step_by(111_111) {
                manual.set(Duration::from_nanos(now));
                if clock.tick() >= clock.tick_of(origin + Duration::from_nanos(deadline)) {
                    assert!(now >= deadline);
                }
            }
        }
    }

    #[test]
    fn the_far_future_is_never_and_the_past_is_tick_zero() {
        let (manual, clock) = clock();
        manual.advance(Duration::from_secs(1));
        assert_eq!(after(clock.now(), Duration::MAX), None);
        let mut far = clock.now();
        for exponent in (0..64).rev() {
            far = far.checked_add(Duration::from_secs(1 << exponent)).unwrap_or(far);
        }
        assert!(clock.tick_of(far) == NEVER || clock.instant_of(clock.tick_of(far)).is_none());
        assert_eq!(clock.instant_of(NEVER), None);
        assert_eq!(clock.tick_of(manual.origin().checked_sub(Duration::from_secs(1)).unwrap()), 0);
    }

    #[test]
    fn ticks_and_instants_agree_across_the_range() {
        let (manual, clock) = clock();
        for tick in [0, 1, 63, 64, (1 << 36) - 1, 1 << 36, (1 << 36) + 1, 1 << 42] {
            let instant = clock.instant_of(tick).unwrap();
            assert_eq!(clock.tick_of(instant), tick);
            manual.set(Duration::ZERO);
            manual.advance_to(instant);
            assert_eq!(clock.tick(), tick);
        }
    }

    #[test]
    fn a_manual_clock_stops_at_its_end() {
        let (manual, clock) = clock();
        manual.advance(Duration::MAX);
        let end = clock.now();
        manual.advance(Duration::from_nanos(1));
        assert_eq!(clock.now(), end);
    }

    #[test]
    fn multiples_of_a_period() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let period = Duration::from_millis(10);
        for (now, next) in [(0, 10), (1, 10), (9, 10), (10, 20), (11, 20), (995, 1000)] {
            assert_eq!(next_multiple(start, period, at(now)), Some(at(next)));
        }
        assert_eq!(next_multiple(at(5), period, start), Some(at(15)));
        assert_eq!(next_multiple(start, Duration::MAX, at(5)), after(start, Duration::MAX));
    }
}
