//! Queues: nothing is lost, nothing runs twice, nothing is left behind, and no worker is woken for
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use heirloom::task::TaskState;
use heirloom::{Runtime, spawn, spawn_blocking, yield_now};
use heirloom_tests::{
    Countdown, Ledger, Log, PATIENCE, idle, in_a_worker, occupy, runtime, scaled, watchdog, with_runtime,
};

#[test]
fn every_task_runs_once_whichever_worker_takes_it() {
    with_runtime(4, |runtime| {
        const EACH: usize = scaled(4_000);
        // Injected from two threads and pushed by two tasks, while four workers steal from each
        // other.
        let log = Log::new();
        let all = Countdown::new(4 * EACH);
        let task = |number: usize| {
            let (log, all) = (log.clone(), all.clone());
            async move {
                log.push(number);
                if number.is_multiple_of(5) {
                    yield_now().await;
                }
                all.arrive();
            }
        };
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (handle, task) = (runtime.handle().clone(), &task);
                scope.spawn(move || {
                    (0..EACH).for_each(|number| handle.spawn(task(thread * EACH + number)).detach());
                });
            }
            for source in 2..4 {
                let tasks: Vec<_> = (0..EACH).map(|number| task(source * EACH + number)).collect();
                runtime
                    .spawn(async move { tasks.into_iter().for_each(|task| spawn(task).detach()) })
                    .detach();
            }
        });
        all.wait();
        let mut ran = log.take();
        ran.sort_unstable();
        assert_eq!(ran, (0..4 * EACH).collect::<Vec<_>>());
    });
}

#[test]
fn a_runtime_may_end_with_any_number_of_tasks_in_its_queues() {
    watchdog(PATIENCE, || {
        // Around the sizes of the blocks that queues are made of.
        let counts: Vec<u64> = if cfg!(miri) {
            vec![0, 1, 63, 64, 65, 66]
        } else {
            (0..140).chain([255, 256, 257, 1_000]).collect()
        };
        for count in counts {
            let (ledger, polled) = (Ledger::new(), Arc::new(AtomicUsize::new(0)));
            let runtime = runtime(1);
            let occupied = occupy(&runtime, 1);
            for number in 0..count {
                let (value, polled) = (ledger.counted(number), polled.clone());
                runtime
                    .spawn(async move {
                        let _value = value;
                        polled.fetch_add(1, Ordering::SeqCst);
                        std::future::pending::<()>().await;
                    })
                    .detach();
            }
            if count % 2 == 0 {
                // Some of them are taken out before the end.
                occupied.release();
                if count % 4 == 0 {
                    idle(&runtime);
                }
                drop(runtime);
            } else {
                let values = ledger.clone();
                let observer = std::thread::spawn(move || {
                    let dropped = heirloom_tests::wait_until(|| values.alive() == 0);
                    occupied.release();
                    dropped
                });
                drop(runtime);
                assert!(observer.join().unwrap());
                assert_eq!(polled.load(Ordering::SeqCst), 0);
            }
            assert_eq!(ledger.alive(), 0, "{count} tasks");
        }
    });
}

#[test]
fn tasks_in_a_workers_own_queue_end_with_the_runtime() {
    watchdog(PATIENCE, || {
        for count in [1_u64, 2, 63, 64, 65, if cfg!(miri) { 66 } else { 500 }] {
            let runtime = runtime(1);
            let ledger = Ledger::new();
            let values = ledger.clone();
            let handle = runtime.handle().clone();
            // It fills its worker's queue, and takes the runtime along in the same poll.
            let last = handle.spawn(async move {
                for number in 0..count {
                    let value = values.counted(number);
                    spawn(async move { drop(value) }).detach();
                }
                drop(runtime);
            });
            let _ = heirloom::block_on(last);
            assert!(heirloom_tests::wait_until(|| ledger.made() as u64 == count && ledger.alive() == 0));
        }
    });
}

#[test]
fn one_task_wakes_one_worker_or_a_few_but_not_all() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(8).search(Duration::ZERO).build().unwrap();
        runtime.block_on(runtime.spawn(async {})).unwrap();
        idle(&runtime);
        let parks = || runtime.stats().workers.iter().map(|worker| worker.parks).sum::<u64>();
        let before = parks();
        let tasks = scaled(100);
        for _ in 0..tasks {
            runtime.block_on(runtime.spawn(async {})).unwrap();
            idle(&runtime);
        }
        let woken = parks() - before;
        assert!(woken <= 3 * tasks as u64, "{woken} times a worker went back to sleep after {tasks} tasks");
    });
}

#[test]
fn numbers_tell_what_is_there() {
    with_runtime(2, |runtime| {
        idle(runtime);
        let stats = runtime.stats();
        assert_eq!((stats.tasks, stats.timers, stats.injected, stats.workers.len()), (0, 0, 0, 2));
        let polls = || runtime.stats().workers.iter().map(|worker| worker.polls).sum::<u64>();
        let before = polls();
        runtime.block_on(runtime.spawn(async { yield_now().await })).unwrap();
        idle(runtime);
        assert_eq!(polls() - before, 2);
        let occupied = occupy(runtime, 2);
        let waiting: Vec<_> = (0..10).map(|_| runtime.spawn(std::future::pending::<()>())).collect();
        let stats = runtime.stats();
        assert_eq!((stats.tasks, stats.injected), (12, 10));
        assert_eq!(runtime.dump().len(), 12);
        occupied.release();
        idle(runtime);
        assert_eq!(runtime.stats().tasks, 10);
        assert!(runtime.dump().iter().all(|task| task.state == TaskState::Idle), "{:?}", runtime.dump());
        drop(waiting);
        idle(runtime);
        assert_eq!(runtime.stats().tasks, 0);
    });
}

#[test]
fn idle_means_that_nothing_runs_anywhere() {
    with_runtime(2, |runtime| {
        let ended = Arc::new(AtomicUsize::new(0));
        for round in 1..=scaled(2_000) {
            let (inner, outer) = (ended.clone(), ended.clone());
            // From a worker to the pool, and back to a worker.
            let task = runtime.spawn(async move {
                spawn_blocking(move || {
                    std::thread::yield_now();
                    inner.fetch_add(1, Ordering::SeqCst);
                })
                .await
                .unwrap();
                yield_now().await;
                outer.fetch_add(1, Ordering::SeqCst);
            });
            task.detach();
            idle(runtime);
            assert_eq!(ended.load(Ordering::SeqCst), 2 * round);
        }
    });
}

#[test]
fn a_deep_recursion_of_spawns_is_finished() {
    fn down(left: usize) -> std::pin::Pin<Box<dyn Future<Output = usize> + Send>> {
        Box::pin(async move { if left == 0 { 0 } else { spawn(down(left - 1)).await.unwrap() + 1 } })
    }
    for workers in [1, 3] {
        in_a_worker(workers, async { assert_eq!(down(scaled(5_000)).await, scaled(5_000)) });
    }
}
