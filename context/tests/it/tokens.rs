//! Tokens: what `set` and `unset` hand out, and what `reset` makes of them.

use heirloom_context::{
    Context, ContextCell, ContextFutureExt, ContextIteratorExt, ContextVar, ResetErrorKind, Token,
    context_var,
};

use crate::support::{Executor, Ledger, block_on, on_a_fresh_thread, yield_once};

context_var! {
    static STEP: u32;
    static OTHER: u32;
    static DEPTH: u32 = 1;
    static LEVEL_OF_GUARD: u32;
}

/// The kind of error that `reset` answers; the variable must show the same before and after.
fn refused(variable: &ContextVar<u32>, token: Token<u32>) -> (ResetErrorKind, Token<u32>) {
    let before = variable.get();
    let error = variable.reset(token).expect_err("the token should have been refused");
    assert_eq!(variable.get(), before, "a refused reset changes nothing");
    assert!(!error.to_string().is_empty());
    assert!(!format!("{error:?}").is_empty());
    (error.kind(), error.into_token())
}

#[test]
fn reset_restores_what_was_before_that_set() {
    on_a_fresh_thread(|| {
        let first = STEP.set(1);
        let second = STEP.set(2);
        STEP.reset(second).unwrap();
        assert_eq!(STEP.get(), Some(1));
        STEP.reset(first).unwrap();
        assert_eq!(STEP.get(), None);
        assert!(!STEP.is_set());
    });
}

#[test]
fn reset_shows_the_default_where_nothing_was_bound() {
    on_a_fresh_thread(|| {
        let token = DEPTH.set(5);
        DEPTH.reset(token).unwrap();
        assert_eq!(DEPTH.get(), 1);
        assert!(!DEPTH.is_set());
    });
}

#[test]
fn reset_undoes_an_unset() {
    on_a_fresh_thread(|| {
        STEP.set(1);
        let token = STEP.unset();
        assert_eq!(STEP.get(), None);
        STEP.reset(token).unwrap();
        assert_eq!(STEP.get(), Some(1));
    });
}

#[test]
fn tokens_used_out_of_order_each_restore_their_own_past() {
    on_a_fresh_thread(|| {
        let first = STEP.set(1);
        let second = STEP.set(2);
        let third = STEP.set(3);
        STEP.reset(second).unwrap();
        assert_eq!(STEP.get(), Some(1), "what was before the second set");
        STEP.reset(third).unwrap();
        assert_eq!(STEP.get(), Some(2), "what was before the third");
        STEP.reset(first).unwrap();
        assert_eq!(STEP.get(), None, "what was before the first");
    });
}

#[test]
fn a_token_may_be_ignored_and_keeps_nothing_then() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        variable.set(ledger.probe(1));
        variable.set(ledger.probe(2));
        assert_eq!(ledger.alive(), 1, "the token of the second set is gone, and the first value with it");
        let token = variable.set(ledger.probe(3));
        assert_eq!(ledger.alive(), 2, "a living token can still restore");
        drop(token);
        assert_eq!(ledger.alive(), 1);
    });
}

#[test]
fn a_used_token_keeps_nothing() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        variable.set(ledger.probe(1));
        let token = variable.set(ledger.probe(2));
        variable.reset(token).unwrap();
        assert_eq!(ledger.alive(), 1);
        assert_eq!(variable.with(|probe| probe.unwrap().id), 1);
    });
}

#[test]
fn a_token_of_another_variable_is_refused_and_handed_back() {
    on_a_fresh_thread(|| {
        OTHER.set(10);
        let token = STEP.set(1);
        let (kind, token) = refused(&OTHER, token);
        assert_eq!(kind, ResetErrorKind::WrongVariable);
        STEP.reset(token).unwrap();
        assert_eq!(STEP.get(), None, "a token that was handed back still works where it belongs");
    });
}

#[test]
fn a_twin_of_the_same_name_is_another_variable() {
    on_a_fresh_thread(|| {
        let (first, second) = (ContextVar::new("twin"), ContextVar::new("twin"));
        let token = first.set(1);
        assert_eq!(refused(&second, token).0, ResetErrorKind::WrongVariable);
    });
}

#[test]
fn a_token_of_a_variable_that_is_gone_is_refused_by_a_newer_one() {
    on_a_fresh_thread(|| {
        let token = ContextVar::new("gone").set(1);
        // The newer variable may well have the number that the old one had.
        let newer = ContextVar::new("gone");
        assert_eq!(refused(&newer, token).0, ResetErrorKind::WrongVariable);
    });
}

#[test]
fn a_token_of_another_thread_is_refused() {
    on_a_fresh_thread(|| {
        STEP.set(1);
        let foreign = on_a_fresh_thread(|| STEP.set(2));
        assert_eq!(refused(&STEP, foreign).0, ResetErrorKind::WrongContext);
        assert_eq!(STEP.get(), Some(1));
    });
}

#[test]
fn a_token_that_travelled_home_works() {
    on_a_fresh_thread(|| {
        let token = STEP.set(1);
        let token = on_a_fresh_thread(|| refused(&STEP, token).1);
        STEP.reset(token).unwrap();
        assert_eq!(STEP.get(), None);
    });
}

#[test]
fn a_token_does_not_cross_the_border_of_a_run_either_way() {
    on_a_fresh_thread(|| {
        let outside = STEP.set(1);
        let (inside, outside) = Context::current().run(|| {
            let (kind, outside) = refused(&STEP, outside);
            assert_eq!(kind, ResetErrorKind::WrongContext);
            (STEP.set(2), outside)
        });
        assert_eq!(refused(&STEP, inside).0, ResetErrorKind::WrongContext);
        STEP.reset(outside).unwrap();
        assert_eq!(STEP.get(), None);
    });
}

#[test]
fn two_runs_of_one_snapshot_are_two_contexts() {
    on_a_fresh_thread(|| {
        let snapshot = Context::current();
        let token = snapshot.run(|| STEP.set(1));
        snapshot.run(|| assert_eq!(refused(&STEP, token).0, ResetErrorKind::WrongContext));
    });
}

#[test]
fn two_calls_of_a_wrapped_closure_are_two_contexts() {
    on_a_fresh_thread(|| {
        let mut kept = None;
        let mut wrapped = Context::current().wrap_mut(move || match kept.take() {
            None => {
                kept = Some(STEP.set(1));
                None
            }
            Some(token) => Some(refused(&STEP, token).0),
        });
        assert_eq!(wrapped(), None);
        assert_eq!(wrapped(), Some(ResetErrorKind::WrongContext));
    });
}

#[test]
fn two_runs_of_one_cell_are_one_context() {
    on_a_fresh_thread(|| {
        let cell = ContextCell::new(Context::empty());
        let token = cell.run(|| STEP.set(1)).unwrap();
        assert_eq!(cell.snapshot().get(&STEP), Some(1));
        let (kind, token) = refused(&STEP, token);
        assert_eq!(kind, ResetErrorKind::WrongContext, "outside the cell is another context");
        cell.run(|| STEP.reset(token)).unwrap().unwrap();
        assert_eq!(cell.snapshot().get(&STEP), None);
    });
}

#[test]
fn a_token_does_not_cross_the_border_of_an_isolated_layer_either_way() {
    on_a_fresh_thread(|| {
        let outside = STEP.set(1);
        let mut outside = Some(outside);
        let mut inside = None;
        let step = std::iter::from_fn(|| {
            let (kind, token) = refused(&STEP, outside.take()?);
            assert_eq!(kind, ResetErrorKind::WrongContext);
            inside = Some(STEP.set(2));
            Some(token)
        });
        let outside = step.isolated().next().unwrap();
        assert_eq!(refused(&STEP, inside.unwrap()).0, ResetErrorKind::WrongContext);
        STEP.reset(outside).unwrap();
        assert_eq!(STEP.get(), None);
    });
}

#[test]
fn a_token_does_not_cross_the_border_of_a_pinned_future_either_way() {
    on_a_fresh_thread(|| {
        let outside = STEP.set(1);
        let pinned = async move {
            let (kind, outside) = refused(&STEP, outside);
            assert_eq!(kind, ResetErrorKind::WrongContext);
            (STEP.set(2), outside)
        };
        let (inside, outside) = block_on(pinned.in_current_context());
        assert_eq!(refused(&STEP, inside).0, ResetErrorKind::WrongContext);
        STEP.reset(outside).unwrap();
    });
}

#[test]
fn a_scope_is_no_border_for_tokens_of_other_variables() {
    on_a_fresh_thread(|| {
        let outside = STEP.set(1);
        let inside = OTHER.scope(5, || {
            STEP.reset(outside).unwrap();
            assert_eq!(STEP.get(), None);
            STEP.set(2)
        });
        assert_eq!(STEP.get(), Some(2), "other variables stay shared");
        STEP.reset(inside).unwrap();
        assert_eq!(STEP.get(), None);
    });
}

#[test]
fn a_token_made_in_a_scope_restores_literally_after_it_has_ended() {
    on_a_fresh_thread(|| {
        STEP.set(1);
        let token = STEP.scope(2, || STEP.set(3));
        assert_eq!(STEP.get(), Some(1));
        STEP.reset(token).unwrap();
        assert_eq!(STEP.get(), Some(2), "what was before that set, though the scope is gone");
    });
}

#[test]
fn with_var_is_no_border_for_tokens() {
    on_a_fresh_thread(|| {
        let outside = STEP.set(1);
        let inside = block_on(
            async move {
                STEP.reset(outside).unwrap();
                assert_eq!(STEP.get(), None);
                STEP.set(2)
            }
            .with_var(&OTHER, 9),
        );
        assert_eq!(STEP.get(), Some(2));
        STEP.reset(inside).unwrap();
        assert_eq!(STEP.get(), None);
    });
}

#[test]
fn a_token_is_stale_when_its_guard_is_gone() {
    on_a_fresh_thread(|| {
        STEP.set(1);
        let guard = STEP.bind(2);
        let token = STEP.set(3);
        assert_eq!(STEP.get(), Some(3));
        drop(guard);
        assert_eq!(STEP.get(), Some(1), "what was written into the guard's entry went with it");
        assert_eq!(refused(&STEP, token).0, ResetErrorKind::Stale);
    });
}

#[test]
fn a_token_made_before_a_guard_acts_on_the_newest_entry() {
    on_a_fresh_thread(|| {
        STEP.set(1);
        let token = STEP.set(2);
        let guard = STEP.bind(3);
        STEP.reset(token).unwrap();
        assert_eq!(STEP.get(), Some(1), "the reset is written into the guard's entry");
        drop(guard);
        assert_eq!(STEP.get(), Some(2), "and goes with it");
    });
}

#[test]
fn a_token_of_a_living_guard_is_not_stale_when_a_newer_guard_goes() {
    on_a_fresh_thread(|| {
        let older = STEP.bind(1);
        let token = STEP.set(2);
        let newer = STEP.bind(3);
        drop(newer);
        STEP.reset(token).unwrap();
        assert_eq!(STEP.get(), Some(1));
        drop(older);
        assert_eq!(STEP.get(), None);
    });
}

#[test]
fn tokens_do_not_borrow_the_variable() {
    on_a_fresh_thread(|| {
        let token = {
            let short = ContextVar::<u32>::new("short");
            short.set(1)
        };
        assert!(!format!("{token:?}").is_empty());
    });
}

#[test]
fn a_token_of_a_living_guard_is_not_stale_in_a_scope_of_the_variable() {
    on_a_fresh_thread(|| {
        LEVEL_OF_GUARD.set(0);
        let guard = LEVEL_OF_GUARD.bind(1);
        let token = LEVEL_OF_GUARD.set(2);
        LEVEL_OF_GUARD.scope(3, || {
            LEVEL_OF_GUARD.reset(token).unwrap();
            assert_eq!(LEVEL_OF_GUARD.get(), Some(1), "written into the newest entry, that of the scope");
        });
        assert_eq!(LEVEL_OF_GUARD.get(), Some(2));
        drop(guard);
        assert_eq!(LEVEL_OF_GUARD.get(), Some(0));
    });
}

#[test]
fn a_token_made_outside_a_scope_of_the_variable_acts_on_the_scope() {
    on_a_fresh_thread(|| {
        STEP.set(1);
        let token = STEP.set(2);
        STEP.scope(3, || {
            STEP.reset(token).unwrap();
            assert_eq!(STEP.get(), Some(1));
        });
        assert_eq!(STEP.get(), Some(2), "what is written inside a scope is gone outside");
    });
}

#[test]
fn a_token_lives_across_awaits_and_workers() {
    Executor::each(|executor| {
        executor.run(async {
            STEP.set(1);
            let token = STEP.set(2);
            for _ in 0..10 {
                yield_once().await;
            }
            STEP.reset(token).unwrap();
            yield_once().await;
            assert_eq!(STEP.get(), Some(1));
        });
    });
}

#[test]
fn a_token_of_another_task_is_refused() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            STEP.set(1);
            let foreign = own.spawn(async { STEP.set(2) }).await;
            assert_eq!(refused(&STEP, foreign).0, ResetErrorKind::WrongContext);
            let outside = STEP.set(3);
            let kind = own.spawn(async move { refused(&STEP, outside).0 }).await;
            assert_eq!(kind, ResetErrorKind::WrongContext);
        });
    });
}

#[test]
fn an_isolated_layer_is_transparent_again_after_its_first_set_was_reset() {
    on_a_fresh_thread(|| {
        let mut token = None;
        let mut step = std::iter::from_fn(|| {
            match token.take() {
                None => token = Some(STEP.set(50)),
                Some(token) => STEP.reset(token).unwrap(),
            }
            Some(STEP.get())
        })
        .isolated();
        STEP.set(1);
        assert_eq!(step.next(), Some(Some(50)));
        STEP.set(2);
        assert_eq!(step.next(), Some(Some(2)), "the outside shows, and the outside of now");
    });
}
