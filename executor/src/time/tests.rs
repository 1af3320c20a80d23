//! The futures of this module, on a clock that is moved by hand.
#![forbid(unsafe_code)]

use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use heirloom_context::raw;

use super::current::TimersGuard;
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::util::waker_set::WakeCount;

/// Timers of a manual clock, current on this thread.
struct TestTimers {
    clock: Arc<ManualClock>,
    timers: &'static Arc<Timers>,
    woken: Arc<WakeCount>,
    _entered: TimersGuard<'static>,
}

/// Timers that live as long as the process.
fn leaked(timers: Timers) -> &'static Arc<Timers> {
    static LEAKED: Mutex<Vec<&'static Arc<Timers>>> = Mutex::new(Vec::new());
    let leaked: &Arc<Timers> = Box::leak(Box::new(Arc::new(timers)));
    // Reachable, so that no leak checker reports them.
    LEAKED.lock().unwrap().push(leaked);
    leaked
}

impl TestTimers {
    fn new() -> Self {
        let clock = ManualClock::new();
        let timers = leaked(Timers::new(2, Clock::manual(&clock), Box::new(|| ())));
        let _entered = enter(timers, 1);
        TestTimers { clock, timers, woken: Arc::default(), _entered }
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn pass(&self, duration: Duration) -> usize {
        self.clock.advance(duration);
        self.timers.fire(0)
    }

    fn poll<F: Future + ?Sized>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&Waker::from(self.woken.clone())))
    }
}

const MS: Duration = Duration::from_millis(1);

fn odd_durations() -> [Duration; 10] {
    let nanosecond = Duration::from_nanos(1);
    [
        Duration::ZERO,
        nanosecond,
        Duration::MAX,
        Duration::MAX - nanosecond,
        Duration::from_millis(u64::MAX),
        Duration::from_millis(u64::MAX - 1),
        Duration::from_secs(u64::MAX / 2),
        Duration::from_millis((1 << 36) - 1),
        Duration::from_millis(1 << 36),
        Duration::from_millis((1 << 36) + 1),
    ]
}

#[test]
fn every_duration_is_allowed() {
    for duration in odd_durations() {
        let rig = TestTimers::new();
        let is_ready = duration.is_zero();
        assert_eq!(rig.poll(pin!(sleep(duration))).is_ready(), is_ready);
        assert_eq!(rig.poll(pin!(wait_for(pending::<()>(), duration))).is_ready(), is_ready);
        assert_eq!(rig.poll(pin!(wait_for(ready(1), duration))), Poll::Ready(Ok(1)));
        if let Some(at) = rig.now().checked_add(duration) {
            assert_eq!(rig.poll(pin!(sleep_until(at))).is_ready(), is_ready);
            let mut sleep = pin!(sleep(MS));
            assert!(rig.poll(sleep.as_mut()).is_pending());
            sleep.as_mut().reset(at);
            assert_eq!(rig.poll(sleep).is_ready(), is_ready);
        }
        if !is_ready {
            let mut interval = interval(duration);
            assert!(rig.poll(pin!(interval.tick())).is_ready());
            assert!(rig.poll(pin!(interval.tick())).is_pending());
            for policy in [MissedTicks::Delay, MissedTicks::Skip] {
                let mut interval = interval_at(rig.now(), duration).missed_tick_policy(policy);
                rig.clock.advance(MS / 2);
                assert!(rig.poll(pin!(interval.tick())).is_ready());
                interval.reset();
                assert!(rig.poll(pin!(interval.tick())).is_pending());
            }
        }
        assert_eq!(rig.timers.len(), 0);
    }
}

#[test]
fn never_early_and_late_by_the_rounding_at_most() {
    let rig = TestTimers::new();
    let step = Duration::from_nanos(10_000);
    for nanoseconds in (1..4_000_000).step_by(if cfg!(miri) { 777_777 } else { 77_777 }) {
        rig.clock.advance(Duration::from_nanos(33_333));
        let duration = Duration::from_nanos(nanoseconds);
        let before = rig.now();
        // By a poll that reads the clock, by one that does not, by a limit, and by a reset.
        let (mut at, mut after) = (pin!(sleep_until(before + duration)), pin!(sleep(duration)));
        let (mut limit, mut moved) = (pin!(wait_for(pending::<()>(), duration)), pin!(sleep(60 * MS)));
        assert!(rig.poll(at.as_mut()).is_pending() && rig.poll(after.as_mut()).is_pending());
        assert!(rig.poll(limit.as_mut()).is_pending() && rig.poll(moved.as_mut()).is_pending());
        moved.as_mut().reset(before + duration);
        while rig.woken.get() == 0 {
            rig.pass(step);
        }
        let waited = rig.now() - before;
        let rounding = if duration < MS { Duration::from_nanos(15_625) } else { MS };
        assert!(duration <= waited && waited < duration + rounding + step);
        assert_eq!(rig.woken.get(), 4, "all at once");
        assert!(rig.poll(at).is_ready() && rig.poll(after).is_ready());
        assert!(rig.poll(limit).is_ready() && rig.poll(moved).is_ready());
        rig.woken.reset();
    }
}

#[test]
fn a_sleep_has_one_timer_from_its_first_pending_poll_to_its_drop() {
    let rig = TestTimers::new();
    let mut waiting = Box::pin(sleep(MS));
    assert_eq!(rig.timers.len(), 0);
    for _ in 0..3 {
        assert!(rig.poll(waiting.as_mut()).is_pending());
        assert_eq!(rig.timers.len(), 1);
    }
    drop(waiting);
    assert_eq!((rig.timers.len(), Arc::strong_count(&rig.woken)), (0, 1));
    assert_eq!((rig.pass(MS), rig.woken.get()), (0, 0));

    let mut forever = pin!(sleep(Duration::MAX));
    assert!(rig.poll(forever.as_mut()).is_pending());
    assert_eq!((rig.timers.len(), forever.deadline()), (0, None));
}

#[test]
fn a_sleep_whose_first_poll_comes_late_fires_at_once() {
    let rig = TestTimers::new();
    let mut late = pin!(sleep(5 * MS));
    let (mut at, mut short) = (pin!(sleep_until(rig.now() + 5 * MS)), pin!(sleep(MS / 2)));
    rig.pass(10 * MS);
    assert!(rig.poll(late.as_mut()).is_pending());
    assert_eq!((rig.timers.fire(0), rig.woken.get()), (1, 1), "it is due");
    assert!(rig.poll(late).is_ready());
    assert!(
        rig.poll(at.as_mut()).is_ready() && rig.poll(short.as_mut()).is_ready(),
        "these look at the clock"
    );
    // A sleep that is reset reads the clock, too.
    let mut reset = pin!(sleep(5 * MS));
    reset.as_mut().reset(rig.now());
    assert!(rig.poll(reset).is_ready());
}

#[test]
fn the_latest_waker_is_woken() {
    let rig = TestTimers::new();
    let mut sleep = pin!(sleep(MS));
    let former = Arc::<WakeCount>::default();
    assert!(sleep.as_mut().poll(&mut Context::from_waker(&former.clone().into())).is_pending());
    assert!(rig.poll(sleep.as_mut()).is_pending());
    rig.pass(MS);
    assert_eq!((former.get(), rig.woken.get(), Arc::strong_count(&former)), (0, 1, 1));
    assert!(rig.poll(sleep.as_mut()).is_ready());
    assert!(rig.poll(sleep.as_mut()).is_ready());
}

#[test]
fn a_reset_rearms_without_a_poll() {
    for (to, after) in [(20, 5), (2, 1)] {
        let rig = TestTimers::new();
        let mut sleep = pin!(sleep(10 * MS));
        assert!(rig.poll(sleep.as_mut()).is_pending());
        let at = rig.now() + to * MS;
        sleep.as_mut().reset(at);
        assert_eq!((rig.pass((to - after) * MS), rig.timers.len()), (0, 1));
        assert_eq!((rig.pass(after * MS), rig.woken.get()), (1, 1));
        assert!(rig.poll(sleep.as_mut()).is_ready());

        // A sleep that has elapsed starts again.
        let at = rig.now() + MS;
        sleep.as_mut().reset(at);
        assert!(rig.poll(sleep.as_mut()).is_pending());
        assert_eq!((rig.pass(MS), rig.timers.len()), (1, 0));
        assert!(rig.poll(sleep).is_ready());
    }
}

#[test]
fn a_reset_of_one_that_has_fired_but_was_not_polled() {
    let rig = TestTimers::new();
    let mut sleep = pin!(sleep(MS));
    assert!(rig.poll(sleep.as_mut()).is_pending());
    rig.pass(MS);
    let at = rig.now() + MS;
    sleep.as_mut().reset(at);
    assert!(rig.poll(sleep.as_mut()).is_pending());
    rig.pass(MS);
    assert!(rig.poll(sleep).is_ready());
}

#[test]
fn a_sleep_outlives_its_runtime_in_another() {
    let mut waiting = pin!(sleep_until(Instant::now() + Duration::from_secs(3600)));
    let first = TestTimers::new();
    assert!(first.poll(waiting.as_mut()).is_pending());
    first.timers.close();
    assert_eq!(first.woken.get(), 1);
    let second = TestTimers::new();
    assert!(second.poll(waiting.as_mut()).is_pending());
    assert_eq!((first.timers.len(), second.timers.len()), (0, 1));
}

#[test]
fn the_limit_counts_from_the_first_poll() {
    let rig = TestTimers::new();
    let mut waiting = pin!(wait_for(pending::<()>(), 10 * MS));
    rig.clock.advance(50 * MS);
    assert!(rig.poll(waiting.as_mut()).is_pending());
    rig.pass(9 * MS);
    assert!(rig.poll(waiting.as_mut()).is_pending());
    assert_eq!((rig.pass(MS), rig.woken.get()), (1, 1));
    assert!(matches!(rig.poll(waiting), Poll::Ready(Err(Elapsed { .. }))));
}

#[test]
fn the_operand_wins_if_it_is_ready() {
    let rig = TestTimers::new();
    assert_eq!(rig.poll(pin!(wait_for(ready(7), Duration::ZERO))), Poll::Ready(Ok(7)));
    let mut polls = 0;
    let mut waiting = pin!(wait_for(
        poll_fn(|_| {
            polls += 1;
            if polls == 2 { Poll::Ready(7) } else { Poll::Pending }
        }),
        MS
    ));
    assert!(rig.poll(waiting.as_mut()).is_pending());
    rig.pass(50 * MS);
    assert_eq!(rig.poll(waiting), Poll::Ready(Ok(7)));
}

#[test]
fn a_ready_operand_takes_no_timer() {
    let rig = TestTimers::new();
    for number in 0..if cfg!(miri) { 100 } else { 10_000 } {
        assert_eq!(rig.poll(pin!(wait_for(ready(number), MS))), Poll::Ready(Ok(number)));
        assert_eq!(rig.timers.next_deadline(), None);
    }
}

#[test]
fn time_is_up_although_the_operand_spends_the_whole_budget() {
    let rig = TestTimers::new();
    let greedy = poll_fn(|cx| {
        while crate::task::budget::consume(cx).is_ready() {}
        Poll::<()>::Pending
    });
    let mut waiting = pin!(wait_for(greedy, MS));
    let poll = |waiting: Pin<&mut _>| {
        let former = crate::task::budget::refill();
        let result = rig.poll::<WaitFor<_>>(waiting);
        crate::task::budget::restore(former);
        result
    };
    assert!(poll(waiting.as_mut()).is_pending());
    rig.pass(MS);
    assert!(poll(waiting).is_ready());
}

#[test]
fn sleeps_that_are_ready_spend_the_budget() {
    let rig = TestTimers::new();
    let mut waiting = pin!(async {
        loop {
            sleep(Duration::ZERO).await;
        }
    });
    let former = crate::task::budget::refill();
    assert!(rig.poll::<dyn Future<Output = ()>>(waiting.as_mut()).is_pending());
    crate::task::budget::restore(former);
    assert_eq!(rig.woken.get(), 1);
}

#[test]
fn nested_limits_and_what_the_operand_sees() {
    let rig = TestTimers::new();
    let start = rig.now();
    let at = |milliseconds| Some(start + milliseconds * MS);
    let inner = async {
        let longer = wait_for(async { deadline() }, 500 * MS).await.unwrap();
        let shorter = wait_for(async { (deadline(), remaining()) }, 20 * MS).await.unwrap();
        let unlimited = wait_for(async { deadline() }, Duration::MAX).await.unwrap();
        (longer, shorter, unlimited, deadline())
    };
    let seen = rig.poll(pin!(wait_for(inner, 100 * MS)));
    assert_eq!(seen, Poll::Ready(Ok((at(100), (at(20), Some(20 * MS)), at(100), at(100)))));
    assert_eq!((deadline(), remaining()), (None, None));
}

/// A future of two polls. The first lasts 3 ms and calls `first` in between; the second is ready
/// with what `first` returned.
fn slow_at_first<R>(rig: &TestTimers, first: impl Fn() -> R) -> impl Future<Output = (R, Option<Instant>)> {
    let mut seen = None;
    poll_fn(move |_| match seen.take() {
        Some(seen) => Poll::Ready((seen, deadline())),
        None => {
            rig.clock.advance(MS);
            seen = Some(first());
            rig.clock.advance(2 * MS);
            Poll::Pending
        }
    })
}

#[test]
fn a_limit_starts_when_it_is_asked_for_or_after_the_first_poll() {
    let rig = TestTimers::new();
    let origin = rig.now();
    let at = |milliseconds| Some(origin + milliseconds * MS);
    let start = |milliseconds| rig.clock.set(milliseconds * MS);

    // The operand does not ask for the deadline.
    let mut waiting = pin!(wait_for(slow_at_first(&rig, || ()), 10 * MS));
    assert!(rig.poll(waiting.as_mut()).is_pending());
    assert_eq!(rig.timers.next_deadline(), at(13));
    assert_eq!(rig.poll(waiting), Poll::Ready(Ok(((), at(13)))));

    // The operand asks, and gets the same answer at its next poll.
    start(20);
    let asks = slow_at_first(&rig, || (deadline(), remaining()));
    let mut waiting = pin!(wait_for(asks, 10 * MS));
    assert!(rig.poll(waiting.as_mut()).is_pending());
    assert_eq!(rig.poll(waiting), Poll::Ready(Ok(((at(31), Some(10 * MS)), at(31)))));

    // An inner limit has to be compared with the outer one.
    start(40);
    let inner = slow_at_first(&rig, || assert!(rig.poll(pin!(wait_for(ready(()), MS))).is_ready()));
    let mut waiting = pin!(wait_for(inner, 10 * MS));
    assert!(rig.poll(waiting.as_mut()).is_pending());
    assert_eq!(rig.poll(waiting), Poll::Ready(Ok(((), at(51)))));

    // Time may be up when the first poll is over.
    start(60);
    let timers = rig.timers.len();
    let mut waiting = pin!(wait_for(slow_at_first(&rig, deadline), 2 * MS));
    assert!(matches!(rig.poll(waiting.as_mut()), Poll::Ready(Err(_))));
    assert_eq!((deadline(), rig.timers.len()), (None, timers), "a timer is left");
}

#[test]
fn a_limit_holds_although_the_first_poll_clears_the_deadline() {
    let rig = TestTimers::new();
    let clears = poll_fn(|_| {
        raw::set_execution(raw::execution().with_deadline(None));
        Poll::<()>::Pending
    });
    let mut waiting = pin!(wait_for(clears, 10 * MS));
    assert!(rig.poll(waiting.as_mut()).is_pending());
    rig.pass(10 * MS);
    assert!(rig.poll(waiting).is_ready());
}

#[test]
fn a_limit_survives_a_panic_in_the_first_poll() {
    let rig = TestTimers::new();
    let mut polls = 0;
    let panics_once = poll_fn(move |_| {
        polls += 1;
        assert!(polls > 1, "on purpose");
        Poll::<()>::Pending
    });
    let mut waiting = pin!(wait_for(panics_once, 10 * MS));
    assert!(catch_unwind(AssertUnwindSafe(|| rig.poll(waiting.as_mut()))).is_err());
    assert!(rig.poll(waiting.as_mut()).is_pending());
    rig.pass(10 * MS);
    assert!(matches!(rig.poll(waiting), Poll::Ready(Err(_))));
}

#[test]
fn an_outer_deadline_does_not_end_an_inner_wait() {
    let rig = TestTimers::new();
    let before = raw::set_execution(raw::Execution::NONE.with_deadline(Some(rig.now())));
    let mut inner = pin!(wait_for(sleep(10 * MS), 20 * MS));
    assert!(rig.poll(inner.as_mut()).is_pending());
    rig.pass(5 * MS);
    assert_eq!(remaining(), Some(Duration::ZERO));
    assert!(rig.poll(inner.as_mut()).is_pending());
    rig.pass(5 * MS);
    assert_eq!(rig.poll(inner), Poll::Ready(Ok(())));
    raw::set_execution(before);
}

#[test]
fn the_deadline_is_put_back_after_a_panic() {
    let rig = TestTimers::new();
    let mut waiting = pin!(wait_for(poll_fn(|_| -> Poll<()> { panic!("on purpose") }), MS));
    assert!(catch_unwind(AssertUnwindSafe(|| rig.poll(waiting.as_mut()))).is_err());
    assert_eq!(deadline(), None);
}

/// The milliseconds at which ticks are taken, if the second is taken at 35.
fn ticks(policy: MissedTicks) -> Vec<u128> {
    let rig = TestTimers::new();
    let start = rig.now();
    let mut interval = interval(10 * MS).missed_tick_policy(policy);
    let mut taken = Vec::new();
    while taken.len() < 6 {
        if rig.poll(pin!(interval.tick())).is_ready() {
            taken.push((rig.now() - start).as_millis());
            if taken.len() == 1 {
                rig.pass(35 * MS);
            }
        } else {
            rig.pass(MS);
        }
    }
    taken
}

#[test]
fn missed_ticks() {
    assert_eq!(ticks(MissedTicks::Burst), [0, 35, 35, 35, 40, 50]);
    assert_eq!(ticks(MissedTicks::Delay), [0, 35, 45, 55, 65, 75]);
    assert_eq!(ticks(MissedTicks::Skip), [0, 35, 40, 50, 60, 70]);
}

#[test]
#[should_panic(expected = "must not be zero")]
fn an_interval_needs_a_period() {
    let _ = interval(Duration::ZERO);
}

#[test]
fn guards_put_back_what_was_current() {
    let (outer, inner) = (TestTimers::new(), TestTimers::new());
    assert!(inner.poll(pin!(async { sleep(MS).await })).is_pending());
    let mut waiting = pin!(sleep(MS));
    assert!(inner.poll(waiting.as_mut()).is_pending());
    assert_eq!((outer.timers.len(), inner.timers.len()), (0, 1));
    drop(inner);
    let mut waiting = pin!(sleep(MS));
    assert!(outer.poll(waiting.as_mut()).is_pending());
    assert_eq!(outer.timers.len(), 1);
}

#[test]
fn a_hundred_thousand_short_sleeps() {
    const SLEEPS: u64 = if cfg!(miri) { 200 } else { 100_000 };
    let timers = Arc::new(Timers::new(1, Clock::real(), Box::new(|| ())));
    let _entered = enter(&timers, 0);
    let count = Arc::<WakeCount>::default();
    let waker = Waker::from(count.clone());
    let mut sleeps = Vec::new();
    for number in 0..SLEEPS {
        let mut sleep = Box::pin(sleep(Duration::from_nanos(number * (100_000 / SLEEPS) % 50_000)));
        if sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            sleeps.push(sleep);
        }
        timers.fire(0);
    }
    while timers.len() != 0 {
        timers.fire(0);
    }
    let mut ready =
        |mut sleep: Pin<Box<Sleep>>| sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
    assert_eq!(sleeps.len(), count.get());
    assert!(sleeps.drain(..).all(&mut ready));
}
