//! Work from outside while workers are busy. The kind: what a worker looks at only now and then
//! (the injector, for spawned and for woken tasks; the timers) must be looked at after a bounded
//! *time*, not after a number of polls that may be long ones. Counted in polls whose least length
//! is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use heirloom::{Runtime, sleep, yield_now};
use heirloom_tests::{scaled, with_runtime};

use super::until_the_end;

/// Tasks that compute for at least so long in each poll, until they are told to end.
fn working(runtime: &Runtime, length: Duration, over: &Arc<AtomicBool>) -> Arc<AtomicUsize> {
    let polls = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let (polls, over) = (polls.clone(), over.clone());
        let task = runtime.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let begun = Instant::now();
                while begun.elapsed() < length {
                    std::hint::spin_loop();
                }
                polls.fetch_add(1, Ordering::SeqCst);
                yield_now().await;
            }
        });
        task.detach();
    }
    polls
}

/// A tenth of a millisecond is two polls; then there are the three that are queued.
const POLL: Duration = Duration::from_micros(50);
const FEW: usize = 12;

#[test]
fn a_task_begins_after_a_few_long_polls() {
    with_runtime(1, |runtime| {
        let (over, _end) = until_the_end();
        let polls = working(runtime, POLL, &over);
        for _ in 0..scaled(30) {
            let before = polls.load(Ordering::SeqCst);
            let counted = polls.clone();
            let begun = runtime.spawn(async move { counted.load(Ordering::SeqCst) });
            let begun = runtime.block_on(begun).unwrap();
            assert!(begun - before <= FEW, "{} polls of {POLL:?}", begun - before);
        }
    });
}

#[test]
fn a_task_that_is_woken_goes_on_after_a_few_long_polls() {
    with_runtime(1, |runtime| {
        let (over, _end) = until_the_end();
        let polls = working(runtime, POLL, &over);
        for _ in 0..scaled(30) {
            let (send, receive) = futures::channel::oneshot::channel();
            let (waits, waiting) = futures::channel::oneshot::channel();
            let counted = polls.clone();
            let woken = runtime.spawn(async move {
                waits.send(()).unwrap();
                receive.await.unwrap();
                counted.load(Ordering::SeqCst)
            });
            futures::executor::block_on(waiting).unwrap();
            let before = polls.load(Ordering::SeqCst);
            send.send(()).unwrap();
            let begun = runtime.block_on(woken).unwrap();
            assert!(begun - before <= FEW, "{} polls of {POLL:?}", begun - before);
        }
    });
}

#[test]
fn a_timer_fires_after_a_few_long_polls() {
    // A timer may be late by a millisecond, that is, by four polls.
    let poll = Duration::from_micros(250);
    with_runtime(1, move |runtime| {
        let (over, _end) = until_the_end();
        let polls = working(runtime, poll, &over);
        for _ in 0..scaled(10) {
            let counted = polls.clone();
            let late = runtime.spawn(async move {
                let (before, begun) = (counted.load(Ordering::SeqCst), Instant::now());
                sleep(Duration::from_millis(1)).await;
                let least = (begun.elapsed().as_nanos() / poll.as_nanos()) as usize;
                (counted.load(Ordering::SeqCst) - before, least)
            });
            let (polls, least) = runtime.block_on(late).unwrap();
            assert!(polls <= 4 + 4 + FEW, "{polls} polls of {poll:?}, at most {least} by the clock");
        }
    });
}

#[test]
fn a_backlog_is_served_in_order_with_the_tasks_that_yield() {
    with_runtime(1, |runtime| {
        let (over, _end) = until_the_end();
        let polls = working(runtime, POLL, &over);
        let (tasks, last) = (scaled(2_000), Arc::new(AtomicUsize::new(0)));
        let spawn_one = |_| {
            let (polls, last) = (polls.clone(), last.clone());
            runtime.spawn(async move { last.store(polls.load(Ordering::SeqCst), Ordering::SeqCst) })
        };
        let all: Vec<_> = (0..tasks).map(spawn_one).collect();
        let spawned = polls.load(Ordering::SeqCst);
        runtime.block_on(join_all(all));
        let served = last.load(Ordering::SeqCst).max(spawned);
        // Three polls of the others for each share that the worker takes.
        let shares = tasks / 256 + 1;
        assert!(served - spawned <= 3 * shares + FEW, "{} polls for {shares} shares", served - spawned);
    });
}
