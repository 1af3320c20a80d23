//! What a child gets: `Context::inherited` and the policy of each variable.

use std::sync::atomic::{AtomicUsize, Ordering};

use heirloom_context::{
    Context, ContextFutureExt, ContextVar, Inherit, VarOptions, WithDefault, context_var,
};

use crate::support::{Executor, Ledger, Probe, block_on, caught, on_a_fresh_thread, quiet_panic, yield_once};

fn half(number: &u32) -> Option<u32> {
    (*number > 1).then(|| number / 2)
}

context_var! {
    static USER: &'static str;
    static TRANSACTION: u32, inherit = Never;
    static BUDGET: u32, inherit = Derive(half);
    static EXPLICIT: u32, inherit = Always;
    static FALLBACK: u32 = 5, inherit = Never;
    static SESSION: u32 = 6, inherit = Derive(half);
}

#[test]
fn a_child_inherits_by_policy() {
    on_a_fresh_thread(|| {
        USER.set("ada");
        TRANSACTION.set(1);
        BUDGET.set(100);
        EXPLICIT.set(2);
        let child = Context::inherited();
        assert_eq!(child.len(), 3);
        assert_eq!(child.get(&USER), Some("ada"));
        assert!(!child.contains(&TRANSACTION));
        assert_eq!(child.get(&BUDGET), Some(50));
        assert_eq!(child.get(&EXPLICIT), Some(2));
        assert_eq!((TRANSACTION.get(), BUDGET.get()), (Some(1), Some(100)), "the parent keeps its own");
    });
}

#[test]
fn a_copy_has_everything_as_it_is() {
    on_a_fresh_thread(|| {
        TRANSACTION.set(1);
        BUDGET.set(100);
        let copy = Context::current();
        assert_eq!((copy.get(&TRANSACTION), copy.get(&BUDGET)), (Some(1), Some(100)));
        assert_eq!(copy.run(|| (TRANSACTION.get(), BUDGET.get())), (Some(1), Some(100)));
        assert_eq!(copy.wrap(|| TRANSACTION.get())(), Some(1));
        let pinned = async { (TRANSACTION.get(), BUDGET.get()) }.in_current_context();
        assert_eq!(block_on(pinned), (Some(1), Some(100)));
    });
}

#[test]
fn inheritance_is_by_generation() {
    on_a_fresh_thread(|| {
        BUDGET.set(8);
        let seen: Vec<_> = std::iter::successors(Some(Context::current()), |parent| {
            Some(parent.run(Context::inherited)).filter(|child| child.contains(&BUDGET))
        })
        .map(|context| context.get(&BUDGET).unwrap())
        .collect();
        assert_eq!(seen, [8, 4, 2, 1], "derived to nothing in the end, which leaves it unset");
    });
}

#[test]
fn a_variable_left_out_shows_its_default_in_the_child() {
    on_a_fresh_thread(|| {
        FALLBACK.set(9);
        SESSION.set(1);
        Context::inherited().run(|| {
            assert!(!FALLBACK.is_set());
            assert_eq!(FALLBACK.get(), 5);
            assert!(!SESSION.is_set());
            assert_eq!(SESSION.get(), 6);
        });
    });
}

#[test]
fn nothing_is_derived_of_an_unset_variable() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    fn counted(number: &u32) -> Option<u32> {
        CALLS.fetch_add(1, Ordering::SeqCst);
        Some(number + 1)
    }
    const DERIVE: VarOptions<u32> = VarOptions { inherit: Inherit::Derive(counted), ..VarOptions::new() };
    static DERIVED: ContextVar<u32, WithDefault<u32>> =
        ContextVar::with_options("derived", DERIVE).with_default(|| 1);
    on_a_fresh_thread(|| {
        assert!(Context::inherited().is_empty());
        assert_eq!(CALLS.load(Ordering::SeqCst), 0, "a default is not a value that is bound");
        DERIVED.set(1);
        assert_eq!(Context::inherited().get(&DERIVED), Some(2));
        assert_eq!(CALLS.load(Ordering::SeqCst), 1, "once a child");
        DERIVED.unset();
        assert!(Context::inherited().is_empty());
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_layer_is_inherited_merged() {
    on_a_fresh_thread(|| {
        USER.set("ada");
        BUDGET.set(100);
        TRANSACTION.set(1);
        let child = block_on(
            async {
                BUDGET.set(20);
                USER.scope("grace", Context::inherited)
            }
            .isolated(),
        );
        assert_eq!(child.len(), 2);
        assert_eq!((child.get(&USER), child.get(&BUDGET)), (Some("grace"), Some(10)));
        let hidden = block_on(
            async {
                BUDGET.unset();
                Context::inherited()
            }
            .isolated(),
        );
        assert!(!hidden.contains(&BUDGET), "what a layer hides is not there to be inherited");
    });
}

#[test]
fn the_merged_view_is_derived_once() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    fn counted(number: &u32) -> Option<u32> {
        CALLS.fetch_add(1, Ordering::SeqCst);
        Some(number * 10)
    }
    static DERIVED: ContextVar<u32> = ContextVar::with_options(
        "derived",
        VarOptions { inherit: Inherit::Derive(counted), ..VarOptions::new() },
    );
    on_a_fresh_thread(|| {
        DERIVED.set(1);
        let child = block_on(
            async {
                DERIVED.set(2);
                let _guard = DERIVED.bind(3);
                DERIVED.scope(4, || {
                    DERIVED.set(5);
                    Context::inherited()
                })
            }
            .isolated(),
        );
        assert_eq!(child.get(&DERIVED), Some(50));
        assert_eq!(CALLS.load(Ordering::SeqCst), 1, "of what is seen, not of what lies beneath");
    });
}

#[test]
fn guards_are_inherited_as_their_values() {
    on_a_fresh_thread(|| {
        USER.set("base");
        let guard = USER.bind("guarded");
        let child = Context::inherited();
        drop(guard);
        assert_eq!(child.get(&USER), Some("guarded"));
        assert_eq!(USER.get(), Some("base"));
    });
}

#[test]
fn a_panic_while_deriving_reaches_the_spawner() {
    fn fail(_: &u32) -> Option<u32> {
        quiet_panic("cannot be derived")
    }
    static FAILING: ContextVar<u32> = ContextVar::with_options(
        "failing",
        VarOptions { inherit: Inherit::Derive(fail), ..VarOptions::new() },
    );
    on_a_fresh_thread(|| {
        USER.set("ada");
        FAILING.set(1);
        assert_eq!(caught(Context::inherited), "cannot be derived");
        assert_eq!((USER.get(), FAILING.get()), (Some("ada"), Some(1)), "and changes nothing");
        FAILING.unset();
        assert_eq!(Context::inherited().len(), 1);
    });
}

#[test]
fn a_derivation_may_use_contexts_itself() {
    fn curious(number: &u32) -> Option<u32> {
        assert_eq!(USER.get(), Some("ada"));
        let _guard = USER.bind("derived");
        Context::current().run(|| USER.set("elsewhere"));
        Some(number + 1)
    }
    static CURIOUS: ContextVar<u32> = ContextVar::with_options(
        "curious",
        VarOptions { inherit: Inherit::Derive(curious), ..VarOptions::new() },
    );
    on_a_fresh_thread(|| {
        USER.set("ada");
        CURIOUS.set(1);
        let child = Context::inherited();
        assert_eq!((child.get(&CURIOUS), child.get(&USER)), (Some(2), Some("ada")));
        assert_eq!((CURIOUS.get(), USER.get()), (Some(1), Some("ada")));
    });
}

#[test]
fn a_context_of_always_variables_is_inherited_as_it_is() {
    on_a_fresh_thread(|| {
        USER.set("ada");
        EXPLICIT.set(1);
        assert_eq!(Context::inherited(), Context::current(), "the very same values");
        TRANSACTION.set(1);
        assert_ne!(Context::inherited(), Context::current());
        TRANSACTION.unset();
        assert_eq!(Context::inherited(), Context::current());
    });
}

#[test]
fn values_that_are_not_inherited_are_not_held_by_the_child() {
    on_a_fresh_thread(|| {
        fn next(probe: &Probe) -> Option<Probe> {
            let mut child = probe.clone();
            child.id += 1;
            Some(child)
        }
        let ledger = Ledger::new();
        let never =
            ContextVar::with_options("never", VarOptions { inherit: Inherit::Never, ..VarOptions::new() });
        let derived = ContextVar::with_options(
            "derived",
            VarOptions { inherit: Inherit::Derive(next), ..VarOptions::new() },
        );
        never.set(ledger.probe(1));
        derived.set(ledger.probe(2));
        let child = Context::inherited();
        assert_eq!(ledger.alive(), 3);
        never.unset();
        derived.unset();
        assert_eq!(ledger.alive(), 1, "the child holds what was derived for it and nothing else");
        assert_eq!(child.get(&derived).unwrap().id, 3);
        drop(child);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_large_context_is_inherited_by_policy_too() {
    on_a_fresh_thread(|| {
        let variables: Vec<ContextVar<u32>> = (0..200)
            .map(|number| {
                let inherit = match number % 3 {
                    0 => Inherit::Always,
                    1 => Inherit::Never,
                    _ => Inherit::Derive(half as fn(&u32) -> Option<u32>),
                };
                ContextVar::with_options("one of many", VarOptions { inherit, ..VarOptions::new() })
            })
            .collect();
        for (number, variable) in variables.iter().enumerate() {
            variable.set(number as u32);
        }
        let child = Context::inherited();
        for (number, variable) in variables.iter().enumerate() {
            let number = number as u32;
            let expected = match number % 3 {
                0 => Some(number),
                1 => None,
                _ => half(&number),
            };
            assert_eq!(child.get(variable), expected);
            assert_eq!(variable.get(), Some(number));
        }
    });
}

#[test]
fn a_task_inherits_at_the_spawn_call_and_nothing_later() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            USER.set("ada");
            BUDGET.set(64);
            TRANSACTION.set(1);
            let child = own.spawn(async {
                yield_once().await;
                let seen = (USER.get(), BUDGET.get(), TRANSACTION.get());
                USER.set("child");
                TRANSACTION.set(9);
                seen
            });
            USER.set("changed");
            BUDGET.set(2);
            assert_eq!(child.await, (Some("ada"), Some(32), None));
            assert_eq!((USER.get(), BUDGET.get(), TRANSACTION.get()), (Some("changed"), Some(2), Some(1)));
            let blocking = own.spawn_blocking(|| (USER.get(), BUDGET.get(), TRANSACTION.get()));
            assert_eq!(blocking.await, (Some("changed"), Some(1), None));
        });
    });
}

#[test]
fn a_task_given_a_context_gets_it_as_given() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            USER.set("ada");
            let given = Context::empty().with_var(&TRANSACTION, 4).with_var(&BUDGET, 3);
            let seen = own.spawn_in(given, async { (USER.get(), TRANSACTION.get(), BUDGET.get()) }).await;
            assert_eq!(seen, (None, Some(4), Some(3)));
        });
    });
}

#[test]
fn a_task_spawned_with_nothing_holds_nothing() {
    Executor::each(|executor| {
        let ledger = Ledger::new();
        let probe = ledger.probe(1);
        let own = executor.clone();
        let (background, gate) = executor.run(async move {
            let variable = ContextVar::new("request");
            variable.set(probe);
            let gate = crate::support::Gate::new();
            let opened = gate.opened();
            (own.spawn_in(Context::empty(), opened), gate)
        });
        // The root task has ended, though perhaps not all of its remains are dropped yet on a
        // worker thread.
        while ledger.alive() > 0 {
            std::thread::yield_now();
        }
        gate.open();
        executor.run(background);
    });
}
