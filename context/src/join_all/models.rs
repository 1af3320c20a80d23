//! A branch that is woken before its poll, and again beside the poll, is polled until it has seen
//! both.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;

use loom::sync::Arc;
use loom::sync::atomic::AtomicBool as Done;
use loom::thread;

use super::*;
use crate::util::sync::model::{check, check_without};

/// A waker that counts; models do not explore the counter.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

fn every_wake_up_leads_to_a_poll() {
    let done = Arc::new([Done::new(false), Done::new(false)]);
    let slot = Arc::new(Mutex::new(None::<Waker>));
    let branch = poll_fn(|cx| {
        *lock(&slot) = Some(cx.waker().clone());
        let all = done.iter().all(|done| done.load(Relaxed));
        if all { Poll::Ready(7) } else { Poll::Pending }
    });
    let mut joined = pin!(join_all([branch]));
    let task = std::sync::Arc::<Count>::default();
    let waker = Waker::from(std::sync::Arc::clone(&task));
    let mut cx = Context::from_waker(&waker);
    // The first poll leaves the branch's waker.
    let mut poll = joined.as_mut().poll(&mut cx);
    assert!(poll.is_pending());
    let branch_waker = lock(&slot).clone().expect("polled");

    done[0].store(true, Relaxed);
    branch_waker.wake_by_ref();
    let mut seen = task.0.load(std::sync::atomic::Ordering::SeqCst);
    let thread = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            done[1].store(true, Relaxed);
            branch_waker.wake();
        }
    });
    poll = joined.as_mut().poll(&mut cx);
    thread.join().unwrap();
    while poll.is_pending() {
        let woken = task.0.load(std::sync::atomic::Ordering::SeqCst);
        assert!(woken > seen, "the task waits, and no wake-up has reached it");
        seen = woken;
        poll = joined.as_mut().poll(&mut cx);
    }
    assert!(poll == Poll::Ready(vec![7]));
    drop(lock(&slot).take());
}

#[test]
fn a_branch_is_polled_until_it_has_seen_both_wakers() {
    check(every_wake_up_leads_to_a_poll);
}

#[test]
#[should_panic = "no wake-up has reached it"]
fn a_branch_that_is_unqueued_after_its_poll_is_forgotten() {
    check_without("join_all: unqueue before the poll", every_wake_up_leads_to_a_poll);
}

#[test]
#[should_panic = "no wake-up has reached it"]
fn a_waker_left_under_another_lock_comes_too_late() {
    check_without("join_all: one lock for the list and the waker", every_wake_up_leads_to_a_poll);
}

#[test]
#[should_panic = "no wake-up has reached it"]
fn a_poll_that_does_not_acquire_misses_the_second_waker() {
    check_without("join_all: see what woke", every_wake_up_leads_to_a_poll);
}
