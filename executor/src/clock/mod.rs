//! Instants and ticks. All arithmetic on instants is here: it saturates, and it rounds up.
//!
//! A tick is a 64th of a millisecond, counted from the clock's origin; in virtual time, it is a
//! nanosecond, so that nothing there is rounded. Deadlines are rounded *up*
//! to a tick and the present is rounded *down*, so that what is due by its tick is due by its
//! instant: no timer is early. A deadline beyond the last tick has the tick [`NEVER`], one beyond
//! the last `Instant` is `None`: both are pending for ever.
//!
//! Only a deadline that is near needs the single tick. A timer is rounded up by a 32nd of its time
//! at most, and by no more than a millisecond ([`Rounding`]). A runtime that sleeps gets up for it
//! at a whole millisecond, so that one wake-up serves all timers of that millisecond, unless it was
//! less than a millisecond ahead.
mod deadline;
mod manual;

pub(crate) use deadline::execution;
pub use deadline::{deadline, remaining};
pub(crate) use manual::{Hold, ManualClock, ThreadHold};

use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::util::switches::FINE_TIMERS;
use crate::util::thread_state;

/// The tick that is never reached.
pub(crate) const NEVER: u64 = u64::MAX;

/// Ticks of a second, and of a millisecond.
const TICKS_PER_SECOND: u64 = 64_000;
const TICKS_PER_MILLISECOND: u64 = 64;
const NANOSECONDS_PER_TICK: u32 = 15_625;

/// A runtime that sleeps gets up at a whole millisecond for a deadline that is so far ahead, or
/// further.
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

/// How many low bits of a timer's tick are zero: the tick is rounded up so that they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rounding(u32);

impl Rounding {
    /// To a tick. No other rounding is one of a deadline that is less than a millisecond ahead.
    pub(crate) const TICK: Rounding = Rounding(0);
    /// To a tick that begins a millisecond.
    pub(crate) const MILLISECOND: Rounding = Rounding(TICKS_PER_MILLISECOND.ilog2());

    /// For a deadline that is so far ahead: to a 32nd of that at most.
    #[inline]
    pub(crate) fn for_deadline_in(ahead: Duration) -> Rounding {
        const HALF: u32 = MILLISECOND.subsec_nanos() / 2;
        if !FINE_TIMERS || ahead >= 32 * MILLISECOND {
            return Rounding::MILLISECOND;
        }
        Rounding((ahead.subsec_nanos() / HALF).checked_ilog2().unwrap_or(0))
    }
}

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
/// moves the clock itself, and does not wait; but for an instant after the clock's end, which is
/// for ever.
pub(crate) fn block_until(until: Option<Instant>) {
    match (current_manual(), until) {
        (Some(clock), Some(until)) if clock.advance_to(until) => {}
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
    /// Whether a tick is a nanosecond, whatever the rounding.
    is_exact: bool,
}

impl Clock {
    /// The machine's monotonic clock; tick 0 is now.
    pub(crate) fn real() -> Self {
        Clock { origin: Instant::now(), manual: None, is_exact: false }
    }

    /// A clock that is moved by hand, with the ticks of virtual time.
    pub(crate) fn exact(clock: &Arc<ManualClock>) -> Self {
        Clock { origin: clock.origin(), manual: Some(clock.clone()), is_exact: true }
    }

    /// A clock that is moved by hand, with the ticks of the machine's clock.
    #[cfg(test)]
    pub(crate) fn manual(clock: &Arc<ManualClock>) -> Self {
        Clock { is_exact: false, ..Clock::exact(clock) }
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
        if self.is_exact {
            return exact_ticks(elapsed);
        }
        ticks(elapsed, elapsed.subsec_nanos() / NANOSECONDS_PER_TICK).min(NEVER - 1)
    }

    /// The first tick that is not before `deadline`; [`NEVER`] if there is none.
    pub(crate) fn tick_of(&self, deadline: Instant) -> u64 {
        let elapsed = deadline.saturating_duration_since(self.origin);
        if self.is_exact {
            return exact_ticks(elapsed);
        }
        ticks(elapsed, elapsed.subsec_nanos().div_ceil(NANOSECONDS_PER_TICK))
    }

    /// The first tick, not before `tick`, that is so round; in virtual time, `tick`.
    pub(crate) fn round_up(&self, tick: u64, rounding: Rounding) -> u64 {
        let rest = (1 << rounding.0) - 1;
        match tick.checked_add(rest) {
            Some(sum) if !self.is_exact => sum & !rest,
            _ => tick,
        }
    }

    /// The instant at which `tick` begins; `None` if it is never reached.
    pub(crate) fn instant_of(&self, tick: u64) -> Option<Instant> {
        if self.is_exact {
            let elapsed = (tick <= manual::END).then_some(Duration::from_nanos(tick));
            return self.origin.checked_add(elapsed?);
        }
        if tick == NEVER {
            return None;
        }
        let part = (tick % TICKS_PER_SECOND) as u32 * NANOSECONDS_PER_TICK;
        self.origin.checked_add(Duration::new(tick / TICKS_PER_SECOND, part))
    }
}

/// The ticks of the whole seconds of a duration, and `part` of them besides; [`NEVER`] if that is
/// no tick.
fn ticks(duration: Duration, part: u32) -> u64 {
    duration.as_secs().saturating_mul(TICKS_PER_SECOND).saturating_add(part.into())
}

/// The nanoseconds of a duration; [`NEVER`] if it leads beyond the end of a manual clock.
fn exact_ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).ok().filter(|tick| *tick <= manual::END).unwrap_or(NEVER)
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
        for (nanoseconds, up, round, down) in [
            (0, 0, 0, 0),
            (1, 1, 64, 0),
            (15_624, 1, 64, 0),
            (15_625, 1, 64, 1),
            (15_626, 2, 64, 1),
            (999_999, 64, 64, 63),
            (1_000_000, 64, 64, 64),
            (1_000_001, 65, 128, 64),
            (999_999_999, 64_000, 64_000, 63_999),
            (1_000_000_001, 64_001, 64_064, 64_000),
        ] {
            manual.set(Duration::from_nanos(nanoseconds));
            let deadline = origin + Duration::from_nanos(nanoseconds);
            assert_eq!(clock.tick_of(deadline), up);
            assert_eq!(clock.round_up(up, Rounding::MILLISECOND), round);
            assert_eq!(clock.tick(), down);
        }
    }

    #[test]
    fn in_virtual_time_a_tick_is_a_nanosecond() {
        let manual = ManualClock::new();
        let clock = Clock::exact(&manual);
        let origin = manual.now();
        let end = Duration::from_nanos(manual::END);
        for nanoseconds in [0, 1, 15_625, 100_000, 1_000_001, 1 << 42, manual::END] {
            let elapsed = Duration::from_nanos(nanoseconds);
            manual.set(elapsed);
            assert_eq!(clock.tick_of(origin + elapsed), nanoseconds);
            assert_eq!(clock.round_up(nanoseconds, Rounding::MILLISECOND), nanoseconds);
            assert_eq!((clock.tick(), clock.instant_of(nanoseconds)), (nanoseconds, Some(origin + elapsed)));
        }
        let beyond = origin + end + Duration::from_nanos(1);
        assert_eq!(clock.tick_of(beyond), NEVER);
        // The tick of a timer that is never due.
        assert_eq!((clock.instant_of(NEVER - 1), clock.instant_of(NEVER)), (None, None));
        manual.set(Duration::ZERO);
        assert!(!manual.advance_to(beyond));
        assert_eq!(manual.now(), origin);
        manual.advance(Duration::MAX);
        assert!(manual.advance_to(origin + end) && clock.tick() < NEVER - 1);
    }

    #[test]
    fn a_timer_is_rounded_up_by_a_small_part_of_its_time() {
        let nanos = Duration::from_nanos;
        for near in [0, 499_999, 999_999] {
            assert_eq!(Rounding::for_deadline_in(nanos(near)), Rounding::TICK);
        }
        let (_, clock) = clock();
        for ahead in (1_000_000..100_000_000).step_by(33_333) {
            let rounding = Rounding::for_deadline_in(nanos(ahead));
            assert_ne!(rounding, Rounding::TICK);
            let late = clock.instant_of(clock.round_up(1, rounding)).unwrap() - clock.origin;
            assert!(late <= nanos(ahead / 32) && late <= MILLISECOND, "{ahead}: {late:?}");
        }
        assert_eq!(Rounding::for_deadline_in(Duration::MAX), Rounding::MILLISECOND);
    }

    #[test]
    fn a_deadline_whose_tick_is_reached_is_reached() {
        let (manual, clock) = clock();
        let origin = manual.now();
        for deadline in (0..3_000_000).step_by(11_111) {
            let tick = clock.tick_of(origin + Duration::from_nanos(deadline));
            assert!((tick..tick + 64).contains(&clock.round_up(tick, Rounding::MILLISECOND)));
            for now in (0..3_000_000).step_by(33_333) {
                manual.set(Duration::from_nanos(now));
                assert!(clock.tick() < tick || now >= deadline);
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
        let tick = clock.tick_of(far);
        for tick in [tick, clock.round_up(tick, Rounding::MILLISECOND)] {
            assert!(tick == NEVER || clock.instant_of(tick).is_none());
        }
        for tick in [NEVER - 1, NEVER] {
            assert_eq!(clock.round_up(tick, Rounding::MILLISECOND), tick);
        }
        assert_eq!(clock.instant_of(NEVER), None);
        let past = manual.origin().checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(clock.tick_of(past), 0);
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
