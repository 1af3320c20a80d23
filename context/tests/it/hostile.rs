//! Values and closures that misbehave: destructors, clones and texts that do what they should not.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use heirloom_context::{Context, ContextCell, ContextFutureExt, ContextIteratorExt, ContextVar, context_var};

use crate::support::{
    Executor, Ledger, Log, OnDrop, Probe, block_on, caught, never, on_a_fresh_thread, poll_once, quiet_panic,
};

context_var! {
    static LEVEL: u32;
    static OTHER: u32;
    static HELD: Held;
    static STRANGE: Strange, debug = Debug;
}

/// A value whose destructor calls a closure.
struct Held(#[allow(dead_code, reason = "held for its drop")] Mutex<OnDrop<Box<dyn FnMut() + Send>>>);

fn held(f: impl FnMut() + Send + 'static) -> Held {
    Held(Mutex::new(OnDrop(Box::new(f))))
}

struct Strange;

impl Clone for Strange {
    fn clone(&self) -> Strange {
        quiet_panic("cannot be cloned")
    }
}

impl fmt::Debug for Strange {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        quiet_panic("cannot be shown")
    }
}

/// Everything that a destructor might want of a context.
fn use_everything() {
    let before = LEVEL.get();
    let token = LEVEL.set(500);
    assert_eq!(LEVEL.get(), Some(500));
    let inner = LEVEL.bind(501);
    let snapshot = Context::current();
    drop(inner);
    LEVEL.reset(token).unwrap();
    assert_eq!(LEVEL.get(), before);
    assert_eq!(snapshot.get(&LEVEL), Some(501));
    snapshot.run(|| assert_eq!(LEVEL.get(), Some(501)));
    assert_eq!(LEVEL.scope(502, || LEVEL.get()), Some(502));
    assert_eq!(std::iter::repeat_with(|| LEVEL.set(503)).isolated().take(1).count(), 1);
    LEVEL.unset();
    drop(Context::inherited());
    HELD.set(held(|| ()));
    HELD.with(|held| assert!(held.is_some()));
    HELD.unset();
}

/// Every way by which a bound value comes to its end.
fn every_end(value: &dyn Fn() -> Held) {
    HELD.set(value());
    HELD.set(value());
    HELD.unset();
    let token = HELD.set(value());
    HELD.reset(token).unwrap();
    drop(HELD.bind(value()));
    let (outer, inner) = (HELD.bind(value()), HELD.bind(value()));
    drop(outer);
    drop(inner);
    HELD.scope(value(), || HELD.set(value()));
    drop(Context::empty().with_var(&HELD, value()));
    drop(Context::empty().with_var(&HELD, value()).with_var(&HELD, value()));
    drop(Context::empty().with_var(&HELD, value()).without_var(&HELD));
    Context::current().run(|| drop(HELD.set(value())));
    let cell = ContextCell::new(Context::empty().with_var(&HELD, value()));
    cell.run(|| drop(HELD.set(value()))).unwrap();
    drop(cell);
    let value_of_future = value();
    let mut future = Box::pin(
        async {
            HELD.set(value_of_future);
            never().await;
        }
        .isolated(),
    );
    assert!(poll_once(future.as_mut()).is_pending());
    drop(future);
    drop(never().with_var(&HELD, value()));
    drop(never().in_context(Context::empty().with_var(&HELD, value())));
    HELD.with(|_| drop(HELD.set(value())));
    HELD.unset();
}

#[test]
fn a_destructor_may_use_contexts_as_it_likes_at_every_end() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let log = Log::new();
        every_end(&|| {
            let log = log.clone();
            held(move || {
                use_everything();
                log.push(());
            })
        });
        assert_eq!(LEVEL.get(), Some(1));
        assert!(!HELD.is_set());
        assert_eq!(log.take().len(), 19, "each value ended once");
    });
}

#[test]
fn a_destructor_may_end_other_values_at_every_end() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = std::sync::Arc::new(ContextVar::new("probe"));
        every_end(&|| {
            let context = Context::empty().with_var(&variable, ledger.probe(1));
            let (variable, ledger) = (variable.clone(), ledger.clone());
            held(move || {
                variable.set(ledger.probe(2));
                context.with_var(&variable, ledger.probe(3)).run(|| drop(variable.set(ledger.probe(4))));
            })
        });
        assert_eq!(ledger.alive(), 0);
        assert!(ledger.made() >= 19 * 4);
    });
}

#[test]
fn a_destructor_may_start_a_thread_and_wait_for_it_at_every_end() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let snapshot = Context::empty().with_var(&LEVEL, 9);
        every_end(&|| {
            let (log, snapshot) = (log.clone(), snapshot.clone());
            held(move || {
                let snapshot = snapshot.clone();
                let seen = std::thread::spawn(move || {
                    use_everything();
                    snapshot.run(|| LEVEL.get())
                });
                log.push(seen.join().unwrap());
            })
        });
        assert_eq!(log.take(), [Some(9); 19]);
    });
}

#[test]
fn a_destructor_that_panics_breaks_nothing_at_every_end() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        LEVEL.set(1);
        type End = fn(Held);
        let ends: [End; 11] = [
            |held| {
                HELD.set(held);
                HELD.unset();
            },
            |held| {
                HELD.set(held);
                HELD.set(crate::hostile::held(|| ()));
            },
            |held| drop(HELD.bind(held)),
            |held| HELD.scope(held, || ()),
            |held| Context::empty().run(|| drop(HELD.set(held))),
            |held| drop(Context::empty().with_var(&HELD, held)),
            |held| {
                let token = HELD.set(held);
                HELD.reset(token).unwrap();
            },
            |held| drop(never().with_var(&HELD, held)),
            |held| drop(never().in_context(Context::empty().with_var(&HELD, held))),
            |held| {
                let cell = ContextCell::new(Context::empty());
                cell.run(|| drop(HELD.set(held))).unwrap();
            },
            |held| {
                HELD.set(held);
                HELD.with(|_| drop(HELD.unset()));
            },
        ];
        for (number, end) in ends.into_iter().enumerate() {
            variable.set(ledger.probe(number as u32));
            let said = caught(|| end(held(|| quiet_panic("in a destructor"))));
            assert_eq!(said, "in a destructor", "end {number}");
            HELD.unset();
            assert_eq!(LEVEL.get(), Some(1), "end {number}");
            assert_eq!(variable.with(|probe| probe.unwrap().id), number as u32);
            LEVEL.scope(2, || assert_eq!(LEVEL.get(), Some(2)));
        }
        variable.unset();
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn one_panic_among_many_destructors_lets_the_others_run() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let probes: Vec<ContextVar<Probe>> = (0..40).map(|_| ContextVar::new("probe")).collect();
        let bombs: Vec<ContextVar<Held>> = (0..2).map(|_| ContextVar::new("bomb")).collect();
        let mut context = Context::empty();
        for (number, probe) in probes.iter().enumerate() {
            context = context.with_var(probe, ledger.probe(number as u32));
            if number % 20 == 10 {
                context = context.with_var(&bombs[number / 20], held(|| quiet_panic("a bomb")));
            }
        }
        assert_eq!(caught(|| drop(context)), "a bomb");
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_destructor_that_panics_while_its_thread_unwinds_does_not_abort() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let said = caught(|| {
            let _context = Context::empty().with_var(&HELD, held(|| quiet_panic("the second panic")));
            let _guard = HELD.bind(held(|| quiet_panic("the third panic")));
            HELD.scope(held(|| quiet_panic("the fourth panic")), || quiet_panic("the first panic"))
        });
        assert_eq!(said, "the first panic");
        assert_eq!(LEVEL.get(), Some(1));
        assert!(!HELD.is_set());
    });
}

#[test]
fn a_clone_that_panics_breaks_nothing() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        STRANGE.set(Strange);
        assert_eq!(caught(|| STRANGE.get().is_some()), "cannot be cloned");
        assert_eq!(caught(|| Context::current().get(&STRANGE).is_some()), "cannot be cloned");
        assert!(STRANGE.is_set());
        STRANGE.with(|strange| assert!(strange.is_some()));
        STRANGE.unset();
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn a_text_that_panics_breaks_nothing() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        STRANGE.set(Strange);
        let context = Context::current();
        // Whether the panic comes through is the formatter's affair.
        let _ = catch_unwind(AssertUnwindSafe(|| format!("{context:?}")));
        let _ =
            catch_unwind(AssertUnwindSafe(|| context.iter().filter_map(|entry| entry.debug_text()).count()));
        assert_eq!(context.len(), 2);
        assert_eq!(context.iter().count(), 2);
        assert_eq!((LEVEL.get(), STRANGE.is_set()), (Some(1), true));
        assert_eq!(context.run(|| LEVEL.get()), Some(1));
    });
}

#[test]
fn a_text_may_use_contexts() {
    struct Curious;
    impl fmt::Debug for Curious {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            use_everything();
            write!(f, "{:?}", LEVEL.get())
        }
    }
    context_var! {
        static CURIOUS: Curious, debug = Debug;
    }
    on_a_fresh_thread(|| {
        CURIOUS.set(Curious);
        let text = Context::current().iter().find_map(|entry| entry.debug_text());
        assert_eq!(text.as_deref(), Some("None"));
    });
}

#[test]
fn a_borrow_survives_all_that_its_closure_does() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let other = Context::empty().with_var(&variable, ledger.probe(9));
        let token = variable.set(ledger.probe(1));
        let mut token = Some(token);
        variable.with(|one| {
            let one = one.unwrap();
            variable.set(ledger.probe(2));
            variable.reset(token.take().unwrap()).unwrap();
            assert!(!variable.is_set());
            let guard = variable.bind(ledger.probe(3));
            variable.scope(ledger.probe(4), || variable.with(|four| assert_eq!(four.unwrap().id, 4)));
            variable.with(|three| {
                drop(guard);
                assert_eq!(three.unwrap().id, 3);
            });
            other.run(|| {
                variable.with(|nine| {
                    variable.unset();
                    assert_eq!((one.id, nine.unwrap().id), (1, 9));
                });
            });
            block_on(async { drop(variable.set(ledger.probe(5))) }.in_current_context());
            variable.unset();
            assert_eq!(one.id, 1);
            // Only what is borrowed here and what `other` holds is left.
            assert_eq!(ledger.alive(), 2);
        });
        assert_eq!(ledger.alive(), 1);
        drop(other);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_borrow_survives_the_last_handle_of_its_context() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let cell = ContextCell::new(Context::empty().with_var(&variable, ledger.probe(1)));
        let mut handle = Some(cell.clone());
        cell.run(|| {
            variable.with(|probe| {
                handle = None;
                variable.unset();
                assert_eq!(probe.unwrap().id, 1);
            });
        })
        .unwrap();
        assert!(handle.is_none());

        let mut live =
            heirloom_context::raw::Live::new(Context::empty().with_var(&variable, ledger.probe(2)));
        heirloom_context::raw::swap(&mut live);
        variable.with(|probe| {
            // The task is taken out and ends, while its value is still being read.
            heirloom_context::raw::swap(&mut live);
            drop(std::mem::replace(&mut live, heirloom_context::raw::Live::empty()));
            assert_eq!(probe.unwrap().id, 2);
            assert!(!variable.is_set());
        });
        drop(cell);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_borrow_that_unwinds_gives_its_value_back() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        variable.set(ledger.probe(1));
        caught(|| {
            variable.with(|one| {
                variable.set(ledger.probe(2));
                variable.with(|two| {
                    variable.unset();
                    assert_eq!((one.unwrap().id, two.unwrap().id), (1, 2));
                    quiet_panic("two borrows deep")
                })
            })
        });
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_deep_nest_of_borrows_each_keeps_its_own() {
    fn nest(variable: &ContextVar<Probe>, ledger: &Ledger, depth: u32) {
        if depth == 0 {
            return;
        }
        variable.set(ledger.probe(depth));
        variable.with(|probe| {
            nest(variable, ledger, depth - 1);
            assert_eq!(probe.unwrap().id, depth);
        });
    }
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        nest(&variable, &ledger, 200);
        assert_eq!(ledger.alive(), 1);
    });
}

#[test]
fn a_destructor_that_binds_its_own_variable_again_ends() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        fn again(log: Log<u32>, left: u32) -> Held {
            held(move || {
                log.push(left);
                if left > 0 {
                    // Lands in the throw-away context, which ends at once: one more turn.
                    HELD.set(again(log.clone(), left - 1));
                }
            })
        }
        HELD.set(again(log.clone(), 100));
        HELD.unset();
        assert!(!HELD.is_set());
        assert_eq!(log.take(), (0..=100).rev().collect::<Vec<_>>());
    });
}

#[test]
fn a_destructor_may_drop_guards_and_tokens_that_are_foreign_to_it() {
    on_a_fresh_thread(|| {
        OTHER.set(1);
        let guard = OTHER.bind(2);
        let token = LEVEL.set(3);
        HELD.set(held({
            let mut cargo = Some((guard, token));
            move || drop(cargo.take())
        }));
        HELD.unset();
        assert_eq!(OTHER.get(), Some(2), "dropped outside its context, a guard does nothing");
        assert_eq!(LEVEL.get(), Some(3));
    });
}

#[test]
fn a_task_that_panics_leaves_nothing_on_its_worker() {
    Executor::each(|executor| {
        let ledger = Ledger::new();
        for round in 0..20 {
            let (probe, own) = (ledger.probe(round), executor.clone());
            let said = executor.run(async move {
                let failing = own.spawn(async move {
                    let variable = ContextVar::new("probe");
                    variable.set(probe);
                    LEVEL.set(1);
                    let _guard = LEVEL.bind(2);
                    LEVEL.scope(3, || -> () { quiet_panic("a task that fails") })
                });
                let result = futures::FutureExt::catch_unwind(AssertUnwindSafe(failing)).await;
                *result.unwrap_err().downcast::<&'static str>().unwrap()
            });
            assert_eq!(said, "a task that fails");
            let own = executor.clone();
            let clean = executor.run(async move {
                let fresh = own.spawn_plain(async { (LEVEL.get(), Context::current().is_empty()) });
                fresh.await
            });
            assert_eq!(clean, (None, true), "the next task finds an empty root");
        }
        while ledger.alive() > 0 {
            std::thread::yield_now();
        }
    });
}
