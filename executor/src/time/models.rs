//! Every interleaving of sleepers, inserters and firing workers, and twins that must fail.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use loom::thread;

use super::{ParkUntil, TimerKey, TimerState, Timers};
use crate::clock::{Clock, ManualClock, Rounding};
use crate::util::sync::model::{check, check_without};
use crate::util::waker_set::WakeCount;

const MS: Rounding = Rounding::MILLISECOND;

struct ModelTimers {
    clock: Arc<ManualClock>,
    timers: Arc<Timers>,
    unparked: Arc<WakeCount>,
}

impl ModelTimers {
    fn new() -> Self {
        let (clock, unparked) = (ManualClock::new(), Arc::<WakeCount>::default());
        let counter = unparked.clone();
        let unpark = Box::new(move || counter.wake_by_ref());
        let timers = Arc::new(Timers::new(1, Clock::manual(&clock), unpark));
        ModelTimers { clock, timers, unparked }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.clock.now() + Duration::from_millis(milliseconds)
    }

    fn insert(&self, at: Instant) -> (TimerKey, Arc<WakeCount>) {
        let count = Arc::<WakeCount>::default();
        (self.timers.insert(0, at, MS, Waker::from(count.clone())).unwrap(), count)
    }
}

/// Whether a worker that may sleep so long is awake by `at`.
fn is_awake(until: &ParkUntil, at: Instant) -> bool {
    match until {
        ParkUntil::Due => true,
        ParkUntil::Until(limit, _) => limit.is_some_and(|limit| limit <= at),
    }
}

/// A worker goes to sleep while a timer is inserted.
fn sleeper_and_inserter() {
    let rig = ModelTimers::new();
    let at = rig.at(10);
    let timers = rig.timers.clone();
    let sleeper = thread::spawn(move || timers.prepare_park());
    let _key = rig.insert(at);
    let until = sleeper.join().unwrap();
    assert!(is_awake(&until, at) || rig.unparked.get() == 1);
}

/// The time keeper sleeps until the end of a millisecond, or is about to, while a timer is inserted
/// for which the runtime has to get up earlier.
fn sleeper_and_near_inserter() {
    let rig = ModelTimers::new();
    let at = |micros| rig.clock.now() + Duration::from_micros(micros);
    let (first, second) = (at(200), at(500));
    let _first = rig.insert(first);
    let timers = rig.timers.clone();
    let sleeper = thread::spawn(move || timers.prepare_park());
    let _key = rig.timers.insert(0, second, Rounding::TICK, Waker::noop().clone()).unwrap();
    let until = sleeper.join().unwrap();
    assert!(is_awake(&until, second) || rig.unparked.get() == 1);
}

/// The same with a timer that is there already, and becomes earlier.
fn sleeper_and_resetter() {
    let rig = ModelTimers::new();
    let (key, _count) = rig.insert(rig.at(1000));
    let at = rig.at(10);
    let timers = rig.timers.clone();
    let sleeper = thread::spawn(move || timers.prepare_park());
    assert_eq!(key.reset(at), TimerState::Armed);
    let until = sleeper.join().unwrap();
    assert!(is_awake(&until, at) || rig.unparked.get() == 1);
}

/// The time keeper wakes for other reasons and sleeps again, while another worker sleeps without a
/// limit.
fn the_time_keeper_wakes() {
    let rig = ModelTimers::new();
    let at = rig.at(10);
    let ParkUntil::Until(None, token) = rig.timers.prepare_park() else { unreachable!() };
    assert!(matches!(rig.timers.prepare_park(), ParkUntil::Until(None, _)));
    let timers = rig.timers.clone();
    let restless = thread::spawn(move || {
        timers.parked(token);
        timers.prepare_park()
    });
    let _key = rig.insert(at);
    let until = restless.join().unwrap();
    assert!(is_awake(&until, at) || rig.unparked.get() == 1);
}

/// Two workers go to sleep: one becomes the time keeper, the other has no limit.
fn two_sleepers() {
    let rig = ModelTimers::new();
    let at = rig.at(10);
    let _key = rig.insert(at);
    let timers = rig.timers.clone();
    let other = thread::spawn(move || timers.prepare_park());
    let (one, other) = (rig.timers.prepare_park(), other.join().unwrap());
    assert!(is_awake(&one, at) != is_awake(&other, at));
}

/// Two inserters and a sleeping time keeper: one wake-up is enough if the first tick is the
/// earlier.
fn sleeper_and_two_inserters() {
    let rig = ModelTimers::new();
    let (early, late) = (rig.at(10), rig.at(20));
    let first = rig.timers.prepare_park();
    let timers = rig.timers.clone();
    let inserter = thread::spawn(move || timers.insert(0, late, MS, Waker::noop().clone()).unwrap());
    let _early = rig.insert(early);
    let _late = inserter.join().unwrap();
    assert!(!is_awake(&first, early));
    assert_eq!(rig.unparked.get(), 1);
    assert!(is_awake(&rig.timers.prepare_park(), early));
}

/// A worker fires while a timer is inserted that is due as well.
fn fire_and_insert() {
    let rig = ModelTimers::new();
    let (_key, old) = rig.insert(rig.at(0));
    let timers = rig.timers.clone();
    let worker = thread::spawn(move || timers.fire(0));
    let (_key, new) = rig.insert(rig.at(0));
    let fired = worker.join().unwrap();
    assert_eq!(fired + rig.timers.fire(0), 2);
    assert_eq!((old.get(), new.get(), rig.timers.len()), (1, 1, 0));
}

/// A timer is removed while it is being fired, and another timer gets its index.
fn fire_and_remove() {
    let rig = ModelTimers::new();
    let (key, old) = rig.insert(rig.at(0));
    let timers = rig.timers.clone();
    let worker = thread::spawn(move || {
        timers.fire(0);
        let new = Arc::<WakeCount>::default();
        let at = timers.clock().now();
        (timers.insert(0, at, MS, Waker::from(new.clone())).unwrap(), new)
    });
    key.remove();
    let (_key, new) = worker.join().unwrap();
    rig.timers.fire(0);
    assert!(old.get() <= 1);
    assert_eq!((new.get(), rig.timers.len()), (1, 0));
    // No waker is left behind.
    assert_eq!((Arc::strong_count(&old), Arc::strong_count(&new)), (1, 1));
}

/// A timer gets another waker while it is being fired, and another timer gets its index.
fn fire_and_set_waker() {
    let rig = ModelTimers::new();
    let (key, old) = rig.insert(rig.at(0));
    let timers = rig.timers.clone();
    let worker = thread::spawn(move || {
        timers.fire(0);
        let next = Arc::<WakeCount>::default();
        let at = timers.clock().now();
        (timers.insert(0, at, MS, Waker::from(next.clone())).unwrap(), next)
    });
    let new = Arc::<WakeCount>::default();
    let armed = key.set_waker(&Waker::from(new.clone()));
    let (_key, next) = worker.join().unwrap();
    rig.timers.fire(0);
    match armed {
        TimerState::Armed => assert_eq!((old.get(), new.get()), (0, 1)),
        TimerState::Fired => assert_eq!((old.get(), new.get()), (1, 0)),
        TimerState::Closed => unreachable!(),
    }
    assert_eq!((next.get(), rig.timers.len()), (1, 0));
}

/// The timers end while one is inserted.
fn close_and_insert() {
    let rig = ModelTimers::new();
    let (_key, old) = rig.insert(rig.at(10));
    let timers = rig.timers.clone();
    let closer = thread::spawn(move || timers.close());
    let new = Arc::<WakeCount>::default();
    let inserted = rig.timers.insert(0, rig.at(10), MS, Waker::from(new.clone())).is_ok();
    closer.join().unwrap();
    assert_eq!((old.get(), new.get()), (1, usize::from(inserted)));
    assert_eq!((rig.timers.len(), Arc::strong_count(&new)), (0, 1));
}

#[test]
fn a_sleeper_does_not_miss_a_new_timer() {
    check(sleeper_and_inserter);
}

#[test]
#[should_panic]
fn twin_without_the_inserters_fence_is_caught() {
    check_without("fence of the inserter", sleeper_and_inserter);
}

#[test]
#[should_panic]
fn twin_without_the_sleepers_fence_is_caught() {
    check_without("fence of the sleeper", sleeper_and_inserter);
}

#[test]
#[should_panic]
fn twin_without_the_second_read_is_caught() {
    check_without("second read", sleeper_and_inserter);
}

#[test]
fn a_sleeper_does_not_round_a_near_timer() {
    check(sleeper_and_near_inserter);
}

#[test]
#[should_panic]
fn twin_of_the_near_timer_without_the_inserters_fence_is_caught() {
    check_without("fence of the inserter", sleeper_and_near_inserter);
}

#[test]
#[should_panic]
fn twin_that_forgets_what_is_near_is_caught() {
    check_without("near", sleeper_and_near_inserter);
}

#[test]
fn a_sleeper_does_not_miss_a_timer_that_becomes_earlier() {
    check(sleeper_and_resetter);
}

#[test]
#[should_panic]
fn twin_of_the_reset_without_the_inserters_fence_is_caught() {
    check_without("fence of the inserter", sleeper_and_resetter);
}

#[test]
fn the_time_keeper_may_wake() {
    check(the_time_keeper_wakes);
}

#[test]
#[should_panic]
fn twin_of_the_time_keeper_without_the_sleepers_fence_is_caught() {
    check_without("fence of the sleeper", the_time_keeper_wakes);
}

#[test]
fn one_of_two_sleepers_is_the_time_keeper() {
    check(two_sleepers);
}

#[test]
fn a_sleeper_is_woken_once() {
    check(sleeper_and_two_inserters);
}

#[test]
fn a_timer_inserted_while_others_fire_is_seen() {
    check(fire_and_insert);
}

#[test]
#[should_panic]
fn twin_that_writes_the_tick_outside_the_lock_is_caught() {
    check_without("tick under the lock", fire_and_insert);
}

#[test]
fn a_timer_removed_while_it_fires_removes_no_other() {
    check(fire_and_remove);
}

#[test]
#[should_panic]
fn twin_without_stamps_removes_another() {
    check_without("stamp", fire_and_remove);
}

#[test]
fn the_waker_set_last_is_woken() {
    check(fire_and_set_waker);
}

#[test]
#[should_panic]
fn twin_without_stamps_takes_anothers_waker() {
    check_without("stamp", fire_and_set_waker);
}

#[test]
fn nothing_is_inserted_after_the_end() {
    check(close_and_insert);
}
