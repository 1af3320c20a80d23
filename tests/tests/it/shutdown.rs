//! How runtimes end, and what ends with them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom::runtime::Hooks;
use heirloom::task::{CancelReason, TaskMeta};
use heirloom::{Context, Handle, JoinHandle, Runtime, context_var, spawn, spawn_blocking, task};
use heirloom_tests::{
    Countdown, Counted, Gate, Ledger, Log, MARK, OnDrop, PATIENCE, Probe, SCRIPTED, Step, idle, occupy,
    quiet_panic, runtime, scaled, shut_down, wait_until, watchdog,
};

context_var! {
    static TRACED: Arc<OnDrop>;
}

const LONG: Duration = Duration::from_secs(3_600);

#[test]
fn tasks_that_end_within_the_limit_are_drained_and_the_report_is_clean() {
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        let (gate, ledger) = (Gate::new(), Ledger::new());
        let handles: Vec<_> = (0..20)
            .map(|number| {
                let (opened, value) = (gate.opened(), ledger.counted(number));
                runtime.spawn(async move {
                    opened.await;
                    value.id()
                })
            })
            .collect();
        let begun = Gate::new();
        let opener = std::thread::spawn({
            let begun = begun.clone();
            move || {
                begun.wait();
                gate.open();
            }
        });
        begun.open();
        let report = shut_down(runtime, LONG);
        opener.join().unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert!(report.cancelled().is_empty() && report.still_running().is_empty());
        for (number, handle) in handles.into_iter().enumerate() {
            assert_eq!(heirloom::block_on(handle).unwrap(), number as u64);
        }
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn what_was_still_alive_is_reported_by_name() {
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        let tasks = runtime.block_on(async {
            ["patient", "stubborn"]
                .map(|name| task::Builder::new().name(name).spawn(std::future::pending::<()>()))
        });
        let done = runtime.spawn(async {});
        let gate = Gate::new();
        let (entered, waiting) = (Gate::new(), gate.clone());
        let inside = entered.clone();
        let closure = runtime.block_on(async {
            task::Builder::new().name("closure").spawn_blocking(move || {
                inside.open();
                waiting.wait();
            })
        });
        entered.wait();
        let report = shut_down(runtime, Duration::from_millis(10));
        let mut names: Vec<_> = report.cancelled().iter().map(|task| task.name().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["patient", "stubborn"]);
        assert_eq!(report.still_running().iter().map(ToString::to_string).collect::<Vec<_>>(), ["closure"]);
        assert!(
            report.to_string().starts_with("cancelled: ")
                && report.to_string().ends_with("; still running: closure")
        );
        assert!(!report.is_clean());
        for task in tasks {
            let error = heirloom::block_on(task).unwrap_err();
            assert_eq!(error.reason(), Some(&CancelReason::Shutdown));
        }
        heirloom::block_on(done).unwrap();
        gate.open();
        // A closure that started is waited for by the holder of its handle, or is given up:
        // resolved either way.
        let _ = heirloom::block_on(closure);
    });
}

#[test]
fn spawning_on_a_runtime_that_is_gone_resolves_as_cancelled() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let handle = runtime.handle().clone();
        drop(runtime);
        let ledger = Ledger::new();
        let value = ledger.counted(1);
        let error = heirloom::block_on(handle.spawn(async move { value.id() })).unwrap_err();
        assert!(
            matches!(error.reason(), Some(CancelReason::RuntimeGone | CancelReason::Shutdown)),
            "{error}"
        );
        let value = ledger.counted(2);
        let closure = handle.spawn_blocking(move || value.id());
        assert!(heirloom::block_on(closure).unwrap_err().is_cancelled());
        let value = ledger.counted(3);
        let background = handle.spawn_background(async move { drop(value) });
        assert!(background.is_finished());
        let _ = handle.stats();
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_destructor_may_spawn_during_shutdown() {
    watchdog(PATIENCE, || {
        for limit in [None, Some(Duration::ZERO)] {
            let runtime = runtime(2);
            let (ledger, results) = (Ledger::new(), Log::<(JoinHandle<u64>, JoinHandle<u64>)>::new());
            for number in 0..10 {
                let (handle, ledger, results) = (runtime.handle().clone(), ledger.clone(), results.clone());
                let spawner = OnDrop::new(move || {
                    let (value, other) = (ledger.counted(number), ledger.counted(number));
                    let late = if number % 2 == 0 {
                        handle.spawn(async move { value.id() })
                    } else {
                        spawn(async move { value.id() })
                    };
                    results.push((late, handle.spawn_blocking(move || other.id())));
                });
                let task = runtime.spawn(async move {
                    let _spawner = spawner;
                    std::future::pending::<()>().await;
                });
                task.detach();
            }
            idle(&runtime);
            match limit {
                None => drop(runtime),
                Some(limit) => drop(shut_down(runtime, limit)),
            }
            let results = results.take();
            assert_eq!(results.len(), 10);
            for (task, closure) in results {
                assert!(heirloom::block_on(task).unwrap_err().is_cancelled());
                // Refused, or run by a thread that was there: never forgotten.
                let _ = heirloom::block_on(closure);
            }
            assert_eq!(ledger.alive(), 0);
        }
    });
}

#[test]
fn handles_resolve_whatever_races_with_the_end() {
    watchdog(PATIENCE, || {
        for round in 0..scaled(60) {
            let runtime = runtime(1 + round % 3);
            let (ledger, started) = (Ledger::new(), Countdown::new(2));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (handle, ledger, started) =
                        (runtime.handle().clone(), ledger.clone(), started.clone());
                    std::thread::spawn(move || {
                        started.arrive();
                        (0..scaled(50) as u64)
                            .map(|number| {
                                let value = ledger.counted(number);
                                if number % 2 == 0 {
                                    handle.spawn(async move { value.id() })
                                } else {
                                    handle.spawn_blocking(move || value.id())
                                }
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            started.wait();
            drop(runtime);
            for thread in threads {
                for (number, handle) in thread.join().unwrap().into_iter().enumerate() {
                    match heirloom::block_on(handle) {
                        Ok(output) => assert_eq!(output, number as u64),
                        Err(error) => assert!(error.is_cancelled(), "{error}"),
                    }
                }
            }
            assert_eq!(ledger.alive(), 0);
        }
    });
}

#[test]
fn wakers_that_fire_while_the_runtime_ends_do_no_harm() {
    watchdog(PATIENCE, || {
        for round in 0..scaled(200) {
            let runtime = runtime(1 + round % 2);
            let (probe, watch) = Probe::new(std::iter::repeat_n(Step::Wait, 1_000));
            runtime.spawn(probe).detach();
            idle(&runtime);
            let (waker, started) = (watch.waker().unwrap(), Gate::new());
            let thread = std::thread::spawn({
                let started = started.clone();
                move || {
                    started.open();
                    for _ in 0..scaled(200) {
                        waker.clone().wake();
                    }
                }
            });
            started.wait();
            drop(runtime);
            thread.join().unwrap();
            watch.assert_sound();
            assert_eq!(watch.drops(), 1);
        }
    });
}

/// Hooks with something that is counted.
struct Witness(#[expect(dead_code, reason = "it is dropped")] Counted);

impl Hooks for Witness {
    fn before_poll(&self, _: &TaskMeta) {}
}

context_var! {
    static AT_THE_ROOT: Arc<Counted>;
}

/// The kind: whatever outlives a runtime (a waker, a handle of a task that is over or of the
/// runtime) keeps memory of the executor's own at most. What the user gave to the tasks, or to the
/// builder, is gone.
#[test]
fn a_waker_that_is_kept_keeps_the_cell_and_nothing_else() {
    watchdog(PATIENCE, || {
        let ledger = Ledger::new();
        let [root, hooks, on_start, on_stop] = [1, 3, 4, 5].map(|id| ledger.counted(id));
        let runtime = Runtime::builder()
            .workers(2)
            .root_context(Context::empty().with_var(&AT_THE_ROOT, Arc::new(root)))
            .hooks(Arc::new(Witness(hooks)))
            .on_thread_start(move || assert_eq!(on_start.id(), 4))
            .on_thread_stop(move || assert_eq!(on_stop.id(), 5))
            .build()
            .unwrap();
        let value = ledger.counted(6);
        let (probe, watch) = Probe::new([Step::Wait]);
        MARK.set(5);
        let task = runtime.spawn(async move {
            let _value = value;
            probe.await;
        });
        runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
        let over = runtime.spawn(async { task::current().unwrap() });
        let (abort, over) = (over.abort_handle(), runtime.block_on(over).unwrap());
        idle(&runtime);
        let (waker, handle) = (watch.waker().unwrap(), runtime.handle().clone());
        assert_eq!(ledger.alive(), 5);
        drop(runtime);
        assert_eq!(watch.drops(), 1);
        // The runtime's end does not wait for the blocking pool's threads.
        assert!(wait_until(|| ledger.alive() == 0), "{} are alive", ledger.alive());
        waker.wake();
        assert!(heirloom::block_on(task).unwrap_err().is_cancelled());
        assert!(heirloom::block_on(handle.spawn(async {})).unwrap_err().is_cancelled());
        assert!(handle.spawn_background(async {}).is_finished());
        assert!(abort.is_finished());
        assert_eq!(over.spawned_at().file(), file!());
    });
}

#[test]
fn two_ends_of_a_channel_that_both_wait_are_dropped_without_a_deadlock() {
    use futures::StreamExt;
    watchdog(PATIENCE, || {
        for _ in 0..scaled(50) {
            let runtime = runtime(2);
            let (to_one, mut one) = futures::channel::mpsc::unbounded::<()>();
            let (to_two, mut two) = futures::channel::mpsc::unbounded::<()>();
            // When one is dropped, its sender goes and wakes the other.
            let first = runtime.spawn(async move {
                let _other = to_two;
                one.next().await
            });
            let second = runtime.spawn(async move {
                let _other = to_one;
                two.next().await
            });
            idle(&runtime);
            drop(runtime);
            for task in [first, second] {
                let _ = heirloom::block_on(task);
            }
        }
    });
}

#[test]
fn a_waker_may_be_fired_under_a_lock_that_destructors_take() {
    watchdog(PATIENCE, || {
        for _ in 0..scaled(50) {
            let runtime = runtime(1);
            let lock = Arc::new(Mutex::new(0));
            let (probe, watch) = Probe::new(std::iter::repeat_n(Step::Wait, 1_000));
            let destructor = OnDrop::new({
                let lock = lock.clone();
                move || *lock.lock().unwrap() += 1
            });
            runtime
                .spawn(async move {
                    let _destructor = destructor;
                    probe.await;
                })
                .detach();
            idle(&runtime);
            let waker = watch.waker().unwrap();
            let (held, ended) = (Gate::new(), Gate::new());
            let thread = std::thread::spawn({
                let (lock, held) = (lock.clone(), held.clone());
                move || {
                    let _guard = lock.lock().unwrap();
                    held.open();
                    // By value, before, during and after the end: it must never drop or poll the
                    // task here.
                    for _ in 0..100 {
                        waker.clone().wake();
                    }
                    drop(waker);
                }
            });
            held.wait();
            drop(runtime);
            ended.open();
            thread.join().unwrap();
            assert_eq!(*lock.lock().unwrap(), 1);
        }
    });
}

#[test]
fn a_destructor_that_panics_does_not_keep_the_others() {
    watchdog(PATIENCE, || {
        for workers in [1, 3] {
            for polled in [false, true] {
                let runtime = runtime(workers);
                let occupied = (!polled).then(|| occupy(&runtime, workers));
                let watches: Vec<_> = (0..scaled(30))
                    .map(|number| {
                        let (probe, watch) = Probe::new([Step::Wait]);
                        let probe = if number % 3 == 0 { probe.panicking_on_drop() } else { probe };
                        runtime.spawn(probe).detach();
                        watch
                    })
                    .collect();
                if polled {
                    idle(&runtime);
                }
                // Polls in progress are waited for: they end when the others are gone.
                let all = watches.clone();
                let observer = std::thread::spawn(move || {
                    let dropped = wait_until(|| all.iter().all(|watch| watch.drops() == 1));
                    drop(occupied);
                    dropped
                });
                let end = AssertUnwindSafe(|| shut_down(runtime, Duration::ZERO));
                assert!(catch_unwind(end).is_ok(), "the panic of a task's destructor is the task's");
                assert!(observer.join().unwrap());
                for watch in watches {
                    watch.assert_sound();
                    assert_eq!(watch.drops(), 1);
                }
            }
        }
    });
}

#[test]
fn a_runtime_may_be_dropped_while_its_thread_unwinds() {
    watchdog(PATIENCE, || {
        let (probe, watch) = Probe::new([Step::Wait]);
        let (gate, entered) = (Gate::new(), Gate::new());
        let (waiting, inside) = (gate.clone(), entered.clone());
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let runtime = runtime(2);
            runtime.spawn(probe).detach();
            idle(&runtime);
            runtime
                .spawn_blocking(move || {
                    inside.open();
                    waiting.wait();
                })
                .detach();
            entered.wait();
            quiet_panic(SCRIPTED);
        }));
        // The closure still waits; shutdown did not wait for it.
        assert_eq!(*unwound.unwrap_err().downcast::<&'static str>().unwrap(), SCRIPTED);
        watch.assert_counts(1, 1);
        gate.open();
    });
}

#[test]
fn a_runtime_may_be_dropped_inside_its_own_task() {
    watchdog(PATIENCE, || {
        for workers in [1, 2] {
            for yields in [false, true] {
                let runtime = runtime(workers);
                let handle = runtime.handle().clone();
                let (probe, watch) = Probe::new([Step::Wait]);
                runtime.spawn(probe).detach();
                idle(&runtime);
                let (after, ended) = (Log::new(), Gate::new());
                let end = OnDrop::new({
                    let ended = ended.clone();
                    move || ended.open()
                });
                let log = after.clone();
                let task = handle.spawn(async move {
                    let _end = end;
                    drop(runtime);
                    log.push("after the drop, in the same poll");
                    if yields {
                        heirloom::yield_now().await;
                        log.push("never");
                    }
                });
                let result = heirloom::block_on(task);
                ended.wait();
                assert_eq!(after.take(), ["after the drop, in the same poll"]);
                if let Err(error) = result {
                    assert!(error.is_cancelled());
                } else {
                    assert!(!yields);
                }
                assert!(wait_until(|| watch.drops() == 1));
                watch.assert_counts(1, 1);
            }
        }
    });
}

#[test]
fn a_task_that_has_yielded_is_dropped_though_its_worker_is_in_a_poll() {
    watchdog(PATIENCE, || {
        for inside in [false, true] {
            let mut runtimes = vec![runtime(1)];
            let handle = runtimes[0].handle().clone();
            let ledger = Ledger::new();
            let yielding: Vec<_> = (0..3)
                .map(|number| {
                    let value = ledger.counted(number);
                    handle.spawn(async move {
                        let _value = value;
                        loop {
                            heirloom::yield_now().await;
                        }
                    })
                })
                .collect();
            // When this is polled, all of them have yielded, and wait for their turn.
            let (begun, log) = (Gate::new(), Log::new());
            let end = handle.spawn({
                let (begun, log, ledger) = (begun.clone(), log.clone(), ledger.clone());
                let own = if inside { runtimes.pop() } else { None };
                async move {
                    begun.open();
                    drop(own);
                    let dropped = ledger.alive() == 0 || !inside && wait_until(|| ledger.alive() == 0);
                    log.push(if dropped { "dropped" } else { "alive" });
                }
            });
            begun.wait();
            if !inside {
                let report = handle.shutdown(Duration::ZERO);
                assert!(report.still_running().is_empty(), "{report:?}");
            }
            let _ = heirloom::block_on(end);
            assert_eq!(log.take(), ["dropped"], "ended from inside: {inside}");
            for task in yielding {
                assert!(heirloom::block_on(task).unwrap_err().is_cancelled());
            }
        }
    });
}

#[test]
fn what_the_destructors_of_yielding_tasks_spawn_is_refused() {
    watchdog(PATIENCE, || {
        let (ran, polls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..if cfg!(miri) { 2 } else { scaled(200) } {
            polls.store(0, Ordering::SeqCst);
            let runtime = runtime(3);
            for _ in 0..if cfg!(miri) { 10 } else { 300 } {
                let (ran, polls) = (ran.clone(), polls.clone());
                let end = OnDrop::new(move || {
                    heirloom::spawn(async move {
                        ran.fetch_add(1, Ordering::SeqCst);
                    })
                    .detach();
                });
                let yielding = runtime.spawn(async move {
                    let _end = end;
                    loop {
                        polls.fetch_add(1, Ordering::SeqCst);
                        heirloom::yield_now().await;
                    }
                });
                yielding.detach();
            }
            assert!(wait_until(|| polls.load(Ordering::SeqCst) > 20));
            drop(runtime);
        }
        // What was not refused is in the default runtime.
        heirloom::block_on(spawn(async {})).unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_runtime_may_be_dropped_by_its_blocking_closure_and_by_another_runtime() {
    watchdog(PATIENCE, || {
        let (one, two) = (runtime(1), runtime(1));
        let (probe, watch) = Probe::new([Step::Wait]);
        one.spawn(probe).detach();
        idle(&one);
        two.block_on(two.spawn(async move { drop(one) })).unwrap();
        watch.assert_counts(1, 1);
        let handle = two.handle().clone();
        let (probe, watch) = Probe::new([Step::Wait]);
        two.spawn(probe).detach();
        idle(&two);
        let dropped = Gate::new();
        let done = dropped.clone();
        handle
            .spawn_blocking(move || {
                drop(two);
                done.open();
            })
            .detach();
        dropped.wait();
        watch.assert_counts(1, 1);
    });
}

#[test]
fn a_runtime_that_is_forgotten_drops_nothing_and_goes_on() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let (probe, watch) = Probe::new([Step::Wait, Step::Wait]);
        let task = runtime.spawn(probe);
        idle(&runtime);
        std::mem::forget(runtime);
        watch.assert_counts(1, 0);
        watch.wake();
        while watch.polls() < 2 {
            std::thread::yield_now();
        }
        task.abort();
        assert!(heirloom::block_on(task).unwrap_err().is_cancelled());
        watch.assert_counts(2, 1);
    });
}

#[test]
fn what_belongs_to_a_task_is_dropped_in_a_fixed_order() {
    watchdog(PATIENCE, || {
        for finish in [true, false] {
            let runtime = runtime(1);
            let log = Log::<&str>::new();
            let note = |line: &'static str| {
                let log = log.clone();
                OnDrop::new(move || log.push(line))
            };
            TRACED.set(Arc::new(note("context")));
            let (future, output) = (note("future"), note("output"));
            let (probe, watch) = Probe::new([Step::Wait]);
            let task = runtime.spawn(async move {
                let _future = future;
                probe.await;
                output
            });
            TRACED.unset();
            task.detach();
            idle(&runtime);
            if finish {
                watch.wake();
                idle(&runtime);
            }
            drop(runtime);
            // The locals of an async block go before the unclaimed output; what was captured goes
            // with the future; the context goes last.
            let order = log.take();
            if finish {
                assert_eq!(order, ["future", "output", "context"]);
            } else {
                assert_eq!(order.last(), Some(&"context"));
                assert_eq!(order.len(), 3);
            }
        }
    });
}

#[test]
fn shutdown_does_not_wait_longer_than_it_may() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let (gate, entered) = (Gate::new(), Gate::new());
        let (waiting, inside) = (gate.clone(), entered.clone());
        let closure = move || {
            inside.open();
            waiting.wait();
        };
        runtime.spawn_blocking(closure).detach();
        runtime.spawn(std::future::pending::<()>()).detach();
        entered.wait();
        let begin = Instant::now();
        let report = shut_down(runtime, Duration::from_millis(30));
        assert!(begin.elapsed() >= Duration::from_millis(30), "it gave them their time");
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(report.still_running().len(), 1);
        gate.open();
    });
}

#[test]
fn a_handle_knows_its_runtime_while_it_lives_and_inside_only() {
    watchdog(PATIENCE, || {
        assert!(Handle::current().is_none());
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let inside = runtime.spawn(async {
            let handle = Handle::current().expect("inside a task");
            handle.spawn(async { 7 }).await.unwrap()
        });
        assert_eq!(runtime.block_on(inside).unwrap(), 7);
        assert!(runtime.block_on(async { Handle::current().is_some() }));
        let blocking = runtime
            .block_on(runtime.spawn(async { spawn_blocking(|| Handle::current().is_some()).await.unwrap() }));
        assert!(blocking.unwrap());
        assert!(Handle::current().is_none());
    });
}

#[test]
fn a_runtime_that_its_own_closure_shuts_down_does_not_wait_for_itself() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let handle = runtime.handle().clone();
        let (send, receive) = std::sync::mpsc::channel();
        handle
            .spawn_blocking(move || send.send(runtime.shutdown(Duration::from_secs(3_600))).unwrap())
            .detach();
        let report = receive.recv().unwrap();
        assert_eq!((report.cancelled().len(), report.still_running().len()), (0, 1), "{report:?}");
    });
}

#[test]
fn a_handle_ends_a_runtime_that_others_keep() {
    let once = || {
        let runtime = Arc::new(runtime(2));
        let ledger = Ledger::new();
        let value = ledger.counted(1);
        let named = task::Builder::new().name("forever").on(runtime.handle()).spawn(async move {
            let _value = value;
            std::future::pending::<()>().await
        });
        // Several at once: all of them return when it is over.
        let enders: Vec<_> = (0..3)
            .map(|_| {
                let (handle, ledger) = (runtime.handle().clone(), ledger.clone());
                std::thread::spawn(move || {
                    let report = handle.shutdown(Duration::from_millis(1));
                    assert_eq!(ledger.alive(), 0);
                    report
                })
            })
            .collect();
        for ender in enders {
            let report = ender.join().unwrap();
            assert!(report.is_clean() || report.to_string() == "cancelled: forever", "{report:?}");
        }
        assert_eq!(runtime.block_on(named).unwrap_err().reason(), Some(&CancelReason::Shutdown));
        assert!(runtime.block_on(runtime.spawn(async {})).unwrap_err().is_cancelled());
        assert!(runtime.handle().shutdown(LONG).is_clean(), "again there is nothing to end");
    };
    watchdog(PATIENCE, move || (0..scaled(50)).for_each(|_| once()));
}
