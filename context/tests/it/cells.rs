//! Cells: a live context, shared on purpose, entered by one at a time.

use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::task::{Context as Poller, Poll, Waker};
use std::thread;

use heirloom_context::{AlreadyEntered, Context, ContextCell, ContextFutureExt, ContextVar, context_var};

use crate::support::{
    CountingWaker, Executor, Ledger, Log, OnDrop, block_on, caught, count, never, on_a_fresh_thread,
    poll_once, quiet_panic, yield_once,
};

context_var! {
    static TALLY: u32 = 0;
    static COLOUR: &'static str;
}

fn add_one() -> u32 {
    let next = TALLY.get() + 1;
    TALLY.set(next);
    next
}

fn refused<R>(result: Result<R, AlreadyEntered>) -> bool {
    result.is_err()
}

/// A cell that another thread has entered, until [`leave`](Self::leave).
struct Occupied {
    leave: mpsc::Sender<()>,
    inside: thread::JoinHandle<()>,
}

impl Occupied {
    /// Returns when the thread is inside, and `first` has run there.
    fn by_a_thread(cell: &ContextCell, first: impl FnOnce() + Send + 'static) -> Occupied {
        let (entered, is_entered) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel();
        let cell = cell.clone();
        let inside = thread::spawn(move || {
            cell.run(|| {
                first();
                entered.send(()).unwrap();
                may_leave.recv().unwrap();
            })
            .unwrap();
        });
        is_entered.recv().unwrap();
        Occupied { leave, inside }
    }

    fn leave(self) {
        self.leave.send(()).unwrap();
        self.inside.join().unwrap();
    }
}

fn poll_with<F: Future>(future: Pin<&mut F>, waker: &Arc<CountingWaker>) -> Poll<F::Output> {
    future.poll(&mut Poller::from_waker(&Waker::from(waker.clone())))
}

#[test]
fn a_cell_keeps_what_is_written_in_it() {
    on_a_fresh_thread(|| {
        let cell = ContextCell::new(Context::empty().with_var(&COLOUR, "red"));
        assert_eq!(cell.run(add_one).unwrap(), 1);
        assert_eq!(cell.run(add_one).unwrap(), 2);
        assert_eq!(cell.clone().run(add_one).unwrap(), 3, "a clone is another handle to the same cell");
        assert_eq!(cell.snapshot().get(&TALLY), Some(3));
        assert_eq!(cell.snapshot().get(&COLOUR), Some("red"));
        assert_eq!(TALLY.get(), 0, "and nothing of it is seen outside");
    });
}

#[test]
fn a_cell_sees_nothing_of_the_outside() {
    on_a_fresh_thread(|| {
        let cell = ContextCell::new(Context::empty());
        COLOUR.set("blue");
        assert_eq!(cell.run(|| COLOUR.get()).unwrap(), None);
        assert_eq!(COLOUR.get(), Some("blue"));
    });
}

#[test]
fn a_cell_starts_from_its_context_and_leaves_that_unchanged() {
    on_a_fresh_thread(|| {
        let context = Context::empty().with_var(&TALLY, 10);
        let (one, two) = (ContextCell::new(context.clone()), ContextCell::new(context.clone()));
        one.run(add_one).unwrap();
        assert_eq!(two.run(add_one).unwrap(), 11, "two cells made of one context are two cells");
        assert_eq!(context.get(&TALLY), Some(10));
    });
}

#[test]
fn entering_a_live_cell_again_is_an_error() {
    on_a_fresh_thread(|| {
        let cell = ContextCell::new(Context::empty());
        let mut called = false;
        let refusal = cell
            .run(|| {
                TALLY.set(5);
                let refusal = cell.run(|| called = true);
                assert_eq!(TALLY.get(), 5, "a refusal changes nothing");
                refusal
            })
            .unwrap();
        let error: AlreadyEntered = refusal.unwrap_err();
        assert!(!error.to_string().is_empty());
        assert!(!called);
        assert_eq!(cell.run(|| TALLY.get()).unwrap(), 5, "again later is fine");
    });
}

#[test]
fn a_second_thread_is_refused_while_the_first_is_inside() {
    let cell = ContextCell::new(Context::empty());
    let occupied = Occupied::by_a_thread(&cell, || drop(TALLY.set(1)));
    assert!(refused(cell.run(|| unreachable!("the cell is entered already"))));
    occupied.leave();
    assert_eq!(cell.run(|| TALLY.get()).unwrap(), 1);
}

#[test]
fn cells_nest_in_each_other() {
    on_a_fresh_thread(|| {
        let (outer, inner) = (ContextCell::new(Context::empty()), ContextCell::new(Context::empty()));
        outer
            .run(|| {
                TALLY.set(1);
                inner
                    .run(|| {
                        TALLY.set(2);
                        assert!(refused(outer.run(|| ())), "the outer one is still entered");
                    })
                    .unwrap();
                assert_eq!(TALLY.get(), 1);
            })
            .unwrap();
        assert_eq!((outer.snapshot().get(&TALLY), inner.snapshot().get(&TALLY)), (Some(1), Some(2)));
    });
}

#[test]
fn a_cell_is_released_by_a_panic_and_keeps_what_was_written() {
    on_a_fresh_thread(|| {
        COLOUR.set("outside");
        let cell = ContextCell::new(Context::empty());
        caught(|| {
            cell.run(|| {
                TALLY.set(3);
                quiet_panic("inside")
            })
        });
        assert_eq!(COLOUR.get(), Some("outside"));
        assert_eq!(cell.run(|| TALLY.get()).unwrap(), 3);
    });
}

#[test]
fn the_snapshot_of_an_entered_cell_is_that_of_the_last_entry() {
    let cell = ContextCell::new(Context::empty());
    cell.run(|| TALLY.set(1)).unwrap();
    let occupied = Occupied::by_a_thread(&cell, || drop(TALLY.set(2)));
    assert_eq!(cell.snapshot().get(&TALLY), Some(1), "seen from elsewhere");
    occupied.leave();
    assert_eq!(cell.snapshot().get(&TALLY), Some(2));
}

#[test]
fn a_snapshot_of_a_cell_never_changes() {
    on_a_fresh_thread(|| {
        let cell = ContextCell::new(Context::empty());
        cell.run(add_one).unwrap();
        let snapshot = cell.snapshot();
        cell.run(add_one).unwrap();
        snapshot.run(add_one);
        assert_eq!(snapshot.get(&TALLY), Some(1));
        assert_eq!(cell.snapshot().get(&TALLY), Some(2));
    });
}

#[test]
fn a_cell_frees_its_values_with_its_last_handle() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let cell = ContextCell::new(Context::empty());
        cell.run(|| variable.set(ledger.probe(1))).unwrap();
        cell.run(|| variable.set(ledger.probe(2))).unwrap();
        assert_eq!(ledger.alive(), 1);
        let other = cell.clone();
        drop(cell);
        assert_eq!(ledger.alive(), 1);
        drop(other);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn the_last_handle_may_go_while_the_cell_is_entered() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let cell = ContextCell::new(Context::empty());
        let mut other = Some(cell.clone());
        cell.run(|| {
            variable.set(ledger.probe(1));
            other = None;
            assert_eq!(variable.with(|probe| probe.unwrap().id), 1);
        })
        .unwrap();
        assert!(other.is_none());
        drop(cell);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn threads_in_turns_add_up() {
    let cell = ContextCell::new(Context::empty());
    let rounds = count(1000);
    thread::scope(|scope| {
        for _ in 0..4 {
            let cell = &cell;
            scope.spawn(move || {
                for _ in 0..rounds {
                    // A refusal is an answer, not a wait: try until it is our turn.
                    while cell.run(add_one).is_err() {
                        thread::yield_now();
                    }
                }
            });
        }
    });
    assert_eq!(cell.snapshot().get(&TALLY), Some(4 * rounds as u32));
}

#[test]
fn a_future_in_a_cell_writes_into_it() {
    Executor::each(|executor| {
        let cell = ContextCell::new(Context::empty().with_var(&TALLY, 5));
        let shared = cell.clone();
        executor.run(async move {
            TALLY.set(100);
            async {
                add_one();
                yield_once().await;
                add_one();
            }
            .in_cell(shared.clone())
            .await;
            assert_eq!(TALLY.get(), 100);
            assert_eq!(shared.snapshot().get(&TALLY), Some(7));
        });
        assert_eq!(cell.run(add_one).unwrap(), 8);
    });
}

#[test]
fn tasks_that_share_a_cell_take_turns() {
    Executor::each(|executor| {
        let cell = ContextCell::new(Context::empty());
        let (shared, own) = (cell.clone(), executor.clone());
        executor.run(async move {
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    own.spawn_plain(
                        async {
                            for _ in 0..25 {
                                add_one();
                                yield_once().await;
                            }
                        }
                        .in_cell(shared.clone()),
                    )
                })
                .collect();
            for task in tasks {
                task.await;
            }
        });
        assert_eq!(cell.snapshot().get(&TALLY), Some(200));
    });
}

#[test]
fn a_future_waits_without_spinning_while_the_cell_is_entered_elsewhere() {
    let cell = ContextCell::new(Context::empty());
    let occupied = Occupied::by_a_thread(&cell, || drop(TALLY.set(41)));
    let mut waiting = pin!(async { add_one() }.in_cell(cell.clone()));
    let waker = CountingWaker::new();
    assert!(poll_with(waiting.as_mut(), &waker).is_pending());
    assert!(poll_with(waiting.as_mut(), &waker).is_pending());
    assert_eq!(waker.wakes(), 0, "nothing has happened, so no task is woken");
    occupied.leave();
    assert!(waker.wakes() >= 1, "the waiting tasks are woken when the cell is left");
    assert_eq!(poll_with(waiting.as_mut(), &waker), Poll::Ready(42), "the cell is free");
}

#[test]
fn every_waiting_future_gets_its_turn() {
    let cell = ContextCell::new(Context::empty());
    let occupied = Occupied::by_a_thread(&cell, || ());
    let (polled, is_polled) = mpsc::channel();
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let (cell, polled) = (cell.clone(), polled.clone());
            thread::spawn(move || {
                let mut future = pin!(async { add_one() }.in_cell(cell));
                let mut told = false;
                block_on(std::future::poll_fn(|poller| {
                    let state = future.as_mut().poll(poller);
                    if !std::mem::replace(&mut told, true) {
                        polled.send(state.is_pending()).unwrap();
                    }
                    state
                }))
            })
        })
        .collect();
    for _ in 0..4 {
        assert!(is_polled.recv().unwrap(), "the cell is entered: each future waits");
    }
    occupied.leave();
    let mut turns: Vec<u32> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
    turns.sort_unstable();
    assert_eq!(turns, [1, 2, 3, 4]);
}

#[test]
fn a_future_that_gives_up_waiting_keeps_no_other_waiting() {
    let cell = ContextCell::new(Context::empty());
    let occupied = Occupied::by_a_thread(&cell, || ());
    let mut first = Box::pin(async { add_one() }.in_cell(cell.clone()));
    let mut second = Box::pin(async { add_one() }.in_cell(cell.clone()));
    let (first_waker, second_waker) = (CountingWaker::new(), CountingWaker::new());
    assert!(poll_with(first.as_mut(), &first_waker).is_pending());
    assert!(poll_with(second.as_mut(), &second_waker).is_pending());
    occupied.leave();
    // The first waiter may be dropped instead of polled: the second must be woken all the same.
    drop(first);
    assert!(second_waker.wakes() >= 1, "the second must not wait for one that is gone");
    assert!(poll_with(second.as_mut(), &second_waker).is_ready());
}

#[test]
fn a_future_in_a_cell_is_dropped_inside_the_cell() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let cell = ContextCell::new(Context::empty().with_var(&COLOUR, "cell"));
        COLOUR.set("outside");
        let seen = log.clone();
        let witness = OnDrop(move || seen.push(COLOUR.get()));
        let mut future = Box::pin(
            async move {
                let _witness = witness;
                never().await;
            }
            .in_cell(cell.clone()),
        );
        assert!(poll_once(future.as_mut()).is_pending());
        drop(future);
        assert_eq!(log.take(), [Some("cell")]);
        assert_eq!(COLOUR.get(), Some("outside"));
        cell.run(|| ()).unwrap();
    });
}

#[test]
fn a_future_in_a_cell_is_dropped_without_waiting_while_the_cell_is_entered_elsewhere() {
    let log = Log::new();
    let cell = ContextCell::new(Context::empty().with_var(&COLOUR, "before"));
    let seen = log.clone();
    let witness = OnDrop(move || seen.push(COLOUR.get()));
    let future = Box::pin(
        async move {
            let _witness = witness;
            never().await;
        }
        .in_cell(cell.clone()),
    );
    cell.run(|| {
        COLOUR.set("inside");
        let elsewhere = thread::spawn(move || drop(future));
        elsewhere.join().unwrap();
        assert_eq!(COLOUR.get(), Some("inside"));
    })
    .unwrap();
    assert_eq!(log.take(), [Some("before")], "the state at the last entry");
}

#[test]
fn snapshots_from_elsewhere_see_whole_entries_only() {
    let cell = ContextCell::new(Context::empty());
    let rounds = count(2000) as u32;
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let (cell, done) = (&cell, &done);
        scope.spawn(move || {
            for round in 1..=rounds {
                cell.run(|| {
                    TALLY.set(round);
                    TALLY.set(1_000_000);
                    TALLY.set(round);
                })
                .unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut last = 0;
        loop {
            let finished = done.load(std::sync::atomic::Ordering::SeqCst);
            let seen = cell.snapshot().get(&TALLY).unwrap_or(0);
            assert!((last..=rounds).contains(&seen), "{seen} after {last}");
            last = seen;
            if finished {
                break;
            }
        }
        assert_eq!(last, rounds);
    });
}

#[test]
fn a_panic_of_a_future_in_a_cell_releases_it() {
    on_a_fresh_thread(|| {
        let cell = ContextCell::new(Context::empty());
        caught(|| {
            block_on(
                async {
                    TALLY.set(9);
                    yield_once().await;
                    quiet_panic("in a poll")
                }
                .in_cell(cell.clone()),
            )
        });
        assert_eq!(cell.run(|| TALLY.get()).unwrap(), 9);
    });
}
