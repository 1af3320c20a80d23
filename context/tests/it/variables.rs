//! Get, with, set and unset on plain threads: a variable outside any task works like a
//! thread-local.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use heirloom_context::{Context, ContextVar, context_var};

use crate::support::{Ledger, block_on, count, on_a_fresh_thread, yield_once};

context_var! {
    static COLOUR: &'static str;
    static SIZE: u32;
    static WISH: Option<u32>;
    static NAME: String;
}

#[test]
fn a_variable_without_a_default_is_unset_until_it_is_set() {
    on_a_fresh_thread(|| {
        assert_eq!(COLOUR.get(), None);
        assert!(!COLOUR.is_set());
        assert!(COLOUR.with(|value| value.is_none()));
        COLOUR.set("red");
        assert_eq!(COLOUR.get(), Some("red"));
        assert!(COLOUR.is_set());
        assert!(COLOUR.with(|value| value == Some(&"red")));
    });
}

#[test]
fn what_a_called_function_sets_its_caller_sees() {
    fn paint() {
        assert_eq!(COLOUR.get(), Some("red"));
        COLOUR.set("blue");
    }
    on_a_fresh_thread(|| {
        COLOUR.set("red");
        paint();
        assert_eq!(COLOUR.get(), Some("blue"));
    });
}

#[test]
fn every_thread_has_its_own_root_context() {
    on_a_fresh_thread(|| {
        COLOUR.set("red");
        let (to_child, at_child) = mpsc::channel();
        let (to_parent, at_parent) = mpsc::channel();
        let child = std::thread::spawn(move || {
            to_parent.send(COLOUR.get()).unwrap();
            COLOUR.set("green");
            to_parent.send(COLOUR.get()).unwrap();
            at_child.recv().unwrap();
            to_parent.send(COLOUR.get()).unwrap();
        });
        assert_eq!(at_parent.recv().unwrap(), None);
        assert_eq!(at_parent.recv().unwrap(), Some("green"));
        assert_eq!(COLOUR.get(), Some("red"));
        COLOUR.set("blue");
        to_child.send(()).unwrap();
        assert_eq!(at_parent.recv().unwrap(), Some("green"));
        child.join().unwrap();
        assert_eq!(COLOUR.get(), Some("blue"));
    });
}

#[test]
fn unset_removes_the_binding() {
    on_a_fresh_thread(|| {
        SIZE.set(3);
        SIZE.unset();
        assert_eq!(SIZE.get(), None);
        assert!(!SIZE.is_set());
        SIZE.set(4);
        assert_eq!(SIZE.get(), Some(4));
    });
}

#[test]
fn unset_of_an_unset_variable_changes_nothing() {
    on_a_fresh_thread(|| {
        let token = SIZE.unset();
        assert_eq!(SIZE.get(), None);
        SIZE.reset(token).unwrap();
        assert_eq!(SIZE.get(), None);
    });
}

#[test]
fn a_variable_bound_to_none_is_not_unset() {
    on_a_fresh_thread(|| {
        assert_eq!(WISH.get(), None);
        WISH.set(None);
        assert_eq!(WISH.get(), Some(None));
        assert!(WISH.is_set());
        let token = WISH.set(Some(1));
        WISH.reset(token).unwrap();
        assert_eq!(WISH.get(), Some(None), "the token must restore the value `None`, not the absence of one");
        WISH.unset();
        assert_eq!(WISH.get(), None);
    });
}

#[test]
fn two_variables_of_one_name_are_two_variables() {
    on_a_fresh_thread(|| {
        let (first, second) = (ContextVar::<u32>::new("twin"), ContextVar::<u32>::new("twin"));
        first.set(1);
        assert_eq!((first.get(), second.get()), (Some(1), None));
        second.set(2);
        assert_eq!((first.get(), second.get()), (Some(1), Some(2)));
        first.unset();
        assert_eq!((first.get(), second.get()), (None, Some(2)));
    });
}

#[test]
fn a_variable_shows_its_name() {
    let variable = ContextVar::<u32>::new("speed");
    assert_eq!(variable.name(), "speed");
    assert!(format!("{variable:?}").contains("speed"));
    assert!(COLOUR.name().contains("COLOUR"));
    assert!(format!("{COLOUR:?}").contains("COLOUR"));
}

#[test]
fn with_borrows_without_a_clone() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        variable.set(ledger.probe(7));
        assert_eq!(variable.with(|probe| probe.map(|probe| probe.id)), Some(7));
        assert_eq!(ledger.made(), 1, "nothing may be cloned to be looked at");
        assert_eq!(variable.get().map(|probe| probe.id), Some(7));
        assert_eq!(ledger.made(), 2, "`get` is a clone of the value");
    });
}

#[test]
fn with_works_for_values_that_cannot_be_cloned() {
    struct Unique(u32);
    static ONLY: ContextVar<Unique> = ContextVar::new("only");
    on_a_fresh_thread(|| {
        ONLY.set(Unique(5));
        assert_eq!(ONLY.with(|only| only.map(|only| only.0)), Some(5));
    });
}

#[test]
fn a_borrow_outlives_what_replaces_it() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        variable.set(ledger.probe(1));
        variable.with(|first| {
            variable.set(ledger.probe(2));
            assert_eq!(variable.with(|probe| probe.map(|probe| probe.id)), Some(2));
            assert_eq!(first.map(|probe| probe.id), Some(1));
            assert_eq!(ledger.dropped(), 0, "the borrowed value is kept while it is borrowed");
            variable.with(|second| {
                variable.unset();
                assert_eq!((first.map(|probe| probe.id), second.map(|probe| probe.id)), (Some(1), Some(2)));
            });
            assert_eq!(first.map(|probe| probe.id), Some(1));
            assert!(!variable.is_set());
        });
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_value_read_inside_with_is_the_newest() {
    on_a_fresh_thread(|| {
        SIZE.set(1);
        let seen = SIZE.with(|outer| {
            SIZE.set(2);
            (outer.copied(), SIZE.get())
        });
        assert_eq!(seen, (Some(1), Some(2)));
        assert_eq!(SIZE.get(), Some(2));
    });
}

#[test]
fn many_kinds_of_values_live_side_by_side() {
    on_a_fresh_thread(|| {
        let byte = ContextVar::<u8>::new("byte");
        let nothing = ContextVar::<()>::new("nothing");
        let wide = ContextVar::<[u64; 32]>::new("wide");
        #[repr(align(128))]
        #[derive(Clone)]
        struct Aligned(u8);
        let aligned = ContextVar::<Aligned>::new("aligned");
        let function = ContextVar::<fn(u32) -> u32>::new("function");
        let shared = ContextVar::<Arc<dyn Fn() -> u32 + Send + Sync>>::new("shared");

        byte.set(255);
        nothing.set(());
        wide.set([9; 32]);
        aligned.set(Aligned(3));
        function.set(|number| number + 1);
        shared.set(Arc::new(|| 40));
        NAME.set("Ada".to_string());

        assert_eq!(byte.get(), Some(255));
        assert_eq!(nothing.get(), Some(()));
        assert_eq!(wide.get(), Some([9; 32]));
        aligned.with(|value| {
            let value = value.unwrap();
            assert_eq!(value.0, 3);
            assert_eq!(std::ptr::from_ref(value).addr() % 128, 0, "values keep their alignment");
        });
        assert_eq!(function.get().unwrap()(41), 42);
        assert_eq!(shared.get().unwrap()(), 40);
        assert_eq!(NAME.get().as_deref(), Some("Ada"));
        assert_eq!(Context::current().len(), 7);
    });
}

#[test]
fn a_shared_value_is_shared_and_a_set_is_not() {
    on_a_fresh_thread(|| {
        static BASKET: ContextVar<Arc<Mutex<Vec<u32>>>> = ContextVar::new("basket");
        BASKET.set(Arc::new(Mutex::new(vec![1])));
        Context::current().run(|| {
            BASKET.with(|basket| basket.unwrap().lock().unwrap().push(2));
            BASKET.set(Arc::new(Mutex::new(vec![9])));
        });
        let seen = BASKET.with(|basket| basket.unwrap().lock().unwrap().clone());
        assert_eq!(seen, [1, 2], "a mutated object is seen by all, a new binding only inside");
    });
}

#[test]
fn a_plain_future_shares_the_context_of_the_thread_that_polls_it() {
    on_a_fresh_thread(|| {
        SIZE.set(1);
        block_on(async {
            assert_eq!(SIZE.get(), Some(1));
            SIZE.set(2);
            yield_once().await;
            assert_eq!(SIZE.get(), Some(2));
        });
        assert_eq!(SIZE.get(), Some(2));
    });
}

#[test]
fn variables_of_many_threads_do_not_mix() {
    let variable = ContextVar::<usize>::new("mine");
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for own in 0..4 {
            let (variable, barrier) = (&variable, &barrier);
            scope.spawn(move || {
                for round in 0..20 {
                    variable.set(own * 100 + round);
                    barrier.wait();
                    assert_eq!(variable.get(), Some(own * 100 + round));
                    barrier.wait();
                }
            });
        }
    });
}

#[test]
fn a_variable_that_many_threads_bind_for_the_first_time_at_once_is_one_variable() {
    for _ in 0..count(200) {
        let variable = ContextVar::<usize>::new("contended");
        let barrier = std::sync::Barrier::new(4);
        let contexts: Vec<Context> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|own| {
                    let (variable, barrier) = (&variable, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        Context::empty().with_var(variable, own)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (own, context) in contexts.iter().enumerate() {
            assert_eq!(context.get(&variable), Some(own));
            assert!(context.without_var(&variable).is_empty());
        }
    }
}

#[test]
fn a_first_set_on_another_thread_is_no_news_here() {
    on_a_fresh_thread(|| {
        let variable = ContextVar::<u32>::new("far");
        assert_eq!(variable.get(), None);
        let there = on_a_fresh_thread(|| {
            variable.set(1);
            (variable.get(), Context::current())
        });
        assert_eq!(there.0, Some(1));
        assert_eq!(variable.get(), None);
        assert_eq!(there.1.run(|| variable.get()), Some(1));
        assert_eq!(variable.get(), None);
    });
}
