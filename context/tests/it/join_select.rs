//! Join and select: branches of one task that do not see each other's writes.

use std::cell::Cell;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::channel::oneshot;
use heirloom_context::future::{Either, join, join_all, select};
use heirloom_context::{ContextFutureExt, ContextVar, context_var};

use crate::support::{
    Executor, Gate, Ledger, Log, OnDrop, block_on, caught, count, never, on_a_fresh_thread, panic_text,
    poll_once, quiet_panic, yield_once,
};

context_var! {
    static LEVEL: u32;
    static OTHER: u32;
}

/// Sets `LEVEL` and finds it unchanged ten polls later.
async fn keeps(number: u32) -> Option<u32> {
    assert_eq!(LEVEL.get(), Some(1));
    LEVEL.set(number);
    for _ in 0..10 {
        yield_once().await;
        assert_eq!(LEVEL.get(), Some(number));
    }
    LEVEL.get()
}

#[test]
fn join_isolates_each_branch() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            assert_eq!(join(keeps(10), keeps(20)).await, (Some(10), Some(20)));
            assert_eq!(LEVEL.get(), Some(1));
        });
    });
}

#[test]
fn join_all_isolates_each_branch_and_keeps_their_order() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let ends = join_all((10..30).map(keeps)).await;
            assert_eq!(ends, (10..30).map(Some).collect::<Vec<_>>());
            assert_eq!(LEVEL.get(), Some(1));
            assert_eq!(join_all(std::iter::empty::<std::future::Ready<u32>>()).await, [0; 0]);
        });
    });
}

#[test]
fn join_all_takes_its_futures_at_the_call() {
    on_a_fresh_thread(|| {
        let joined = LEVEL.scope(7, || join_all((0..2).map(|_| async { LEVEL.get() }.in_current_context())));
        assert_eq!(
            block_on(joined),
            [Some(7), Some(7)],
            "made, and hence pinned, where `join_all` was called"
        );
    });
}

#[test]
fn select_isolates_each_branch() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let first = async {
                LEVEL.set(10);
                never().await;
            };
            assert_eq!(select(first, keeps(20)).await, Either::Right(Some(20)));
            assert_eq!(LEVEL.get(), Some(1));
            assert_eq!(select(keeps(30), never()).await, Either::Left(Some(30)));
        });
    });
}

#[test]
fn branches_are_polled_in_the_written_order() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let branch = |name: &'static str| {
            let log = log.clone();
            async move {
                log.push(name);
                yield_once().await;
                log.push(name);
            }
        };
        block_on(join(branch("a"), branch("b")));
        let seen = log.take();
        assert_eq!(seen[..2], ["a", "b"]);
        assert_eq!(seen.len(), 4);
        block_on(join_all([branch("a"), branch("b"), branch("c")]));
        assert_eq!(log.take()[..3], ["a", "b", "c"]);
        assert_eq!(block_on(select(branch("a"), branch("b"))), Either::Left(()));
        assert_eq!(log.take()[..2], ["a", "b"]);
        assert_eq!(
            block_on(select(std::future::ready(1), std::future::ready(2))),
            Either::Left(1),
            "the first one, where both are ready"
        );
    });
}

#[test]
fn branches_see_the_outside_of_now() {
    on_a_fresh_thread(|| {
        let seen = Log::new();
        let reader = |log: &Log<Option<u32>>| {
            let log = log.clone();
            async move {
                loop {
                    log.push(LEVEL.get());
                    yield_once().await;
                }
            }
        };
        let mut both = Box::pin(
            join::<_, std::future::Pending<()>>(reader(&seen), std::future::pending())
                .map(|(never, _): (std::convert::Infallible, ())| match never {}),
        );
        for number in 0..3 {
            LEVEL.set(number);
            assert!(poll_once::<dyn Future<Output = ()>>(both.as_mut()).is_pending());
        }
        let mut levels = seen.take();
        levels.dedup();
        assert_eq!(levels, [Some(0), Some(1), Some(2)]);
    });
}

#[test]
fn select_drops_the_loser_before_it_returns_and_in_its_layer() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let log = Log::new();
            let seen = log.clone();
            let witness = OnDrop(move || seen.push(LEVEL.get()));
            let loser = async move {
                let _witness = witness;
                LEVEL.set(77);
                never().await;
            };
            let winner = async {
                yield_once().await;
                LEVEL.set(5);
            };
            assert_eq!(select(loser, winner).await, Either::Right(()));
            assert_eq!(log.take(), [Some(77)]);
            assert_eq!(LEVEL.get(), Some(1));
        });
    });
}

#[test]
fn a_dropped_join_drops_its_branches_in_their_layers() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let log = Log::new();
        let branch = |number: u32| {
            let seen = log.clone();
            let witness = OnDrop(move || seen.push(LEVEL.get()));
            async move {
                let _witness = witness;
                LEVEL.set(number);
                never().await;
            }
        };
        let mut joined = Box::pin(join(branch(10), join_all([branch(20), branch(30)])));
        assert!(poll_once(joined.as_mut()).is_pending());
        drop(joined);
        let mut seen = log.take();
        seen.sort_unstable();
        assert_eq!(seen, [Some(10), Some(20), Some(30)]);
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn a_panic_in_a_branch_reaches_the_awaiting_side_with_the_context_restored() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let failing = || async {
                LEVEL.set(9);
                yield_once().await;
                quiet_panic("in a branch")
            };
            let mut joined = Box::pin(async move { join(failing(), never()).await }.map(|((), ())| ()));
            assert!(poll_once(joined.as_mut()).is_pending());
            assert_eq!(caught(|| poll_once(joined.as_mut())), "in a branch");
            assert_eq!(LEVEL.get(), Some(1));

            let mut all = Box::pin(join_all([failing(), failing()]));
            assert!(poll_once(all.as_mut()).is_pending());
            assert_eq!(caught(|| poll_once(all.as_mut())), "in a branch");
            assert_eq!(LEVEL.get(), Some(1));

            let mut selected = Box::pin(select(never(), failing()));
            assert!(poll_once(selected.as_mut()).is_pending());
            assert_eq!(caught(|| poll_once(selected.as_mut())), "in a branch");
            assert_eq!(LEVEL.get(), Some(1));
            drop((joined, all, selected));
            assert_eq!(LEVEL.get(), Some(1));
        });
    });
}

#[test]
fn joins_nest() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let inner = |number: u32| async move {
                LEVEL.set(number);
                let inside = join(
                    async {
                        assert_eq!(LEVEL.get(), Some(number));
                        LEVEL.set(number + 1);
                        yield_once().await;
                        LEVEL.get()
                    },
                    async {
                        yield_once().await;
                        LEVEL.get()
                    },
                )
                .await;
                (LEVEL.get(), inside)
            };
            let ends = join(inner(10), inner(20)).await;
            let expected = |number| (Some(number), (Some(number + 1), Some(number)));
            assert_eq!(ends, (expected(10), expected(20)));
            assert_eq!(LEVEL.get(), Some(1));
        });
    });
}

#[test]
fn a_branch_woken_from_elsewhere_goes_on() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            LEVEL.set(1);
            let gates: Vec<Gate> = (0..5).map(|_| Gate::new()).collect();
            let openers: Vec<Gate> = gates.clone();
            let opener = own.spawn(async move {
                for gate in openers.iter().rev() {
                    yield_once().await;
                    gate.open();
                }
            });
            async fn wait(number: u32, gate: Gate) -> Option<u32> {
                OTHER.set(number);
                gate.opened().await;
                OTHER.get()
            }
            let ends = join_all((0..5).zip(gates).map(|(number, gate)| wait(number, gate))).await;
            assert_eq!(ends, (0..5).map(Some).collect::<Vec<_>>());
            opener.await;
            assert_eq!(OTHER.get(), None);
        });
    });
}

#[test]
fn branches_may_borrow_from_themselves() {
    // What a future borrows from itself must stay writable while others look after the branch. An
    // interpreter sees it.
    async fn counting() -> u32 {
        let mut count = 0;
        let borrowed = &mut count;
        for _ in 0..3 {
            yield_once().await;
            *borrowed += 1;
        }
        count
    }
    assert_eq!(block_on(join_all((0..2).map(|_| counting()))), [3, 3]);
    assert_eq!(block_on(join(counting(), counting())), (3, 3));
    assert!(matches!(block_on(select(counting(), never())), Either::Left(3)));
}

#[test]
fn a_finished_branch_is_freed_with_the_join_at_the_latest() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let branch = |number| {
            let probe = ledger.probe(number);
            async {
                variable.set(probe);
                yield_once().await;
            }
        };
        block_on(join(branch(1), branch(2)));
        block_on(join_all([branch(3), branch(4), branch(5)]));
        block_on(select(branch(6), never()));
        assert_eq!((ledger.made(), ledger.alive()), (6, 0));
        assert!(!variable.is_set());
    });
}

#[test]
fn the_macro_joins_more_than_two() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let ends = heirloom_context::join!(keeps(10), keeps(20), async { OTHER.get() }, keeps(30));
            assert_eq!(ends, (Some(10), Some(20), None, Some(30)));
            assert_eq!(LEVEL.get(), Some(1));
        });
    });
}

/// As `spawn` asks for it.
fn sendable<F: Future + Send + 'static>(future: F) -> F {
    future
}

#[test]
fn a_task_may_join_what_borrows_from_it() {
    async fn length(text: &str) -> usize {
        yield_once().await;
        text.len()
    }
    let joined = sendable(async {
        let texts = [String::from("one"), String::from("three")];
        let by_function = join_all(texts.iter().map(|text| length(text))).await;
        let by_block = join_all(texts.iter().map(async |text| text.len())).await;
        (by_function, by_block)
    });
    assert_eq!(block_on(joined), (vec![3, 5], vec![3, 5]));
    assert_eq!(block_on(async { heirloom_context::join!(keeps_one()) }), (Some(2),));
}

async fn keeps_one() -> Option<u32> {
    LEVEL.set(2);
    yield_once().await;
    LEVEL.get()
}

// What is woken costs; what waits does not. The kind: anything that waits for many futures and goes
// through all of them, or polls again what could not go on, whenever one of them moves. Counts show
// the second; the first shows in the time, in ratio to the same by `futures`, which a quadratic
// walk exceeds a hundredfold.

/// Counts the polls of what it wraps.
fn counted<F: Future>(polls: &Cell<usize>, future: F) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |poller| {
        polls.set(polls.get() + 1);
        future.as_mut().poll(poller)
    })
}

#[test]
fn join_all_polls_a_branch_once_and_once_for_each_wake_up() {
    on_a_fresh_thread(|| {
        let (polls, number) = (Cell::new(0), count(1_000));
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..number).map(|_| oneshot::channel()).unzip();
        let branches = receivers.into_iter().map(|receiver| counted(&polls, receiver));
        let mut all = Box::pin(join_all(branches));
        assert!(poll_once(all.as_mut()).is_pending());
        assert_eq!(polls.get(), number);
        let (mut ends, mut woken) = (None, number);
        for (sent, sender) in senders.into_iter().enumerate().rev() {
            assert!(ends.is_none());
            sender.send(sent).unwrap();
            ends = match poll_once(all.as_mut()) {
                Poll::Ready(ends) => Some(ends),
                Poll::Pending => None,
            };
            woken += 1;
            assert_eq!(polls.get(), woken);
        }
        let ends: Vec<_> = ends.expect("all are done").into_iter().map(Result::unwrap).collect();
        assert_eq!(ends, (0..number).collect::<Vec<_>>());
    });
}

#[test]
fn join_all_polls_what_is_ready_once_though_a_budget_makes_it_wait() {
    // As an executor's leaves do: so many go on in one turn of the task, and the others ask to be
    // polled again.
    const BUDGET: usize = 100;
    on_a_fresh_thread(|| {
        let (polls, budget, number) = (Cell::new(0), Cell::new(BUDGET), count(1_000));
        let ready = || {
            std::future::poll_fn(|poller| match budget.get() {
                0 => {
                    poller.waker().wake_by_ref();
                    Poll::Pending
                }
                left => {
                    budget.set(left - 1);
                    Poll::Ready(())
                }
            })
        };
        let mut all = Box::pin(join_all((0..number).map(|_| counted(&polls, ready()))));
        let mut turns = 1;
        while poll_once(all.as_mut()).is_pending() {
            budget.set(BUDGET);
            turns += 1;
        }
        assert_eq!(turns, number.div_ceil(BUDGET));
        assert!(polls.get() <= 2 * number, "{} polls of {number} branches", polls.get());

        polls.set(0);
        block_on(join_all((0..number).map(|_| counted(&polls, std::future::ready(())))));
        assert_eq!(polls.get(), number);
    });
}

#[test]
fn join_all_lets_others_run_though_a_branch_wakes_itself_for_ever() {
    on_a_fresh_thread(|| {
        let busy = || async {
            loop {
                yield_once().await;
            }
        };
        let mut all = Box::pin(join_all((0..3).map(|_| busy())));
        for _ in 0..10 {
            // Comes back, that is all.
            assert!(
                poll_once::<dyn Future<Output = Vec<std::convert::Infallible>>>(all.as_mut()).is_pending()
            );
        }
    });
}

#[test]
fn join_all_of_many_that_are_woken_one_by_one_takes_about_as_long_as_that_of_futures() {
    /// The time that passes while each of `number` branches is woken and polled by itself; the best
    /// of three.
    fn time<F: Future>(number: usize, join: impl Fn(Vec<oneshot::Receiver<()>>) -> F) -> Duration {
        let one = || {
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..number).map(|_| oneshot::channel()).unzip();
            let mut all = Box::pin(join(receivers));
            assert!(poll_once(all.as_mut()).is_pending());
            let begin = Instant::now();
            let mut ready = false;
            for sender in senders {
                sender.send(()).unwrap();
                ready = poll_once(all.as_mut()).is_ready();
            }
            assert!(ready);
            begin.elapsed()
        };
        (0..3).map(|_| one()).min().expect("three")
    }
    on_a_fresh_thread(|| {
        let number = count(8_000);
        let (ours, theirs) = (time(number, join_all), time(number, futures::future::join_all));
        // 1.5 where it is optimised (the benchmark `context_ops`); a debug build adds the layers,
        // unoptimised.
        assert!(ours < theirs * 15, "{ours:?} for what takes {theirs:?}");
    });
}

#[test]
fn a_branch_of_join_all_is_dropped_when_it_is_done_and_in_its_layer() {
    on_a_fresh_thread(|| {
        let (log, gate) = (Log::new(), Gate::new());
        let branch = |number: u32| {
            let (seen, gate) = (log.clone(), gate.clone());
            async move {
                let _witness = OnDrop(move || seen.push(LEVEL.get()));
                LEVEL.set(number);
                if number == 2 {
                    gate.opened().await;
                }
            }
        };
        let mut all = Box::pin(join_all((1..=3).map(branch)));
        assert!(poll_once(all.as_mut()).is_pending());
        assert_eq!(log.take(), [Some(1), Some(3)]);
        gate.open();
        assert!(poll_once(all.as_mut()).is_ready());
        assert_eq!(log.take(), [Some(2)]);
    });
}

#[test]
fn a_join_all_in_which_a_branch_has_panicked_panics_at_each_further_poll() {
    on_a_fresh_thread(|| {
        let failing = |number: u32| async move {
            if number == 1 {
                quiet_panic("in a branch")
            }
        };
        let mut all = Box::pin(join_all((0..3).map(failing)));
        assert_eq!(caught(|| poll_once(all.as_mut())), "in a branch");
        for _ in 0..2 {
            assert!(panic_text(|| poll_once(all.as_mut())).contains("after a panic in a branch"));
        }
    });
}
