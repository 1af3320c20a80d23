//! `on_change`: told whenever what the thread sees of a variable changes, so that a foreign
//! thread-local can follow.

use std::cell::{Cell, RefCell};
use std::panic::catch_unwind;
use std::sync::mpsc;

use heirloom_context::{
    Context, ContextCell, ContextFutureExt, ContextIteratorExt, ContextVar, VarOptions, context_var, raw,
};

use crate::support::{Executor, block_on, caught, on_a_fresh_thread, quiet_panic, yield_once};

thread_local! {
    static CALLS: RefCell<Vec<(Option<u32>, Option<u32>)>> = const { RefCell::new(Vec::new()) };
    static MIRROR: Cell<Option<u32>> = const { Cell::new(None) };
}

fn record(previous: Option<&u32>, current: Option<&u32>) {
    CALLS.with_borrow_mut(|calls| calls.push((previous.copied(), current.copied())));
}

fn mirror(previous: Option<&u32>, current: Option<&u32>) {
    assert_eq!(MIRROR.replace(current.copied()), previous.copied(), "no change may be skipped");
}

context_var! {
    static WATCHED: u32, on_change = record;
    static DEFAULTED: u32 = 5, on_change = record;
    static MIRRORED: u32, on_change = mirror;
    static UNWATCHED: u32;
}

fn calls() -> Vec<(Option<u32>, Option<u32>)> {
    CALLS.take()
}

#[test]
fn a_set_an_unset_and_a_reset_are_told() {
    on_a_fresh_thread(|| {
        let first = WATCHED.set(1);
        let second = WATCHED.set(2);
        assert_eq!(calls(), [(None, Some(1)), (Some(1), Some(2))]);
        WATCHED.reset(second).unwrap();
        WATCHED.reset(first).unwrap();
        assert_eq!(calls(), [(Some(2), Some(1)), (Some(1), None)]);
        WATCHED.set(3);
        WATCHED.unset();
        assert_eq!(calls(), [(None, Some(3)), (Some(3), None)]);
    });
}

#[test]
fn only_bound_values_are_told_no_defaults() {
    on_a_fresh_thread(|| {
        DEFAULTED.set(1);
        DEFAULTED.unset();
        assert_eq!(calls(), [(None, Some(1)), (Some(1), None)]);
        assert_eq!(DEFAULTED.get(), 5);
        assert_eq!(calls(), []);
    });
}

#[test]
fn a_guard_is_told_when_it_binds_and_when_it_goes() {
    on_a_fresh_thread(|| {
        WATCHED.set(1);
        calls();
        let outer = WATCHED.bind(2);
        let inner = WATCHED.bind(3);
        assert_eq!(calls(), [(Some(1), Some(2)), (Some(2), Some(3))]);
        drop(outer);
        assert_eq!(calls(), [], "what lies beneath the newest guard is not seen");
        drop(inner);
        assert_eq!(calls(), [(Some(3), Some(1))]);
    });
}

#[test]
fn a_refused_reset_and_a_foreign_guard_are_not_told() {
    on_a_fresh_thread(|| {
        let token = UNWATCHED.set(1);
        let guard = WATCHED.bind(1);
        calls();
        WATCHED.reset(token).unwrap_err();
        std::thread::spawn(move || {
            drop(guard);
            assert_eq!(calls(), []);
        })
        .join()
        .unwrap();
        assert_eq!(calls(), []);
    });
}

#[test]
fn other_variables_are_not_told() {
    on_a_fresh_thread(|| {
        UNWATCHED.set(1);
        UNWATCHED.scope(2, || UNWATCHED.unset());
        Context::empty().run(|| UNWATCHED.set(3));
        assert_eq!(calls(), []);
    });
}

#[test]
fn scopes_and_runs_are_told_both_ways() {
    on_a_fresh_thread(|| {
        WATCHED.set(1);
        calls();
        WATCHED.scope(2, || assert_eq!(calls(), [(Some(1), Some(2))]));
        assert_eq!(calls(), [(Some(2), Some(1))]);
        Context::empty().with_var(&WATCHED, 3).run(|| {
            assert_eq!(calls(), [(Some(1), Some(3))]);
            WATCHED.set(4);
            assert_eq!(calls(), [(Some(3), Some(4))]);
        });
        assert_eq!(calls(), [(Some(4), Some(1))]);
        Context::empty().run(|| assert_eq!(calls(), [(Some(1), None)]));
        assert_eq!(calls(), [(None, Some(1))]);
    });
}

#[test]
fn a_switch_that_changes_nothing_seen_is_not_told() {
    on_a_fresh_thread(|| {
        WATCHED.set(1);
        calls();
        Context::current().run(|| UNWATCHED.set(1));
        Context::current().with_var(&UNWATCHED, 2).run(|| ());
        block_on(async { yield_once().await }.in_current_context());
        block_on(async { yield_once().await }.isolated());
        assert_eq!(calls(), [], "the very same value is seen all the time");
    });
}

#[test]
fn the_hook_is_called_when_making_and_reading_contexts_are_over() {
    on_a_fresh_thread(|| {
        WATCHED.set(1);
        calls();
        let context = Context::current().with_var(&WATCHED, 2).without_var(&WATCHED).with_var(&WATCHED, 3);
        context.get(&WATCHED);
        let _ = context.diff(&Context::current());
        Context::inherited();
        assert_eq!(calls(), [], "nothing of this is seen by the thread");
    });
}

#[test]
fn the_hook_runs_after_the_change_in_the_new_context() {
    thread_local! {
        static SEEN: Cell<Option<u32>> = const { Cell::new(None) };
    }
    static LOOKING: ContextVar<u32> = ContextVar::with_options(
        "looking",
        VarOptions { on_change: Some(|_, _| SEEN.set(LOOKING.get())), ..VarOptions::new() },
    );
    on_a_fresh_thread(|| {
        LOOKING.set(1);
        assert_eq!(SEEN.get(), Some(1));
        LOOKING.scope(2, || assert_eq!(SEEN.get(), Some(2)));
        assert_eq!(SEEN.get(), Some(1));
    });
}

#[test]
fn a_foreign_thread_local_follows_every_kind_of_switch() {
    on_a_fresh_thread(|| {
        let check = |expected: Option<u32>| {
            assert_eq!(MIRRORED.get(), expected);
            assert_eq!(MIRROR.get(), expected);
        };
        check(None);
        MIRRORED.set(1);
        check(Some(1));
        let snapshot = Context::current();
        let cell = ContextCell::new(snapshot.with_var(&MIRRORED, 2));
        cell.run(|| {
            check(Some(2));
            MIRRORED.set(3);
            snapshot.run(|| check(Some(1)));
            check(Some(3));
        })
        .unwrap();
        check(Some(1));
        cell.run(|| check(Some(3))).unwrap();
        let mut steps = std::iter::repeat_with(|| {
            check(MIRRORED.get());
            MIRRORED.set(10 + MIRRORED.get().unwrap());
            check(MIRRORED.get());
            MIRRORED.get()
        })
        .isolated();
        assert_eq!(steps.next(), Some(Some(11)));
        check(Some(1));
        MIRRORED.set(5);
        assert_eq!(steps.next(), Some(Some(21)));
        check(Some(5));
        caught(|| {
            MIRRORED.scope(6, || {
                let _guard = MIRRORED.bind(7);
                check(Some(7));
                quiet_panic("through a scope and a guard")
            })
        });
        check(Some(5));
        let mut live = raw::Live::new(Context::empty().with_var(&MIRRORED, 30));
        raw::swap(&mut live);
        check(Some(30));
        raw::swap(&mut live);
        check(Some(5));
        drop(live);
        drop(steps);
        drop(cell);
        check(Some(5));
    });
}

#[test]
fn a_foreign_thread_local_follows_tasks_from_worker_to_worker() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            MIRRORED.set(1);
            let tasks: Vec<_> = (0..20)
                .map(|number| {
                    own.spawn(async move {
                        let look = || assert_eq!(MIRROR.get(), MIRRORED.get());
                        look();
                        MIRRORED.set(number);
                        for _ in 0..10 {
                            yield_once().await;
                            look();
                            assert_eq!(MIRROR.get(), Some(number));
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            assert_eq!(MIRROR.get(), Some(1));
        });
    });
}

#[test]
fn another_thread_is_not_told_of_changes_here() {
    on_a_fresh_thread(|| {
        let (changed, is_changed) = mpsc::channel();
        let other = std::thread::spawn(move || {
            is_changed.recv().unwrap();
            calls()
        });
        WATCHED.set(1);
        changed.send(()).unwrap();
        assert_eq!(other.join().unwrap(), []);
    });
}

#[test]
fn a_panic_in_a_hook_is_caught_and_the_change_completes() {
    fn fail(_: Option<&u32>, _: Option<&u32>) {
        quiet_panic("a hook that fails")
    }
    static FAILING: ContextVar<u32> =
        ContextVar::with_options("failing", VarOptions { on_change: Some(fail), ..VarOptions::new() });
    on_a_fresh_thread(|| {
        UNWATCHED.set(1);
        let result = catch_unwind(|| {
            let token = FAILING.set(1);
            assert_eq!(FAILING.get(), Some(1));
            FAILING.scope(2, || assert_eq!(FAILING.get(), Some(2)));
            let guard = FAILING.bind(3);
            Context::empty().run(|| assert_eq!(FAILING.get(), None));
            drop(guard);
            assert_eq!(FAILING.get(), Some(1));
            FAILING.reset(token).unwrap();
        });
        assert!(result.is_ok(), "no panic of a hook may reach the code that changes the variable");
        assert_eq!(FAILING.get(), None);
        assert_eq!(UNWATCHED.get(), Some(1));
    });
}

#[test]
fn a_failing_hook_does_not_keep_others_from_being_called() {
    fn fail(_: Option<&u32>, _: Option<&u32>) {
        quiet_panic("a hook that fails")
    }
    static FAILING: ContextVar<u32> =
        ContextVar::with_options("failing", VarOptions { on_change: Some(fail), ..VarOptions::new() });
    on_a_fresh_thread(|| {
        let context = Context::empty().with_var(&FAILING, 1).with_var(&WATCHED, 2).with_var(&MIRRORED, 3);
        context.run(|| {
            assert_eq!(calls(), [(None, Some(2))]);
            assert_eq!(MIRROR.get(), Some(3));
        });
        assert_eq!(calls(), [(Some(2), None)]);
        assert_eq!(MIRROR.get(), None);
    });
}

#[test]
fn a_hook_may_use_contexts_without_end_or_harm() {
    static BUSY: ContextVar<u32> = ContextVar::with_options(
        "busy",
        VarOptions {
            on_change: Some(|_, current| {
                let snapshot = Context::current();
                UNWATCHED.set(current.copied().unwrap_or(0));
                snapshot.run(|| UNWATCHED.set(99));
                let _guard = UNWATCHED.bind(98);
            }),
            ..VarOptions::new()
        },
    );
    on_a_fresh_thread(|| {
        BUSY.set(1);
        assert_eq!((BUSY.get(), UNWATCHED.get()), (Some(1), Some(1)));
        BUSY.scope(2, || assert_eq!((BUSY.get(), UNWATCHED.get()), (Some(2), Some(2))));
        assert_eq!(BUSY.get(), Some(1));
    });
}

#[test]
fn a_hook_that_sets_its_own_variable_ends() {
    static GREEDY: ContextVar<u32> = ContextVar::with_options(
        "greedy",
        VarOptions {
            on_change: Some(|_, current| {
                if let Some(number) = current {
                    GREEDY.set(number + 1);
                }
            }),
            ..VarOptions::new()
        },
    );
    on_a_fresh_thread(|| {
        GREEDY.set(1);
        assert_eq!(GREEDY.get(), Some(2), "a change made by a hook calls no hooks");
        GREEDY.unset();
        assert_eq!(GREEDY.get(), None);
    });
}

#[test]
fn run_time_variables_have_hooks_too() {
    on_a_fresh_thread(|| {
        let options =
            VarOptions { on_change: Some(record as fn(Option<&u32>, Option<&u32>)), ..VarOptions::new() };
        let variable = Box::new(ContextVar::with_options("short-lived", options));
        let context = Context::empty().with_var(&variable, 8);
        drop(variable);
        context.run(|| ());
        drop(context);
        assert!(calls().iter().all(|call| *call == (None, Some(8)) || *call == (Some(8), None)));
    });
}
