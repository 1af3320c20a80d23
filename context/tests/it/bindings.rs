//! Guards: bound until dropped, in any order, on any thread, by unwinding too.

use std::sync::{Arc, Barrier, mpsc};

use heirloom_context::{
    Binding, Context, ContextCell, ContextFutureExt, ContextIteratorExt, ContextVar, context_var,
};

use crate::support::{
    Dice, Executor, Ledger, block_on, caught, count, forget, on_a_fresh_thread, quiet_panic, yield_once,
};

context_var! {
    static LEVEL: u32;
    static OTHER: u32;
    static DEPTH: u32 = 1;
}

#[test]
fn a_guard_binds_until_it_is_dropped() {
    on_a_fresh_thread(|| {
        {
            let _guard = LEVEL.bind(1);
            assert_eq!(LEVEL.get(), Some(1));
            assert!(LEVEL.is_set());
        }
        assert_eq!(LEVEL.get(), None);
        assert!(!LEVEL.is_set());
    });
}

#[test]
fn a_guard_shows_the_base_again() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let guard = LEVEL.bind(2);
        assert_eq!(LEVEL.get(), Some(2));
        drop(guard);
        assert_eq!(LEVEL.get(), Some(1));
        let guard = DEPTH.bind(9);
        assert_eq!(DEPTH.get(), 9);
        drop(guard);
        assert_eq!(DEPTH.get(), 1);
    });
}

#[test]
fn the_newest_living_guard_decides() {
    on_a_fresh_thread(|| {
        LEVEL.set(0);
        let first = LEVEL.bind(1);
        let second = LEVEL.bind(2);
        let third = LEVEL.bind(3);
        assert_eq!(LEVEL.get(), Some(3));
        drop(second);
        assert_eq!(LEVEL.get(), Some(3), "an older guard goes unseen");
        drop(third);
        assert_eq!(LEVEL.get(), Some(1), "the newest of those that live");
        drop(first);
        assert_eq!(LEVEL.get(), Some(0));
    });
}

#[test]
fn what_is_written_under_a_guard_goes_with_it() {
    on_a_fresh_thread(|| {
        LEVEL.set(0);
        let guard = LEVEL.bind(1);
        LEVEL.set(5);
        assert_eq!(LEVEL.get(), Some(5));
        drop(guard);
        assert_eq!(LEVEL.get(), Some(0));
        let guard = LEVEL.bind(1);
        LEVEL.unset();
        assert_eq!(LEVEL.get(), None, "unset removes the binding, it does not uncover the base");
        drop(guard);
        assert_eq!(LEVEL.get(), Some(0));
    });
}

#[test]
fn what_is_written_into_an_older_guard_stays_under_the_newer() {
    on_a_fresh_thread(|| {
        let older = LEVEL.bind(1);
        LEVEL.set(10);
        let newer = LEVEL.bind(2);
        LEVEL.set(20);
        drop(newer);
        assert_eq!(LEVEL.get(), Some(10));
        drop(older);
        assert_eq!(LEVEL.get(), None);
    });
}

#[test]
fn guards_of_different_variables_know_nothing_of_each_other() {
    on_a_fresh_thread(|| {
        let level = LEVEL.bind(1);
        let other = OTHER.bind(2);
        drop(level);
        assert_eq!((LEVEL.get(), OTHER.get()), (None, Some(2)));
        drop(other);
        assert_eq!((LEVEL.get(), OTHER.get()), (None, None));
    });
}

#[test]
fn a_guard_is_gone_after_a_question_mark() {
    fn early() -> Result<(), std::num::ParseIntError> {
        let _guard = LEVEL.bind(7);
        assert_eq!(LEVEL.get(), Some(7));
        "seven".parse::<u32>()?;
        Ok(())
    }
    on_a_fresh_thread(|| {
        early().unwrap_err();
        assert_eq!(LEVEL.get(), None);
    });
}

#[test]
fn a_guard_is_gone_after_a_panic() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let said = caught(|| {
            let _guard = LEVEL.bind(7);
            quiet_panic("on purpose")
        });
        assert_eq!(said, "on purpose");
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn a_guards_value_is_freed_with_the_guard() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let outer = variable.bind(ledger.probe(1));
        let inner = variable.bind(ledger.probe(2));
        assert_eq!(ledger.alive(), 2);
        drop(outer);
        assert_eq!(ledger.alive(), 1, "the outer guard's value is freed though the inner one lives");
        drop(inner);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_guard_held_across_awaits_follows_the_task_between_workers() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let guard = LEVEL.bind(2);
            for _ in 0..20 {
                yield_once().await;
                assert_eq!(LEVEL.get(), Some(2));
            }
            drop(guard);
            yield_once().await;
            assert_eq!(LEVEL.get(), Some(1));
        });
    });
}

#[test]
fn a_guard_of_an_aborted_task_goes_with_the_task() {
    Executor::each(|executor| {
        let ledger = Ledger::new();
        let held = ledger.probe(1);
        executor.run(async move {
            let variable = ContextVar::new("probe");
            let task = async move {
                let _guard = variable.bind(held);
                std::future::pending::<()>().await;
            };
            let mut task = Box::pin(task.in_current_context());
            assert!(futures::poll!(task.as_mut()).is_pending());
            drop(task);
        });
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_guard_dropped_on_another_thread_does_nothing_there_or_at_home() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let guard = LEVEL.bind(2);
        on_a_fresh_thread(move || {
            LEVEL.set(50);
            drop(guard);
            assert_eq!(LEVEL.get(), Some(50));
        });
        assert_eq!(LEVEL.get(), Some(2), "the value stays bound at home as if the guard lived");
        LEVEL.set(3);
        assert_eq!(LEVEL.get(), Some(3));
        let newer = LEVEL.bind(4);
        drop(newer);
        assert_eq!(LEVEL.get(), Some(3));
    });
}

#[test]
fn a_guard_dropped_in_a_run_does_nothing_there_or_at_home() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let guard = LEVEL.bind(2);
        Context::current().run(|| {
            assert_eq!(LEVEL.get(), Some(2));
            drop(guard);
            assert_eq!(LEVEL.get(), Some(2));
        });
        assert_eq!(LEVEL.get(), Some(2));
    });
}

#[test]
fn a_guard_made_in_a_run_and_dropped_outside_does_nothing() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        LEVEL.set(1);
        let guards: (Binding, Binding) =
            Context::current().run(|| (LEVEL.bind(2), variable.bind(ledger.probe(1))));
        assert_eq!(LEVEL.get(), Some(1));
        drop(guards);
        assert_eq!(LEVEL.get(), Some(1));
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_guard_dropped_inside_an_isolated_layer_is_foreign_there() {
    on_a_fresh_thread(|| {
        let mut guard = Some(LEVEL.bind(2));
        let mut step = std::iter::from_fn(|| {
            drop(guard.take());
            Some(LEVEL.get())
        })
        .isolated();
        assert_eq!(step.next(), Some(Some(2)));
        assert_eq!(LEVEL.get(), Some(2));
    });
}

#[test]
fn a_guard_of_an_isolated_layer_uncovers_the_outside_of_now() {
    on_a_fresh_thread(|| {
        let mut guard = None;
        let mut step = std::iter::from_fn(|| {
            guard = match guard.take() {
                None => Some(LEVEL.bind(50)),
                Some(_) => None,
            };
            Some(LEVEL.get())
        })
        .isolated();
        LEVEL.set(1);
        assert_eq!(step.next(), Some(Some(50)));
        assert_eq!(LEVEL.get(), Some(1));
        LEVEL.set(2);
        assert_eq!(
            step.next(),
            Some(Some(2)),
            "nothing of the guard, and nothing frozen, is left in the layer"
        );
        LEVEL.set(3);
        assert_eq!(step.next(), Some(Some(50)));
    });
}

#[test]
fn a_guard_of_a_cell_belongs_to_every_run_of_it() {
    on_a_fresh_thread(|| {
        let cell = ContextCell::new(Context::empty());
        let guard = cell.run(|| LEVEL.bind(2)).unwrap();
        assert_eq!(cell.run(|| LEVEL.get()).unwrap(), Some(2));
        cell.run(|| drop(guard)).unwrap();
        assert_eq!(cell.run(|| LEVEL.get()).unwrap(), None);
    });
}

#[test]
fn a_scope_is_no_border_for_guards() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let guard = LEVEL.bind(2);
        LEVEL.scope(3, || {
            drop(guard);
            assert_eq!(LEVEL.get(), Some(3), "the scope covers both");
        });
        assert_eq!(LEVEL.get(), Some(1), "the guard was removed beneath the scope");
        let guard = OTHER.scope(9, || LEVEL.bind(4));
        assert_eq!(LEVEL.get(), Some(4), "a guard of another variable outlives the scope");
        drop(guard);
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn an_older_guard_dropped_in_a_scope_of_its_variable_is_freed() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let guard = variable.bind(ledger.probe(1));
        variable.scope(ledger.probe(2), || {
            drop(guard);
            assert_eq!(ledger.alive(), 1);
        });
        assert_eq!(ledger.alive(), 0);
        assert!(!variable.is_set());
    });
}

#[test]
fn the_newest_guard_is_the_one_made_last_on_whichever_thread() {
    // A task that moves: its first guard is made on a thread that started late, its second on one
    // that started early.
    let cell = ContextCell::new(Context::empty());
    let (to_early, at_early) = mpsc::channel::<()>();
    let (to_late, at_late) = mpsc::channel::<()>();
    let early = std::thread::spawn({
        let cell = cell.clone();
        move || {
            // Uses guards of its own before the other thread does.
            drop(OTHER.bind(0));
            to_late.send(()).unwrap();
            at_early.recv().unwrap();
            cell.run(|| LEVEL.bind(2)).unwrap()
        }
    });
    at_late.recv().unwrap();
    let first = on_a_fresh_thread(|| {
        drop(OTHER.bind(0));
        cell.run(|| LEVEL.bind(1)).unwrap()
    });
    to_early.send(()).unwrap();
    let second = early.join().unwrap();
    cell.run(|| {
        assert_eq!(LEVEL.get(), Some(2));
        LEVEL.set(20);
        drop(second);
        assert_eq!(LEVEL.get(), Some(1), "the guard that is left");
        drop(first);
        assert_eq!(LEVEL.get(), None);
    })
    .unwrap();
}

#[test]
fn a_guard_made_in_a_scope_of_its_variable_ends_with_the_scope() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let guard = LEVEL.scope(2, || {
            let guard = LEVEL.bind(3);
            assert_eq!(LEVEL.get(), Some(3));
            guard
        });
        assert_eq!(LEVEL.get(), Some(1), "what is written inside a scope is gone outside");
        drop(guard);
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn a_snapshot_holds_the_guards_value_and_outlives_it() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let guard = variable.bind(ledger.probe(1));
        let snapshot = Context::current();
        drop(guard);
        assert!(!variable.is_set());
        assert_eq!(ledger.alive(), 1);
        assert_eq!(snapshot.run(|| variable.with(|probe| probe.unwrap().id)), 1);
        drop(snapshot);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_shadowed_value_is_not_held_by_a_snapshot() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let outer = variable.bind(ledger.probe(1));
        let inner = variable.bind(ledger.probe(2));
        let snapshot = Context::current();
        drop(outer);
        assert_eq!(ledger.alive(), 1, "a snapshot holds what it sees, not what lies beneath");
        drop(inner);
        drop(snapshot);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn guards_dropped_in_any_order_leave_the_base() {
    on_a_fresh_thread(|| {
        let mut dice = Dice::new(7);
        for round in 0..count(200) as u32 {
            LEVEL.set(round);
            let mut guards: Vec<(u32, Binding)> =
                (0..10).map(|number| (1000 + number, LEVEL.bind(1000 + number))).collect();
            while !guards.is_empty() {
                let newest = guards.iter().map(|(number, _)| *number).max();
                assert_eq!(LEVEL.get(), newest);
                drop(guards.swap_remove(dice.below(guards.len())));
            }
            assert_eq!(LEVEL.get(), Some(round));
        }
    });
}

#[test]
fn guards_of_a_task_dropped_by_many_threads_do_nothing_anywhere() {
    on_a_fresh_thread(|| {
        let guards: Vec<Binding> = (0..8).map(|number| LEVEL.bind(number)).collect();
        let barrier = Arc::new(Barrier::new(guards.len()));
        let threads: Vec<_> = guards
            .into_iter()
            .map(|guard| {
                let barrier = barrier.clone();
                std::thread::spawn(move || {
                    barrier.wait();
                    drop(guard);
                    LEVEL.get()
                })
            })
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap().is_none()));
        assert_eq!(LEVEL.get(), Some(7));
    });
}

#[test]
fn a_plain_future_shares_its_guard_with_its_poller() {
    on_a_fresh_thread(|| {
        let mut holder = Box::pin(async {
            let _guard = LEVEL.bind(5);
            yield_once().await;
        });
        assert!(crate::support::poll_once(holder.as_mut()).is_pending());
        assert_eq!(LEVEL.get(), Some(5), "a plain future is a call that has not returned yet");
        drop(holder);
        assert_eq!(LEVEL.get(), None);
        block_on(async {
            let _guard = LEVEL.bind(6);
            assert_eq!(LEVEL.get(), Some(6));
        });
        assert_eq!(LEVEL.get(), None);
    });
}

#[test]
fn a_forgotten_guard_stays_bound_and_leaks_nothing() {
    let ledger = Ledger::new();
    on_a_fresh_thread(|| {
        let variable = ContextVar::new("probe");
        forget(variable.bind(ledger.probe(1)));
        assert_eq!(variable.with(|probe| probe.map(|probe| probe.id)), Some(1));
    });
    assert_eq!(ledger.alive(), 0, "the root context ended with its thread");
}
