//! When values go: with the last context that sees them, not earlier, not later, and in which
//! context they are dropped.

use heirloom_context::{Context, ContextCell, ContextFutureExt, ContextVar, context_var};

use crate::support::{
    Executor, Gate, Ledger, Log, OnDrop, Probe, count, forget, never, on_a_fresh_thread, poll_once,
    yield_once,
};

context_var! {
    static LEVEL: u32;
}

/// A value that calls a closure when it is dropped.
type Witness = std::sync::Mutex<OnDrop<Box<dyn FnMut() + Send>>>;

fn witness(f: impl FnMut() + Send + 'static) -> Witness {
    std::sync::Mutex::new(OnDrop(Box::new(f)))
}

#[test]
fn a_value_goes_when_it_is_replaced() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        variable.set(ledger.probe(1));
        variable.set(ledger.probe(2));
        assert_eq!(ledger.dropped(), 1);
        variable.unset();
        assert_eq!(ledger.dropped(), 2);
        drop(variable.bind(ledger.probe(3)));
        assert_eq!(ledger.dropped(), 3);
        variable.scope(ledger.probe(4), || ());
        assert_eq!(ledger.dropped(), 4);
    });
}

#[test]
fn a_threads_values_go_with_the_thread() {
    let ledger = Ledger::new();
    let variable = ContextVar::new("probe");
    on_a_fresh_thread(|| {
        variable.set(ledger.probe(1));
        forget(variable.bind(ledger.probe(2)));
        assert_eq!(ledger.alive(), 2);
    });
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn a_runs_values_go_with_the_run() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let guard = Context::current().run(|| {
            variable.set(ledger.probe(1));
            variable.bind(ledger.probe(2))
        });
        assert_eq!(ledger.alive(), 0);
        drop(guard);
    });
}

#[test]
fn a_derived_context_holds_only_what_it_sees() {
    let ledger = Ledger::new();
    let variable = ContextVar::new("probe");
    let other = ContextVar::new("other");
    let base = Context::empty().with_var(&variable, ledger.probe(1)).with_var(&other, ledger.probe(2));
    let shadowing = base.with_var(&variable, ledger.probe(3));
    let without = shadowing.without_var(&other);
    assert_eq!(ledger.alive(), 3);
    drop(base);
    assert_eq!(ledger.alive(), 2, "the first value is seen by no context that is left");
    drop(shadowing);
    assert_eq!(ledger.alive(), 1);
    drop(without);
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn a_variable_that_goes_leaves_its_values_to_the_contexts() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = Box::new(ContextVar::new("short-lived"));
        variable.set(ledger.probe(1));
        let snapshot = Context::current();
        let derived = snapshot.with_var(&variable, ledger.probe(2));
        drop(variable);
        // Whether the values go now or with the contexts is open; later than that they must not.
        drop(derived);
        drop(snapshot);
        assert!(ledger.alive() <= 1);
    });
}

#[test]
fn a_newer_variable_never_shows_the_value_of_one_that_is_gone() {
    on_a_fresh_thread(|| {
        let old = Box::new(ContextVar::<String>::new("old"));
        old.set("secret".into());
        let snapshot = Context::current();
        drop(old);
        for _ in 0..count(5_000) {
            let newer = ContextVar::<Vec<u8>>::new("newer");
            assert!(!newer.is_set());
            assert!(newer.get().is_none());
            assert!(!snapshot.contains(&newer));
            newer.set(vec![1]);
            newer.unset();
        }
    });
}

#[test]
fn values_of_a_task_go_when_it_ends_not_when_its_handle_goes() {
    Executor::each(|executor| {
        let ledger = Ledger::new();
        let gate = Gate::new();
        let done = Gate::new();
        let (probe, opened, finished) = (ledger.probe(1), gate.opened(), done.clone());
        let seen = ledger.clone();
        let own = executor.clone();
        executor.run(async move {
            let child = own.spawn(async move {
                let variable = ContextVar::new("probe");
                variable.set(probe);
                opened.await;
                assert_eq!(variable.with(|probe| probe.unwrap().id), 1);
                finished.open();
            });
            drop(child);
            for _ in 0..5 {
                yield_once().await;
            }
            assert_eq!(seen.alive(), 1, "the handle is gone, the task is not");
            gate.open();
            done.opened().await;
        });
        // The task drops its context right after its last poll, perhaps on another thread.
        while ledger.alive() > 0 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn values_are_dropped_with_an_empty_context_current() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let variable = ContextVar::<Witness>::new("witness");
        let look = || {
            let log = log.clone();
            witness(move || {
                log.push((LEVEL.get(), Context::current().len()));
                // What is set here must not land anywhere.
                LEVEL.set(99);
                forget(LEVEL.bind(98));
            })
        };
        LEVEL.set(1);
        let bound = Context::empty().with_var(&LEVEL, 2);

        drop(bound.with_var(&variable, look()));
        assert_eq!(log.take(), [(None, 0)], "a snapshot");
        bound.run(|| drop(variable.set(look())));
        assert_eq!(log.take(), [(None, 0)], "a run");
        let cell = ContextCell::new(bound.clone());
        cell.run(|| drop(variable.set(look()))).unwrap();
        drop(cell);
        assert_eq!(log.take(), [(None, 0)], "a cell");
        let future = async {
            variable.set(look());
            never().await;
        };
        let mut future = Box::pin(future.in_context(bound.clone()));
        assert!(poll_once(future.as_mut()).is_pending());
        drop(future);
        assert_eq!(log.take(), [(None, 0)], "a future half-way");
        let mut future = Box::pin(never().with_var(&variable, look()).in_context(bound.clone()));
        assert!(poll_once(future.as_mut()).is_pending());
        drop(future);
        assert_eq!(log.take(), [(None, 0)], "a variable of a future");
        drop(variable.bind(look()));
        assert_eq!(log.take(), [(None, 0)], "a guard");
        variable.scope(look(), || ());
        assert_eq!(log.take(), [(None, 0)], "a scope");
        variable.set(look());
        variable.set(look());
        assert_eq!(log.take(), [(None, 0)], "a replaced value");
        variable.unset();
        assert_eq!(log.take(), [(None, 0)], "an unset one");
        assert_eq!(LEVEL.get(), Some(1));
        assert_eq!(bound.get(&LEVEL), Some(2));
    });
}

#[test]
fn values_of_a_thread_are_dropped_with_an_empty_context_current() {
    let log = Log::new();
    let seen = log.clone();
    let variable = ContextVar::<Witness>::new("witness");
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        variable.set(witness(move || seen.push((LEVEL.get(), Context::current().is_empty()))));
    });
    assert_eq!(log.take(), [(None, true)]);
}

#[test]
fn a_value_shared_by_many_contexts_is_dropped_once() {
    let ledger = Ledger::new();
    let variable = ContextVar::new("probe");
    let context = Context::empty().with_var(&variable, ledger.probe(1));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let context = context.clone();
            scope.spawn(move || {
                let mut own: Vec<Context> =
                    (0..count(500)).map(|number| context.with_var(&LEVEL, number as u32)).collect();
                own.truncate(10);
                drop(context);
                own.iter().for_each(|context| context.run(|| drop(Context::inherited())));
            });
        }
    });
    assert_eq!((ledger.alive(), ledger.dropped()), (1, 0));
    drop(context);
    assert_eq!((ledger.alive(), ledger.dropped()), (0, 1));
}

#[test]
fn nothing_is_left_after_thousands_of_tasks() {
    Executor::each(|executor| {
        let ledger = Ledger::new();
        let (own, there) = (executor.clone(), ledger.clone());
        executor.run(async move {
            static REQUEST: ContextVar<Probe> = ContextVar::new("request");
            let tasks: Vec<_> = (0..count(2_000) as u32)
                .map(|number| {
                    let probe = there.probe(number);
                    let own = own.clone();
                    own.clone().spawn(async move {
                        REQUEST.set(probe);
                        yield_once().await;
                        let child = own.spawn(async { REQUEST.with(|request| request.unwrap().id) });
                        assert_eq!(child.await, number);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
        });
        while ledger.alive() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(ledger.made(), count(2_000));
    });
}
