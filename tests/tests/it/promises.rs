//! The promises that the crate's documentation prints, a test of the same name for each.
//!
//! `one_allocation_per_task_at_most` stands in the `allocations` binary, which counts allocations.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom::{
    AbortHandle, Context, LocalSet, Runtime, TaskGroup, context_var, sleep, spawn, spawn_blocking,
    spawn_local, wait_for, yield_now,
};
use heirloom_tests::{
    Countdown, Counted, Gate, Ledger, MARK, OnDrop, PATIENCE, Probe, SCRIPTED, Step, Watch, cpu_time, idle,
    in_child_with_limit, naps, occupy, quiet_panic, runtime, say_as_child, scaled, shut_down, threads_named,
    wait_until, watchdog, with_runtime,
};

context_var! {
    static NUMBER: usize;
    static VALUE: Counted;
}

#[test]
fn every_wake_up_leads_to_a_poll() {
    const STEPS: usize = scaled(300);
    with_runtime(4, |runtime| {
        let script = |number: usize| {
            (0..STEPS).map(move |step| match (number + step) % 5 {
                0 => Step::Yield,
                1 if step % 50 < 5 => Step::WokenElsewhere,
                _ => Step::Wait,
            })
        };
        let (watches, tasks): (Vec<Watch>, Vec<_>) = (0..8)
            .map(|number| {
                let (probe, watch) = Probe::new(script(number));
                (watch, runtime.spawn(probe))
            })
            .unzip();
        // Two threads wake what they like, whether it is running, queued or waiting.
        std::thread::scope(|scope| {
            for first in 0..2 {
                let watches = &watches;
                scope.spawn(move || {
                    for round in 0..scaled(2_000) {
                        watches[(first + round) % watches.len()].wake();
                    }
                });
            }
        });
        idle(runtime);
        for watch in &watches {
            assert!(!watch.is_owed_a_poll(), "a wake-up was lost after {} polls", watch.polls());
        }
        for (watch, task) in watches.iter().zip(tasks) {
            while !task.is_finished() {
                let before = watch.polls();
                watch.wake();
                idle(runtime);
                assert!(task.is_finished() || watch.polls() > before, "a wake-up led to no poll");
            }
            runtime.block_on(task).unwrap();
            watch.assert_counts(STEPS + 1, 1);
        }
    });
}

#[test]
fn no_poll_after_completion() {
    with_runtime(2, |runtime| {
        let ends: [(&[Step], bool); 4] = [
            (&[Step::Wait, Step::Ready], false),
            (&[Step::Wait, Step::Panic], false),
            (&[Step::Wait, Step::Yield, Step::Yield], false),
            (&[Step::Wait; 10], true),
        ];
        for (script, abort) in ends {
            let (probe, watch) = Probe::new(script.iter().copied());
            let task = runtime.spawn(probe);
            idle(runtime);
            let waker = watch.waker().expect("it has been polled");
            waker.wake_by_ref();
            idle(runtime);
            let before = watch.polls();
            if abort {
                task.abort();
            }
            let _ = runtime.block_on(task);
            let polls = watch.polls();
            assert_eq!(watch.drops(), 1);
            assert!(!abort || polls == before, "polled although it was to end");
            // Clones by value and by reference, from here and from elsewhere, in a row and at once.
            waker.wake_by_ref();
            waker.clone().wake();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..scaled(50)).for_each(|_| waker.clone().wake()));
                }
            });
            drop(waker);
            idle(runtime);
            watch.assert_counts(polls, 1);
        }
    });
}

#[test]
fn a_future_is_dropped_exactly_once_in_its_own_context() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let watches = RefCell::new(Vec::<Watch>::new());
        let probe = |script: &[Step]| {
            let (probe, watch) = Probe::new(script.iter().copied());
            watches.borrow_mut().push(watch);
            let mark = watches.borrow().len() as u64;
            MARK.set(mark);
            probe.expecting(Some(mark))
        };
        // It ends by itself, by a panic, by being aborted where it waits, by its handle.
        runtime.block_on(runtime.spawn(probe(&[Step::Yield]))).unwrap();
        runtime.block_on(runtime.spawn(probe(&[Step::Yield, Step::Panic]))).unwrap_err();
        let task = runtime.spawn(probe(&[Step::Wait]));
        idle(&runtime);
        task.abort();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        let task = runtime.spawn(probe(&[Step::Wait]));
        idle(&runtime);
        drop(task);
        idle(&runtime);
        // While it is being polled.
        let own = Arc::new(Mutex::new(None::<AbortHandle>));
        let aborts_itself = {
            let (mut probe, own) = (probe(&[Step::Wait; 2]), own.clone());
            std::future::poll_fn(move |poller| {
                let polled = Pin::new(&mut probe).poll(poller);
                own.lock().unwrap().iter().for_each(AbortHandle::abort);
                polled
            })
        };
        let task = runtime.spawn(aborts_itself);
        idle(&runtime);
        *own.lock().unwrap() = Some(task.abort_handle());
        watches.borrow().last().unwrap().wake();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        // The same before its first poll.
        let occupied = occupy(&runtime, 1);
        let aborted = runtime.spawn(probe(&[]));
        aborted.abort();
        drop(runtime.spawn(probe(&[])));
        occupied.release();
        assert!(runtime.block_on(aborted).unwrap_err().is_cancelled());
        idle(&runtime);
        // By the end of the runtime, waiting or finished with nobody to claim the output.
        let waiting = runtime.spawn(probe(&[Step::Wait]));
        runtime.spawn(probe(&[Step::Wait])).detach();
        runtime.spawn(probe(&[])).detach();
        let handle = runtime.handle().clone();
        MARK.set(1_000);
        drop(runtime);
        assert!(heirloom::block_on(waiting).unwrap_err().is_cancelled());
        // And by a runtime that is gone.
        let late = handle.spawn(probe(&[]));
        assert!(heirloom::block_on(late).unwrap_err().is_cancelled());
        let watches = watches.into_inner();
        for (number, watch) in watches.iter().enumerate() {
            watch.assert_sound();
            assert_eq!(watch.drops(), 1, "case {number}");
        }
        assert_eq!(watches.len(), 11);
    });
}

#[test]
fn wakers_may_outlive_the_runtime() {
    watchdog(PATIENCE, || {
        for workers in [1, 3] {
            let runtime = runtime(workers);
            let scripts: [&[Step]; 3] =
                [&[Step::Wait], &[Step::Wait, Step::Wait], &[Step::Wait, Step::Panic]];
            let mut kept = Vec::new();
            for script in scripts {
                let (probe, watch) = Probe::new(script.iter().copied());
                runtime.spawn(probe).detach();
                idle(&runtime);
                kept.push((watch.waker().expect("it waits"), watch));
            }
            // The last one has ended before the runtime does.
            kept[2].0.wake_by_ref();
            idle(&runtime);
            drop(runtime);
            for (waker, watch) in kept {
                let polls = watch.polls();
                let other = waker.clone();
                assert!(other.will_wake(&waker));
                std::thread::spawn(move || {
                    other.wake_by_ref();
                    other.wake();
                })
                .join()
                .unwrap();
                waker.wake_by_ref();
                waker.clone().wake();
                drop(waker);
                watch.assert_counts(polls, 1);
            }
        }
    });
}

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
    // A pair that would keep a next slot for itself; a bystander in the same worker's queue, one injected from outside.
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
    // A task that always has a successor in the worker's own queue does not keep injected tasks waiting.
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
            // This thread may be kept off its core for a while between the two looks; hence so generous.
            assert!(after - before < 1_000_000);
        }
        over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_worker_that_sleeps_is_woken_by_work_from_anywhere() {
    for (workers, search) in
        [(1, None), (2, None), (4, None), (1, Some(Duration::ZERO)), (4, Some(Duration::ZERO))]
    {
        watchdog(PATIENCE, move || {
            let mut builder = Runtime::builder().workers(workers);
            if let Some(search) = search {
                builder = builder.search(search);
            }
            let (runtime, other) = (builder.build().unwrap(), runtime(1));
            let (probe, watch) = Probe::new(std::iter::repeat_n(Step::Wait, 10_000));
            let waiting = runtime.spawn(probe);
            for _ in 0..scaled(60) {
                // By a task from a thread.
                idle(&runtime);
                runtime.block_on(runtime.spawn(async {})).unwrap();
                // By a wake-up from a thread.
                idle(&runtime);
                let before = watch.polls();
                watch.wake();
                idle(&runtime);
                assert!(watch.polls() > before);
                // From a task of another runtime.
                let handle = runtime.handle().clone();
                let far = other.spawn(async move { handle.spawn(async { 7 }).await.unwrap() });
                assert_eq!(other.block_on(far).unwrap(), 7);
                // From a blocking closure that ends.
                let blocking = runtime.spawn(async { spawn_blocking(|| 8).await.unwrap() });
                assert_eq!(runtime.block_on(blocking).unwrap(), 8);
                // By a task that is aborted, which a worker has to drop.
                let aborted = runtime.spawn(std::future::pending::<()>());
                idle(&runtime);
                aborted.abort();
                assert!(runtime.block_on(aborted).unwrap_err().is_cancelled());
            }
            // By what another worker has in its queue while it is inside a long poll: each of these polls lasts until
            // all of them are going on, so every worker has to get up. The one in the next slot waits for its worker.
            for _ in 0..60 {
                idle(&runtime);
                let all = Countdown::new(workers);
                let long_polls = runtime.spawn(async move {
                    for _ in 1..workers {
                        let all = all.clone();
                        let long_poll = async move {
                            all.arrive();
                            all.wait();
                        };
                        spawn(long_poll).detach();
                    }
                    spawn(async {}).detach();
                    all.arrive();
                    all.wait();
                });
                runtime.block_on(long_polls).unwrap();
                // The same from a thread.
                idle(&runtime);
                let all = Countdown::new(workers);
                for _ in 0..workers {
                    let all = all.clone();
                    let long_poll = async move {
                        all.arrive();
                        all.wait();
                    };
                    runtime.spawn(long_poll).detach();
                }
                all.wait();
            }
            // By a timer, while the worker that kept the time is inside a long poll.
            if workers > 1 {
                let gate = Gate::new();
                let long_poll = runtime.spawn({
                    let gate = gate.clone();
                    async move {
                        sleep(Duration::from_millis(2)).await;
                        gate.wait();
                    }
                });
                let opener = runtime.spawn(async move {
                    sleep(Duration::from_millis(20)).await;
                    gate.open();
                });
                runtime.block_on(opener).unwrap();
                runtime.block_on(long_poll).unwrap();
            }
            // By a timer, also by an earlier one than the one it sleeps for.
            let far = runtime.spawn(sleep(Duration::from_secs(3_600)));
            for _ in 0..10 {
                idle(&runtime);
                runtime.block_on(runtime.spawn(sleep(Duration::from_millis(2)))).unwrap();
            }
            drop((far, waiting));
            watch.assert_sound();
        });
    }
}

#[test]
fn shutdown_drops_every_future_that_is_not_being_polled_before_it_returns() {
    watchdog(PATIENCE, || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let waiting: Vec<Watch> = (0..scaled(50))
                .map(|_| {
                    let (probe, watch) = Probe::new([Step::Wait]);
                    runtime.spawn(probe).detach();
                    watch
                })
                .collect();
            idle(&runtime);
            // Those that a task has spawned, on its worker.
            let (probes, inner): (Vec<_>, Vec<_>) = (0..50).map(|_| Probe::new([Step::Wait])).unzip();
            let parent = runtime.spawn(async { probes.into_iter().for_each(|probe| spawn(probe).detach()) });
            runtime.block_on(parent).unwrap();
            idle(&runtime);
            // All workers are inside a poll; what comes now is queued and was never polled.
            let occupied = occupy(&runtime, workers);
            let queued: Vec<Watch> = (0..scaled(50))
                .map(|_| {
                    let (probe, watch) = Probe::new([Step::Wait]);
                    runtime.spawn(probe).detach();
                    watch
                })
                .collect();
            // The polls in progress end when all the others are gone: shutdown waits for them, and must not make the
            // others wait, too.
            let all: Vec<Watch> = waiting.into_iter().chain(inner).chain(queued).collect();
            let observer = std::thread::spawn({
                let all = all.clone();
                move || {
                    let dropped = wait_until(|| all.iter().all(|watch| watch.drops() == 1));
                    occupied.release();
                    dropped
                }
            });
            let report = shut_down(runtime, Duration::from_millis(20));
            for watch in &all {
                watch.assert_sound();
                assert_eq!(watch.drops(), 1);
            }
            assert!(!report.is_clean());
            assert!(observer.join().unwrap(), "they were dropped while the polls were going on");
        }
        // What was being polled is dropped after that poll, which shutdown waits for.
        let runtime = runtime(1);
        let (begun, gate) = (Gate::new(), Gate::new());
        let (mut probe, watch) = Probe::new([Step::Wait; 2]);
        runtime
            .spawn(std::future::poll_fn({
                let (begun, gate) = (begun.clone(), gate.clone());
                move |poller| {
                    begun.open();
                    gate.wait();
                    // Long enough to be noticed if it was not waited for.
                    (0..1_000).for_each(|_| std::thread::yield_now());
                    Pin::new(&mut probe).poll(poller)
                }
            }))
            .detach();
        begun.wait();
        // Shutdown cancels what waits before it looks at what runs.
        let opener = OnDrop::new(move || gate.open());
        runtime
            .spawn(async move {
                let _opener = opener;
                std::future::pending::<()>().await
            })
            .detach();
        drop(runtime);
        watch.assert_counts(1, 1);
        // Without anything that is being polled, and by a plain drop.
        let runtime = heirloom_tests::runtime(2);
        let (probe, watch) = Probe::new([Step::Wait]);
        let task = runtime.spawn(probe);
        idle(&runtime);
        drop(runtime);
        watch.assert_counts(1, 1);
        assert!(heirloom::block_on(task).unwrap_err().is_cancelled());
    });
}

#[test]
fn a_panicking_task_harms_only_its_joiner() {
    with_runtime(1, |runtime| {
        let (bystander, watch) = Probe::new(std::iter::repeat_n(Step::Wait, 100));
        let bystander = runtime.spawn(bystander.expecting(None));
        for polls in 0..5 {
            let mut script = vec![Step::Yield; polls];
            script.push(Step::Panic);
            let (probe, panicked) = Probe::new(script);
            let ledger = Ledger::new();
            let value = ledger.counted(99);
            let task = runtime.spawn(async move {
                NUMBER.set(99);
                VALUE.set(value);
                let _binding = MARK.bind(99);
                probe.await;
            });
            let error = runtime.block_on(task).unwrap_err();
            assert!(error.is_panic() && !error.is_cancelled());
            assert_eq!(error.panic_message(), Some(SCRIPTED));
            assert_eq!(*error.into_panic().unwrap().downcast::<&'static str>().unwrap(), SCRIPTED);
            panicked.assert_counts(polls + 1, 1);
            assert_eq!(ledger.alive(), 0, "its context has gone with it");
            // The next task on that worker sees nothing of it, and those that wait go on.
            let seen = runtime.spawn(async { (NUMBER.get(), MARK.get(), heirloom::deadline()) });
            assert_eq!(runtime.block_on(seen).unwrap(), (None, None, None));
            let before = watch.polls();
            watch.wake();
            idle(runtime);
            assert_eq!(watch.polls(), before + 1);
        }
        // The destructor of a future, and a panic nobody waits for.
        let (probe, dropped) = Probe::new([Step::Wait]);
        let task = runtime.spawn(probe.panicking_on_drop());
        idle(runtime);
        drop(task);
        runtime.spawn(async { quiet_panic(SCRIPTED) }).detach();
        idle(runtime);
        assert_eq!(dropped.drops(), 1);
        // A payload that panics in its turn when nobody claims it.
        for already_over in [false, true] {
            let payload = OnDrop::new(|| quiet_panic("in the payload"));
            let task = runtime.spawn(async move { std::panic::resume_unwind(Box::new(payload)) });
            if already_over {
                idle(runtime);
            }
            task.detach();
            idle(runtime);
        }
        // A closure on a blocking thread, and a task of a local set.
        let closure = runtime.spawn_blocking(|| quiet_panic(SCRIPTED));
        assert!(runtime.block_on(closure).map(|()| 0).unwrap_err().is_panic());
        assert_eq!(runtime.block_on(runtime.spawn_blocking(|| (1, MARK.get()))).unwrap(), (1, None));
        let set = LocalSet::new();
        let neighbour = set.spawn_local(async {
            yield_now().await;
            MARK.get()
        });
        let local = set.spawn_local(async {
            MARK.set(99);
            quiet_panic(SCRIPTED)
        });
        assert!(set.block_on(local).map(|()| 0).unwrap_err().is_panic());
        assert_eq!(set.block_on(neighbour).unwrap(), None);
        // The one worker has lived through all of it.
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
        // A joiner that passes the panic on harms its own joiner, and so on.
        let chain = runtime.spawn(async { spawn(async { quiet_panic(SCRIPTED) }).await.unwrap_err() });
        assert!(runtime.block_on(chain).unwrap().is_panic());
        watch.assert_sound();
        drop(bystander);
    });
}

#[test]
fn no_thread_creation_failure_panics() {
    // No machine has room for such a stack: building fails in words, or the number is brought within reason.
    watchdog(PATIENCE, || {
        for stack in [usize::MAX, usize::MAX / 2, 1 << 50] {
            if let Ok(runtime) = Runtime::builder().workers(2).stack_size(stack).build() {
                assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
            }
        }
    });
    // A process without room for another stack: every handle resolves.
    let test = "promises::no_thread_creation_failure_panics";
    if in_child_with_limit(test, "-v 1500000", 200).is_here() {
        watchdog(PATIENCE, || {
            let runtime = Runtime::builder()
                .workers(1)
                .stack_size(64 << 20)
                .max_blocking_threads(40)
                .build()
                .expect("there is room for one");
            let gate = Gate::new();
            let closures: Vec<_> = (0..40)
                .map(|_| {
                    let gate = gate.clone();
                    runtime.spawn_blocking(move || gate.wait())
                })
                .collect();
            gate.open();
            for closure in closures {
                match runtime.block_on(closure) {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.reason(), Some(&heirloom::CancelReason::NoThread)),
                }
            }
            let many = Runtime::builder().workers(40).stack_size(64 << 20).build();
            assert!(many.is_err(), "forty such stacks should not fit");
            // And what works still works.
            assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
            drop(runtime);
            // The default runtime, whose workers need 200 MiB each, when there is room for 64 to 128: it refuses in words.
            // (The stacks of the blocking threads are given back a little later.)
            assert!(wait_until(|| threads_named("heirloom").unwrap_or(0) == 0));
            let mut room = Vec::new();
            // Until it fails several times running: the C library gives stacks back when it pleases.
            let mut refused = 0;
            while refused < 5 {
                match Runtime::builder().workers(1).stack_size(64 << 20).build() {
                    Ok(runtime) => {
                        room.push(runtime);
                        refused = 0;
                    }
                    Err(_) => {
                        refused += 1;
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            }
            let orphan = heirloom::block_on(room[0].spawn_blocking(|| ()));
            assert_eq!(orphan.unwrap_err().reason(), Some(&heirloom::CancelReason::NoThread));
            room.pop();
            assert!(wait_until(|| threads_named("heirloom") == Some(room.len())));
            for _ in 0..2 {
                let task = heirloom::block_on(async { spawn(async { 1 }).await });
                assert!(task.unwrap_err().is_cancelled());
                assert!(heirloom::block_on(spawn_blocking(|| 1)).unwrap_err().is_cancelled());
            }
            drop(room);
            say_as_child();
        });
    }
}

#[test]
fn an_idle_runtime_uses_no_cpu() {
    const NAME: &str = "idle-cpu";
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(4).thread_name(NAME).build().unwrap();
        let far = runtime.spawn(sleep(Duration::from_secs(3_600)));
        let near: Vec<_> =
            (0..16).map(|number| runtime.spawn(sleep(Duration::from_millis(number)))).collect();
        for task in near {
            runtime.block_on(task).unwrap();
        }
        runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
        idle(&runtime);
        // Those who search give up by themselves, soon.
        std::thread::sleep(Duration::from_millis(50));
        let (Some(before), Some(naps_before)) = (cpu_time(NAME), naps(NAME)) else { return };
        assert!(threads_named(NAME).unwrap_or(0) >= 4, "the workers are to be found by their name");
        std::thread::sleep(Duration::from_secs(1));
        let used = cpu_time(NAME).expect("as before").saturating_sub(before);
        assert!(used <= Duration::from_millis(20), "{used:?} in a second");
        // Nor does anybody get up to look whether there is something to do, which would be too little to be seen there.
        let woken = naps(NAME).expect("as before") - naps_before;
        assert!(woken <= 2, "threads that had nothing to do got up {woken} times in a second");
        drop(far);
    });
}

#[test]
fn the_context_a_task_sees_is_right_whichever_worker_polls_it() {
    // The worker that polled the task last is occupied each time, so that the other one has to poll it.
    with_runtime(2, |runtime| {
        let (steps, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let gates: Vec<Gate> = (0..20).map(|_| Gate::new()).collect();
        MARK.set(5);
        let traveller = runtime.spawn({
            let (steps, go, gates) = (steps.clone(), go.clone(), gates.clone());
            async move {
                for (number, gate) in gates.iter().enumerate() {
                    NUMBER.set(number);
                    let _binding = MARK.bind(number as u64);
                    go.lock().unwrap().push(std::thread::current().id());
                    steps.fetch_add(1, Ordering::SeqCst);
                    gate.opened().await;
                    assert_eq!((NUMBER.get(), MARK.get()), (Some(number), Some(number as u64)));
                }
                assert_eq!(MARK.get(), Some(5));
            }
        });
        for gate in &gates {
            idle(runtime);
            let last = *go.lock().unwrap().last().unwrap();
            let (both, release) = (Countdown::new(2), Gate::new());
            let occupiers: Vec<_> = (0..2)
                .map(|_| {
                    let (both, release) = (both.clone(), release.clone());
                    runtime.spawn(async move {
                        assert_eq!(MARK.get(), Some(5), "what the traveller has bound is its own");
                        both.arrive();
                        both.wait();
                        if std::thread::current().id() == last {
                            release.wait();
                        }
                    })
                })
                .collect();
            both.wait();
            let before = steps.load(Ordering::SeqCst);
            gate.open();
            while steps.load(Ordering::SeqCst) == before && !traveller.is_finished() {
                std::thread::yield_now();
            }
            release.open();
            for occupier in occupiers {
                runtime.block_on(occupier).unwrap();
            }
        }
        runtime.block_on(traveller).unwrap();
        let threads = go.lock().unwrap().clone();
        assert!(threads.windows(2).all(|pair| pair[0] != pair[1]), "it moved each time: {threads:?}");
    });
    // Many tasks, as they come.
    with_runtime(4, |runtime| {
        let tasks: Vec<_> = (0..scaled(200))
            .map(|number| {
                let context = Context::empty().with_var(&NUMBER, number);
                runtime.handle().spawn_in(context, async move {
                    for step in 0..scaled(50) {
                        assert_eq!(NUMBER.get(), Some(number + step));
                        NUMBER.set(number + step + 1);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
    });
}

#[test]
fn every_api_answers_during_thread_teardown() {
    struct Late(Arc<Mutex<Vec<Result<(), String>>>>, Runtime);
    impl Drop for Late {
        fn drop(&mut self) {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert_eq!(self.1.block_on(self.1.spawn(async { 1 })).unwrap(), 1);
                assert_eq!(self.1.block_on(self.1.spawn_blocking(|| 2)).unwrap(), 2);
                assert_eq!(heirloom::block_on(async { spawn(async { 3 }).await.unwrap() }), 3);
                self.1.block_on(sleep(Duration::from_millis(1)));
                heirloom::block_on(wait_for(std::future::pending::<()>(), Duration::from_millis(1)))
                    .unwrap_err();
                LocalSet::new()
                    .block_on(async { spawn_local(sleep(Duration::from_millis(1))).await.unwrap() });
                NUMBER.set(3);
                let _ = (NUMBER.get(), NUMBER.bind(4), Context::inherited());
                let group = TaskGroup::<()>::new();
                heirloom::block_on(async {
                    group.spawn(async { Ok(()) });
                    group.join().await.unwrap()
                });
                drop(self.1.handle().spawn_background(std::future::pending::<()>()));
                let _ = (self.1.stats(), self.1.dump(), self.1.wait_until_idle());
                assert!(heirloom::task::current().is_none());
                assert!(heirloom::deadline().is_none());
                let _ = (heirloom::Handle::current(), heirloom::task::budget::remaining());
                let _ = heirloom::Context::current();
            }));
            let outcome = outcome.map_err(|panic| match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(_) => "another panic".to_string(),
            });
            self.0.lock().unwrap().push(outcome);
        }
    }
    thread_local! { static LATE: RefCell<Option<Late>> = const { RefCell::new(None) }; }
    watchdog(PATIENCE, || {
        for before in [true, false] {
            let report = Arc::new(Mutex::new(Vec::new()));
            let late = report.clone();
            std::thread::spawn(move || {
                // All that keeps something in the thread, so that there is something to be gone.
                let use_it = || {
                    let everything = async {
                        spawn(async {}).await.unwrap();
                        sleep(Duration::from_millis(1)).await;
                        NUMBER.set(1);
                    };
                    heirloom_tests::runtime(1).block_on(everything);
                    heirloom::block_on(sleep(Duration::from_millis(1)));
                    NUMBER.set(2);
                    LocalSet::new().block_on(async { spawn_local(async {}).await.unwrap() });
                };
                if before {
                    LATE.set(Some(Late(late, runtime(1))));
                    use_it();
                } else {
                    use_it();
                    LATE.set(Some(Late(late, runtime(1))));
                }
            })
            .join()
            .unwrap();
            assert_eq!(*report.lock().unwrap(), [Ok(())], "made before the first use: {before}");
        }
    });
}

#[test]
fn dropping_a_runtime_anywhere_is_safe() {
    /// A runtime with a task that waits and one that is queued behind a busy worker or runs, and who watches them.
    fn inhabited() -> (Runtime, [Watch; 2]) {
        let runtime = runtime(1);
        let watches = [[Step::Wait].as_slice(), &[Step::Yield; 1_000]].map(|script| {
            let (probe, watch) = Probe::new(script.iter().copied());
            runtime.spawn(probe).detach();
            watch
        });
        (runtime, watches)
    }
    fn ended(watches: &[Watch; 2]) {
        // Where the drop may not wait, what was being polled goes a little later.
        assert!(wait_until(|| watches.iter().all(|watch| watch.drops() == 1)));
        watches.iter().for_each(Watch::assert_sound);
    }
    watchdog(PATIENCE, || {
        // On a thread, by shutting down, while unwinding, and on a thread that ends.
        let (runtime, watches) = inhabited();
        drop(runtime);
        ended(&watches);
        let (runtime, watches) = inhabited();
        let _ = runtime.shutdown(Duration::ZERO);
        ended(&watches);
        let (runtime, watches) = inhabited();
        let unwound = std::thread::spawn(move || {
            let _runtime = runtime;
            quiet_panic(SCRIPTED)
        });
        assert!(unwound.join().is_err());
        ended(&watches);
        thread_local! { static LAST: RefCell<Option<Runtime>> = const { RefCell::new(None) }; }
        let (runtime, watches) = inhabited();
        std::thread::spawn(|| LAST.set(Some(runtime))).join().unwrap();
        ended(&watches);
        // By its own task: in a poll, in the future's destructor, and as an output that nobody claims.
        for shut_down in [false, true] {
            let (runtime, watches) = inhabited();
            let after = Gate::new();
            let handle = runtime.handle().clone();
            handle
                .spawn({
                    let after = after.clone();
                    async move {
                        if shut_down {
                            let _ = runtime.shutdown(Duration::from_secs(3_600));
                        } else {
                            drop(runtime);
                        }
                        after.open();
                    }
                })
                .detach();
            after.wait();
            ended(&watches);
        }
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        let task = handle.spawn(async move {
            let _runtime = runtime;
            std::future::pending::<()>().await
        });
        handle.wait_until_idle();
        drop(task);
        ended(&watches);
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        handle.spawn(async move { runtime }).detach();
        ended(&watches);
        // By a closure on its own blocking thread, which nobody waits for either.
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        let closure = handle.spawn_blocking(move || drop(runtime));
        let _ = heirloom::block_on(closure);
        ended(&watches);
        // By a task of another runtime, and of a local set.
        let ((runtime, watches), other) = (inhabited(), heirloom_tests::runtime(1));
        other.block_on(other.spawn(async move { drop(runtime) })).unwrap();
        ended(&watches);
        let ((runtime, watches), set) = (inhabited(), LocalSet::new());
        set.block_on(set.spawn_local(async move { drop(runtime) })).unwrap();
        ended(&watches);
        // Inside its own `block_on`, and as a value that its own task has bound.
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        let refused = handle.block_on(async move {
            drop(runtime);
            spawn(async {}).await
        });
        assert!(refused.unwrap_err().is_cancelled());
        ended(&watches);
        context_var! { static OWN: Arc<Mutex<Option<Runtime>>>; }
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        let own = Arc::new(Mutex::new(Some(runtime)));
        handle.spawn(async move { OWN.set(own) }).detach();
        ended(&watches);
        // Two at once, each by a task of the other: neither waits for the other.
        let ((one, first), (two, second)) = (inhabited(), inhabited());
        let (of_one, of_two) = (one.handle().clone(), two.handle().clone());
        let both = Countdown::new(2);
        for (handle, victim) in [(of_one, two), (of_two, one)] {
            let both = both.clone();
            handle
                .spawn(async move {
                    both.arrive();
                    both.wait();
                    drop(victim);
                })
                .detach();
        }
        ended(&first);
        ended(&second);
    });
}
