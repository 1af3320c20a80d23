//! What wakers may do, and what timers leave behind.
#![forbid(unsafe_code)]

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::task::Wake;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;

const MS: Rounding = Rounding::MILLISECOND;

/// A waker that counts, and then calls a function.
struct CallingWaker<F>(AtomicUsize, F);

impl<F: Fn() + Send + Sync + 'static> CallingWaker<F> {
    fn new(call: F) -> Arc<Self> {
        Arc::new(CallingWaker(AtomicUsize::new(0), call))
    }
}

impl<F> CallingWaker<F> {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl<F: Fn() + Send + Sync + 'static> Wake for CallingWaker<F> {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1();
    }
}

struct TestTimers {
    clock: Arc<ManualClock>,
    timers: Arc<Timers>,
    unparked: Arc<AtomicUsize>,
}

impl TestTimers {
    fn new(shards: usize) -> Self {
        let (clock, unparked) = (ManualClock::new(), Arc::<AtomicUsize>::default());
        let counter = unparked.clone();
        let unpark = Box::new(move || _ = counter.fetch_add(1, Ordering::Relaxed));
        TestTimers { timers: Arc::new(Timers::new(shards, Clock::manual(&clock), unpark)), clock, unparked }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.clock.now() + Duration::from_millis(milliseconds)
    }

    fn insert(&self, milliseconds: u64, waker: impl Into<Waker>) -> TimerKey {
        self.timers.insert(0, self.at(milliseconds), MS, waker.into()).unwrap()
    }

    fn pass(&self, milliseconds: u64) -> usize {
        self.clock.advance(Duration::from_millis(milliseconds));
        self.timers.fire(0)
    }
}

#[test]
fn a_panicking_waker_loses_no_other() {
    let rig = TestTimers::new(1);
    let ten =
        Vec::from_iter((0..10).map(|number| CallingWaker::new(move || assert!(number != 3, "on purpose"))));
    let _keys = Vec::from_iter(ten.iter().map(|act| rig.insert(5, act.clone())));
    assert_eq!(rig.pass(5), 10);
    assert!(ten.iter().all(|act| act.count() == 1));
    let _key = rig.insert(1, CallingWaker::new(|| ()));
    assert_eq!(rig.pass(1), 1);
}

#[test]
fn a_waker_may_insert_and_fire() {
    let rig = TestTimers::new(1);
    let timers = Arc::downgrade(&rig.timers);
    let _key = rig.insert(
        1,
        CallingWaker::new(move || {
            let timers = timers.upgrade().unwrap();
            let _key = timers.insert(0, timers.clock().now(), MS, Waker::noop().clone());
            assert_eq!(timers.fire(0), 1);
        }),
    );
    assert_eq!(rig.pass(1), 1);
    assert_eq!(rig.timers.len(), 0);
}

#[test]
fn a_waker_may_remove_its_own_timer_and_others() {
    let rig = TestTimers::new(1);
    let keys = Arc::<OnceLock<Vec<TimerKey>>>::default();
    let theirs = keys.clone();
    let act = CallingWaker::new(move || theirs.get().unwrap().iter().for_each(|key| key.remove()));
    let inserted = Vec::from_iter([1, 1, 9].map(|at| rig.insert(at, act.clone())));
    keys.set(inserted).unwrap();
    assert_eq!(rig.pass(1), 2);
    assert_eq!((act.count(), rig.timers.len(), rig.timers.next_deadline()), (2, 0, None));
}

#[test]
fn a_wakers_drop_may_use_the_timers() {
    struct Asks(Arc<Timers>);
    impl Wake for Asks {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Asks {
        fn drop(&mut self) {
            self.0.len();
        }
    }
    let rig = TestTimers::new(1);
    let waker = || Waker::from(Arc::new(Asks(rig.timers.clone())));
    let removed = rig.insert(1, waker());
    removed.remove();
    let replaced = rig.insert(1, waker());
    assert_eq!(replaced.set_waker(&waker()), TimerState::Armed);
    rig.timers.close();
    assert!(rig.timers.insert(0, rig.at(1), MS, waker()).is_err());
}

#[test]
fn wakers_that_insert_due_timers_do_not_keep_a_worker_busy() {
    fn again(timers: Arc<Timers>) -> Waker {
        Waker::from(CallingWaker::new(move || {
            let _key = timers.insert(0, timers.clock().now(), MS, again(timers.clone()));
        }))
    }
    let rig = TestTimers::new(1);
    let _key = rig.insert(0, again(rig.timers.clone()));
    assert!((1..=STEPS_PER_BATCH * MAX_BATCHES).contains(&rig.timers.fire(0)));
    assert!(matches!(rig.timers.prepare_park(), ParkUntil::Due));
    // `close` wakes the waker once more, and the timer that it inserts is refused.
    rig.timers.close();
    assert_eq!(rig.timers.len(), 0);
}

#[test]
fn many_due_timers_fire_in_several_calls() {
    let rig = TestTimers::new(1);
    let act = CallingWaker::new(|| ());
    let _keys = Vec::from_iter((0..3000).map(|_| rig.insert(1, act.clone())));
    assert!(rig.pass(1) < 3000);
    while matches!(rig.timers.prepare_park(), ParkUntil::Due) {
        assert!(rig.timers.fire(0) > 0);
    }
    assert_eq!((act.count(), rig.timers.len()), (3000, 0));
}

#[test]
fn a_locked_shard_of_another_worker_is_skipped() {
    let rig = TestTimers::new(2);
    let act = CallingWaker::new(|| ());
    for shard in 0..2 {
        let _key = rig.timers.insert(shard, rig.at(1), MS, act.clone().into()).unwrap();
    }
    let held = lock(&rig.timers.shards[1].state);
    assert_eq!(rig.pass(1), 1);
    drop(held);
    assert!(matches!(rig.timers.prepare_park(), ParkUntil::Due));
    assert_eq!(rig.timers.fire(0), 1);
}

#[test]
fn the_timer_that_is_removed_last_leaves_nothing() {
    const TIMERS: usize = if cfg!(miri) { 300 } else { 100_000 };
    let rig = TestTimers::new(3);
    let mut keys = Vec::new();
    for number in 0..TIMERS {
        keys.push(rig.timers.insert(number, rig.at(number as u64), MS, Waker::noop().clone()).unwrap());
    }
    assert_eq!(rig.timers.len(), TIMERS);
    keys.iter().for_each(|key| key.remove());
    assert_eq!((rig.timers.len(), rig.timers.next_deadline()), (0, None));
    assert!(matches!(rig.timers.prepare_park(), ParkUntil::Until(None, _)));
}

#[test]
fn a_sleeper_is_woken_only_for_an_earlier_timer() {
    let rig = TestTimers::new(2);
    let unparked = || rig.unparked.swap(0, Ordering::Relaxed);
    let _far = rig.insert(100, CallingWaker::new(|| ()));
    assert_eq!(unparked(), 0, "no worker sleeps");

    let ParkUntil::Until(Some(limit), token) = rig.timers.prepare_park() else { panic!("nothing is due") };
    assert_eq!(limit, rig.at(100));
    let ParkUntil::Until(None, other) = rig.timers.prepare_park() else {
        panic!("one time keeper is enough")
    };
    let _later = rig.insert(200, CallingWaker::new(|| ()));
    assert_eq!(unparked(), 0, "the time keeper is awake before");
    let earlier = rig.insert(50, CallingWaker::new(|| ()));
    assert_eq!(unparked(), 1);
    let _earliest = rig.insert(20, CallingWaker::new(|| ()));
    assert_eq!(unparked(), 0, "a worker wakes already");
    assert_eq!(rig.timers.keeper.sleeping_until.load(Ordering::Relaxed), AWAKE);

    // The other worker becomes the time keeper; the return of the first changes nothing.
    rig.timers.parked(other);
    let ParkUntil::Until(Some(limit), _token) = rig.timers.prepare_park() else { panic!("nothing is due") };
    assert_eq!(limit, rig.at(20));
    rig.timers.parked(token);
    assert_ne!(rig.timers.keeper.sleeping_until.load(Ordering::Relaxed), AWAKE);
    assert_eq!(earlier.reset(rig.at(10)), TimerState::Armed);
    assert_eq!(unparked(), 1);
}

#[test]
fn a_runtime_that_is_awake_fires_at_the_tick_and_one_that_sleeps_gets_up_at_the_millisecond() {
    let rig = TestTimers::new(1);
    let start = rig.clock.now();
    let at = |micros| start + Duration::from_micros(micros);
    let insert =
        |micros, rounding| rig.timers.insert(0, at(micros), rounding, Waker::noop().clone()).unwrap();
    let until = || match rig.timers.prepare_park() {
        ParkUntil::Until(until, token) => {
            rig.timers.parked(token);
            until.map(|until| (until - start).as_micros())
        }
        ParkUntil::Due => Some(0),
    };
    let _keys =
        [2_250, 2_750].map(|micros| insert(micros, Rounding::for_deadline_in(Duration::from_millis(2))));
    assert_eq!(until(), Some(3_000));
    rig.clock.set(Duration::from_micros(2_249));
    assert_eq!(rig.timers.fire(0), 0);
    rig.clock.set(Duration::from_micros(2_250));
    assert_eq!((rig.timers.fire(0), until()), (1, Some(3_000)));
    // The runtime gets up for a near timer, and fires what is due before it in time.
    let near = insert(2_900, Rounding::TICK);
    assert_eq!(until(), Some(2_750));
    rig.clock.set(Duration::from_micros(2_750));
    // 2,900 µs lie within a tick.
    assert_eq!((rig.timers.fire(0), until()), (1, Some(2_906)));
    near.remove();
    let _key = insert(3_250, Rounding::for_deadline_in(Duration::from_millis(1)));
    assert_eq!(until(), Some(4_000));
}

#[test]
fn after_the_end_nothing_is_armed() {
    let rig = TestTimers::new(2);
    let act = CallingWaker::new(|| ());
    let key = rig.insert(10, act.clone());
    rig.timers.close();
    assert_eq!((act.count(), rig.timers.len()), (1, 0));
    assert_eq!(key.set_waker(Waker::noop()), TimerState::Closed);
    assert_eq!(key.reset(rig.at(1)), TimerState::Closed);
    assert!(rig.timers.insert(1, rig.at(10), MS, Waker::noop().clone()).is_err());
    key.remove();
    assert_eq!(rig.pass(100), 0);
}

#[test]
fn a_clock_that_repeats_or_goes_back_fires_no_timer_early() {
    let rig = TestTimers::new(1);
    let act = CallingWaker::new(|| ());
    let _keys = Vec::from_iter((1..=20).map(|at| rig.insert(at * 5, act.clone())));
    let mut highest = 0;
    for now in [7, 3, 12, 12, 0, 50, 49, 99, 100] {
        rig.clock.set(Duration::from_millis(now));
        rig.timers.fire(0);
        highest = highest.max(now as usize);
        assert_eq!(act.count(), highest / 5);
    }
    rig.clock.set(Duration::ZERO);
    let _key = rig.insert(1, act.clone());
    rig.clock.set(Duration::from_millis(1 << 36));
    assert_eq!(rig.timers.fire(0), 1);
    let _key = rig.insert(1, act.clone());
    assert_eq!((rig.timers.fire(0), rig.pass(1)), (0, 1));
}
