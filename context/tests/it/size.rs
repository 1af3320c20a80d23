//! Large numbers: flat memory where nothing holds the values, and no recursion in any drop.

use std::time::{Duration, Instant};

use heirloom_context::{Binding, Context, ContextCell, ContextFutureExt, ContextVar, Token, context_var};

use crate::support::{Dice, Ledger, count, never, on_a_fresh_thread, on_a_stack_of, poll_once};

context_var! {
    static NUMBER: usize;
    static OTHER: usize;
    static CHAIN: Link;
    static SECOND_CHAIN: Link;
    static CELLS: CellLink;
    static TOKENS: TokenLink;
}

/// The smallest stack that a deep drop must do with.
const SMALL_STACK: usize = 64 * 1024;

#[derive(Clone)]
struct Link {
    _next: Context,
}

#[derive(Clone)]
struct CellLink {
    _next: Option<ContextCell>,
}

struct TokenLink {
    _previous: std::sync::Mutex<Option<Token<TokenLink>>>,
}

#[test]
fn a_million_sets_in_a_row_keep_one_value() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let sets = count(1_000_000);
        for number in 0..sets {
            variable.set(ledger.probe(number as u32));
            if number % 50_000 == 0 {
                assert_eq!(ledger.alive(), 1);
            }
        }
        assert_eq!((ledger.made(), ledger.alive()), (sets, 1));
    });
}

#[test]
fn a_million_sets_under_snapshots_keep_what_the_snapshots_see() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let mut snapshot = Context::empty();
        for number in 0..count(100_000) {
            variable.set(ledger.probe(number as u32));
            if number % 3 == 0 {
                snapshot = Context::current();
            }
            assert!(ledger.alive() <= 2);
        }
        variable.unset();
        assert_eq!(ledger.alive(), 1);
        drop(snapshot);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_hundred_thousand_guards_are_dropped_in_any_order() {
    #[derive(Clone, Copy, Debug)]
    enum Order {
        OldestFirst,
        NewestFirst,
        Shuffled,
    }
    for order in [Order::OldestFirst, Order::NewestFirst, Order::Shuffled] {
        on_a_fresh_thread(|| {
            let ledger = Ledger::new();
            let variable = ContextVar::new("probe");
            variable.set(ledger.probe(u32::MAX));
            let amount = count(100_000);
            let mut guards: Vec<Binding> =
                (0..amount).map(|number| variable.bind(ledger.probe(number as u32))).collect();
            assert_eq!(ledger.alive(), amount + 1);
            match order {
                Order::OldestFirst => guards.reverse(),
                Order::NewestFirst => {}
                Order::Shuffled => Dice::new(3).shuffle(&mut guards),
            }
            while let Some(guard) = guards.pop() {
                drop(guard);
                assert_eq!(ledger.alive(), guards.len() + 1, "{order:?}");
            }
            assert_eq!(variable.with(|probe| probe.unwrap().id), u32::MAX);
        });
    }
}

#[test]
fn guards_of_thousands_of_variables_live_at_once() {
    on_a_fresh_thread(|| {
        let variables: Vec<ContextVar<usize>> =
            (0..count(2_000)).map(|_| ContextVar::new("one of many")).collect();
        let mut guards: Vec<(usize, Binding)> =
            variables.iter().enumerate().map(|(number, variable)| (number, variable.bind(number))).collect();
        Dice::new(5).shuffle(&mut guards);
        for (number, guard) in guards {
            assert_eq!(variables[number].get(), Some(number));
            drop(guard);
            assert_eq!(variables[number].get(), None);
        }
        assert!(Context::current().is_empty());
    });
}

#[test]
fn contexts_held_by_values_of_contexts_need_no_stack_to_go() {
    let depth = count(200_000);
    let ledger = Ledger::new();
    let probe = ContextVar::new("probe");
    let mut deepest = Context::empty();
    for number in 0..depth {
        let holder = Context::empty().with_var(&probe, ledger.probe(number as u32));
        // Two variables in turns, so that no single one could know of the depth.
        deepest = if number % 2 == 0 {
            holder.with_var(&CHAIN, Link { _next: deepest })
        } else {
            holder.with_var(&SECOND_CHAIN, Link { _next: deepest })
        };
    }
    assert_eq!(ledger.alive(), depth);
    on_a_stack_of(SMALL_STACK, move || drop(deepest));
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn a_chain_of_snapshots_built_by_sets_goes_with_its_thread() {
    let depth = count(200_000);
    let ledger = Ledger::new();
    let probe = ContextVar::new("probe");
    on_a_stack_of(SMALL_STACK, || {
        for number in 0..depth {
            CHAIN.set(Link { _next: Context::current() });
            probe.set(ledger.probe(number as u32));
        }
        assert_eq!(ledger.alive(), depth);
    });
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn a_chain_of_cells_needs_no_stack_to_go() {
    let depth = count(200_000);
    let mut deepest = None;
    for _ in 0..depth {
        let cell = ContextCell::new(Context::empty());
        cell.run(|| CELLS.set(CellLink { _next: deepest })).unwrap();
        deepest = Some(cell);
    }
    let last = deepest.clone();
    on_a_stack_of(SMALL_STACK, move || drop(deepest));
    on_a_stack_of(SMALL_STACK, move || drop(last));
}

#[test]
fn a_chain_of_tokens_held_by_values_needs_no_stack_to_go() {
    on_a_stack_of(SMALL_STACK, || {
        let mut previous = None;
        for _ in 0..count(200_000) {
            previous = Some(TOKENS.set(TokenLink { _previous: std::sync::Mutex::new(previous) }));
        }
        drop(previous);
        TOKENS.unset();
    });
}

#[test]
fn a_chain_of_wrapped_futures_held_by_values_needs_no_stack_to_go() {
    struct Held {
        _future: std::sync::Mutex<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
    }
    let variable = ContextVar::<Held>::new("held");
    let mut deepest = Context::empty();
    for _ in 0..count(50_000) {
        let mut future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(never().in_context(deepest));
        assert!(poll_once(future.as_mut()).is_pending());
        deepest = Context::empty().with_var(&variable, Held { _future: std::sync::Mutex::new(future) });
    }
    on_a_stack_of(SMALL_STACK, move || drop(deepest));
}

#[test]
fn snapshots_of_a_long_history_are_dropped_in_any_order() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variables: Vec<ContextVar<crate::support::Probe>> =
            (0..100).map(|_| ContextVar::new("one of many")).collect();
        let mut dice = Dice::new(11);
        let mut history = Vec::new();
        for number in 0..count(5_000) {
            variables[dice.below(variables.len())].set(ledger.probe(number as u32));
            history.push(Context::current());
        }
        variables.iter().for_each(|variable| drop(variable.unset()));
        dice.shuffle(&mut history);
        drop(history);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn run_time_variables_that_come_and_go_leave_nothing() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let long_lived = Context::empty().with_var(&NUMBER, 1);
        for number in 0..count(100_000) {
            let variable = Box::new(ContextVar::new("short-lived"));
            let derived = long_lived.with_var(&variable, ledger.probe(number as u32));
            drop(variable);
            drop(derived);
            assert_eq!(ledger.alive(), 0);
        }
        assert_eq!(long_lived.len(), 1);
        assert_eq!(ContextVar::<usize>::new("newest").get(), None);
    });
}

#[test]
fn a_lookup_does_not_grow_with_the_history_of_its_variable() {
    // Counts of steps cannot be seen from outside, so this compares times, with a very wide margin:
    // a lookup that walked through a history would be a thousand times slower, not ten.
    if cfg!(miri) {
        return;
    }
    fn measured() -> Duration {
        (0..5)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..2_000 {
                    std::hint::black_box(NUMBER.get());
                }
                start.elapsed()
            })
            .min()
            .unwrap()
    }
    on_a_stack_of(256 << 20, || {
        NUMBER.set(0);
        let shallow = measured();
        for number in 0..50_000 {
            NUMBER.set(number);
        }
        let guards: Vec<Binding> = (0..50_000).map(|number| OTHER.bind(number)).collect();
        fn nested(depth: usize) -> Duration {
            if depth == 0 { measured() } else { OTHER.scope(depth, || nested(depth - 1)) }
        }
        let deep = nested(5_000);
        drop(guards);
        assert!(deep < shallow * 20 + Duration::from_millis(20), "{shallow:?} became {deep:?}");
    });
}
