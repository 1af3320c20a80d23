//! Two sides of a task at the same moment: completion against its handle, its wakers, and the end
//! of its runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use heirloom::{spawn, yield_now};
use heirloom_tests::{
    CountingWaker, Fault, Gate, Ledger, PATIENCE, Probe, Step, idle, poll_with, runtime, scaled, watchdog,
    with_runtime,
};

const ROUNDS: usize = scaled(500);

/// Starts both at once, on threads of their own.
fn at_once<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    let barrier = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            barrier.wait();
            a()
        });
        barrier.wait();
        let b = b();
        (other.join().unwrap(), b)
    })
}

#[test]
fn a_joiner_that_changes_its_waker_while_the_task_ends_is_woken() {
    with_runtime(2, |runtime| {
        for _ in 0..ROUNDS {
            let gate = Gate::new();
            let opened = gate.opened();
            let mut handle = runtime.spawn(async move {
                opened.await;
                7
            });
            let wakers: Vec<_> = (0..4).map(|_| CountingWaker::create(Fault::None)).collect();
            let (_, last) = at_once(
                || gate.open(),
                || {
                    for (number, (waker, _)) in wakers.iter().enumerate() {
                        if poll_with(&mut handle, waker).is_ready() {
                            return None;
                        }
                        if number == 3 {
                            return Some(number);
                        }
                    }
                    None
                },
            );
            if let Some(last) = last {
                // Between the end of the future and that of the task it may be told to look again.
                let (waker, counts) = &wakers[last];
                let mut wakes = 0;
                while wakes == 0 || poll_with(&mut handle, waker).is_pending() {
                    while counts.wakes() == wakes {
                        std::thread::yield_now();
                    }
                    wakes = counts.wakes();
                }
            }
        }
    });
}

#[test]
fn a_handle_that_goes_while_its_task_ends_drops_the_output_once() {
    with_runtime(2, |runtime| {
        let ledger = Ledger::new();
        for round in 0..ROUNDS {
            let (gate, value) = (Gate::new(), ledger.counted(1));
            let opened = gate.opened();
            let handle = runtime.spawn(async move {
                opened.await;
                value
            });
            idle(runtime);
            at_once(
                || gate.open(),
                || match round % 4 {
                    0 => drop(handle),
                    1 => handle.detach(),
                    2 => {
                        handle.abort();
                        drop(handle);
                    }
                    _ => {
                        let abort = handle.abort_handle();
                        drop(handle);
                        abort.abort();
                    }
                },
            );
            idle(runtime);
            assert_eq!(ledger.alive(), 0);
        }
        assert_eq!(ledger.made(), ROUNDS);
    });
}

#[test]
fn abort_and_completion_agree_on_one_result() {
    with_runtime(2, |runtime| {
        let (mut returned, mut cancelled) = (0, 0);
        for _ in 0..ROUNDS {
            let gate = Gate::new();
            let (probe, watch) = Probe::new([]);
            let opened = gate.opened();
            let handle = runtime.spawn(async move {
                opened.await;
                probe.await;
            });
            idle(runtime);
            at_once(|| gate.open(), || handle.abort());
            match runtime.block_on(handle) {
                Ok(()) => returned += 1,
                Err(error) => {
                    assert!(error.is_cancelled());
                    cancelled += 1;
                }
            }
            watch.assert_sound();
            assert_eq!(watch.drops(), 1);
        }
        assert_eq!(returned + cancelled, ROUNDS);
    });
}

/// All orders of the four things that can be done with wakers of a task that has ended.
#[test]
fn wakers_of_a_finished_task_may_be_used_in_any_order() {
    type Deed = fn(&mut Vec<Waker>);
    let deeds: [Deed; 4] = [
        |wakers| wakers.last().unwrap().wake_by_ref(),
        |wakers| {
            let clone = wakers.last().unwrap().clone();
            wakers.push(clone);
        },
        |wakers| wakers.pop().unwrap().wake(),
        |wakers| drop(wakers.pop()),
    ];
    fn orders(of: &[usize]) -> Vec<Vec<usize>> {
        if of.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (place, first) in of.iter().enumerate() {
            let rest: Vec<_> =
                of.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, one)| *one).collect();
            all.extend(orders(&rest).into_iter().map(|order| [vec![*first], order].concat()));
        }
        all
    }
    watchdog(PATIENCE, move || {
        for with_runtime in [true, false] {
            // An interpreter takes every seventh; sixty orders are different ones.
            for order in orders(&[0, 0, 1, 2, 3]).into_iter().step_by(if cfg!(miri) { 7 } else { 1 }) {
                let runtime = runtime(1);
                let (probe, watch) = Probe::new([Step::Wait]);
                let task = runtime.spawn(probe);
                idle(&runtime);
                // Enough for every order.
                let mut wakers = vec![watch.waker().unwrap(); 3];
                let runtime = if with_runtime {
                    watch.wake();
                    runtime.block_on(task).unwrap();
                    Some(runtime)
                } else {
                    drop((task, runtime));
                    None
                };
                let polls = watch.polls();
                for deed in order {
                    deeds[deed](&mut wakers);
                }
                drop(wakers);
                if let Some(runtime) = &runtime {
                    idle(runtime);
                }
                watch.assert_counts(polls, 1);
            }
        }
    });
}

#[test]
fn wakers_may_be_used_on_many_threads_at_once() {
    with_runtime(3, |runtime| {
        let (probe, watch) = Probe::new(std::iter::repeat_n(Step::Wait, scaled(3_000)));
        let task = runtime.spawn(probe);
        idle(runtime);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let watch = watch.clone();
                scope.spawn(move || {
                    while watch.drops() == 0 {
                        if let Some(waker) = watch.waker() {
                            let clone = waker.clone();
                            waker.wake_by_ref();
                            clone.wake();
                        }
                    }
                });
            }
        });
        runtime.block_on(task).unwrap();
        watch.assert_counts(scaled(3_000) + 1, 1);
    });
}

#[test]
fn the_end_of_a_runtime_races_with_handles_and_aborts() {
    watchdog(PATIENCE, || {
        for round in 0..scaled(200) {
            let runtime = runtime(1 + round % 2);
            let ledger = Ledger::new();
            let handles: Vec<_> = (0..20)
                .map(|number| {
                    let value = ledger.counted(number);
                    runtime.spawn(async move {
                        for _ in 0..number {
                            yield_now().await;
                        }
                        value
                    })
                })
                .collect();
            at_once(
                || drop(runtime),
                || {
                    for (number, handle) in handles.into_iter().enumerate() {
                        match number % 4 {
                            0 => drop(handle),
                            1 => handle.abort(),
                            2 => handle.detach(),
                            _ => drop(heirloom::block_on(handle)),
                        }
                    }
                },
            );
            assert_eq!(ledger.alive(), 0, "round {round}");
        }
    });
}

#[test]
fn a_finished_root_and_its_last_waker_race() {
    // The waker of a root future is used by a thread that may still be at it when `block_on` has
    // returned.
    watchdog(PATIENCE, || {
        let late = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let (probe, watch) = Probe::new([Step::Wait]);
                let late = late.clone();
                let thread = std::thread::spawn(move || {
                    // A wake-up that is left over from another round may end this one before there
                    // is a waker.
                    while watch.drops() == 0 {
                        if let Some(waker) = watch.waker() {
                            (0..20).for_each(|_| waker.wake_by_ref());
                        }
                        std::thread::yield_now();
                    }
                    late.fetch_add(1, Ordering::SeqCst);
                });
                heirloom::block_on(probe);
                thread
            })
            .collect();
        // What is left over of them does not disturb the next one.
        heirloom::block_on(async { spawn(async {}).await.unwrap() });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(late.load(Ordering::SeqCst), ROUNDS);
    });
}
