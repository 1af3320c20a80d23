//! Ambient state that is not ours: captured where a task is made, put around each poll and the
//! drop.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use heirloom_context::{Ambient, AmbientSnapshot, Ambients, Captured};

use crate::support::{
    Executor, Log, OnDrop, caught, never, on_a_fresh_thread, poll_once, quiet_panic, yield_once,
};

// The example of the docs, to the letter. The kind: an example that shows how to keep a contract,
// and would break it if copied.
include!("../../src/ambient/locale.rs");

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Logs in which order the ambients are entered and left.
struct Ordered {
    name: &'static str,
    log: Log<(&'static str, &'static str)>,
}

impl Ambient for Ordered {
    fn capture(&self) -> Captured {
        self.log.push(("capture", self.name));
        Box::new(())
    }

    fn around(&self, _: &Captured, f: &mut dyn FnMut()) {
        self.log.push(("enter", self.name));
        DEPTH.set(DEPTH.get() + 1);
        let _leave = OnDrop(|| {
            DEPTH.set(DEPTH.get() - 1);
            self.log.push(("leave", self.name));
        });
        f();
    }
}

/// What an executor makes of a task's future: the captured state around each poll and around the
/// drop.
struct Around {
    inner: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ambient: AmbientSnapshot,
}

impl Future for Around {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<()> {
        let this = &mut *self;
        let inner = this.inner.as_mut().expect("not dropped yet");
        this.ambient.around(|| inner.as_mut().poll(poller))
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        let inner = self.inner.take();
        self.ambient.around(|| drop(inner));
    }
}

fn around(ambients: &Ambients, future: impl Future<Output = ()> + Send + 'static) -> Around {
    Around { inner: Some(Box::pin(future)), ambient: ambients.capture() }
}

fn with_locale() -> Ambients {
    let mut ambients = Ambients::new();
    ambients.push(Arc::new(Locale));
    ambients
}

#[test]
fn without_ambients_a_closure_just_runs() {
    let ambients = Ambients::new();
    assert!(ambients.is_empty());
    assert_eq!(ambients.capture().around(|| 42), 42);
    assert!(!with_locale().is_empty());
}

#[test]
fn what_was_captured_is_in_force_around_and_gone_after() {
    on_a_fresh_thread(|| {
        let ambients = with_locale();
        LOCALE.set("fr");
        let captured = ambients.capture();
        LOCALE.set("de");
        assert_eq!(captured.around(|| LOCALE.get()), "fr");
        assert_eq!(LOCALE.get(), "de");
        assert_eq!(captured.around(|| LOCALE.get()), "fr", "as often as it takes");
        std::thread::scope(|scope| {
            let there = scope.spawn(|| (captured.around(|| LOCALE.get()), LOCALE.get()));
            assert_eq!(there.join().unwrap(), ("fr", "en"));
        });
    });
}

#[test]
fn the_first_ambient_is_the_outermost() {
    let log = Log::new();
    let mut ambients = Ambients::new();
    for name in ["a", "b"] {
        ambients.push(Arc::new(Ordered { name, log: log.clone() }));
    }
    let captured = ambients.capture();
    assert_eq!(log.take(), [("capture", "a"), ("capture", "b")]);
    assert_eq!(captured.around(|| DEPTH.get()), 2);
    assert_eq!(log.take(), [("enter", "a"), ("enter", "b"), ("leave", "b"), ("leave", "a")]);
}

#[test]
fn a_later_ambient_does_not_change_what_was_captured_before() {
    let log = Log::new();
    let mut ambients = Ambients::new();
    ambients.push(Arc::new(Ordered { name: "a", log: log.clone() }));
    let before = ambients.capture();
    ambients.push(Arc::new(Ordered { name: "b", log: log.clone() }));
    log.take();
    before.around(|| ());
    assert_eq!(log.take(), [("enter", "a"), ("leave", "a")]);
}

#[test]
fn a_panic_passes_through_and_everything_is_left() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let mut ambients = with_locale();
        ambients.push(Arc::new(Ordered { name: "a", log: log.clone() }));
        LOCALE.set("fr");
        let captured = ambients.capture();
        LOCALE.set("de");
        log.take();
        assert_eq!(caught(|| captured.around(|| quiet_panic("inside"))), "inside");
        assert_eq!(LOCALE.get(), "de");
        assert_eq!(log.take(), [("enter", "a"), ("leave", "a")]);
    });
}

#[test]
fn a_task_carries_its_ambient_state_through_polls_and_drop() {
    Executor::each(|executor| {
        let log = Log::new();
        let (own, seen) = (executor.clone(), log.clone());
        executor.run(async move {
            let ambients = with_locale();
            let before = LOCALE.replace("fr");
            let task = around(&ambients, async move {
                for _ in 0..5 {
                    seen.push(LOCALE.get());
                    yield_once().await;
                }
            });
            LOCALE.set(before);
            own.spawn_plain(task).await;
        });
        assert_eq!(log.take(), ["fr"; 5]);
    });
}

#[test]
fn a_task_dropped_half_way_is_dropped_under_its_ambient_state() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        LOCALE.set("fr");
        let seen = log.clone();
        let witness = OnDrop(move || seen.push(LOCALE.get()));
        let mut task = Box::pin(around(&with_locale(), async move {
            let _witness = witness;
            never().await;
        }));
        LOCALE.set("de");
        assert!(poll_once(task.as_mut()).is_pending());
        drop(task);
        assert_eq!(log.take(), ["fr"]);
        assert_eq!(LOCALE.get(), "de");
    });
}

#[test]
fn an_ambient_that_never_calls_is_reported() {
    struct Lazy;
    impl Ambient for Lazy {
        fn capture(&self) -> Captured {
            Box::new(())
        }
        fn around(&self, _: &Captured, _: &mut dyn FnMut()) {}
    }
    let mut ambients = Ambients::new();
    ambients.push(Arc::new(Lazy));
    let captured = ambients.capture();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| captured.around(|| 1)));
    assert!(result.is_err(), "there is no result to return");
}

#[test]
fn an_ambient_that_calls_twice_runs_the_closure_once() {
    struct Eager;
    impl Ambient for Eager {
        fn capture(&self) -> Captured {
            Box::new(())
        }
        fn around(&self, _: &Captured, f: &mut dyn FnMut()) {
            f();
            // Whether the second call panics or does nothing is of no account here.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        }
    }
    let mut ambients = Ambients::new();
    ambients.push(Arc::new(Eager));
    let mut ran = 0;
    ambients.capture().around(|| ran += 1);
    assert_eq!(ran, 1);
}
