//! Snapshots: what `Context` keeps, and what running in one does and does not do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier};

use heirloom_context::{Context, ContextVar, context_var};

use crate::support::{Executor, Ledger, block_on, caught, on_a_fresh_thread, quiet_panic, yield_once};

context_var! {
    static COLOUR: &'static str;
    static SIZE: u32;
    static DEPTH: u32 = 1;
}

#[test]
fn the_empty_context_is_empty() {
    const NOTHING: Context = Context::empty();
    assert!(NOTHING.is_empty());
    assert_eq!(NOTHING.len(), 0);
    assert_eq!(NOTHING.get(&SIZE), None);
    assert_eq!(NOTHING.iter().count(), 0);
    assert_eq!(NOTHING, Context::default());
    on_a_fresh_thread(|| assert_eq!(Context::current(), NOTHING));
}

#[test]
fn with_and_without_make_new_contexts_and_leave_the_old() {
    let none = Context::empty();
    let one = none.with_var(&SIZE, 1);
    let two = one.with_var(&COLOUR, "red");
    let other = two.with_var(&SIZE, 2);
    let less = other.without_var(&COLOUR);
    assert_eq!((none.len(), one.len(), two.len(), other.len(), less.len()), (0, 1, 2, 2, 1));
    assert_eq!(none.get(&SIZE), None);
    assert_eq!((one.get(&SIZE), one.get(&COLOUR)), (Some(1), None));
    assert_eq!((two.get(&SIZE), two.get(&COLOUR)), (Some(1), Some("red")));
    assert_eq!((other.get(&SIZE), other.get(&COLOUR)), (Some(2), Some("red")));
    assert_eq!((less.get(&SIZE), less.get(&COLOUR)), (Some(2), None));
    assert!(less.without_var(&SIZE).is_empty());
}

#[test]
fn making_a_context_touches_nothing_current() {
    on_a_fresh_thread(|| {
        let context = Context::current().with_var(&SIZE, 1);
        assert_eq!(SIZE.get(), None);
        assert!(Context::current().is_empty());
        assert_eq!(context.run(|| SIZE.get()), Some(1));
    });
}

#[test]
fn a_snapshot_never_changes() {
    on_a_fresh_thread(|| {
        SIZE.set(1);
        let snapshot = Context::current();
        SIZE.set(2);
        COLOUR.set("red");
        assert_eq!(snapshot.get(&SIZE), Some(1));
        assert_eq!(snapshot.len(), 1);
        SIZE.unset();
        assert_eq!(snapshot.get(&SIZE), Some(1));
        snapshot.run(|| SIZE.set(50));
        assert_eq!(snapshot.get(&SIZE), Some(1));
        assert_eq!(SIZE.get(), None);
    });
}

#[test]
fn a_snapshot_of_a_reset_context_equals_the_one_before() {
    on_a_fresh_thread(|| {
        SIZE.set(1);
        let before = Context::current();
        let token = SIZE.set(2);
        let between = Context::current();
        SIZE.reset(token).unwrap();
        assert_eq!(Context::current(), before, "the same value is bound again");
        assert_ne!(Context::current(), between);
    });
}

#[test]
fn run_works_in_a_copy() {
    on_a_fresh_thread(|| {
        SIZE.set(1);
        let context = Context::empty().with_var(&COLOUR, "red");
        let answer = context.run(|| {
            assert_eq!((SIZE.get(), COLOUR.get()), (None, Some("red")));
            SIZE.set(5);
            COLOUR.unset();
            assert_eq!((SIZE.get(), COLOUR.get()), (Some(5), None));
            42
        });
        assert_eq!(answer, 42);
        assert_eq!((SIZE.get(), COLOUR.get()), (Some(1), None));
        assert_eq!((context.get(&SIZE), context.get(&COLOUR)), (None, Some("red")));
        context.run(|| {
            assert_eq!((SIZE.get(), COLOUR.get()), (None, Some("red")), "a second run starts afresh")
        });
    });
}

#[test]
fn runs_nest_and_each_is_restored() {
    on_a_fresh_thread(|| {
        let first = Context::empty().with_var(&SIZE, 1);
        let second = Context::empty().with_var(&SIZE, 2);
        SIZE.set(0);
        first.run(|| {
            second.run(|| {
                first.run(|| assert_eq!(SIZE.get(), Some(1)));
                assert_eq!(SIZE.get(), Some(2));
                SIZE.set(20);
                Context::empty().run(|| assert_eq!(SIZE.get(), None));
                assert_eq!(SIZE.get(), Some(20));
            });
            assert_eq!(SIZE.get(), Some(1));
        });
        assert_eq!(SIZE.get(), Some(0));
    });
}

#[test]
fn run_is_restored_by_a_panic() {
    on_a_fresh_thread(|| {
        SIZE.set(0);
        let context = Context::current().with_var(&SIZE, 1);
        caught(|| {
            context.run(|| {
                SIZE.set(2);
                context.run(|| DEPTH.scope(3, || quiet_panic("three borders deep")))
            })
        });
        assert_eq!(SIZE.get(), Some(0));
        assert_eq!(DEPTH.get(), 1);
        assert_eq!(context.run(|| SIZE.get()), Some(1));
    });
}

#[test]
fn a_context_may_cross_an_unwind_without_a_wrapper() {
    let context = Context::empty().with_var(&SIZE, 1);
    // No `AssertUnwindSafe`: a snapshot cannot be seen half changed.
    let again = catch_unwind(move || context.run(|| SIZE.get()));
    assert_eq!(again.unwrap(), Some(1));
}

#[test]
fn one_snapshot_runs_on_many_threads_at_once() {
    let context = Context::empty().with_var(&SIZE, 1);
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for own in 10..14 {
            let (context, barrier) = (&context, &barrier);
            scope.spawn(move || {
                context.run(|| {
                    barrier.wait();
                    assert_eq!(SIZE.get(), Some(1));
                    SIZE.set(own);
                    barrier.wait();
                    assert_eq!(SIZE.get(), Some(own));
                });
                assert_eq!(SIZE.get(), None);
            });
        }
    });
    assert_eq!(context.get(&SIZE), Some(1));
}

#[test]
fn a_wrapped_closure_runs_in_its_context_wherever_it_is_called() {
    on_a_fresh_thread(|| {
        SIZE.set(1);
        let wrapped = Arc::new(Context::current().wrap(|| {
            let seen = SIZE.get();
            SIZE.set(99);
            seen
        }));
        SIZE.set(2);
        assert_eq!(wrapped(), Some(1));
        assert_eq!(wrapped(), Some(1), "each call has a copy of its own");
        assert_eq!(SIZE.get(), Some(2));
        let there = wrapped.clone();
        assert_eq!(std::thread::spawn(move || (there(), SIZE.get())).join().unwrap(), (Some(1), None));
    });
}

#[test]
fn wrap_mut_and_wrap_once_do_the_same_for_other_closures() {
    on_a_fresh_thread(|| {
        SIZE.set(1);
        let mut calls = 0;
        let mut counting = Context::current().wrap_mut(|| {
            calls += 1;
            (calls, SIZE.get())
        });
        SIZE.set(2);
        assert_eq!(counting(), (1, Some(1)));
        assert_eq!(counting(), (2, Some(1)));
        drop(counting);
        assert_eq!(calls, 2);

        let owned = String::from("moved");
        let once = Context::empty().wrap_once(move || (owned, SIZE.get()));
        assert_eq!(once(), ("moved".to_string(), None));
        assert_eq!(SIZE.get(), Some(2));
    });
}

#[test]
fn a_wrapped_closure_borrows_nothing_of_the_context() {
    let wrapped = {
        let context = Context::empty().with_var(&SIZE, 3);
        context.wrap(|| SIZE.get())
    };
    let boxed: Box<dyn Fn() -> Option<u32> + Send + Sync + 'static> = Box::new(wrapped);
    assert_eq!(boxed(), Some(3));
}

#[test]
fn a_wrapped_closure_restores_after_a_panic() {
    on_a_fresh_thread(|| {
        SIZE.set(1);
        let wrapped = Context::empty().with_var(&SIZE, 2).wrap(|| quiet_panic("inside"));
        assert_eq!(caught(&wrapped), "inside");
        assert_eq!(caught(&wrapped), "inside", "and works again");
        assert_eq!(SIZE.get(), Some(1));
    });
}

#[test]
fn a_wrapped_closure_frees_its_context_with_itself() {
    let ledger = Ledger::new();
    let variable = ContextVar::new("probe");
    let wrapped = Context::empty().with_var(&variable, ledger.probe(1)).wrap(|| ());
    wrapped();
    assert_eq!(ledger.alive(), 1);
    drop(wrapped);
    assert_eq!(ledger.alive(), 0);
    Context::empty().with_var(&variable, ledger.probe(2)).wrap_once(|| ())();
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn a_callback_sees_what_was_bound_when_it_was_registered() {
    on_a_fresh_thread(|| {
        let mut callbacks: Vec<Box<dyn FnOnce() -> Option<u32>>> = Vec::new();
        for number in 0..3 {
            SIZE.set(number);
            callbacks.push(Box::new(Context::current().wrap_once(|| SIZE.get())));
        }
        SIZE.unset();
        let seen: Vec<_> = callbacks.into_iter().map(|callback| callback()).collect();
        assert_eq!(seen, [Some(0), Some(1), Some(2)]);
    });
}

#[test]
fn snapshots_share_values_and_clone_none() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        variable.set(ledger.probe(1));
        let snapshots: Vec<Context> = (0..100).map(|_| Context::current()).collect();
        let derived: Vec<Context> = (0..100).map(|number| snapshots[0].with_var(&SIZE, number)).collect();
        assert_eq!(ledger.made(), 1);
        variable.unset();
        drop(snapshots);
        assert_eq!(ledger.alive(), 1);
        drop(derived);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn snapshots_dropped_in_any_order_free_their_values() {
    let ledger = Ledger::new();
    let variable = ContextVar::new("probe");
    for backwards in [false, true] {
        on_a_fresh_thread(|| {
            let mut snapshots: Vec<Context> = (0..50)
                .map(|number| {
                    variable.set(ledger.probe(number));
                    Context::current()
                })
                .collect();
            variable.unset();
            assert_eq!(ledger.alive(), 50);
            if backwards {
                snapshots.reverse();
            }
            for (gone, snapshot) in snapshots.into_iter().enumerate() {
                assert_eq!(ledger.alive(), 50 - gone);
                drop(snapshot);
            }
            assert_eq!(ledger.alive(), 0);
        });
    }
}

#[test]
fn an_in_place_set_is_seen_by_no_snapshot_and_no_borrow() {
    on_a_fresh_thread(|| {
        let variable = ContextVar::<String>::new("text");
        variable.set("one".into());
        let mut snapshots = Vec::new();
        for number in 0..20 {
            if number % 3 == 0 {
                snapshots.push((variable.get(), Context::current()));
            }
            variable.with(|before| {
                let kept = before.cloned();
                variable.set(format!("number {number}"));
                assert_eq!(before.cloned(), kept);
            });
        }
        for (value, snapshot) in snapshots {
            assert_eq!(snapshot.get(&variable), value);
        }
    });
}

#[test]
fn a_snapshot_moves_values_from_task_to_task() {
    Executor::each(|executor| {
        let own = executor.clone();
        let seen = executor.run(async move {
            SIZE.set(7);
            COLOUR.set("red");
            yield_once().await;
            let snapshot = Context::current();
            SIZE.set(8);
            own.spawn_in(Context::empty(), async move {
                assert_eq!(SIZE.get(), None);
                snapshot.run(|| (SIZE.get(), COLOUR.get()))
            })
            .await
        });
        assert_eq!(seen, (Some(7), Some("red")));
    });
}

#[test]
fn block_on_inside_a_run_uses_the_copy() {
    on_a_fresh_thread(|| {
        SIZE.set(1);
        let seen = Context::current().run(|| {
            block_on(async {
                SIZE.set(2);
                yield_once().await;
                SIZE.get()
            })
        });
        assert_eq!((seen, SIZE.get()), (Some(2), Some(1)));
    });
}

#[test]
fn the_result_of_a_run_may_be_a_snapshot_of_its_inside() {
    on_a_fresh_thread(|| {
        let outside = Context::empty().with_var(&SIZE, 1);
        let inside = outside.run(|| {
            SIZE.set(2);
            COLOUR.set("red");
            Context::current()
        });
        assert_eq!((inside.get(&SIZE), inside.get(&COLOUR)), (Some(2), Some("red")));
        assert_eq!((outside.get(&SIZE), outside.len()), (Some(1), 1));
    });
}

#[test]
fn a_run_inside_with_reads_its_own_value_and_keeps_the_borrow() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        variable.set(ledger.probe(1));
        let elsewhere = Context::empty().with_var(&variable, ledger.probe(2));
        variable.with(|outer| {
            elsewhere.run(|| {
                variable.with(|inner| assert_eq!(inner.unwrap().id, 2));
                variable.set(ledger.probe(3));
            });
            assert_eq!(outer.unwrap().id, 1);
        });
        let result = catch_unwind(AssertUnwindSafe(|| variable.with(|_| quiet_panic("while borrowed"))));
        assert!(result.is_err());
        variable.unset();
        assert_eq!(ledger.alive(), 1, "a borrow that unwound holds nothing");
        drop(elsewhere);
        assert_eq!(ledger.alive(), 0);
    });
}
