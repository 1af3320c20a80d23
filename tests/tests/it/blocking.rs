//! The blocking pool: which closures run, wait or are cancelled, and what happens without threads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use heirloom::task::CancelReason;
use heirloom::{Runtime, spawn, spawn_blocking, task};
use heirloom_tests::{
    Countdown, Gate, Ledger, MARK, OnDrop, PATIENCE, SCRIPTED, idle, in_a_worker, in_child_with_limit,
    quiet_panic, say_as_child, scaled, wait_until, watchdog, with_runtime,
};

/// A runtime with one worker and so many blocking threads.
fn capped(threads: usize) -> Runtime {
    Runtime::builder().workers(1).max_blocking_threads(threads).build().unwrap()
}

#[test]
fn a_closure_returns_its_value_or_its_panic() {
    in_a_worker(1, async {
        assert_eq!(spawn_blocking(|| 7).await.unwrap(), 7);
        let error = spawn_blocking(|| quiet_panic(SCRIPTED)).await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.panic_message(), Some(SCRIPTED));
        // The thread is as good as before.
        for number in 0..20 {
            assert_eq!(spawn_blocking(move || number).await.unwrap(), number);
        }
    });
}

#[test]
fn closures_run_at_once_up_to_the_cap_and_wait_beyond() {
    watchdog(PATIENCE, || {
        let runtime = capped(3);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (three, gate) = (Countdown::new(3), Gate::new());
        let first: Vec<_> = (0..3)
            .map(|_| {
                let (three, gate) = (three.clone(), gate.clone());
                runtime.spawn_blocking(move || {
                    three.arrive();
                    gate.wait();
                })
            })
            .collect();
        // Three are inside at the same time.
        three.wait();
        let rest: Vec<_> = (0..50)
            .map(|_| {
                let (running, most) = (running.clone(), most.clone());
                runtime.spawn_blocking(move || {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        let stats = runtime.stats();
        assert_eq!((stats.blocking_threads, stats.max_blocking_threads, stats.blocking_queued), (3, 3, 50));
        gate.open();
        for closure in first.into_iter().chain(rest) {
            runtime.block_on(closure).unwrap();
        }
        assert!(most.load(Ordering::SeqCst) <= 3);
        idle(&runtime);
        assert_eq!(runtime.stats().blocking_queued, 0);
    });
}

#[test]
fn threads_are_used_again() {
    with_runtime(1, |runtime| {
        let threads: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
        for _ in 0..scaled(50) {
            let threads = threads.clone();
            let closure = runtime.spawn_blocking(move || {
                threads.lock().unwrap().insert(std::thread::current().id());
            });
            runtime.block_on(closure).unwrap();
            idle(runtime);
        }
        assert_eq!(threads.lock().unwrap().len(), 1);
    });
}

/// What becomes of a closure, by how far it is and what is done with its handle.
#[test]
fn a_closure_that_has_not_begun_is_cancelled_and_one_that_has_runs_on() {
    for begun in [false, true] {
        for deed in 0..4 {
            watchdog(PATIENCE, move || {
                let runtime = capped(1);
                let (gate, entered) = (Gate::new(), Gate::new());
                // It keeps the only thread, unless the closure itself is to have it.
                let before = (!begun).then(|| {
                    let (gate, entered) = (gate.clone(), entered.clone());
                    runtime.spawn_blocking(move || {
                        entered.open();
                        gate.wait();
                    })
                });
                let (ledger, ran) = (Ledger::new(), Arc::new(AtomicUsize::new(0)));
                MARK.set(5);
                let closure = runtime.spawn_blocking({
                    let (gate, entered, value, ran) =
                        (gate.clone(), entered.clone(), ledger.counted(1), ran.clone());
                    let witness = OnDrop::new(|| assert_eq!(MARK.get(), Some(5)));
                    move || {
                        let _witness = witness;
                        entered.open();
                        gate.wait();
                        ran.fetch_add(1, Ordering::SeqCst);
                        value.id()
                    }
                });
                MARK.set(6);
                entered.wait();
                let abort = closure.abort_handle();
                let mut closure = Some(closure);
                match deed {
                    0 => drop(closure.take()),
                    1 => abort.abort(),
                    2 => closure.take().unwrap().detach(),
                    _ => {}
                }
                gate.open();
                let cancels = deed < 2;
                if let Some(closure) = closure {
                    match runtime.block_on(closure) {
                        Ok(output) => assert_eq!(output, 1),
                        Err(error) => assert!(cancels && error.is_cancelled(), "{error}"),
                    }
                }
                idle(&runtime);
                let ran = ran.load(Ordering::SeqCst);
                assert_eq!(ran, usize::from(begun || !cancels), "begun: {begun}, deed: {deed}");
                assert_eq!(ledger.alive(), 0);
                drop(before);
            });
        }
    }
}

#[test]
fn a_closure_may_block_on_futures_and_spawn() {
    in_a_worker(1, async {
        MARK.set(5);
        let nested = spawn_blocking(|| {
            assert_eq!(MARK.get(), Some(5));
            heirloom::block_on(async {
                let task = spawn(async { MARK.get() });
                let inner =
                    spawn_blocking(|| heirloom::block_on(async { spawn_blocking(|| MARK.get()).await }));
                (task.await.unwrap(), inner.await.unwrap().unwrap())
            })
        });
        assert_eq!(nested.await.unwrap(), (Some(5), Some(5)));
    });
}

#[test]
fn closures_that_wait_for_each_other_need_as_many_threads() {
    watchdog(PATIENCE, || {
        let runtime = capped(16);
        let barrier = Arc::new(std::sync::Barrier::new(16));
        let closures: Vec<_> = (0..16)
            .map(|_| {
                let barrier = barrier.clone();
                runtime.spawn_blocking(move || barrier.wait().is_leader())
            })
            .collect();
        let leaders = closures.into_iter().map(|closure| runtime.block_on(closure).unwrap());
        assert_eq!(leaders.filter(|leader| *leader).count(), 1);
    });
}

#[test]
fn workers_go_on_while_every_blocking_thread_is_busy() {
    watchdog(PATIENCE, || {
        let runtime = capped(2);
        let (gate, two) = (Gate::new(), Countdown::new(2));
        let closures: Vec<_> = (0..10)
            .map(|number| {
                let (gate, two) = (gate.clone(), two.clone());
                runtime.spawn_blocking(move || {
                    if number < 2 {
                        two.arrive();
                    }
                    gate.wait();
                })
            })
            .collect();
        two.wait();
        for _ in 0..scaled(100) {
            runtime.block_on(runtime.spawn(async {})).unwrap();
        }
        runtime.block_on(runtime.spawn(heirloom::sleep(Duration::from_millis(1)))).unwrap();
        gate.open();
        for closure in closures {
            runtime.block_on(closure).unwrap();
        }
    });
}

#[test]
fn the_end_of_a_runtime_cancels_what_has_not_begun() {
    watchdog(PATIENCE, || {
        let runtime = capped(1);
        let (gate, entered, ledger) = (Gate::new(), Gate::new(), Ledger::new());
        let running = runtime.spawn_blocking({
            let (gate, entered, value) = (gate.clone(), entered.clone(), ledger.counted(0));
            move || {
                entered.open();
                gate.wait();
                value.id()
            }
        });
        entered.wait();
        let queued: Vec<_> = (1..20)
            .map(|number| {
                let value = ledger.counted(number);
                runtime.spawn_blocking(move || value.id())
            })
            .collect();
        drop(runtime);
        assert_eq!(ledger.alive(), 1, "those that wait are gone, the one that runs has not been waited for");
        for closure in queued {
            assert!(heirloom::block_on(closure).unwrap_err().is_cancelled());
        }
        gate.open();
        // It ran on by itself; its value is not lost if its handle still waits, or it is told that
        // none may.
        match heirloom::block_on(running) {
            Ok(output) => assert_eq!(output, 0),
            Err(error) => assert!(error.is_cancelled()),
        }
    });
}

#[test]
fn a_closure_knows_its_name_and_its_runtime() {
    in_a_worker(1, async {
        let named = task::Builder::new()
            .name("digest")
            .spawn_blocking(|| task::current().map(|task| (task.id(), task.name().map(str::to_owned))));
        let id = named.id();
        assert_eq!(named.await.unwrap(), Some((id, Some("digest".to_owned()))));
        assert_eq!(spawn_blocking(task::budget::remaining).await.unwrap(), None);
    });
}

#[test]
fn without_room_for_a_thread_every_handle_resolves_and_the_pool_recovers() {
    let test = "blocking::without_room_for_a_thread_every_handle_resolves_and_the_pool_recovers";
    if in_child_with_limit(test, "-v 1000000", 2).is_here() {
        watchdog(PATIENCE, || {
            // No stack of this size fits: the pool is and stays empty.
            let room = Runtime::builder().workers(1).stack_size(350 << 20).max_blocking_threads(8).build();
            let runtime = room.expect("one fits");
            let other = Runtime::builder().workers(1).stack_size(350 << 20).build();
            let closures: Vec<_> = (0..20).map(|number| runtime.spawn_blocking(move || number)).collect();
            let mut refused = 0;
            for (number, closure) in closures.into_iter().enumerate() {
                match runtime.block_on(closure) {
                    Ok(output) => assert_eq!(output, number),
                    Err(error) => {
                        assert_eq!(error.reason(), Some(&CancelReason::NoThread));
                        refused += 1;
                    }
                }
            }
            if other.is_ok() {
                assert_eq!(refused, 20, "two such stacks fit, a third one does not");
            }
            drop(other);
            // There is room again.
            let later: Vec<_> = (0..20).map(|number| runtime.spawn_blocking(move || number)).collect();
            for (number, closure) in later.into_iter().enumerate() {
                assert_eq!(runtime.block_on(closure).unwrap(), number);
            }
            say_as_child();
        });
    }
}

#[test]
fn threads_report_their_start_and_their_end() {
    watchdog(PATIENCE, || {
        let (started, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (start, stop) = (started.clone(), stopped.clone());
        let runtime = Runtime::builder()
            .workers(2)
            .max_blocking_threads(1)
            .on_thread_start(move || {
                start.fetch_add(1, Ordering::SeqCst);
                quiet_panic("of no importance");
            })
            .on_thread_stop(move || {
                stop.fetch_add(1, Ordering::SeqCst);
                quiet_panic("of no importance either");
            })
            .build()
            .unwrap();
        runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
        runtime.block_on(runtime.spawn(async {})).unwrap();
        assert!(heirloom_tests::wait_until(|| started.load(Ordering::SeqCst) == 3));
        drop(runtime);
        assert!(heirloom_tests::wait_until(|| stopped.load(Ordering::SeqCst) == 3));
        assert_eq!(started.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_stuck_pool_does_not_gather_what_was_cancelled() {
    watchdog(PATIENCE, || {
        let runtime = capped(1);
        let gate = Gate::new();
        let stuck = {
            let gate = gate.clone();
            runtime.spawn_blocking(move || gate.wait())
        };
        let ledger = Ledger::new();
        let wanted = runtime.spawn_blocking(|| 7);
        for number in 0..if cfg!(miri) { 300 } else { 10_000 } {
            let value = ledger.counted(number);
            drop(runtime.spawn_blocking(move || drop(value)));
        }
        assert!(runtime.stats().blocking_queued <= 200, "{:?}", runtime.stats());
        assert!(wait_until(|| ledger.alive() <= 200), "{} closures are kept", ledger.alive());
        gate.open();
        assert_eq!(runtime.block_on(async { (stuck.await.unwrap(), wanted.await.unwrap()).1 }), 7);
        drop(runtime);
        assert_eq!(ledger.alive(), 0);
    });
}
