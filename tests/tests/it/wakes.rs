//! Wake-ups that must not get lost, and wakers that behave unlike those of this crate.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use heirloom::{CancelToken, Runtime, sleep, spawn, spawn_blocking, yield_now};
use heirloom_tests::{
    Countdown, CountingWaker, Fault, Gate, Log, PATIENCE, Probe, Step, idle, in_a_worker, occupy, poll_with,
    run, runtime, scaled, watchdog, with_runtime,
};

#[test]
fn blocking_polls_on_all_workers_overlap() {
    // Each worker that finds work wakes the next: none of the polls ends before all have begun.
    for workers in [2, 4] {
        with_runtime(workers, move |runtime| {
            for round in 0..scaled(20) {
                let barrier = Arc::new(Barrier::new(workers));
                let spawn_all = {
                    let barrier = barrier.clone();
                    move || {
                        (0..workers)
                            .map(|_| {
                                let barrier = barrier.clone();
                                spawn(async move {
                                    barrier.wait();
                                })
                            })
                            .collect::<Vec<_>>()
                    }
                };
                // From a thread that is no worker, and from a task that goes away at once.
                let tasks = if round % 2 == 0 {
                    runtime.block_on(async { spawn_all() })
                } else {
                    runtime.block_on(runtime.spawn(async move { spawn_all() })).unwrap()
                };
                for task in tasks {
                    runtime.block_on(task).unwrap();
                }
                if round % 3 == 0 {
                    idle(runtime);
                }
            }
        });
    }
}

#[test]
fn a_burst_of_work_reaches_all_sleeping_workers() {
    with_runtime(4, |runtime| {
        for _ in 0..scaled(50) {
            idle(runtime);
            let all = Countdown::new(4);
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let all = all.clone();
                    runtime.spawn(async move {
                        all.arrive();
                        all.wait();
                    })
                })
                .collect();
            for task in tasks {
                runtime.block_on(task).unwrap();
            }
        }
    });
}

#[test]
fn tasks_outlive_the_block_on_that_spawned_them() {
    watchdog(PATIENCE, || {
        // On a runtime, and on the default one, whose roots come and go.
        let runtime = runtime(2);
        let counter = Arc::new(AtomicUsize::new(0));
        for round in 0..scaled(50) {
            let (all, counter) = (Countdown::new(10), counter.clone());
            let arrivals = all.clone();
            let root = async move {
                for _ in 0..10 {
                    let (arrivals, counter) = (arrivals.clone(), counter.clone());
                    spawn(async move {
                        yield_now().await;
                        counter.fetch_add(1, Ordering::SeqCst);
                        arrivals.arrive();
                    })
                    .detach();
                }
            };
            if round % 2 == 0 {
                runtime.block_on(root)
            } else {
                heirloom::block_on(root)
            }
            all.wait();
        }
        assert_eq!(counter.load(Ordering::SeqCst), 10 * scaled(50));
    });
}

#[test]
fn a_future_that_parks_its_own_thread_swallows_nothing() {
    fn parking(steps: usize) -> impl Future<Output = ()> + Send {
        let mut left = steps;
        poll_fn(move |poller| {
            std::thread::current().unpark();
            std::thread::park();
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            let waker = poller.waker().clone();
            if left.is_multiple_of(2) {
                waker.wake();
            } else {
                std::thread::spawn(move || waker.wake());
            }
            // What is left over from the wake-up must not end up here.
            std::thread::park_timeout(Duration::from_micros(50));
            Poll::Pending
        })
    }
    watchdog(PATIENCE, || heirloom::block_on(parking(scaled(200))));
    run(1, || parking(scaled(200)));
    in_a_worker(1, parking(scaled(200)));
    in_a_worker(3, async {
        spawn_blocking(|| {
            std::thread::current().unpark();
            std::thread::park();
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_thread_that_is_unparked_for_no_reason_keeps_waiting() {
    watchdog(PATIENCE, || {
        let (probe, watch) = Probe::new([Step::Wait, Step::Wait]);
        let waiting = std::thread::spawn(move || heirloom::block_on(probe));
        while watch.waker().is_none() {
            std::thread::yield_now();
        }
        for _ in 0..scaled(1_000) {
            waiting.thread().unpark();
        }
        // Spurious polls are allowed in principle; the script would end early.
        assert_eq!(watch.polls(), 1);
        watch.wake();
        while watch.polls() < 2 {
            std::thread::yield_now();
        }
        watch.wake();
        waiting.join().unwrap();
        watch.assert_counts(3, 1);
    });
}

#[test]
fn a_root_future_is_woken_from_everywhere() {
    run(1, || async {
        for round in 0..scaled(100) {
            let gate = Gate::new();
            let opened = gate.opened();
            match round % 4 {
                0 => drop(std::thread::spawn(move || gate.open())),
                1 => spawn(async move { gate.open() }).detach(),
                2 => spawn_blocking(move || gate.open()).detach(),
                _ => {
                    spawn(async move {
                        sleep(Duration::from_micros(100)).await;
                        gate.open();
                    })
                    .detach();
                }
            }
            opened.await;
        }
    });
}

#[test]
fn a_wake_up_during_the_poll_leads_to_another_one() {
    with_runtime(2, |runtime| {
        for step in [Step::Yield, Step::WokenElsewhere] {
            let (probe, watch) = Probe::new(std::iter::repeat_n(step, scaled(100)));
            runtime.block_on(runtime.spawn(probe)).unwrap();
            watch.assert_counts(scaled(100) + 1, 1);
            let (probe, watch) = Probe::new(std::iter::repeat_n(step, scaled(100)));
            runtime.block_on(probe);
            watch.assert_counts(scaled(100) + 1, 1);
        }
    });
}

#[test]
fn many_wake_ups_of_a_queued_task_are_one_poll() {
    with_runtime(1, |runtime| {
        let (probe, watch) = Probe::new([Step::Wait, Step::Wait, Step::Wait]);
        let task = runtime.spawn(probe);
        idle(runtime);
        for polls in [2, 3, 4] {
            let occupied = occupy(runtime, 1);
            for _ in 0..100 {
                watch.wake();
            }
            occupied.release();
            idle(runtime);
            assert_eq!(watch.polls(), polls);
        }
        runtime.block_on(task).unwrap();
        watch.assert_counts(4, 1);
    });
}

#[test]
fn a_waker_knows_its_task() {
    with_runtime(1, |runtime| {
        let (one, one_watch) = Probe::new([Step::Wait]);
        let (two, two_watch) = Probe::new([Step::Wait]);
        let tasks = (runtime.spawn(one), runtime.spawn(two));
        idle(runtime);
        let (one, two) = (one_watch.waker().unwrap(), two_watch.waker().unwrap());
        assert!(one.will_wake(&one.clone()) && !one.will_wake(&two));
        drop(tasks);
    });
}

#[test]
fn a_joiner_whose_waker_panics_harms_neither_the_worker_nor_the_task() {
    with_runtime(1, |runtime| {
        for fault in [Fault::Wake, Fault::Drop] {
            let gate = Gate::new();
            let opened = gate.opened();
            let mut handle = runtime.spawn(async move {
                opened.await;
                7
            });
            let (waker, counts) = CountingWaker::create(fault);
            assert!(poll_with(&mut handle, &waker).is_pending());
            // The task now has the only one.
            drop(waker);
            gate.open();
            idle(runtime);
            assert_eq!(counts.wakes(), 1);
            assert!(counts.is_gone());
            assert_eq!(runtime.block_on(handle).unwrap(), 7);
            assert_eq!(runtime.block_on(runtime.spawn(async { 8 })).unwrap(), 8);
        }
    });
}

#[test]
fn waiters_behind_one_whose_waker_panics_are_woken_all_the_same() {
    watchdog(PATIENCE, || {
        let token = CancelToken::new();
        let mut waits: Vec<_> = (0..10).map(|_| Box::pin(token.cancelled())).collect();
        let wakers: Vec<_> = (0..10)
            .map(|number| CountingWaker::create(if number == 3 { Fault::Wake } else { Fault::None }))
            .collect();
        for (wait, (waker, _)) in waits.iter_mut().zip(&wakers) {
            assert!(poll_with(wait, waker).is_pending());
        }
        let cancelling = std::panic::AssertUnwindSafe(|| token.cancel("now"));
        // Whether it reaches the canceller is of no interest to the waiters.
        let _ = std::panic::catch_unwind(cancelling);
        for (number, (_, counts)) in wakers.iter().enumerate() {
            assert_eq!(counts.wakes(), 1, "waiter {number}");
        }
        for (wait, (waker, _)) in waits.iter_mut().zip(&wakers) {
            assert!(poll_with(wait, waker).is_ready());
        }
    });
}

#[test]
fn a_waker_may_call_into_the_runtime() {
    // Spawns, aborts, reads numbers and drops a timer, all of it inside a wake-up that the runtime
    // makes.
    struct Busy {
        handle: heirloom::Handle,
        log: Log<&'static str>,
        other: Mutex<Option<heirloom::JoinHandle<()>>>,
        timer: Mutex<Option<std::pin::Pin<Box<heirloom::time::Sleep>>>>,
    }
    impl std::task::Wake for Busy {
        fn wake(self: Arc<Self>) {
            let log = self.log.clone();
            self.handle.spawn(async move { log.push("spawned") }).detach();
            drop(self.other.lock().unwrap().take());
            drop(self.timer.lock().unwrap().take());
            let _ = self.handle.stats();
            self.log.push("woken");
        }
    }
    with_runtime(1, |runtime| {
        for by_timer in [false, true] {
            let log = Log::new();
            let (other, watch) = Probe::new([Step::Wait]);
            let mut timer = Box::pin(sleep(Duration::from_secs(3_600)));
            runtime.block_on(async { assert!(futures::poll!(timer.as_mut()).is_pending()) });
            let busy = Arc::new(Busy {
                handle: runtime.handle().clone(),
                log: log.clone(),
                other: Mutex::new(Some(runtime.spawn(other))),
                timer: Mutex::new(Some(timer)),
            });
            idle(runtime);
            let waker = std::task::Waker::from(busy);
            if by_timer {
                let mut sleep = Box::pin(sleep(Duration::from_millis(1)));
                let first = runtime.block_on(poll_fn(|_| Poll::Ready(poll_with(&mut sleep, &waker))));
                if first.is_pending() {
                    while log.is_empty() {
                        std::thread::yield_now();
                    }
                } else {
                    waker.wake_by_ref();
                }
            } else {
                let gate = Gate::new();
                let mut handle = runtime.spawn(gate.opened());
                assert!(poll_with(&mut handle, &waker).is_pending());
                gate.open();
                idle(runtime);
                runtime.block_on(handle).unwrap();
            }
            idle(runtime);
            let mut said = log.take();
            said.sort_unstable();
            assert_eq!(said, ["spawned", "woken"], "by a timer: {by_timer}");
            watch.assert_counts(1, 1);
        }
    });
}

#[test]
fn a_channel_between_threads_and_tasks_loses_nothing() {
    const EACH: u64 = scaled(5_000) as u64;
    use futures::StreamExt;
    with_runtime(3, |runtime| {
        let (sender, mut receiver) = futures::channel::mpsc::unbounded::<u64>();
        let sum = runtime.spawn(async move {
            let mut sum = 0;
            while let Some(number) = receiver.next().await {
                sum += number;
            }
            sum
        });
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    (1..=EACH).for_each(|number| sender.unbounded_send(number).unwrap())
                })
            })
            .collect();
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let sender = sender.clone();
                runtime.spawn(async move {
                    for number in 1..=EACH {
                        sender.unbounded_send(number).unwrap();
                        if number % 16 == 0 {
                            yield_now().await;
                        }
                    }
                })
            })
            .collect();
        drop(sender);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
        assert_eq!(runtime.block_on(sum).unwrap(), 4 * EACH * (EACH + 1) / 2);
    });
}

#[test]
fn of_several_tasks_that_a_long_poll_starts_all_but_the_last_run_elsewhere() {
    // The last one stays with the worker, which takes it next: documented. The poll does not end
    // before the others have run, so another worker has to run them.
    with_runtime(2, |runtime| {
        for by_spawn in [true, false] {
            let ran = Arc::new((Mutex::new(0), Condvar::new()));
            let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
            let tell = |ran: &Arc<(Mutex<usize>, Condvar)>| {
                let ran = ran.clone();
                async move {
                    *ran.0.lock().unwrap() += 1;
                    ran.1.notify_all();
                }
            };
            let waiting: Vec<_> = gates
                .iter()
                .map(|gate| {
                    let (opened, tell) = (gate.opened(), tell(&ran));
                    runtime.spawn(async move {
                        opened.await;
                        if !by_spawn {
                            tell.await;
                        }
                    })
                })
                .collect();
            idle(runtime);
            let long = runtime.spawn(async move {
                for gate in &gates {
                    if by_spawn {
                        spawn(tell(&ran)).detach();
                    } else {
                        gate.open();
                    }
                }
                let guard = ran.0.lock().unwrap();
                let limit = Duration::from_secs(20);
                let (done, _) = ran.1.wait_timeout_while(guard, limit, |done| *done < 2).unwrap();
                (*done, gates.clone())
            });
            let (done, gates) = runtime.block_on(long).unwrap();
            assert!(done >= 2, "{done} ran during the poll that started them");
            gates.iter().for_each(Gate::open);
            for task in waiting {
                runtime.block_on(task).unwrap();
            }
        }
    });
}

#[test]
fn runtimes_without_a_search_phase_lose_nothing_either() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(3).search(Duration::ZERO).build().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (a, a_watch) = Probe::new(std::iter::repeat_n(Step::Wait, scaled(2_000)));
        let task = runtime.spawn(a);
        let waker = std::thread::spawn({
            let (over, watch) = (over.clone(), a_watch.clone());
            move || {
                while !over.load(Ordering::SeqCst) {
                    watch.wake();
                    std::thread::yield_now();
                }
            }
        });
        runtime.block_on(task).unwrap();
        over.store(true, Ordering::SeqCst);
        waker.join().unwrap();
        a_watch.assert_counts(scaled(2_000) + 1, 1);
    });
}
