//! Every interleaving of a worker in virtual time and of a thread that has a hold, and twins that
//! must fail.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

use super::{Hold, ManualClock};
use crate::util::sync::model::{check, check_without};
use crate::util::sync::{Parker, Unparker};

/// A thread queues work, then parks in `block_on`. The worker sees the work before it jumps, and
/// jumps in the end.
fn a_worker_and_a_thread_that_parks() {
    let parker = Parker::new();
    let unparker: Unparker = parker.unparker().clone();
    let clock = ManualClock::with_worker(Box::new(move || unparker.unpark()));
    let queued = Arc::new(AtomicBool::new(false));
    let hold = Hold::new(Some(&clock));
    let thread = thread::spawn({
        let (clock, queued) = (Arc::clone(&clock), Arc::clone(&queued));
        move || {
            queued.store(true, Release);
            clock.park();
            hold
        }
    });
    let hour = clock.now() + Duration::from_secs(3_600);
    let mut ran = false;
    loop {
        ran |= queued.swap(false, Acquire);
        if clock.jump(|| (!queued.load(Acquire)).then_some(hour)) {
            break;
        }
        if !queued.load(Acquire) {
            parker.park();
        }
    }
    assert!(ran, "the clock has jumped over what could run");
    assert_eq!(clock.now(), hour);
    clock.woken();
    drop(thread.join().unwrap());
}

#[test]
fn the_clock_jumps_when_nothing_can_run() {
    check(a_worker_and_a_thread_that_parks);
}

#[test]
#[should_panic]
fn a_worker_that_is_unparked_before_the_release_sleeps_on() {
    check_without("the release before the unpark", a_worker_and_a_thread_that_parks);
}

#[test]
#[should_panic]
fn a_worker_that_looks_at_the_queues_before_the_holds_jumps_too_early() {
    check_without("the holds before the queues", a_worker_and_a_thread_that_parks);
}
