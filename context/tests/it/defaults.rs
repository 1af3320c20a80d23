//! Defaults: shown where nothing is bound, evaluated once, never counted as a binding.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use heirloom_context::{Context, ContextVar, VarOptions, context_var};

use crate::support::{Probe, caught, on_a_fresh_thread, quiet_panic};

static EVALUATED: AtomicUsize = AtomicUsize::new(0);
static RACED: AtomicUsize = AtomicUsize::new(0);

context_var! {
    static PRECISION: u32 = 28;
    static GREETING: String = {
        EVALUATED.fetch_add(1, Ordering::SeqCst);
        ["good", "morning"].join(" ")
    };
    static RACE: u64 = { RACED.fetch_add(1, Ordering::SeqCst); 7 };
    static MAYBE: Option<u32> = None;
}

#[test]
fn a_default_shows_where_nothing_is_bound() {
    on_a_fresh_thread(|| {
        assert_eq!(PRECISION.get(), Some(28));
        assert!(PRECISION.with(|value| value == Some(&28)));
        assert_eq!(MAYBE.get(), Some(None));
    });
}

#[test]
fn a_default_does_not_count_as_a_binding() {
    on_a_fresh_thread(|| {
        assert!(!PRECISION.is_set());
        let context = Context::current();
        assert_eq!(context.get(&PRECISION), None);
        assert!(!context.contains(&PRECISION));
        assert!(context.is_empty());
        assert_eq!(PRECISION.get(), Some(28));
        assert!(!PRECISION.is_set(), "to look at a default binds nothing");
        assert!(Context::current().is_empty());
    });
}

#[test]
fn unset_shows_the_default_again() {
    on_a_fresh_thread(|| {
        PRECISION.set(100);
        assert_eq!(PRECISION.get(), Some(100));
        let token = PRECISION.unset();
        assert_eq!(PRECISION.get(), Some(28));
        PRECISION.reset(token).unwrap();
        assert_eq!(PRECISION.get(), Some(100));
    });
}

#[test]
fn a_value_equal_to_the_default_is_a_binding() {
    on_a_fresh_thread(|| {
        let token = PRECISION.set(28);
        assert!(PRECISION.is_set());
        PRECISION.reset(token).unwrap();
        assert!(!PRECISION.is_set());
    });
}

#[test]
fn a_default_is_evaluated_once_for_all_threads_and_contexts() {
    for _ in 0..3 {
        on_a_fresh_thread(|| {
            assert_eq!(GREETING.get().as_deref(), Some("good morning"));
            Context::empty().run(|| GREETING.with(|value| assert_eq!(value.unwrap(), "good morning")));
        });
    }
    assert_eq!(EVALUATED.load(Ordering::SeqCst), 1);
}

#[test]
fn a_default_is_evaluated_once_when_threads_race_for_it() {
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                assert_eq!(RACE.get(), Some(7));
            });
        }
    });
    assert_eq!(RACED.load(Ordering::SeqCst), 1);
}

#[test]
fn a_run_time_variable_has_a_default_of_its_own() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    fn next() -> usize {
        MADE.fetch_add(1, Ordering::SeqCst)
    }
    on_a_fresh_thread(|| {
        let options = || VarOptions { default: Some(next as fn() -> usize), ..VarOptions::new() };
        let first = ContextVar::with_options("first", options());
        let second = ContextVar::with_options("second", options());
        assert_eq!(first.get(), Some(0));
        assert_eq!(second.get(), Some(1));
        assert_eq!((first.get(), second.get()), (Some(0), Some(1)));
        assert_eq!(MADE.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn the_default_of_a_run_time_variable_goes_with_it() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone)]
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }
    let variable =
        ContextVar::with_options("counted", VarOptions { default: Some(|| Counted), ..VarOptions::new() });
    variable.with(|value| assert!(value.is_some()));
    assert_eq!(DROPPED.load(Ordering::SeqCst), 0);
    drop(variable);
    assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
}

#[test]
fn a_default_that_panics_reaches_the_reader_and_breaks_nothing() {
    static OTHER: ContextVar<u32> = ContextVar::new("other");
    static FAILING: ContextVar<Option<Probe>> =
        ContextVar::with_options("failing", VarOptions { default: Some(fail), ..VarOptions::new() });
    fn fail() -> Option<Probe> {
        quiet_panic("no default today")
    }
    on_a_fresh_thread(|| {
        OTHER.set(3);
        caught(|| FAILING.with(|value| value.is_some()));
        assert_eq!(OTHER.get(), Some(3));
        FAILING.set(None);
        assert!(FAILING.with(|value| value.is_some()), "a bound value needs no default");
    });
}

#[test]
fn a_default_may_read_other_variables_and_itself_be_shadowed() {
    static BASE: ContextVar<u32> =
        ContextVar::with_options("base", VarOptions { default: Some(|| 10), ..VarOptions::new() });
    static DOUBLE: ContextVar<u32> = ContextVar::with_options(
        "double",
        VarOptions { default: Some(|| BASE.get().unwrap_or(0) * 2), ..VarOptions::new() },
    );
    on_a_fresh_thread(|| {
        assert_eq!(DOUBLE.get(), Some(20));
        DOUBLE.scope(1, || assert_eq!(DOUBLE.get(), Some(1)));
        assert_eq!(DOUBLE.get(), Some(20));
    });
}
