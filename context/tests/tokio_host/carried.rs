//! What a task gets, and that it keeps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heirloom_context::context_var;
use heirloom_context::raw::{self, Execution};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};

use crate::{OTHER, REQUEST, each, wait_until_none_is_left, workers};

/// Five looks each, with a yield before each, and a value of the task's own that changes.
async fn look_five_times(request: u64, wrong: Arc<AtomicUsize>) {
    for round in 0..5 {
        yield_now().await;
        let own = (round > 0).then(|| request + round);
        if REQUEST.get() != Some(request) || OTHER.get() != own {
            wrong.fetch_add(1, Relaxed);
        }
        OTHER.set(request + round + 1);
    }
}

#[test]
fn ten_thousand_tasks_look_fifty_thousand_times_and_none_is_wrong() {
    for count in [2, 4] {
        let (runtime, carry) = workers(count);
        let wrong = Arc::new(AtomicUsize::new(0));
        runtime.block_on(async {
            // Half of them from the thread of `block_on`, half from tasks.
            let mut tasks = JoinSet::new();
            for request in 0..5_000 {
                let counted = Arc::clone(&wrong);
                REQUEST.scope(request, || {
                    tasks.spawn(async move {
                        let child = tokio::spawn(look_five_times(request, Arc::clone(&counted)));
                        look_five_times(request, counted).await;
                        child.await.unwrap();
                    })
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        });
        assert_eq!(wrong.load(Relaxed), 0);
        wait_until_none_is_left(&carry);
    }
}

/// Each message wakes a task that may still be in the poll that waits for it.
#[test]
fn a_task_that_is_woken_by_another_worker_while_it_is_polled_keeps_its_context() {
    let (runtime, carry) = workers(4);
    runtime.block_on(async {
        let mut pairs = JoinSet::new();
        for request in 0..8 {
            let (to, mut from) = mpsc::unbounded_channel::<u64>();
            let (back, mut answers) = mpsc::unbounded_channel::<u64>();
            REQUEST.set(request);
            pairs.spawn(async move {
                while let Some(number) = from.recv().await {
                    assert_eq!(REQUEST.get(), Some(request));
                    assert_eq!(OTHER.get().unwrap_or(0), number);
                    OTHER.set(number + 1);
                    back.send(number).unwrap();
                }
            });
            REQUEST.set(request + 100);
            pairs.spawn(async move {
                for number in 0..5_000 {
                    to.send(number).unwrap();
                    assert_eq!(answers.recv().await, Some(number));
                    assert_eq!((REQUEST.get(), OTHER.get()), (Some(request + 100), None));
                }
            });
        }
        while let Some(ended) = pairs.join_next().await {
            ended.unwrap();
        }
    });
    wait_until_none_is_left(&carry);
}

#[test]
fn spawning_forks_at_the_spawn_call() {
    each(|runtime, _| {
        runtime.block_on(async {
            REQUEST.set(1);
            let future = async {
                let before = REQUEST.get();
                REQUEST.set(9);
                yield_now().await;
                (before, REQUEST.get())
            };
            REQUEST.set(2);
            let task = tokio::spawn(future);
            REQUEST.set(3);
            assert_eq!(task.await.unwrap(), (Some(2), Some(9)));
            assert_eq!(REQUEST.get(), Some(3));
        });
    });
}

#[test]
fn a_spawn_from_a_plain_thread_inherits_of_the_thread() {
    each(|runtime, _| {
        let handle = runtime.handle().clone();
        let spawned = std::thread::spawn(move || {
            REQUEST.set(5);
            handle.spawn(async { REQUEST.get() })
        });
        let task = spawned.join().unwrap();
        assert_eq!(runtime.block_on(task).unwrap(), Some(5));
    });
}

context_var! {
    static STAYS: u64, inherit = Never;
    static DEPTH: u64, inherit = Derive(|depth| Some(depth + 1));
    static FAILS: u64, inherit = Derive(|_| panic!("on purpose: the policy fails"));
}

#[test]
fn policies_are_applied() {
    each(|runtime, _| {
        runtime.block_on(async {
            STAYS.set(1);
            DEPTH.set(1);
            let task = tokio::spawn(async {
                let child = tokio::spawn(async { DEPTH.get() });
                (STAYS.get(), DEPTH.get(), child.await.unwrap())
            });
            assert_eq!(task.await.unwrap(), (None, Some(2), Some(3)));
        });
    });
}

#[test]
fn a_policy_that_panics_leaves_the_task_with_nothing_and_the_spawner_unharmed() {
    each(|runtime, carry| {
        runtime.block_on(async {
            REQUEST.set(1);
            FAILS.set(1);
            let task = tokio::spawn(async { (REQUEST.get(), FAILS.get()) });
            assert_eq!(task.await.unwrap(), (None, None));
        });
        wait_until_none_is_left(&carry);
    });
}

#[test]
fn a_task_has_its_spawners_deadline() {
    each(|runtime, _| {
        runtime.block_on(async {
            let deadline = Instant::now() + Duration::from_secs(60);
            let outer = raw::set_execution(Execution::NONE.with_deadline(Some(deadline)).with_eager(true));
            let task = tokio::spawn(async {
                yield_now().await;
                let own = raw::execution();
                let child = tokio::spawn(async { raw::execution().deadline() });
                raw::set_execution(Execution::NONE);
                (own.deadline(), own.eager(), child.await.unwrap(), raw::execution())
            });
            raw::set_execution(outer);
            assert_eq!(task.await.unwrap(), (Some(deadline), false, Some(deadline), Execution::NONE));
            let without = tokio::spawn(async { raw::execution() });
            assert_eq!(without.await.unwrap(), Execution::NONE);
        });
    });
}

#[test]
fn a_time_budget_begins_at_the_spawn_call_for_both() {
    each(|runtime, _| {
        runtime.block_on(async {
            let limit = Duration::from_secs(60);
            let (earliest, outer) =
                (Instant::now() + limit, raw::set_execution(Execution::NONE.with_limit(limit).unwrap()));
            let task = tokio::spawn(async { raw::execution().deadline() });
            let begun = raw::set_execution(outer).deadline();
            assert!(begun.unwrap() >= earliest);
            assert_eq!(task.await.unwrap(), begun);
        });
    });
}
