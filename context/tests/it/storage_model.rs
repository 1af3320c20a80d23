//! How contexts store their bindings, seen from outside: random histories against `HashMap`, and
//! exact lifetimes.
//!
//! Contexts are derived from one another and dropped in any order. After every step each living
//! context must show exactly what its map says, and exactly those values must be alive that some
//! living context sees.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use heirloom_context::{Change, Context, ContextVar};
use proptest::prelude::*;

/// The numbers of the values that are alive.
type Living = Arc<Mutex<BTreeSet<u32>>>;

struct Tracked {
    number: u32,
    living: Living,
}

impl Tracked {
    fn new(number: u32, living: &Living) -> Tracked {
        assert!(living.lock().unwrap().insert(number), "numbers are used once");
        Tracked { number, living: living.clone() }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        assert!(self.living.lock().unwrap().remove(&self.number), "value {} was dropped twice", self.number);
    }
}

/// Names for run-time variables, made once.
static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    (0..400).map(|number| &*Box::leak(format!("variable {number}").into_boxed_str())).collect()
});

fn variables(amount: usize) -> Vec<ContextVar<Tracked>> {
    spread_variables(amount, 0)
}

/// Variables with `gap` others between each two, which are gone: whatever numbers variables have
/// are far apart then.
fn spread_variables(amount: usize, gap: usize) -> Vec<ContextVar<Tracked>> {
    let spare = Living::default();
    let spread = NAMES[..amount].iter().enumerate().map(|(number, name)| {
        let variable = ContextVar::new(name);
        // A variable may get its number with its first value.
        Context::empty().with_var(&variable, Tracked::new(number as u32, &spare));
        for _ in 0..gap {
            Context::empty().with_var(&ContextVar::new("between"), ());
        }
        variable
    });
    spread.collect()
}

#[derive(Clone, Debug)]
enum Op {
    /// Derive from a living context by binding a variable.
    With(usize, usize),
    Without(usize, usize),
    /// Bind many at once, so that contexts grow large in few steps.
    Fill(usize, usize, usize),
    /// Take many out again.
    Thin(usize, usize, usize),
    Clone(usize),
    Drop(usize),
    /// Enter one, write to a few, and keep the result.
    Run(usize, Vec<(usize, Write)>),
}

#[derive(Clone, Debug)]
enum Write {
    Set,
    Unset,
    /// Bind a value and take it away.
    Scope,
}

fn op() -> impl Strategy<Value = Op> {
    let number = 0..1_000_usize;
    let write = prop_oneof![Just(Write::Set), Just(Write::Unset), Just(Write::Scope)];
    prop_oneof![
        5 => (number.clone(), number.clone()).prop_map(|(context, var)| Op::With(context, var)),
        4 => (number.clone(), number.clone()).prop_map(|(context, var)| Op::Without(context, var)),
        1 => (number.clone(), number.clone(), 1..80_usize).prop_map(|(context, var, amount)| Op::Fill(context, var, amount)),
        1 => (number.clone(), number.clone(), 1..80_usize).prop_map(|(context, var, amount)| Op::Thin(context, var, amount)),
        1 => number.clone().prop_map(Op::Clone),
        6 => number.clone().prop_map(Op::Drop),
        3 => (number.clone(), prop::collection::vec((number, write), 0..8))
            .prop_map(|(context, writes)| Op::Run(context, writes)),
    ]
}

type Map = HashMap<usize, u32>;

struct World {
    variables: Vec<ContextVar<Tracked>>,
    living: Living,
    next: u32,
    contexts: Vec<(Context, Map)>,
}

impl World {
    fn new(variables: Vec<ContextVar<Tracked>>) -> World {
        World {
            variables,
            living: Living::default(),
            next: 0,
            contexts: vec![(Context::empty(), Map::new())],
        }
    }

    fn value(&mut self) -> Tracked {
        self.next += 1;
        Tracked::new(self.next, &self.living)
    }

    fn step(&mut self, op: &Op) {
        let amount = self.variables.len();
        let base = |world: &World, context: usize| {
            let (context, map) = &world.contexts[context % world.contexts.len()];
            (context.clone(), map.clone())
        };
        let derived = match op {
            Op::With(context, var) => {
                let ((context, mut map), value) = (base(self, *context), self.value());
                map.insert(var % amount, value.number);
                (context.with_var(&self.variables[var % amount], value), map)
            }
            Op::Without(context, var) => {
                let (context, mut map) = base(self, *context);
                map.remove(&(var % amount));
                (context.without_var(&self.variables[var % amount]), map)
            }
            Op::Fill(context, start, many) => {
                let (mut context, mut map) = base(self, *context);
                for var in (*start..start + many).map(|var| var % amount) {
                    let value = self.value();
                    map.insert(var, value.number);
                    context = context.with_var(&self.variables[var], value);
                }
                (context, map)
            }
            Op::Thin(context, start, many) => {
                let (mut context, mut map) = base(self, *context);
                for var in (*start..start + many).map(|var| var % amount) {
                    map.remove(&var);
                    context = context.without_var(&self.variables[var]);
                }
                (context, map)
            }
            Op::Clone(context) => base(self, *context),
            Op::Run(context, writes) => {
                let (context, mut map) = base(self, *context);
                let inside = context.run(|| {
                    for (var, write) in writes {
                        let var = var % amount;
                        let value = self.value();
                        let variable = &self.variables[var];
                        let seen = || variable.with(|value| value.map(|value| value.number));
                        match write {
                            Write::Set => {
                                map.insert(var, value.number);
                                variable.set(value);
                            }
                            Write::Unset => {
                                map.remove(&var);
                                variable.unset();
                            }
                            Write::Scope => {
                                let number = value.number;
                                variable.scope(value, || assert_eq!(seen(), Some(number)));
                            }
                        }
                        assert_eq!(seen(), map.get(&var).copied());
                    }
                    Context::current()
                });
                (inside, map)
            }
            Op::Drop(context) => {
                let context = context % self.contexts.len();
                drop(self.contexts.swap_remove(context));
                if self.contexts.is_empty() {
                    self.contexts.push((Context::empty(), Map::new()));
                }
                return;
            }
        };
        self.contexts.push(derived);
    }

    /// What is cheap to look at, of all contexts; and everything, of the newest and one other.
    fn check(&self, other: usize) {
        for (context, map) in &self.contexts {
            assert_eq!(context.len(), map.len());
            assert_eq!(context.is_empty(), map.is_empty());
        }
        let seen: BTreeSet<u32> = self.contexts.iter().flat_map(|(_, map)| map.values().copied()).collect();
        assert_eq!(
            *self.living.lock().unwrap(),
            seen,
            "exactly the values that a living context sees are alive"
        );

        let (newest, other) =
            (self.contexts.last().expect("never empty"), &self.contexts[other % self.contexts.len()]);
        self.check_fully(newest);
        self.check_fully(other);
        assert_eq!(newest.0 == other.0, newest.1 == other.1, "equal when the very same values are bound");
        self.check_difference(other, newest);
        self.check_difference(newest, other);
    }

    fn check_fully(&self, (context, map): &(Context, Map)) {
        for (number, variable) in self.variables.iter().enumerate() {
            assert_eq!(context.contains(variable), map.contains_key(&number));
        }
        let mut names: Vec<_> = context.iter().map(|entry| entry.name()).collect();
        let mut expected: Vec<_> = map.keys().map(|number| NAMES[*number]).collect();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
        context.run(|| {
            for (number, variable) in self.variables.iter().enumerate() {
                let seen = variable.with(|value| value.map(|value| value.number));
                assert_eq!(seen, map.get(&number).copied(), "variable {number}");
            }
            assert_eq!(Context::current(), *context);
        });
    }

    fn check_difference(&self, from: &(Context, Map), to: &(Context, Map)) {
        let found = from.0.diff(&to.0);
        let mut changes: Vec<_> = found.iter().map(|change| (change.name(), change.change() as u8)).collect();
        let mut expected = Vec::new();
        for (number, value) in &to.1 {
            match from.1.get(number) {
                None => expected.push((NAMES[*number], Change::Added as u8)),
                Some(before) if before != value => expected.push((NAMES[*number], Change::Replaced as u8)),
                Some(_) => {}
            }
        }
        let gone = from.1.keys().filter(|number| !to.1.contains_key(number));
        expected.extend(gone.map(|number| (NAMES[*number], Change::Removed as u8)));
        changes.sort_unstable();
        expected.sort_unstable();
        assert_eq!(changes, expected);
    }
}

fn check_history(variables: Vec<ContextVar<Tracked>>, ops: &[Op]) {
    let mut world = World::new(variables);
    for (number, op) in ops.iter().enumerate() {
        world.step(op);
        world.check(number * 7);
    }
    while !world.contexts.is_empty() {
        world.contexts.swap_remove(world.contexts.len() / 2);
        let seen: BTreeSet<u32> = world.contexts.iter().flat_map(|(_, map)| map.values().copied()).collect();
        assert_eq!(*world.living.lock().unwrap(), seen);
    }
    assert!(world.living.lock().unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::support::cases(80),
        max_shrink_iters: 5_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn small_contexts_do_what_hash_maps_do(ops in prop::collection::vec(op(), 1..if cfg!(miri) { 10 } else { 60 })) {
        check_history(variables(6), &ops);
    }

    #[test]
    fn contexts_of_any_size_do_what_hash_maps_do(
        amount in 1..if cfg!(miri) { 40_usize } else { 400 },
        gap in prop_oneof![Just(0_usize), Just(1), Just(20), Just(64)],
        ops in prop::collection::vec(op(), 1..if cfg!(miri) { 6 } else { 40 }),
    ) {
        check_history(spread_variables(amount, gap), &ops);
    }
}

#[test]
fn contexts_grow_and_shrink_through_every_size() {
    let largest = if cfg!(miri) { 24 } else { 150 };
    let living = Living::default();
    let variables = variables(largest);
    let mut sizes = vec![Context::empty()];
    for (number, variable) in variables.iter().enumerate() {
        let larger = sizes[number].with_var(variable, Tracked::new(number as u32, &living));
        sizes.push(larger);
    }
    for (size, context) in sizes.iter().enumerate() {
        assert_eq!(context.len(), size);
        for (number, variable) in variables.iter().enumerate() {
            assert_eq!(context.contains(variable), number < size);
        }
    }
    // From the largest down again, the oldest first: none of the old versions may change.
    let mut shrinking = sizes.last().expect("not empty").clone();
    for (number, variable) in variables.iter().enumerate() {
        shrinking = shrinking.without_var(variable);
        assert_eq!(shrinking.len(), largest - number - 1);
        assert!(sizes[largest].contains(variable));
    }
    assert_eq!(shrinking, Context::empty());
    // The smallest contexts go first; the value of each size is seen by the largest to the last.
    while sizes.len() > 1 {
        drop(sizes.remove(0));
        assert_eq!(living.lock().unwrap().len(), largest);
    }
    drop(sizes);
    assert!(living.lock().unwrap().is_empty());
}

#[test]
fn values_replaced_in_a_large_context_go_with_the_versions_that_see_them() {
    let amount = if cfg!(miri) { 40 } else { 300 };
    let living = Living::default();
    let variables = variables(amount);
    let mut large = Context::empty();
    for (number, variable) in variables.iter().enumerate() {
        large = large.with_var(variable, Tracked::new(number as u32, &living));
    }
    let old = large.clone();
    for (number, variable) in variables.iter().enumerate() {
        large = large.with_var(variable, Tracked::new((amount + number) as u32, &living));
    }
    assert_eq!(living.lock().unwrap().len(), 2 * amount);
    drop(old);
    assert_eq!(*living.lock().unwrap(), (amount as u32..2 * amount as u32).collect::<BTreeSet<_>>());
    // In place, while it is entered: each value goes at the set that replaces it.
    large.run(|| {
        drop(large.clone());
        for (number, variable) in variables.iter().enumerate() {
            variable.set(Tracked::new((2 * amount + number) as u32, &living));
            assert_eq!(
                living.lock().unwrap().len(),
                amount + number + 1,
                "`large` still sees the former ones"
            );
        }
    });
    assert_eq!(*living.lock().unwrap(), (amount as u32..2 * amount as u32).collect::<BTreeSet<_>>());
}

#[test]
fn a_large_context_is_written_in_place_while_nobody_else_sees_it() {
    crate::support::on_a_fresh_thread(|| {
        let amount = if cfg!(miri) { 40 } else { 200 };
        let living = Living::default();
        let variables = variables(amount);
        let mut number = 0;
        for _ in 0..3 {
            for variable in &variables {
                number += 1;
                variable.set(Tracked::new(number, &living));
            }
            assert_eq!(living.lock().unwrap().len(), amount, "a replaced value goes at once");
        }
        for (gone, variable) in variables.iter().enumerate() {
            variable.unset();
            assert_eq!(living.lock().unwrap().len(), amount - gone - 1);
        }
        assert!(Context::current().is_empty());
    });
}

#[test]
fn a_variable_away_from_home_stays_there_when_its_home_is_free() {
    // Numbers that are 256 apart have one home in tables of all sizes.
    let variables = spread_variables(2, 255);
    let living = Living::default();
    Context::empty().run(|| {
        let set = |variable: usize, number| {
            variables[variable].set(Tracked::new(number, &living));
        };
        set(0, 0);
        set(1, 1);
        variables[0].unset();
        set(1, 2);
        variables[1].scope(Tracked::new(3, &living), || assert_eq!(Context::current().len(), 1));
        assert_eq!(Context::current().len(), 1);
        assert_eq!(variables[1].with(|value| value.map(|value| value.number)), Some(2));
        assert_eq!(*living.lock().unwrap(), BTreeSet::from([2]));
    });
    assert!(living.lock().unwrap().is_empty());
}
