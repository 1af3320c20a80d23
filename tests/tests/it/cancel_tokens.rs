//! Tokens: a reason goes down the tree, once, and wakes all that wait.

use std::pin::pin;
use std::time::Duration;

use heirloom::task::CancelReason;
use heirloom::{CancelToken, context_var, spawn, spawn_blocking, wait_for, yield_now};
use heirloom_tests::{
    Countdown, CountingWaker, Fault, Ledger, PATIENCE, Probe, Step, idle, in_a_worker, poll_with, run,
    scaled, watchdog, with_runtime,
};

context_var! {
    static STOP: CancelToken;
    static NESTED: CancelToken, inherit = Derive(|token| Some(token.child()));
}

#[test]
fn a_token_is_cancelled_once_for_its_first_reason() {
    let token = CancelToken::new();
    assert!(!token.is_cancelled());
    assert_eq!(token.reason(), None);
    token.cancel("first");
    token.cancel(CancelReason::Shutdown);
    assert_eq!((token.is_cancelled(), token.reason()), (true, Some("first".into())));
    assert!(format!("{token:?}").contains("first"));
}

#[test]
fn cancelling_goes_down_and_not_up_or_sideways() {
    let root = CancelToken::new();
    let (one, other) = (root.child(), root.child());
    let grandchild = one.child();
    one.cancel("one");
    assert!(one.is_cancelled() && grandchild.is_cancelled());
    assert!(!root.is_cancelled() && !other.is_cancelled());
    assert_eq!(grandchild.reason(), Some("one".into()));
    root.cancel("root");
    assert_eq!((one.reason(), other.reason()), (Some("one".into()), Some("root".into())));
    // A late child is born cancelled; a clone is the same token.
    assert_eq!(one.child().reason(), Some("one".into()));
    let clone = other.clone();
    assert!(clone.is_cancelled());
}

#[test]
fn a_child_is_reached_although_those_between_are_gone() {
    let root = CancelToken::new();
    let far = root.child().child().child();
    root.cancel("root");
    assert_eq!(far.reason(), Some("root".into()));
}

#[test]
fn a_long_chain_of_tokens_takes_no_stack() {
    watchdog(PATIENCE, || {
        let deep = std::thread::Builder::new().stack_size(64 << 10).spawn(|| {
            let root = CancelToken::new();
            let mut last = root.clone();
            for _ in 0..scaled(50_000) {
                last = last.child();
            }
            root.cancel("root");
            assert_eq!(last.reason(), Some("root".into()));
            drop(root);
            drop(last);
            let mut last = CancelToken::new();
            for _ in 0..scaled(50_000) {
                last = last.child();
            }
            drop(last);
        });
        deep.unwrap().join().unwrap();
    });
}

#[test]
fn every_waiter_is_woken_with_the_reason() {
    in_a_worker(3, async {
        let token = CancelToken::new();
        let waiting = Countdown::new(20);
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let (token, waiting) =
                    (if number % 2 == 0 { token.clone() } else { token.child() }, waiting.clone());
                spawn(async move {
                    waiting.arrive();
                    token.cancelled().await
                })
            })
            .collect();
        waiting.done().await;
        token.cancel("now");
        for task in tasks {
            assert_eq!(task.await.unwrap(), "now".into());
        }
        // It stays cancelled.
        assert_eq!(token.cancelled().await, "now".into());
    });
}

#[test]
fn a_wait_that_is_dropped_leaves_nothing() {
    let token = CancelToken::new();
    let (waker, counts) = CountingWaker::create(Fault::None);
    for _ in 0..scaled(100) {
        let mut wait = Box::pin(token.cancelled());
        assert!(poll_with(&mut wait, &waker).is_pending());
        assert!(poll_with(&mut wait, &waker).is_pending());
    }
    drop(waker);
    assert!(counts.is_gone());
    token.cancel("unheard");
    assert_eq!(counts.wakes(), 0);
}

#[test]
fn only_the_last_waker_of_a_wait_is_needed() {
    let token = CancelToken::new();
    let (first, first_counts) = CountingWaker::create(Fault::None);
    let (second, second_counts) = CountingWaker::create(Fault::None);
    let mut wait = Box::pin(token.child().cancelled());
    assert!(poll_with(&mut wait, &first).is_pending());
    assert!(poll_with(&mut wait, &second).is_pending());
    drop(first);
    assert!(first_counts.is_gone());
    token.cancel("now");
    assert_eq!((first_counts.wakes(), second_counts.wakes()), (0, 1));
    assert!(poll_with(&mut wait, &second).is_ready());
}

#[test]
fn a_future_runs_until_it_is_done_or_the_token_is_cancelled() {
    run(2, || async {
        let token = CancelToken::new();
        assert_eq!(token.run_until_cancelled(async { 7 }).await, Some(7));
        let ledger = Ledger::new();
        let value = ledger.counted(1);
        let stopper = token.clone();
        spawn(async move { stopper.cancel("enough") }).detach();
        let stopped = token.run_until_cancelled(async move {
            let _value = value;
            std::future::pending::<u32>().await
        });
        assert_eq!(stopped.await, None);
        assert_eq!(ledger.alive(), 0);
        // One that is cancelled already polls nothing.
        let (probe, watch) = Probe::new([]);
        assert_eq!(token.run_until_cancelled(probe).await, None);
        watch.assert_counts(0, 1);
    });
}

#[test]
fn what_is_run_shares_the_context_of_its_caller() {
    run(1, || async {
        let token = CancelToken::new();
        token.run_until_cancelled(async { STOP.set(CancelToken::new()) }).await;
        assert!(STOP.is_set());
    });
}

#[test]
fn a_token_travels_as_a_context_variable() {
    in_a_worker(2, async {
        let token = CancelToken::new();
        STOP.set(token.clone());
        NESTED.set(token.clone());
        let through_a_task = spawn(async {
            let stop = STOP.get().unwrap();
            let closure = spawn_blocking(|| NESTED.get().unwrap());
            (stop.cancelled().await, closure.await.unwrap())
        });
        let nested = spawn(async {
            let own = NESTED.get().unwrap();
            own.cancel("this task only");
        });
        nested.await.unwrap();
        assert!(!token.is_cancelled());
        token.cancel("all");
        let (reason, nested) = through_a_task.await.unwrap();
        assert_eq!((reason, nested.reason()), ("all".into(), Some("all".into())));
    });
}

#[test]
fn a_token_ends_a_task_through_its_abort_handle() {
    with_runtime(2, |runtime| {
        let token = CancelToken::new();
        let (probe, watch) = Probe::new([Step::Wait]);
        let task = runtime.spawn(probe);
        let (abort, child) = (task.abort_handle(), token.child());
        runtime.spawn(async move { abort.abort_with(child.cancelled().await) }).detach();
        idle(runtime);
        token.cancel("by the token");
        let error = runtime.block_on(task).unwrap_err();
        assert_eq!(error.reason(), Some(&"by the token".into()));
        watch.assert_counts(1, 1);
    });
}

#[test]
fn cancelling_races_with_waiting_and_with_new_children() {
    in_a_worker(3, async {
        for _ in 0..scaled(200) {
            let token = CancelToken::new();
            let tasks: Vec<_> = (0..4)
                .map(|number| {
                    let token = token.clone();
                    spawn(async move {
                        if number == 0 {
                            token.cancel("race");
                        }
                        let child = token.child();
                        let reason = child.cancelled().await;
                        assert!(child.child().is_cancelled());
                        reason
                    })
                })
                .collect();
            for task in tasks {
                assert_eq!(task.await.unwrap(), "race".into());
            }
        }
    });
}

#[test]
fn a_wait_under_a_limit_can_be_given_up() {
    run(1, || async {
        let token = CancelToken::new();
        wait_for(token.cancelled(), Duration::from_millis(1)).await.unwrap_err();
        let mut wait = pin!(token.cancelled());
        assert!(futures::poll!(wait.as_mut()).is_pending());
        token.cancel("now");
        yield_now().await;
        assert_eq!(wait.as_mut().await, "now".into());
    });
}
