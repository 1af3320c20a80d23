//! Entering a runtime: `Handle::enter` makes it the current one of a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use heirloom::{Handle, Runtime, block_on, sleep, spawn, spawn_background, spawn_blocking};
use heirloom_tests::{PATIENCE, watchdog};

fn named(name: &str) -> Runtime {
    Runtime::builder().workers(1).thread_name(name).build().expect("a runtime")
}

/// The name that the threads of a runtime have in common.
fn own_name() -> String {
    thread::current().name().and_then(|name| name.split('-').next()).unwrap_or_default().to_owned()
}

/// The runtime that a task goes to which is spawned here.
fn spawned_on() -> String {
    block_on(spawn(async { own_name() })).unwrap()
}

#[test]
fn what_is_spawned_goes_to_the_runtime_that_was_entered() {
    watchdog(PATIENCE, || {
        let runtime = named("entered");
        assert!(Handle::current().is_none());
        {
            let _entered = runtime.enter();
            assert!(Handle::current().is_some());
            assert_eq!(spawned_on(), "entered");
            assert_eq!(block_on(spawn_blocking(own_name)).unwrap(), "entered");
            let (sender, receiver) = futures::channel::oneshot::channel();
            spawn_background(async move { sender.send(own_name()) });
            assert_eq!(block_on(receiver).unwrap(), "entered");
            // On a thread that is no worker one may block.
            assert_eq!(block_on(async { own_name() }), own_name());
        }
        assert!(Handle::current().is_none());
    });
}

#[test]
fn guards_nest_and_so_does_block_on() {
    watchdog(PATIENCE, || {
        let (outer, inner) = (named("outer"), named("inner"));
        let _outer = outer.handle().enter();
        {
            let _inner = inner.enter();
            assert_eq!(spawned_on(), "inner");
            let in_root = outer.block_on(async {
                let before = spawn(async { own_name() }).await.unwrap();
                let _again = inner.enter();
                (before, spawn(async { own_name() }).await.unwrap())
            });
            assert_eq!(in_root, ("outer".to_owned(), "inner".to_owned()));
            assert_eq!(spawned_on(), "inner");
        }
        assert_eq!(spawned_on(), "outer");
    });
}

#[test]
fn a_task_may_enter_another_runtime_for_a_while_and_its_own_too() {
    watchdog(PATIENCE, || {
        let (own, other) = (named("own"), named("other"));
        let handles = (own.handle().clone(), other.handle().clone());
        let names = own.spawn(async move {
            let entered = [&handles.1, &handles.0].map(|handle| {
                let _entered = handle.enter();
                spawn(async { own_name() })
            });
            let after = spawn(async { own_name() });
            let mut names = Vec::new();
            for task in entered.into_iter().chain([after]) {
                names.push(task.await.unwrap());
            }
            names
        });
        assert_eq!(block_on(names).unwrap(), ["other", "own", "own"]);
    });
}

#[test]
fn timers_are_those_of_the_runtime_that_was_entered() {
    watchdog(PATIENCE, || {
        let runtime = named("entered");
        let mut timer = Box::pin(sleep(Duration::from_secs(3_600)));
        {
            let _entered = runtime.enter();
            assert!(timer.as_mut().now_or_never().is_none());
        }
        assert_eq!(runtime.stats().timers, 1);
        let other = named("other");
        {
            let _entered = other.enter();
            timer = Box::pin(sleep(Duration::from_secs(3_600)));
            assert!(timer.as_mut().now_or_never().is_none());
        }
        assert_eq!((runtime.stats().timers, other.stats().timers), (0, 1));
    });
}

#[test]
fn sockets_are_those_of_the_runtime_that_was_entered() {
    if cfg!(miri) {
        return; // It has no sockets.
    }
    watchdog(PATIENCE, || {
        let runtime = named("entered");
        let listener = {
            let _entered = runtime.enter();
            futures::executor::block_on(heirloom::net::TcpListener::bind("127.0.0.1:0")).unwrap()
        };
        drop(runtime);
        assert!(futures::executor::block_on(listener.accept()).is_err(), "its runtime has ended");
    });
}

#[test]
fn a_runtime_that_has_ended_can_be_entered_and_refuses() {
    watchdog(PATIENCE, || {
        let handle = named("ended").handle().clone();
        let _entered = handle.enter();
        assert!(block_on(spawn(async {})).unwrap_err().is_cancelled());
    });
}

#[test]
fn a_guard_that_is_dropped_too_early_panics_and_changes_nothing() {
    watchdog(PATIENCE, || {
        let (first, second) = (named("first"), named("second"));
        let (early, late) = (first.enter(), second.enter());
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(early)));
        let message = *dropped.unwrap_err().downcast::<&str>().unwrap();
        assert!(message.contains("in the reverse order of their making"), "{message}");
        assert_eq!(spawned_on(), "second");
        drop(late);
        assert_eq!(spawned_on(), "first");
        // It is kept, though all that the test holds of it is gone.
        drop(first);
        assert!(block_on(spawn(async {})).unwrap_err().is_cancelled());
    });
}

#[test]
fn a_guard_that_outlives_the_call_it_was_made_in_panics_and_changes_nothing() {
    watchdog(PATIENCE, || {
        let runtime = named("inside");
        let root = named("root");
        let guard = root.block_on(async { runtime.enter() });
        assert!(Handle::current().is_none(), "as before the call");
        drop(root);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(guard))).is_err());
        assert!(Handle::current().is_none());
    });
}

#[test]
fn a_guard_that_a_panic_drops_out_of_order_does_not_panic_again() {
    watchdog(PATIENCE, || {
        let (first, second) = (named("first"), named("second"));
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let early = first.enter();
            let _late = second.enter();
            // Dropped before `_late`.
            let _early = early;
            panic!("as planned");
        }));
        assert_eq!(*unwound.unwrap_err().downcast::<&str>().unwrap(), "as planned");
    });
}
