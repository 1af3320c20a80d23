use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom::{Runtime, sleep, spawn, yield_now};
use heirloom_tests::{Countdown, OnDrop, with_runtime};

/// Two tasks that wake each other for ever, until `over`; the number of their polls.
fn ping_pong(runtime: &Runtime, over: &Arc<AtomicBool>) -> Arc<AtomicUsize> {
    let polls = Arc::new(AtomicUsize::new(0));
    let slots: Arc<[Mutex<Option<std::task::Waker>>; 2]> = Arc::default();
    for own in 0..2 {
        let (polls, over, slots) = (polls.clone(), over.clone(), slots.clone());
        let task = runtime.spawn(std::future::poll_fn(move |poller| {
            polls.fetch_add(1, Ordering::SeqCst);
            *slots[own].lock().unwrap() = Some(poller.waker().clone());
            let other = slots[1 - own].lock().unwrap().clone();
            if let Some(other) = other {
                other.wake();
            }
            if over.load(Ordering::SeqCst) {
                return std::task::Poll::Ready(());
            }
            std::task::Poll::Pending
        }));
        task.detach();
    }
    polls
}

#[test]
fn every_runnable_task_runs_within_a_bounded_time() {
    // A pair that would keep a next slot for itself; a bystander in the same worker's queue, one
    // injected from outside.
    with_runtime(1, |runtime| {
        let over = Arc::new(AtomicBool::new(false));
        let _end = OnDrop::new({
            let over = over.clone();
            move || over.store(true, Ordering::SeqCst)
        });
        let polls = ping_pong(runtime, &over);
        let between = runtime.block_on(runtime.spawn({
            let polls = polls.clone();
            async move {
                let bystander = spawn(async move {
                    let before = polls.load(Ordering::SeqCst);
                    for _ in 0..100 {
                        yield_now().await;
                    }
                    polls.load(Ordering::SeqCst) - before
                });
                bystander.await.unwrap()
            }
        }));
        assert!(between.unwrap() < 100 * 1_000, "the pair was polled that often in the meantime");
        // A timer fires although the worker is never without work.
        let begin = Instant::now();
        runtime.block_on(runtime.spawn(sleep(Duration::from_millis(5)))).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    });
    // Nor do tasks that are always runnable keep one that is in the same queue: they take turns.
    with_runtime(1, |runtime| {
        let all = Countdown::new(10);
        let parent = runtime.spawn(async move {
            let taking_turns: Vec<_> = (0..10)
                .map(|_| {
                    let all = all.clone();
                    spawn(async move {
                        all.arrive();
                        let mut turns = 0;
                        while all.left() > 0 && turns < 10_000 {
                            yield_now().await;
                            turns += 1;
                        }
                        turns
                    })
                })
                .collect();
            for task in taking_turns {
                assert!(task.await.unwrap() < 1_000, "it was polled that often before another was at all");
            }
        });
        runtime.block_on(parent).unwrap();
    });
    // A task that always has a successor in the worker's own queue does not keep injected tasks
    // waiting.
    with_runtime(1, |runtime| {
        fn again(over: Arc<AtomicBool>, steps: Arc<AtomicUsize>) {
            if !over.load(Ordering::SeqCst) {
                steps.fetch_add(1, Ordering::SeqCst);
                spawn(async move { again(over, steps) }).detach();
            }
        }
        let (over, steps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..3 {
            let (over, steps) = (over.clone(), steps.clone());
            runtime.spawn(async move { again(over, steps) }).detach();
        }
        for _ in 0..20 {
            let ran = steps.clone();
            let before = steps.load(Ordering::SeqCst);
            let after = runtime.block_on(runtime.spawn(async move { ran.load(Ordering::SeqCst) })).unwrap();
            // This thread may be kept off its core for a while between the two looks; hence so
            // generous.
            assert!(after - before < 1_000_000);
        }
        over.store(true, Ordering::SeqCst);
    });
}
