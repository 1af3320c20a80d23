//! Why a variable has no value in a task, with the texts; and the detector of lost values at each
//! way to hand work over.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use heirloom::context::{ContextFutureExt, Unset, UnsetCause, detect_losses};
use heirloom::{Context, context_var, spawn, spawn_background, spawn_blocking};
use heirloom_tests::run;

context_var! {
    static TENANT: u32;
    static TRANSACTION: u32, inherit = Never;
    static DEPTH: u32, inherit = Derive(|_| None);
    static REQUEST_ID: u64, required = true;
    static CONNECTION: u64, inherit = Never, required = true;
}

/// The text with names for what differs from run to run.
fn text(unset: &Unset) -> String {
    let text = unset.to_string();
    let (before, rest) = text.split_once(" is unset in task ").expect("in a task");
    let (_, rest) = rest.split_once(": ").expect("what it is");
    let text = format!("{before} is unset in TASK: {rest}");
    match unset.first_bound_at() {
        Some(place) => text.replace(&place.to_string(), "PLACE"),
        None => text,
    }
}

#[test]
fn each_cause_in_a_task_has_its_text() {
    run(2, || async {
        for bind in [0, 1] {
            if bind == 1 {
                // Bound in another context, so that it is known where.
                spawn(async { (TENANT.set(1), TRANSACTION.set(1), DEPTH.set(1)) }).await.unwrap();
            }
            let unset = spawn(async { TENANT.try_get().unwrap_err() }).await.unwrap();
            let cause = [UnsetCause::NeverBound, UnsetCause::SpawnerHadNone][bind];
            assert_eq!(unset.cause(), cause);
            assert_eq!(unset.first_bound_at().is_some(), bind == 1);
            assert!(text(&unset).starts_with("the context variable `TENANT` is unset in TASK: "), "{unset}");
        }

        let unset = spawn(async { TENANT.try_get().unwrap_err() }).await.unwrap();
        assert_eq!(
            text(&unset),
            "the context variable `TENANT` is unset in TASK: the spawner had none at the spawn, or this code was given a \
             context without it\n  first bound at: PLACE\n  way out: bind it before the spawn; what comes to a task later, \
             as a message or a call, brings no context along: `Context::current().wrap(closure)` and \
             `future.in_context(Context::inherited())` do"
        );

        let ended = async {
            drop(TENANT.bind(7));
            TENANT.try_get().unwrap_err()
        };
        let unset = spawn(ended).await.unwrap();
        assert_eq!(unset.cause(), UnsetCause::Ended);
        assert_eq!(
            text(&unset),
            "the context variable `TENANT` is unset in TASK: its value has ended, or the spawner had none at the spawn\n  \
             first bound at: PLACE\n  way out: a value ends with its guard (`bind`), its scope (`scope`, `with_var`), a \
             `reset`, an `unset`, or its task"
        );

        TRANSACTION.set(7);
        let unset = spawn(async { TRANSACTION.try_get().unwrap_err() }).await.unwrap();
        assert_eq!(unset.cause(), UnsetCause::Policy);
        assert_eq!(
            text(&unset),
            "the context variable `TRANSACTION` is unset in TASK: its policy is `Never`, so that the spawn handed nothing \
             down\n  first bound at: PLACE\n  way out: read it before the spawn, and move the value in"
        );
        let written = async {
            drop(TRANSACTION.bind(8));
            TRANSACTION.try_get().unwrap_err()
        };
        let unset = spawn(written).await.unwrap();
        assert!(
            text(&unset).contains("handed nothing down; or a value that was bound in the task has ended\n"),
            "{unset}"
        );

        DEPTH.set(7);
        let unset = spawn(async { DEPTH.try_get().unwrap_err() }).await.unwrap();
        assert_eq!(unset.cause(), UnsetCause::Policy);
        assert_eq!(
            text(&unset),
            "the context variable `DEPTH` is unset in TASK: its policy is `Derive`, whose function returned `None` at the \
             spawn, or the spawner had no value\n  first bound at: PLACE\n  way out: let the function return a value, or \
             read the variable before the spawn, and move the value in"
        );

        TENANT.set(7);
        let (send, receive) = futures::channel::oneshot::channel();
        spawn_background(async move { send.send(TENANT.try_get().unwrap_err()).unwrap() });
        let unset = receive.await.unwrap();
        assert_eq!(unset.cause(), UnsetCause::Background);
        assert_eq!(
            text(&unset),
            "the context variable `TENANT` is unset in TASK: the task is a background task, which begins without its \
             spawner's context\n  first bound at: PLACE\n  way out: hand the context over, \
             `future.in_context(Context::inherited())`, or `spawn` it and `detach` it"
        );

        // A panic has the same text.
        let error = spawn(async { TRANSACTION.require() }).await.unwrap_err();
        assert!(error.panic_message().unwrap().starts_with("the context variable `TRANSACTION`"), "{error}");
    });
}

/// Each way to hand work over, once as it loses the context and once as it keeps it.
#[test]
fn the_detector_finds_a_loss_in_each_kind_of_hand_over_and_nothing_else() {
    let lost = Arc::new(Mutex::new(Vec::new()));
    let detected = lost.clone();
    detect_losses(move |unset| detected.lock().unwrap().push((unset.name(), unset.cause())));
    let lost = move || std::mem::take(&mut *lost.lock().unwrap());

    run(2, move || async move {
        // What waits on a channel was spawned before the variables were bound.
        let (send, receive) = async_channel::unbounded::<()>();
        let receiver = spawn(async move {
            receive.recv().await.unwrap();
            REQUEST_ID.get()
        });
        REQUEST_ID.set(7);
        CONNECTION.set(1);

        // A foreign spawn.
        let foreign = tokio::runtime::Builder::new_current_thread().build().unwrap();
        foreign.block_on(async {
            tokio::spawn(async { REQUEST_ID.get() }.in_context(Context::inherited())).await.unwrap();
        });
        assert_eq!(lost(), []);
        thread::spawn(move || {
            foreign.block_on(async { tokio::spawn(async { REQUEST_ID.get() }).await.unwrap() })
        })
        .join()
        .unwrap();
        assert_eq!(lost(), [("REQUEST_ID", UnsetCause::NoTask)]);

        // A channel.
        send.send(()).await.unwrap();
        receiver.await.unwrap();
        assert_eq!(lost(), [("REQUEST_ID", UnsetCause::SpawnerHadNone)]);

        // A callback on another thread.
        let kept = Context::current().wrap(|| REQUEST_ID.get());
        thread::spawn(kept).join().unwrap();
        assert_eq!(lost(), []);
        thread::spawn(|| REQUEST_ID.get()).join().unwrap();
        assert_eq!(lost(), [("REQUEST_ID", UnsetCause::NoTask)]);

        // Background work.
        let (send, receive) = futures::channel::oneshot::channel();
        spawn_background(async move { send.send(REQUEST_ID.get()).unwrap() });
        receive.await.unwrap();
        assert_eq!(lost(), [("REQUEST_ID", UnsetCause::Background)]);

        // A policy.
        spawn(async { CONNECTION.get() }).await.unwrap();
        assert_eq!(lost(), [("CONNECTION", UnsetCause::Policy)]);

        // What inherits, and what shares.
        let child = spawn(async {
            let inside = spawn_blocking(|| REQUEST_ID.get()).await.unwrap();
            (
                REQUEST_ID.get(),
                inside,
                heirloom::wait_for(async { REQUEST_ID.get() }, Duration::from_secs(9)).await.unwrap(),
            )
        });
        assert_eq!(child.await.unwrap(), (Some(7), Some(7), Some(7)));
        assert_eq!(CONNECTION.get(), Some(1));
        assert_eq!(lost(), []);
    });
}
