//! No task waits for ever: next slot, injector, timers, budget, and what a long poll does to the
//! others.

mod from_outside;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use heirloom::{sleep, spawn, task::budget, wait_for, yield_now};
use heirloom_tests::{Gate, Log, OnDrop, Probe, Step, idle, in_a_worker, occupy, run, scaled, with_runtime};

/// Sets the flag when the scope ends, however it ends.
fn until_the_end() -> (Arc<AtomicBool>, OnDrop) {
    let over = Arc::new(AtomicBool::new(false));
    let flag = over.clone();
    (over, OnDrop::new(move || flag.store(true, Ordering::SeqCst)))
}

async fn yield_until(over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) {
        yield_now().await;
    }
}

#[test]
fn two_that_send_each_other_messages_do_not_shut_out_a_third() {
    use futures::StreamExt;
    use futures::channel::mpsc;
    in_a_worker(1, async {
        let ((to_two, mut one), (to_one, mut two)) = (mpsc::unbounded(), mpsc::unbounded());
        let (over, _end) = until_the_end();
        let exchanged = Arc::new(AtomicUsize::new(0));
        to_two.unbounded_send(()).unwrap();
        let ping = spawn({
            let (over, exchanged) = (over.clone(), exchanged.clone());
            async move {
                while one.next().await.is_some() && !over.load(Ordering::SeqCst) {
                    exchanged.fetch_add(1, Ordering::SeqCst);
                    let _ = to_one.unbounded_send(());
                }
            }
        });
        let pong =
            spawn(async move { while two.next().await.is_some() && to_two.unbounded_send(()).is_ok() {} });
        let third = spawn(async move {
            yield_now().await;
            let before = exchanged.load(Ordering::SeqCst);
            for _ in 0..50 {
                yield_now().await;
            }
            exchanged.load(Ordering::SeqCst) - before
        });
        let between = third.await.unwrap();
        assert!(between < 50 * 1_000, "{between} messages in fifty turns");
        over.store(true, Ordering::SeqCst);
        drop((ping, pong));
    });
}

#[test]
fn a_yield_lets_those_that_are_queued_go_first() {
    in_a_worker(1, async {
        let log = Log::new();
        let tasks: Vec<_> = (0..5)
            .map(|number| {
                let log = log.clone();
                spawn(async move { log.push(number) })
            })
            .collect();
        assert!(log.is_empty(), "a spawn does not run anything by itself");
        // How many turns it takes is not promised; that they come is.
        let mut turns = 0;
        while log.len() < 5 {
            yield_now().await;
            turns += 1;
        }
        assert!(turns <= 50, "{turns} turns");
        drop(tasks);
    });
}

#[test]
fn a_yield_without_a_budget_is_one_too() {
    in_a_worker(1, async {
        let log = Log::new();
        let task = spawn({
            let log = log.clone();
            async move { log.push("other") }
        });
        while log.is_empty() {
            budget::unconstrained(yield_now()).await;
        }
        task.await.unwrap();
        // What else the task does in the same poll, and what it has left for it, changes nothing.
        budget::unconstrained(async {
            let spent = futures::future::poll_fn(budget::consume);
            let ((), (), ()) = futures::join!(yield_now(), spent, yield_now());
        })
        .await;
        assert!(budget::remaining().is_some(), "the budget is back");
    });
}

#[test]
fn a_timer_fires_while_all_workers_yield() {
    for workers in [1, 2] {
        with_runtime(workers, move |runtime| {
            let (over, _end) = until_the_end();
            for _ in 0..workers * 4 {
                runtime.spawn(yield_until(over.clone())).detach();
            }
            for _ in 0..10 {
                let begin = Instant::now();
                runtime.block_on(runtime.spawn(sleep(Duration::from_millis(5)))).unwrap();
                assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
            }
            let limit = runtime.spawn(async move {
                wait_for(yield_until(Arc::default()), Duration::from_millis(5)).await.is_err()
            });
            assert!(runtime.block_on(limit).unwrap(), "a limit around a task that never rests");
        });
    }
}

#[test]
fn a_timer_of_a_busy_worker_is_fired_by_another() {
    with_runtime(2, |runtime| {
        // One of the two is inside a poll that does not end before the timer has fired: the other
        // one has to keep the time, whichever worker kept it before, and at whatever moment the
        // work arrived.
        for round in 0..scaled(300) as u64 {
            let fired = Gate::new();
            let done = fired.clone();
            let sleeper = runtime.spawn(async move {
                sleep(Duration::from_micros(1_000 + round % 10 * 100)).await;
                done.open();
            });
            if round % 3 == 0 {
                idle(runtime);
            }
            let occupied = occupy(runtime, 1);
            fired.wait();
            occupied.release();
            runtime.block_on(sleeper).unwrap();
        }
    });
}

#[test]
fn leaves_that_are_always_ready_use_up_a_budget() {
    in_a_worker(1, async {
        let full = budget::remaining().expect("a task has a budget");
        assert!(full > 1);
        let bystander = spawn(async {});
        let mut operations = 0_u32;
        while !bystander.is_finished() {
            // Elapsed long ago: ready at once, as long as there is budget.
            sleep(Duration::ZERO).await;
            operations += 1;
            assert!(operations <= full * 100, "it never let the other one run");
        }
        assert!(operations >= full / 2, "{operations}");
    });
}

// The kind: branches of one task that are all ready, and share its budget. What has to wait for the
// next turn is polled then, and not in each turn before.
#[test]
fn ready_branches_that_each_spend_budget_are_polled_twice_at_most() {
    in_a_worker(1, async {
        let (number, polls) = (scaled(1_000), Arc::new(AtomicUsize::new(0)));
        let branches = (0..number).map(|_| {
            let polls = polls.clone();
            std::future::poll_fn(move |poller| {
                polls.fetch_add(1, Ordering::SeqCst);
                budget::consume(poller)
            })
        });
        heirloom::context::future::join_all(branches).await;
        let polls = polls.load(Ordering::SeqCst);
        assert!((number..=2 * number).contains(&polls), "{polls} polls of {number} branches");
    });
}

#[test]
fn the_budget_can_be_read_consumed_and_left() {
    in_a_worker(1, async {
        let before = budget::remaining().unwrap();
        std::future::poll_fn(budget::consume).await;
        assert_eq!(budget::remaining(), Some(before - 1));
        budget::unconstrained(async {
            assert_eq!(budget::remaining(), None);
            for _ in 0..10 * before {
                std::future::poll_fn(budget::consume).await;
            }
        })
        .await;
        assert_eq!(budget::remaining(), Some(before - 1));
        // Nothing left: pending once, woken, and full again at the next poll.
        let mut polls = 0;
        std::future::poll_fn(|poller| {
            polls += 1;
            while budget::consume(poller).is_ready() {
                if polls > 1 {
                    return std::task::Poll::Ready(());
                }
            }
            std::task::Poll::Pending
        })
        .await;
        assert_eq!(polls, 2);
        assert!(budget::remaining().unwrap() > 0);
    });
    assert_eq!(budget::remaining(), None);
}

#[test]
fn nested_joins_of_ready_leaves_cost_no_more_than_their_number() {
    const DEPTH: usize = if cfg!(miri) { 2 } else { 4 };
    const LEAVES: usize = 10_usize.pow(DEPTH as u32);
    fn leaf(polls: &Arc<AtomicUsize>) -> impl Future<Output = ()> + use<> {
        let polls = polls.clone();
        std::future::poll_fn(move |poller| {
            polls.fetch_add(1, Ordering::SeqCst);
            budget::consume(poller)
        })
    }
    fn level(depth: usize, polls: Arc<AtomicUsize>) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            if depth == 0 {
                join_all((0..10).map(|_| leaf(&polls))).await;
            } else {
                join_all((0..10).map(|_| level(depth - 1, polls.clone()))).await;
            }
        })
    }
    run(1, || async {
        let polls = Arc::new(AtomicUsize::new(0));
        level(DEPTH - 1, polls.clone()).await;
        let polls = polls.load(Ordering::SeqCst);
        assert!((LEAVES..10 * LEAVES).contains(&polls), "{polls} polls of {LEAVES} leaves");
    });
    in_a_worker(1, async {
        // The same where there is a budget. Small joins poll all their members again each time, so
        // the bound is wider.
        let polls = Arc::new(AtomicUsize::new(0));
        let counter = polls.clone();
        let leaves = (0..LEAVES).map(move |_| leaf(&counter));
        leaves.collect::<futures::stream::FuturesUnordered<_>>().for_each_done().await;
        let polls = polls.load(Ordering::SeqCst);
        assert!((LEAVES..20 * LEAVES).contains(&polls), "{polls} polls of {LEAVES} leaves");
    });
}

/// Waits for all of a set.
trait ForEachDone {
    fn for_each_done(self) -> impl Future<Output = ()> + Send;
}

impl<F: Future<Output = ()> + Send> ForEachDone for futures::stream::FuturesUnordered<F> {
    async fn for_each_done(mut self) {
        while futures::StreamExt::next(&mut self).await.is_some() {}
    }
}

#[test]
fn an_injected_task_runs_while_every_worker_feeds_itself() {
    with_runtime(2, |runtime| {
        fn again(over: Arc<AtomicBool>) {
            if !over.load(Ordering::SeqCst) {
                spawn(async move { again(over) }).detach();
            }
        }
        let (over, _end) = until_the_end();
        for _ in 0..8 {
            let over = over.clone();
            runtime.spawn(async move { again(over) }).detach();
        }
        for number in 0..scaled(100) {
            assert_eq!(runtime.block_on(runtime.spawn(async move { number })).unwrap(), number);
        }
    });
}

/// A task that is passed over in favour of one that blocks the worker can be had by others.
#[test]
fn a_task_that_is_passed_over_does_not_wait_for_a_long_poll() {
    /// So many tasks, each of which begins the next, and then the gate.
    fn chain(length: usize, gate: Gate) {
        spawn(async move {
            match length.checked_sub(1) {
                Some(rest) => chain(rest, gate),
                None => gate.open(),
            }
        })
        .detach();
    }
    for length in 0..10 {
        with_runtime(2, move |runtime| {
            let (begun, gate) = (Gate::new(), Gate::new());
            // No other worker takes the long poll, nor sleeps when it begins.
            let (held, released) = (Gate::new(), begun.clone());
            let other = runtime.spawn({
                let held = held.clone();
                async move {
                    held.open();
                    released.wait();
                }
            });
            held.wait();
            let first = runtime.spawn(async move {
                let end = gate.clone();
                spawn(async move {
                    begun.open();
                    end.wait();
                })
                .detach();
                chain(length, gate);
            });
            runtime.block_on(async {
                first.await.unwrap();
                other.await.unwrap();
            });
            runtime.wait_until_idle();
        });
    }
}

#[test]
fn a_storm_of_spawns_from_one_task_is_finished_to_the_last() {
    for workers in [1, 3] {
        in_a_worker(workers, async {
            let done = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..scaled(20_000))
                .map(|_| {
                    let done = done.clone();
                    spawn(async move {
                        yield_now().await;
                        done.fetch_add(1, Ordering::SeqCst);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(done.load(Ordering::SeqCst), scaled(20_000));
        });
    }
}

#[test]
fn tasks_that_take_turns_get_about_equally_many() {
    const TURNS: usize = scaled(10_000);
    with_runtime(1, |runtime| {
        let (over, _end) = until_the_end();
        let counters: Vec<Arc<AtomicUsize>> = (0..10).map(|_| Arc::default()).collect();
        let occupied = occupy(runtime, 1);
        let tasks: Vec<_> = counters
            .iter()
            .map(|counter| {
                let (counter, over) = (counter.clone(), over.clone());
                runtime.spawn(async move {
                    while !over.load(Ordering::SeqCst) {
                        if counter.fetch_add(1, Ordering::SeqCst) == TURNS {
                            over.store(true, Ordering::SeqCst);
                        }
                        yield_now().await;
                    }
                })
            })
            .collect();
        occupied.release();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        for counter in counters {
            let turns = counter.load(Ordering::SeqCst);
            assert!(turns > TURNS / 2, "{turns} turns against {TURNS}");
        }
    });
}

#[test]
fn a_task_that_wakes_itself_without_end_can_be_aborted() {
    with_runtime(1, |runtime| {
        let (probe, watch) = Probe::new(std::iter::repeat_n(Step::Yield, 4_000_000));
        let task = runtime.spawn(probe);
        while watch.polls() < 100 {
            std::thread::yield_now();
        }
        task.abort();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        watch.assert_sound();
        assert_eq!(watch.drops(), 1);
    });
}
