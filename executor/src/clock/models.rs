//! Every interleaving of a worker in virtual time and of a thread that has a hold, and twins that
//! must fail.
#![forbid(unsafe_code)]

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::{Hold, ManualClock};
use crate::util::sync::model::{check, check_without};
use crate::util::sync::{Mutex, lock};

/// A thread queues work, then parks in `block_on`. The worker sees the work before it jumps, and
/// jumps in the end.
fn a_worker_and_a_thread_that_parks() {
    let worker = thread::current();
    let clock = ManualClock::with_worker(Box::new(move || worker.unpark()));
    let queued = Arc::new(Mutex::new(false));
    let hold = Hold::new(Some(&clock));
    let thread = thread::spawn({
        let (clock, queued) = (Arc::clone(&clock), Arc::clone(&queued));
        move || {
            *lock(&queued) = true;
            clock.park();
            hold
        }
    });
    let hour = clock.now() + Duration::from_secs(3_600);
    let mut ran = false;
    loop {
        ran |= mem::take(&mut *lock(&queued));
        if clock.jump(|| (!*lock(&queued)).then_some(hour)) {
            break;
        }
        if !*lock(&queued) {
            thread::park();
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
#[should_panic(expected = "deadlock")]
fn a_worker_that_is_unparked_before_the_release_sleeps_on() {
    check_without("the release before the unpark", a_worker_and_a_thread_that_parks);
}

#[test]
#[should_panic(expected = "the clock has jumped over what could run")]
fn a_worker_that_looks_at_the_queues_before_the_holds_jumps_too_early() {
    check_without("the holds before the queues", a_worker_and_a_thread_that_parks);
}
