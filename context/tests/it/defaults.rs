//! Defaults: shown where nothing is bound, evaluated once, never counted as a binding.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use heirloom_context::{Context, ContextVar, WithDefault, context_var};

use crate::support::{Probe, caught, on_a_fresh_thread, panic_text, quiet_panic};

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
        assert_eq!(PRECISION.get(), 28);
        assert!(PRECISION.with(|value| *value == 28));
        assert_eq!(MAYBE.get(), None);
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
        assert_eq!(PRECISION.get(), 28);
        assert!(!PRECISION.is_set(), "to look at a default binds nothing");
        assert!(Context::current().is_empty());
    });
}

#[test]
fn unset_shows_the_default_again() {
    on_a_fresh_thread(|| {
        PRECISION.set(100);
        assert_eq!(PRECISION.get(), 100);
        let token = PRECISION.unset();
        assert_eq!(PRECISION.get(), 28);
        PRECISION.reset(token).unwrap();
        assert_eq!(PRECISION.get(), 100);
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
            assert_eq!(GREETING.get(), "good morning");
            Context::empty().run(|| GREETING.with(|value| assert_eq!(value, "good morning")));
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
                assert_eq!(RACE.get(), 7);
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
        let first = ContextVar::new("first").with_default(next);
        let second = ContextVar::new("second").with_default(next);
        assert_eq!(first.get(), 0);
        assert_eq!(second.get(), 1);
        assert_eq!((first.get(), second.get()), (0, 1));
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
    let variable = ContextVar::new("counted").with_default(|| Counted);
    variable.with(|Counted| assert_eq!(DROPPED.load(Ordering::SeqCst), 0));
    assert_eq!(DROPPED.load(Ordering::SeqCst), 0);
    drop(variable);
    assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
}

#[test]
fn a_default_that_panics_reaches_the_reader_and_breaks_nothing() {
    static OTHER: ContextVar<u32> = ContextVar::new("other");
    static FAILING: ContextVar<Option<Probe>, WithDefault<Option<Probe>>> =
        ContextVar::new("failing").with_default(fail);
    fn fail() -> Option<Probe> {
        quiet_panic("no default today")
    }
    on_a_fresh_thread(|| {
        OTHER.set(3);
        caught(|| FAILING.with(|value| value.is_some()));
        assert_eq!(OTHER.get(), Some(3));
        FAILING.set(None);
        assert!(FAILING.with(Option::is_none), "a bound value needs no default");
    });
}

#[test]
fn a_default_may_read_other_variables_and_itself_be_shadowed() {
    context_var! {
        static BASE: u32 = 10;
        static DOUBLE: u32 = BASE.get() * 2;
    }
    on_a_fresh_thread(|| {
        assert_eq!(DOUBLE.get(), 20);
        DOUBLE.scope(1, || assert_eq!(DOUBLE.get(), 1));
        assert_eq!(DOUBLE.get(), 20);
    });
}

// A default that needs itself. The kind: anything made at the first need by a stranger's code,
// which waits for what is being made: a circle of needs is told, through whatever it leads, and
// needs that are no circle wait.

context_var! {
    static OWN: u32 = OWN.get();
    static LENT: u32 = LENT.with(|value| *value);
    static FIRST: u32 = SECOND.get() + 1;
    static SECOND: u32 = THIRD.with(|value| *value) + 1;
    static THIRD: u32 = FIRST.get() + 1;
}

#[test]
fn a_default_that_reads_its_own_variable_panics_and_says_so() {
    on_a_fresh_thread(|| {
        for _ in 0..2 {
            let said = panic_text(|| OWN.get());
            assert!(said.contains("`OWN` needs itself: OWN -> OWN"), "{said}");
            let said = panic_text(|| LENT.with(|value| *value));
            assert!(said.contains("`LENT` needs itself: LENT -> LENT"), "{said}");
        }
        OWN.scope(5, || assert_eq!(OWN.get(), 5));
    });
}

#[test]
fn a_default_that_needs_itself_through_others_panics_and_says_so() {
    on_a_fresh_thread(|| {
        let said = panic_text(|| FIRST.get());
        assert!(said.contains("`FIRST` needs itself: FIRST -> SECOND -> THIRD -> FIRST"), "{said}");
        let said = panic_text(|| THIRD.get());
        assert!(said.contains("`THIRD` needs itself: THIRD -> FIRST -> SECOND -> THIRD"), "{said}");
        SECOND.scope(10, || assert_eq!(FIRST.get(), 11, "bound, it needs no default"));
        assert_eq!(THIRD.get(), 12);
    });
}

#[test]
fn defaults_that_need_each_other_on_two_threads_panic_on_both() {
    /// Both threads are in the midst of their defaults.
    static BOTH: Barrier = Barrier::new(2);
    static MEETINGS: AtomicUsize = AtomicUsize::new(2);

    /// Waits for the other thread in the first two calls.
    fn meet() {
        if MEETINGS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            BOTH.wait();
        }
    }

    context_var! {
        static LEFT: u32 = {
            meet();
            RIGHT.get()
        };
        static RIGHT: u32 = {
            meet();
            LEFT.get()
        };
    }
    let other = std::thread::spawn(|| panic_text(|| RIGHT.get()));
    let said = [panic_text(|| LEFT.get()), other.join().unwrap()];
    assert!(said.iter().all(|said| said.contains("needs itself")), "{said:?}");
}

#[test]
fn a_default_that_another_thread_is_making_is_waited_for() {
    static BEGUN: Barrier = Barrier::new(2);

    context_var! {
        static SLOW: u32 = {
            BEGUN.wait();
            // The other thread needs this value by now, or does so later. Either way it gets it.
            BASE_OF_SLOW.get() + 1
        };
        static BASE_OF_SLOW: u32 = 41;
        static NEEDS_SLOW: u32 = SLOW.get();
    }
    let other = std::thread::spawn(|| SLOW.get());
    BEGUN.wait();
    assert_eq!((NEEDS_SLOW.get(), other.join().unwrap()), (42, 42));
}

#[test]
fn threads_that_race_for_defaults_that_need_others_all_get_them() {
    context_var! {
        static ONE: usize = 1;
        static TWO: usize = ONE.get() + 1;
        static THREE: usize = TWO.get() + ONE.get();
    }
    let barrier = Barrier::new(6);
    std::thread::scope(|scope| {
        for number in 0..6 {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                let (variable, value) = [(&ONE, 1), (&TWO, 2), (&THREE, 3)][number % 3];
                assert_eq!(variable.get(), value);
            });
        }
    });
}
