//! Does every task see its own variables?
//!
//! A request binds variables to values that follow from its number. A [`Carrier`] brings them to
//! the request's tasks: the executor, by inheritance, or the code that spawns, by hand. Each task
//! holds the request's number beside them, in its future: [`Own`]. At random points, the same at
//! each run with the same seed and for every carrier, a task reads a random variable and compares.
//! So a value of another request, one that was lost, and one that a sibling wrote are all seen. A
//! difference is a violation.
//!
//! By hand is as a careful service does it, and costs as little as it can: the values lie in one
//! `Arc`, which is cloned into each future and each blocking closure and read by index; what a task
//! writes for itself and its children is a field beside it. It is the same code on all executors.
//! All tasks have room for it, 32 bytes, also those that carry nothing by hand.

use std::sync::{Arc, Mutex, PoisonError};

use super::executor::{MakeVariable, Variable};
use super::record::{Tally, count};

/// One check in so many points at which there could be one.
const CHECK_ONE_IN: u64 = 4;

/// How many violations are told in full; all are counted.
const TOLD: usize = 10;

/// What brings a request's variables to its tasks.
#[derive(Clone, Copy, Debug)]
pub enum Carrier {
    /// Nothing does: no variables are bound, and none are checked.
    Nothing,
    /// The code that spawns moves them into each task.
    Hand,
    /// The executor: a task inherits the context of its spawner. Variables are made by this.
    Inheritance(MakeVariable),
}

impl Carrier {
    /// For reports: `inherited`.
    pub fn text(self) -> &'static str {
        match self {
            Carrier::Nothing => "none",
            Carrier::Hand => "by hand",
            Carrier::Inheritance(_) => "inherited",
        }
    }
}

/// What holds for all tasks of a run. One exists per run, and is leaked: tasks carry a pointer.
#[derive(Debug)]
pub struct Rules {
    seed: u64,
    /// One task in so many is timed.
    sample: u64,
    /// How many variables a request binds; 0 if nothing carries them.
    variables: usize,
    /// The variables of the context, if tasks inherit it.
    inherited: Option<Inherited>,
}

/// Variables of the context.
#[derive(Debug)]
struct Inherited {
    variables: Vec<Box<dyn Variable>>,
    /// What a task writes for itself and its children.
    scratch: Box<dyn Variable>,
}

impl Rules {
    /// Rules for requests that bind so many variables, which `carrier` brings to their tasks.
    pub fn new(seed: u64, sample: u64, variables: usize, carrier: Carrier) -> &'static Rules {
        let inherited = match carrier {
            Carrier::Inheritance(make) if variables > 0 => Some(Inherited {
                variables: (0..variables).map(|at| make(name(at))).collect(),
                scratch: make(SCRATCH),
            }),
            _ => None,
        };
        let variables = if matches!(carrier, Carrier::Nothing) { 0 } else { variables };
        Box::leak(Box::new(Rules { seed, sample, variables, inherited }))
    }

    /// Whether tasks have anything to check.
    fn check_something(&self) -> bool {
        self.variables > 0
    }

    /// What a request binds to its variable `at`.
    fn value(&self, request: u64, at: usize) -> u64 {
        match at {
            0 => request,
            // Some tenants have many requests.
            1 => mix(request ^ self.seed) % 50,
            _ => mix(request.wrapping_mul(31).wrapping_add(at as u64) ^ self.seed),
        }
    }
}

/// What variable `at` is called.
fn name(at: usize) -> &'static str {
    ["request id", "tenant"].get(at).copied().unwrap_or("another")
}

/// What the variable is called that a task writes for itself and its children.
const SCRATCH: &str = "scratch";

/// Spreads a number over all its bits (the end of splitmix64).
fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a task knows of itself without its context, and where it gets its random numbers from.
#[derive(Debug)]
pub struct Own {
    rules: &'static Rules,
    request: u64,
    random: u64,
    by_hand: ByHand,
}

/// What a task carries by hand; empty where the executor carries, or nothing does.
#[derive(Clone, Debug, Default)]
struct ByHand {
    /// The request's variables.
    values: Option<Arc<[u64]>>,
    /// What this task, or the nearest ancestor that did, wrote for itself and its children.
    scratch: Option<u64>,
}

impl Own {
    /// That of a request's first task.
    pub fn request(rules: &'static Rules, number: u64) -> Own {
        let random = mix(number ^ rules.seed.rotate_left(32));
        Own { rules, request: number, random, by_hand: ByHand::default() }
    }

    /// That of another task of the same request, which is carried the same by hand.
    pub fn child(&self, number: u64) -> Own {
        let random = mix(self.random.wrapping_add(number));
        Own { random, by_hand: self.by_hand.clone(), ..*self }
    }

    /// A random number below `below`.
    pub fn pick(&mut self, below: u64) -> u64 {
        self.random = mix(self.random);
        self.random % below
    }

    /// Whether this task is timed. The same task is, in each run with the same seed.
    pub fn is_timed(&self) -> bool {
        mix(self.random ^ 0x5a5a).is_multiple_of(self.rules.sample)
    }

    /// Binds the request's variables, in the current context or by hand.
    pub fn bind(&mut self) {
        self.bind_those_of(self.request);
    }

    /// Binds the variables of any request: the wrong ones, in tests.
    pub(super) fn bind_those_of(&mut self, request: u64) {
        let rules = self.rules;
        let values = (0..rules.variables).map(|at| rules.value(request, at));
        match &rules.inherited {
            Some(inherited) => inherited.variables.iter().zip(values).for_each(|(var, value)| var.set(value)),
            None if rules.check_something() => self.by_hand.values = Some(values.collect()),
            None => {}
        }
    }

    /// At one point in four: compares a variable with what it must be.
    pub fn check(&mut self, place: &'static str) {
        let rules = self.rules;
        // Picked also where nothing is checked: all executors are given the same requests.
        if self.pick(CHECK_ONE_IN) == 0 && rules.check_something() {
            let at = (self.random >> 32) as usize % rules.variables;
            let seen = match &rules.inherited {
                Some(inherited) => inherited.variables[at].get(),
                None => self.by_hand.values.as_ref().map(|values| values[at]),
            };
            self.compare(name(at), seen, Some(rules.value(self.request, at)), place);
        }
    }

    /// Writes something that this task and its children alone may see, and returns it.
    pub fn scribble(&mut self) -> Option<u64> {
        let written = self.pick(u64::MAX);
        match &self.rules.inherited {
            Some(inherited) => inherited.scratch.set(written),
            None if self.rules.check_something() => self.by_hand.scratch = Some(written),
            None => return None,
        }
        Some(written)
    }

    /// Compares what is written there with what this task wrote, or with nothing.
    pub fn check_scribble(&self, expected: Option<u64>, place: &'static str) {
        if self.rules.check_something() {
            let seen = match &self.rules.inherited {
                Some(inherited) => inherited.scratch.get(),
                None => self.by_hand.scratch,
            };
            self.compare(SCRATCH, seen, expected, place);
        }
    }

    fn compare(&self, variable: &str, seen: Option<u64>, own: Option<u64>, place: &str) {
        count(Tally::Checks, 1);
        if seen != own {
            count(Tally::Violations, 1);
            tell(self.request, variable, seen, own, place);
        }
    }
}

static VIOLATIONS: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[cold]
fn tell(request: u64, variable: &str, seen: Option<u64>, own: Option<u64>, place: &str) {
    let text = |value: Option<u64>| value.map_or("nothing".to_owned(), |value| value.to_string());
    let mut violations = VIOLATIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if violations.len() < TOLD {
        let (seen, own) = (text(seen), text(own));
        violations
            .push(format!("request {request}, {place}: \"{variable}\" was {seen} and must have been {own}"));
    }
}

/// The first violations of this round, in words.
pub fn take_violations() -> Vec<String> {
    std::mem::take(&mut VIOLATIONS.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::executor::{Loadable as _, Ours};
    use crate::load::record::own_totals;
    use crate::load::tests::alone;
    use heirloom_context::Context;

    const INHERITED: Carrier = Carrier::Inheritance(Ours::VARIABLE.unwrap());

    /// Checks until `n` comparisons were made; says how many of them failed.
    fn violations_of(own: &mut Own, n: u64) -> u64 {
        let before = own_totals();
        while own_totals().since(&before).get(Tally::Checks) < n {
            own.check("here");
        }
        own_totals().since(&before).get(Tally::Violations)
    }

    #[test]
    fn a_request_sees_its_own_and_not_anothers() {
        let _alone = alone();
        for carrier in [INHERITED, Carrier::Hand] {
            let rules = Rules::new(1, 1, 8, carrier);
            Context::empty().run(|| {
                let mut own = Own::request(rules, 7);
                own.bind();
                assert_eq!(violations_of(&mut own.child(3), 100), 0, "{carrier:?}");
                // Not all: two requests may be of one tenant.
                own.bind_those_of(8);
                assert!(violations_of(&mut own.child(3), 100) > 50, "{carrier:?}");
            });
            // Variables that were lost.
            Context::empty().run(|| assert!(violations_of(&mut Own::request(rules, 7), 100) >= 100));
        }
    }

    #[test]
    fn what_a_task_writes_is_seen_by_its_children_and_not_by_its_parent() {
        let _alone = alone();
        let rules = Rules::new(1, 1, 8, Carrier::Hand);
        let mut parent = Own::request(rules, 7);
        let mine = parent.scribble();
        let mut child = parent.child(1);
        let violations = |own: &Own, expected| {
            let before = own_totals();
            own.check_scribble(expected, "here");
            own_totals().since(&before).get(Tally::Violations)
        };
        assert_eq!((mine.is_some(), violations(&child, mine)), (true, 0));
        let scribbled = child.scribble();
        assert_eq!((violations(&child, scribbled), violations(&child, mine)), (0, 1));
        assert_eq!((violations(&parent, mine), violations(&parent, scribbled)), (0, 1));
    }

    #[test]
    fn the_seed_decides_what_is_picked_and_timed() {
        let picks = |seed: u64| -> Vec<(u64, bool)> {
            let rules = Rules::new(seed, 4, 1, INHERITED);
            let of = |number| {
                let mut own = Own::request(rules, 9).child(number);
                (own.pick(1000), own.is_timed())
            };
            (0..400).map(of).collect()
        };
        assert_eq!(picks(1), picks(1));
        assert_ne!(picks(1), picks(2));
        let timed = picks(1).iter().filter(|(_, timed)| *timed).count();
        assert!((60..140).contains(&timed), "one in four of 400, not {timed}");
    }

    #[test]
    fn what_carries_the_variables_does_not_change_what_requests_do() {
        let _alone = alone();
        let picks = |carrier: Carrier| -> Vec<u64> {
            let mut own = Own::request(Rules::new(1, 1, 3, carrier), 9);
            own.bind();
            let step = |_| {
                own.check("here");
                own.scribble();
                own.pick(1000)
            };
            (0..50).map(step).collect()
        };
        Context::empty().run(|| {
            let inherited = picks(INHERITED);
            assert_eq!((&picks(Carrier::Nothing), &picks(Carrier::Hand)), (&inherited, &inherited));
        });
    }

    #[test]
    fn without_variables_nothing_is_bound_or_checked() {
        for (variables, carrier) in [(0, INHERITED), (0, Carrier::Hand), (8, Carrier::Nothing)] {
            let before = own_totals();
            let mut own = Own::request(Rules::new(1, 1, variables, carrier), 1);
            own.bind();
            assert!(Context::current().iter().next().is_none());
            assert!((0..100).all(|_| {
                own.check("here");
                own.scribble().is_none()
            }));
            assert_eq!(own_totals().since(&before).get(Tally::Checks), 0);
        }
    }
}
