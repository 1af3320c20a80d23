//! Again and again: threads, descriptors and memory stay where they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use heirloom::{
    CancelToken, Runtime, TaskGroup, context_var, sleep, spawn, spawn_blocking, wait_for, yield_now,
};
use heirloom_tests::{
    Ledger, PATIENCE, Probe, Step, in_a_worker, in_child, open_descriptors, resident_bytes, say_as_child,
    threads, wait_until, watchdog,
};

/// A count for optimised builds, a fifth of it for the others.
fn scaled(count: usize) -> usize {
    if cfg!(miri) {
        heirloom_tests::scaled(count)
    } else if cfg!(debug_assertions) {
        count / 5
    } else {
        count
    }
}

/// In a process of its own: other tests would start threads at the same time.
#[test]
fn a_thousand_runtimes_leave_no_thread_and_no_descriptor() {
    if in_child("soak::a_thousand_runtimes_leave_no_thread_and_no_descriptor", false).is_here() {
        watchdog(2 * PATIENCE, || {
            let cycle = |round: usize| {
                let runtime = Runtime::builder().workers(1 + round % 2).build().unwrap();
                let (probe, watch) = Probe::new([Step::Wait]);
                runtime.spawn(probe).detach();
                runtime.spawn(sleep(Duration::from_secs(3_600))).detach();
                // Cancelled if the runtime ends between the two.
                let task = runtime.spawn(async { spawn(async { 1 }).await.ok() });
                if round.is_multiple_of(4) {
                    runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
                }
                if round.is_multiple_of(3) {
                    assert_eq!(runtime.block_on(task).unwrap(), Some(1));
                    let _ = runtime.shutdown(Duration::ZERO);
                } else {
                    drop(runtime);
                    let _ = heirloom::block_on(task);
                }
                assert_eq!(watch.drops(), 1);
            };
            // The default runtime stays.
            heirloom::block_on(async { spawn(async {}).await.unwrap() });
            (0..20).for_each(cycle);
            let Some(threads_before) = threads() else { return say_as_child() };
            let descriptors_before = open_descriptors().unwrap();
            let memory_before = resident_bytes().unwrap();
            (0..1_000).for_each(cycle);
            // A blocking thread is not waited for; it ends a little later.
            assert!(
                wait_until(|| threads().unwrap() <= threads_before),
                "{threads_before} before, {:?} now",
                threads()
            );
            assert_eq!(open_descriptors().unwrap(), descriptors_before);
            let grown = resident_bytes().unwrap().saturating_sub(memory_before);
            assert!(grown < 16 << 20, "{grown} bytes more");
            say_as_child();
        });
    }
}

#[test]
fn a_million_tasks_leave_memory_as_it_was() {
    if in_child("soak::a_million_tasks_leave_memory_as_it_was", false).is_here() {
        watchdog(2 * PATIENCE, || {
            let runtime = heirloom_tests::runtime(2);
            let ledger = Ledger::new();
            let wave = |count: usize| {
                let ledger = ledger.clone();
                let task = runtime.spawn(async move {
                    for chunk in 0..count / 1_000 {
                        let tasks: Vec<_> = (0..1_000)
                            .map(|number| {
                                let value = ledger.counted(number);
                                spawn(async move {
                                    if number % 8 == 0 {
                                        yield_now().await;
                                    }
                                    value
                                })
                            })
                            .collect();
                        if chunk % 4 == 0 {
                            // Cancelled, wherever they are.
                            drop(tasks);
                        } else {
                            for task in tasks {
                                task.await.unwrap();
                            }
                        }
                    }
                });
                runtime.block_on(task).unwrap();
                runtime.wait_until_idle();
            };
            wave(20_000);
            let before = resident_bytes();
            wave(scaled(1_000_000));
            assert_eq!(ledger.alive(), 0);
            assert_eq!(runtime.stats().tasks, 0);
            if let (Some(before), Some(after)) = (before, resident_bytes()) {
                let grown = after.saturating_sub(before);
                assert!(grown < 16 << 20, "{grown} bytes more");
            }
            say_as_child();
        });
    }
}

/// Ten million in every build: half a minute without optimisation, a few seconds with it. They come
/// from a task, a thousand at a time, without handles, on one worker: there is nothing cheaper, and
/// every spawn, wake-up and end is the same as elsewhere. What becomes of tasks of other fates, on
/// two workers, is looked at above.
#[test]
fn ten_million_spawned_tasks_leave_memory_flat() {
    context_var! { static BATCH: usize; }
    const BATCH_SIZE: usize = 1_000;
    if in_child("soak::ten_million_spawned_tasks_leave_memory_flat", false).is_here() {
        // Twenty times what it takes on a machine that does nothing else.
        watchdog(10 * PATIENCE, || {
            let runtime = heirloom_tests::runtime(1);
            let million = || {
                let task = runtime.spawn(async {
                    let ended = Arc::new(AtomicUsize::new(0));
                    for batch in 0..1_000_000 / BATCH_SIZE {
                        BATCH.set(batch);
                        for number in 0..BATCH_SIZE {
                            let ended = ended.clone();
                            let task = spawn(async move {
                                if number % 8 == 0 {
                                    yield_now().await;
                                }
                                ended.fetch_add(BATCH.get().unwrap() + 1, Ordering::Relaxed);
                            });
                            task.detach();
                        }
                        // A task that yields goes behind all that are queued.
                        while ended.load(Ordering::Relaxed) < (batch + 1) * BATCH_SIZE {
                            yield_now().await;
                        }
                        ended.store(0, Ordering::Relaxed);
                    }
                });
                runtime.block_on(task).unwrap();
                runtime.wait_until_idle();
                assert_eq!(runtime.stats().tasks, 0);
            };
            let mut before = None;
            for done in 1..=10 {
                million();
                let resident = resident_bytes();
                // What is kept for use again has been kept by the end of the first million.
                let grown =
                    resident.zip(*before.get_or_insert(resident)).map(|(now, then)| now.saturating_sub(then));
                // The system counts in steps of up to 256 KiB. A byte per task would be ten times
                // that.
                assert!(grown.unwrap_or(0) < 1 << 20, "{grown:?} bytes more after {done} million");
            }
            say_as_child();
        });
    }
}

#[test]
fn a_storm_of_everything_at_once_ends_in_peace() {
    watchdog(2 * PATIENCE, || {
        let runtime = heirloom_tests::runtime(4);
        let (ledger, done) = (Ledger::new(), Arc::new(AtomicUsize::new(0)));
        let token = CancelToken::new();
        let tasks: Vec<_> = (0..scaled(5_000))
            .map(|number| {
                let (value, done, token) = (ledger.counted(number as u64), done.clone(), token.child());
                runtime.spawn(async move {
                    match number % 6 {
                        0 => drop(
                            wait_for(
                                sleep(Duration::from_micros(number as u64 % 3_000)),
                                Duration::from_millis(1),
                            )
                            .await,
                        ),
                        1 => spawn_blocking(|| ()).await.unwrap(),
                        2 => drop((0..5).map(|_| spawn(std::future::pending::<()>())).collect::<Vec<_>>()),
                        3 => {
                            let group = TaskGroup::<()>::new();
                            for child in 0..4 {
                                group.spawn(async move {
                                    if child == 3 { Err(()) } else { std::future::pending().await }
                                });
                            }
                            group.join().await.unwrap_err();
                        }
                        4 => drop(token.run_until_cancelled(yield_now()).await),
                        _ => {
                            for _ in 0..20 {
                                yield_now().await;
                            }
                        }
                    }
                    drop(value);
                    done.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        let count = tasks.len();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        runtime.wait_until_idle();
        assert_eq!((done.load(Ordering::SeqCst), ledger.alive()), (count, 0));
        let stats = runtime.stats();
        assert_eq!((stats.tasks, stats.timers, stats.injected, stats.blocking_queued), (0, 0, 0, 0));
    });
}

#[test]
fn timers_that_come_and_go_leave_nothing() {
    in_a_worker(2, async {
        let tasks: Vec<_> = (0..heirloom_tests::scaled(50) as u64)
            .map(|number| {
                spawn(async move {
                    for step in 0..heirloom_tests::scaled(200) as u64 {
                        // Half a minute and up, over all levels of a wheel.
                        let far = Duration::from_millis(1 << (15 + (number + step) % 30));
                        wait_for(yield_now(), far).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(heirloom::Handle::current().unwrap().stats().timers, 0);
    });
}

#[test]
fn the_same_waker_over_and_over_is_one_task() {
    const WAITS: usize = heirloom_tests::scaled(1_000);
    in_a_worker(2, async {
        // A million wake-ups of one task by another one, some of them while it runs.
        let (probe, watch) = Probe::new(std::iter::repeat_n(Step::Wait, WAITS));
        let task = spawn(probe);
        let waker = spawn({
            let watch = watch.clone();
            async move {
                while watch.drops() == 0 {
                    for _ in 0..100 {
                        watch.wake();
                    }
                    yield_now().await;
                }
            }
        });
        task.await.unwrap();
        waker.await.unwrap();
        watch.assert_counts(WAITS + 1, 1);
    });
}

/// The kind: memory that a burst has taken and nothing needs any more, as the system sees it. What
/// the allocator was given back is counted in `allocations`.
#[cfg(all(target_os = "linux", not(miri), not(heirloom_lone_tasks)))]
#[test]
fn the_resident_memory_of_a_burst_goes_back() {
    if !in_child("soak::the_resident_memory_of_a_burst_goes_back", false).is_here() {
        return;
    }
    watchdog(PATIENCE, || {
        let runtime = heirloom_tests::runtime(2);
        let before = resident_bytes().unwrap();
        // All of them exist at once: the workers have no time for them yet.
        let occupied = heirloom_tests::occupy(&runtime, 2);
        for _ in 0..100_000 {
            let large = async {
                let block = [1_u8; 1024];
                yield_now().await;
                std::hint::black_box(&block);
            };
            runtime.spawn(large).detach();
        }
        let peak = resident_bytes().unwrap() - before;
        assert!(peak > 100_000 * 1024, "{peak} bytes");
        occupied.release();
        runtime.wait_until_idle();
        let left = || resident_bytes().unwrap().saturating_sub(before);
        assert!(heirloom_tests::wait_until(|| left() < peak / 4), "{} of {peak} bytes stay", left());
        say_as_child();
    });
}
