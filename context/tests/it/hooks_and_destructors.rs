//! Hooks that write, and destructors that panic, at the same time: whatever happens, contexts are
//! what they should be.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Poller, Wake, Waker};

use heirloom_context::{Context, ContextCell, ContextFutureExt, ContextIteratorExt, context_var, raw};

use crate::support::on_a_fresh_thread;

/// Panics when it is dropped, if armed.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0, "a destructor that panics");
    }
}

/// Replaces the value of another variable.
fn defuse(_: Option<&u32>, _: Option<&u32>) {
    CHARGE.set(Bomb(false));
}

fn label(_: Option<&u32>, now: Option<&u32>) {
    LABEL.set(format!("{now:?}"));
}

/// Replaces the very value it is told of.
fn replace(_: Option<&(u32, Bomb)>, now: Option<&(u32, Bomb)>) {
    if now.is_some_and(|now| now.1.0) {
        OWN.set((3, Bomb(false)));
    }
}

context_var! {
    static WATCHED: u32, on_change = defuse;
    static CHARGE: Bomb;
    static TENANT: u32, on_change = label;
    static LABEL: String;
    static OWN: (u32, Bomb), on_change = replace;
    static PLAIN: u32;
}

fn armed() -> Context {
    Context::empty().with_var(&WATCHED, 1).with_var(&CHARGE, Bomb(true))
}

#[test]
fn a_swap_is_complete_although_a_replaced_value_panics() {
    on_a_fresh_thread(|| {
        PLAIN.set(7);
        let mut live = raw::Live::new(armed());
        let _ = catch_unwind(AssertUnwindSafe(|| raw::swap(&mut live)));
        assert_eq!((WATCHED.get(), PLAIN.get()), (Some(1), None));
        let _ = catch_unwind(AssertUnwindSafe(|| raw::swap(&mut live)));
        assert_eq!((WATCHED.get(), PLAIN.get()), (None, Some(7)));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(live)));
        assert_eq!(PLAIN.get(), Some(7));
    });
}

#[test]
fn a_run_comes_home_although_a_replaced_value_panics() {
    on_a_fresh_thread(|| {
        PLAIN.set(7);
        let _ = catch_unwind(AssertUnwindSafe(|| armed().run(|| assert_eq!(PLAIN.get(), None))));
        assert_eq!((WATCHED.get(), PLAIN.get()), (None, Some(7)));
    });
}

#[test]
fn a_layer_is_taken_off_although_a_replaced_value_panics() {
    on_a_fresh_thread(|| {
        PLAIN.set(7);
        let mut steps = (0..3)
            .map(|step| {
                CHARGE.set(Bomb(true));
                WATCHED.set(step);
            })
            .isolated();
        for _ in 0..3 {
            let _ = catch_unwind(AssertUnwindSafe(|| steps.next()));
            assert_eq!((WATCHED.get(), PLAIN.get()), (None, Some(7)));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(steps)));
        assert_eq!(PLAIN.get(), Some(7));
    });
}

#[test]
fn a_scope_and_a_guard_end_although_their_hook_replaces_a_value_that_panics() {
    on_a_fresh_thread(|| {
        let _ = catch_unwind(AssertUnwindSafe(|| OWN.scope((2, Bomb(true)), || ())));
        assert!(!OWN.is_set());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(OWN.bind((2, Bomb(true))))));
        assert!(!OWN.is_set());
    });
}

#[test]
fn a_hook_that_replaces_a_value_comes_to_an_end() {
    on_a_fresh_thread(|| {
        TENANT.set(1);
        Context::empty().run(|| assert_eq!(LABEL.get().as_deref(), Some("None")));
        assert_eq!(LABEL.get().as_deref(), Some("Some(1)"));
    });
}

#[test]
fn who_waits_for_a_cell_is_woken_although_a_replaced_value_panics() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    on_a_fresh_thread(|| {
        let cell = ContextCell::new(Context::empty().with_var(&CHARGE, Bomb(true)));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut waits = Box::pin(async {}.in_cell(cell.clone()));
        let left = catch_unwind(AssertUnwindSafe(|| {
            cell.run(|| {
                assert!(waits.as_mut().poll(&mut Poller::from_waker(&waker)).is_pending());
                CHARGE.set(Bomb(false));
            })
        }));
        assert!(left.is_err(), "the destructor's panic reaches the code that left the cell");
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(waits.as_mut().poll(&mut Poller::from_waker(&waker)).is_ready());
    });
}
