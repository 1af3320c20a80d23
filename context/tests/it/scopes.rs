//! Scopes: one variable bound while a closure runs or a future is polled; everything else stays
//! shared.

use heirloom_context::{
    Context, ContextFutureExt, ContextIteratorExt, ContextStreamExt, ContextVar, context_var,
};

use crate::support::{
    Executor, Ledger, Log, OnDrop, block_on, caught, generator, never, next_of, on_a_fresh_thread,
    on_a_stack_of, poll_once, quiet_panic, yield_once,
};

context_var! {
    static LEVEL: u32;
    static OTHER: u32;
    static DEPTH: u32 = 1;
}

#[test]
fn a_scope_binds_while_the_closure_runs() {
    on_a_fresh_thread(|| {
        let seen =
            LEVEL.scope(1, || (LEVEL.get(), LEVEL.is_set(), LEVEL.scope(2, || LEVEL.get()), LEVEL.get()));
        assert_eq!(seen, (Some(1), true, Some(2), Some(1)));
        assert_eq!(LEVEL.get(), None);
    });
}

#[test]
fn a_scope_leaves_other_variables_shared() {
    on_a_fresh_thread(|| {
        OTHER.set(1);
        LEVEL.scope(1, || {
            OTHER.set(2);
            LEVEL.scope(2, || {
                OTHER.set(3);
                OTHER.scope(50, || LEVEL.set(9));
                assert_eq!(LEVEL.get(), Some(9));
            });
            assert_eq!(LEVEL.get(), Some(1));
        });
        assert_eq!(OTHER.get(), Some(3));
        assert_eq!(LEVEL.get(), None);
    });
}

#[test]
fn what_is_written_to_the_variable_inside_is_gone_outside() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        LEVEL.scope(2, || {
            LEVEL.set(3);
            assert_eq!(LEVEL.get(), Some(3));
            LEVEL.unset();
            assert_eq!(LEVEL.get(), None, "an unset in a layer hides the outside");
        });
        assert_eq!(LEVEL.get(), Some(1));
        DEPTH.set(5);
        DEPTH.scope(6, || {
            DEPTH.unset();
            assert_eq!(DEPTH.get(), 1, "and the default shows");
        });
        assert_eq!(DEPTH.get(), 5);
    });
}

#[test]
fn a_scope_ends_by_panic_too() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        caught(|| LEVEL.scope(2, || quiet_panic("on purpose")));
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn a_scope_frees_its_value_when_it_ends() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        variable.scope(ledger.probe(1), || {
            variable.set(ledger.probe(2));
            assert_eq!(ledger.alive(), 1);
        });
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_snapshot_taken_in_scopes_is_flat() {
    on_a_fresh_thread(|| {
        OTHER.set(7);
        let snapshot = LEVEL.scope(1, || LEVEL.scope(2, || DEPTH.scope(3, Context::current)));
        assert_eq!(snapshot.len(), 3);
        assert_eq!(
            (snapshot.get(&LEVEL), snapshot.get(&OTHER), snapshot.get(&DEPTH)),
            (Some(2), Some(7), Some(3))
        );
        snapshot.run(|| assert_eq!((LEVEL.get(), OTHER.get(), DEPTH.get()), (Some(2), Some(7), 3)));
    });
}

#[test]
fn a_snapshot_taken_under_an_unset_in_a_scope_does_not_hold_the_variable() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let snapshot = LEVEL.scope(2, || {
            LEVEL.unset();
            Context::current()
        });
        assert!(!snapshot.contains(&LEVEL));
    });
}

#[test]
fn with_var_binds_during_each_poll_and_not_between() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let mut inner = Box::pin(
                async {
                    assert_eq!(LEVEL.get(), Some(2));
                    yield_once().await;
                    assert_eq!(LEVEL.get(), Some(2));
                }
                .with_var(&LEVEL, 2),
            );
            assert!(futures::poll!(inner.as_mut()).is_pending());
            assert_eq!(LEVEL.get(), Some(1));
            inner.await;
            assert_eq!(LEVEL.get(), Some(1));
        });
    });
}

#[test]
fn with_var_keeps_what_is_written_inside_between_polls() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            async {
                LEVEL.set(3);
                OTHER.set(4);
                for _ in 0..5 {
                    yield_once().await;
                    assert_eq!(LEVEL.get(), Some(3));
                }
                LEVEL.unset();
                yield_once().await;
                assert_eq!(LEVEL.get(), None);
            }
            .with_var(&LEVEL, 2)
            .await;
            assert_eq!(LEVEL.get(), Some(1));
            assert_eq!(OTHER.get(), Some(4), "other variables stay shared with the poller");
        });
    });
}

/// A future that unsets `LEVEL` in its first poll and tells later what it sees.
fn unsets(log: &Log<(Option<u32>, bool, usize)>) -> impl Future<Output = ()> + Send + use<> {
    let log = log.clone();
    async move {
        LEVEL.unset();
        loop {
            let snapshot = Context::current();
            assert_eq!(snapshot.iter().count(), snapshot.len());
            assert_eq!(snapshot == Context::empty(), snapshot.is_empty());
            log.push((LEVEL.get(), snapshot.contains(&LEVEL), snapshot.len()));
            yield_once().await;
        }
    }
    .with_var(&LEVEL, 2)
}

#[test]
fn an_unset_inside_with_var_is_kept_when_the_next_poll_comes_from_a_layer() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let log = Log::new();
        let mut future = Box::pin(unsets(&log));
        assert!(poll_once(future.as_mut()).is_pending());
        let in_a_layer =
            std::iter::from_fn(|| Some(poll_once(future.as_mut()).is_pending())).isolated().next();
        assert_eq!(in_a_layer, Some(true));
        assert_eq!(log.take(), [(None, false, 0), (None, false, 0)]);
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn an_unset_inside_with_var_is_kept_when_the_next_poll_comes_from_no_layer() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let log = Log::new();
        let mut future = Box::pin(unsets(&log));
        let in_a_layer =
            std::iter::from_fn(|| Some(poll_once(future.as_mut()).is_pending())).isolated().next();
        assert_eq!(in_a_layer, Some(true));
        assert!(poll_once(future.as_mut()).is_pending());
        assert_eq!(log.take(), [(None, false, 0), (None, false, 0)]);
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn with_var_sees_the_outside_live() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let mut inner = Box::pin({
            let log = log.clone();
            async move {
                log.push((LEVEL.get(), OTHER.get()));
                yield_once().await;
                log.push((LEVEL.get(), OTHER.get()));
            }
            .with_var(&LEVEL, 2)
        });
        OTHER.set(10);
        assert!(poll_once(inner.as_mut()).is_pending());
        OTHER.set(20);
        LEVEL.set(99);
        assert!(poll_once(inner.as_mut()).is_ready());
        assert_eq!(log.take(), [(Some(2), Some(10)), (Some(2), Some(20))]);
    });
}

#[test]
fn with_var_is_bound_while_the_future_is_dropped() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let seen = log.clone();
        let witness = OnDrop(move || seen.push(LEVEL.get()));
        let mut inner = Box::pin(
            async move {
                let _witness = witness;
                never().await;
            }
            .with_var(&LEVEL, 2),
        );
        assert!(poll_once(inner.as_mut()).is_pending());
        LEVEL.set(1);
        drop(inner);
        assert_eq!(log.take(), [Some(2)]);
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn with_var_works_on_streams_and_iterators() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let mut stream = Box::pin(
            generator(|items| async move {
                items.emit(LEVEL.get()).await;
                LEVEL.set(3);
                items.emit(LEVEL.get()).await;
                items.emit(LEVEL.get()).await;
            })
            .with_var(&LEVEL, 2),
        );
        assert_eq!(next_of(&mut stream), Some(Some(2)));
        assert_eq!(LEVEL.get(), Some(1));
        assert_eq!(next_of(&mut stream), Some(Some(3)));
        assert_eq!(next_of(&mut stream), Some(Some(3)));
        assert_eq!(next_of(&mut stream), None);

        let steps = std::iter::repeat_with(|| {
            let seen = LEVEL.get();
            LEVEL.set(seen.unwrap() + 1);
            seen
        });
        let seen: Vec<_> = steps.with_var(&LEVEL, 20).take(3).collect();
        assert_eq!(seen, [Some(20), Some(21), Some(22)]);
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn with_var_layers_nest() {
    on_a_fresh_thread(|| {
        let seen = block_on(
            async {
                yield_once().await;
                (LEVEL.get(), OTHER.get())
            }
            .with_var(&LEVEL, 1)
            .with_var(&OTHER, 5)
            .with_var(&LEVEL, 2),
        );
        assert_eq!(seen, (Some(1), Some(5)), "the innermost layer is the nearest");
        assert!(Context::current().is_empty());
    });
}

#[test]
fn the_future_of_with_var_does_not_name_the_type_of_the_value() {
    // Two types of values, one type of future: a list may hold both.
    fn same<F>(_: &F, _: &F) {}
    fn make() -> impl Fn() -> std::future::Ready<()> {
        || std::future::ready(())
    }
    let make = make();
    let words = ContextVar::<String>::new("words");
    same(&make().with_var(&LEVEL, 1), &make().with_var(&words, "one".to_string()));
}

#[test]
fn with_var_frees_its_value_with_the_future() {
    let ledger = Ledger::new();
    let variable = ContextVar::new("probe");
    drop(never().with_var(&variable, ledger.probe(1)));
    assert_eq!(ledger.alive(), 0, "never polled");
    let mut polled = Box::pin(never().with_var(&variable, ledger.probe(2)));
    assert!(poll_once(polled.as_mut()).is_pending());
    drop(polled);
    assert_eq!(ledger.alive(), 0, "dropped half-way");
    block_on(yield_once().with_var(&variable, ledger.probe(3)));
    assert_eq!(ledger.alive(), 0, "finished");
}

#[test]
fn ten_thousand_nested_scopes_read_and_end() {
    // The closures of the scopes are the caller's recursion, hence the large stack.
    fn nest(depth: u32, deepest: u32) {
        if depth == deepest {
            assert_eq!(LEVEL.get(), Some(depth));
            assert_eq!(OTHER.get(), Some(42));
            assert_eq!(Context::current().len(), 2);
            return;
        }
        LEVEL.scope(depth + 1, || nest(depth + 1, deepest));
        if depth > 0 {
            assert_eq!(LEVEL.get(), Some(depth));
        }
    }
    on_a_stack_of(512 << 20, || {
        OTHER.set(42);
        nest(0, crate::support::count(10_000) as u32);
        assert_eq!(LEVEL.get(), None);
    });
}

#[test]
fn ten_thousand_nested_layers_around_one_future_read_and_end() {
    let ledger = Ledger::new();
    on_a_stack_of(512 << 20, || {
        let variable = ContextVar::new("probe");
        let depth = crate::support::count(10_000) as u32;
        let mut future: std::pin::Pin<Box<dyn Future<Output = u32> + Send>> = Box::pin(async {
            yield_once().await;
            LEVEL.get().unwrap()
        });
        for number in 0..depth {
            future = Box::pin(future.with_var(&LEVEL, number).with_var(&variable, ledger.probe(number)));
        }
        assert_eq!(ledger.alive(), depth as usize);
        assert_eq!(block_on(future), 0);
        assert!(Context::current().is_empty());
    });
    assert_eq!(ledger.alive(), 0);
}
