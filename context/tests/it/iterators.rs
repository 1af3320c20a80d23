//! Iterators in every mode.

use heirloom_context::{Context, ContextIteratorExt, ContextVar, context_var};

use crate::support::{Ledger, Log, OnDrop, caught, on_a_fresh_thread, quiet_panic};

context_var! {
    static PRECISION: u32 = 28;
    static FOO: u32;
    static OTHER: u32;
}

fn calculate(precision: u32) -> impl Iterator<Item = u32> + Send {
    let mut started = false;
    std::iter::repeat_with(move || {
        if !std::mem::replace(&mut started, true) {
            PRECISION.set(precision);
        }
        PRECISION.get()
    })
    .take(2)
}

/// Reads `FOO`, then sets it to its number, at every step.
fn writer() -> impl Iterator<Item = Option<u32>> + Send {
    (50..53).map(|number| {
        let seen = FOO.get();
        FOO.set(number);
        seen
    })
}

#[test]
fn two_isolated_iterators_zipped_keep_their_precision() {
    on_a_fresh_thread(|| {
        let pairs: Vec<_> = calculate(100).isolated().zip(calculate(50).isolated()).collect();
        assert_eq!(pairs, [(100, 50), (100, 50)]);
        assert_eq!(PRECISION.get(), 28);
    });
}

#[test]
fn plain_iterators_share_with_their_consumer() {
    on_a_fresh_thread(|| {
        let pairs: Vec<_> = calculate(100).zip(calculate(50)).collect();
        assert_eq!(pairs, [(100, 50), (50, 50)]);
        assert_eq!(PRECISION.get(), 50);
    });
}

#[test]
fn an_isolated_iterator_keeps_its_writes_and_sees_the_outside_live() {
    on_a_fresh_thread(|| {
        FOO.set(1);
        let mut iterator = writer().isolated();
        FOO.set(2);
        assert_eq!(iterator.next(), Some(Some(2)));
        assert_eq!(FOO.get(), Some(2));
        FOO.set(3);
        assert_eq!(iterator.next(), Some(Some(50)));

        let mut reader = std::iter::repeat_with(|| (FOO.get(), OTHER.get())).isolated();
        OTHER.set(9);
        assert_eq!(reader.next(), Some((Some(3), Some(9))));
        OTHER.scope(10, || assert_eq!(reader.next(), Some((Some(3), Some(10)))));
        OTHER.unset();
        assert_eq!(reader.next(), Some((Some(3), None)));
    });
}

#[test]
fn a_pinned_iterator_keeps_its_own_copy() {
    on_a_fresh_thread(|| {
        FOO.set(1);
        let mut current = writer().in_current_context();
        let mut given = writer().in_context(Context::empty().with_var(&FOO, 10));
        FOO.set(2);
        assert_eq!((current.next(), given.next()), (Some(Some(1)), Some(Some(10))));
        assert_eq!((current.next(), given.next()), (Some(Some(50)), Some(Some(50))));
        assert_eq!(FOO.get(), Some(2));
    });
}

#[test]
fn the_cached_lookup_trap_both_ways() {
    on_a_fresh_thread(|| {
        let mut iterator = std::iter::from_fn({
            let mut started = false;
            move || {
                if !std::mem::replace(&mut started, true) {
                    FOO.set(7);
                }
                Some((FOO.get(), FOO.get()))
            }
        })
        .isolated();
        FOO.set(1);
        assert_eq!(FOO.get(), Some(1));
        assert_eq!(iterator.next(), Some((Some(7), Some(7))));
        assert_eq!(FOO.get(), Some(1), "the consumer must not read the iterator's value");
        FOO.set(2);
        assert_eq!(FOO.get(), Some(2));
        assert_eq!(iterator.next(), Some((Some(7), Some(7))), "nor the iterator the consumer's");
        assert_eq!(FOO.get(), Some(2));
    });
}

#[test]
fn an_iterator_that_panics_restores_the_context_and_ends() {
    on_a_fresh_thread(|| {
        fn failing() -> impl Iterator<Item = u32> + Send {
            (1..).inspect(|step| {
                FOO.set(*step);
                if *step == 2 {
                    quiet_panic("second step");
                }
            })
        }
        FOO.set(9);
        let iterators: [Box<dyn Iterator<Item = u32>>; 3] = [
            Box::new(failing().isolated()),
            Box::new(failing().in_current_context()),
            Box::new(failing().with_var(&FOO, 5)),
        ];
        for mut iterator in iterators {
            assert_eq!(iterator.next(), Some(1));
            assert_eq!(caught(|| iterator.next()), "second step");
            assert_eq!(FOO.get(), Some(9));
            assert_eq!(iterator.next(), None);
        }
    });
}

#[test]
fn an_iterator_is_dropped_inside_its_context_half_way_and_elsewhere() {
    fn watched(log: &Log<Option<u32>>) -> impl Iterator<Item = u32> + Send + use<> {
        let seen = log.clone();
        let witness = OnDrop(move || seen.push(FOO.get()));
        (0..3).inspect(move |number| {
            let _ = &witness;
            FOO.set(number + 10);
        })
    }
    on_a_fresh_thread(|| {
        FOO.set(1);
        let log = Log::new();
        let mut isolated = watched(&log).isolated();
        isolated.next();
        drop(isolated);
        assert_eq!((log.take(), FOO.get()), (vec![Some(10)], Some(1)), "half-way");

        let mut pinned = watched(&log).in_context(Context::empty());
        assert_eq!(pinned.by_ref().count(), 3);
        std::thread::spawn(move || drop(pinned)).join().unwrap();
        assert_eq!(log.take(), [Some(12)], "finished, on another thread");

        drop(watched(&log).with_var(&FOO, 4));
        assert_eq!(log.take(), [Some(4)], "never asked");
    });
}

#[test]
fn an_iterator_frees_what_it_bound() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let mut iterator = (0..5).map(|number| drop(variable.set(ledger.probe(number)))).isolated();
        iterator.next();
        iterator.next();
        assert_eq!(ledger.alive(), 1);
        drop(iterator);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn every_way_to_walk_an_iterator_stays_in_its_context() {
    on_a_fresh_thread(|| {
        FOO.set(1);
        assert_eq!(writer().isolated().last(), Some(Some(51)));
        assert_eq!(FOO.get(), Some(1), "last");
        assert_eq!(writer().isolated().nth(2), Some(Some(51)));
        assert_eq!(FOO.get(), Some(1), "nth");
        assert_eq!(writer().isolated().count(), 3);
        assert_eq!(FOO.get(), Some(1), "count");
        assert_eq!(writer().isolated().fold(0, |sum, seen| sum + seen.unwrap()), 1 + 50 + 51);
        assert_eq!(FOO.get(), Some(1), "fold");
        assert_eq!(writer().isolated().map(|_| FOO.get()).collect::<Vec<_>>(), [Some(1); 3]);
        writer().isolated().for_each(|_| assert_eq!(FOO.get(), Some(1), "the consumer's part runs outside"));
        assert_eq!(writer().isolated().size_hint(), (3, Some(3)));
        assert_eq!(FOO.get(), Some(1));
    });
}

#[test]
fn an_iterator_moves_to_another_thread_with_its_writes() {
    on_a_fresh_thread(|| {
        FOO.set(1);
        let mut iterator = writer().isolated();
        assert_eq!(iterator.next(), Some(Some(1)));
        let there = std::thread::spawn(move || {
            FOO.set(70);
            (iterator.next(), FOO.get())
        });
        assert_eq!(there.join().unwrap(), (Some(Some(50)), Some(70)));
    });
}

#[test]
fn an_iterator_inside_an_iterator_keeps_its_own_layer() {
    on_a_fresh_thread(|| {
        OTHER.set(1);
        let outer = (0..2)
            .flat_map(|round| {
                FOO.set(round);
                (0..2)
                    .map(move |step| {
                        let seen = (FOO.get(), OTHER.get());
                        FOO.set(100 + step);
                        seen
                    })
                    .isolated()
            })
            .isolated();
        let seen: Vec<_> = outer.collect();
        let other = Some(1);
        assert_eq!(seen, [(Some(0), other), (Some(100), other), (Some(1), other), (Some(100), other)]);
        assert_eq!(FOO.get(), None);
    });
}
