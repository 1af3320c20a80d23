//! Does every task see its own context?
//!
//! A request binds variables to values that follow from its number. Each of its tasks carries that
//! number a second time, moved into its future by hand: [`Own`]. At random points, the same at each
//! run with the same seed, a task reads a random variable from the context and compares. So a value
//! of another request, one that was lost, and one that a sibling wrote are all seen. A difference
//! is a violation.
//!
//! Peers that carry no context bind nothing and check nothing: they do less work than we do.

use std::sync::{Mutex, PoisonError};

use super::executor::Variable;
use super::record::{Tally, count};

/// One check in so many points at which there could be one.
const CHECK_ONE_IN: u64 = 4;

/// How many violations are told in full; all are counted.
const TOLD: usize = 10;

/// What holds for all tasks of a run. One exists per run, and is leaked: tasks carry a pointer.
#[derive(Debug)]
pub struct Rules {
    seed: u64,
    /// One task in so many is timed.
    sample: u64,
    /// What each request binds; none where no context is carried.
    variables: Vec<Box<dyn Variable>>,
    /// What a task writes for itself alone.
    scratch: Option<Box<dyn Variable>>,
}

impl Rules {
    /// Rules for requests that bind so many variables, which are made by `variable`; none if it
    /// makes none.
    pub fn new(
        seed: u64,
        sample: u64,
        variables: usize,
        variable: fn(&'static str) -> Option<Box<dyn Variable>>,
    ) -> &'static Rules {
        let made = (0..variables).map_while(|at| match at {
            0 => variable("request id"),
            1 => variable("tenant"),
            _ => variable("another"),
        });
        let variables: Vec<_> = made.collect();
        let scratch = if variables.is_empty() { None } else { variable("scratch") };
        Box::leak(Box::new(Rules { seed, sample, variables, scratch }))
    }

    /// Whether tasks have anything to check.
    pub fn check_something(&self) -> bool {
        self.scratch.is_some()
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
}

impl Own {
    /// That of a request's first task.
    pub fn request(rules: &'static Rules, number: u64) -> Own {
        Own { rules, request: number, random: mix(number ^ rules.seed.rotate_left(32)) }
    }

    /// That of another task of the same request.
    pub fn child(&self, number: u64) -> Own {
        Own { random: mix(self.random.wrapping_add(number)), ..*self }
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

    /// Binds the request's variables in the current context.
    pub fn bind(&self) {
        for (at, variable) in self.rules.variables.iter().enumerate() {
            variable.set(self.rules.value(self.request, at));
        }
    }

    /// At one point in four: compares a variable in the context with what it must be.
    pub fn check(&mut self, place: &'static str) {
        // Picked also where nothing is checked: all executors are given the same requests.
        if self.pick(CHECK_ONE_IN) == 0 && !self.rules.variables.is_empty() {
            let at = (self.random >> 32) as usize % self.rules.variables.len();
            let variable = &*self.rules.variables[at];
            self.compare(variable, variable.get(), Some(self.rules.value(self.request, at)), place);
        }
    }

    /// Writes something that this task alone may see, and returns it.
    pub fn scribble(&mut self) -> Option<u64> {
        let written = self.pick(u64::MAX);
        self.rules.scratch.as_ref()?.set(written);
        Some(written)
    }

    /// Compares what is written there with what this task wrote, or with nothing.
    pub fn check_scribble(&self, expected: Option<u64>, place: &'static str) {
        if let Some(scratch) = self.rules.scratch.as_deref() {
            self.compare(scratch, scratch.get(), expected, place);
        }
    }

    fn compare(&self, variable: &dyn Variable, seen: Option<u64>, own: Option<u64>, place: &str) {
        count(Tally::Checks, 1);
        if seen != own {
            count(Tally::Violations, 1);
            tell(self.request, variable.name(), seen, own, place);
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
        let rules = Rules::new(1, 1, 8, Ours::variable);
        Context::empty().run(|| {
            Own::request(rules, 7).bind();
            assert_eq!(violations_of(&mut Own::request(rules, 7).child(3), 100), 0);
            // Not all: two requests may be of one tenant.
            assert!(violations_of(&mut Own::request(rules, 8), 100) > 50);
        });
        // A context that was lost.
        Context::empty().run(|| assert!(violations_of(&mut Own::request(rules, 7), 100) >= 100));
    }

    #[test]
    fn the_seed_decides_what_is_picked_and_timed() {
        let picks = |seed: u64| -> Vec<(u64, bool)> {
            let rules = Rules::new(seed, 4, 1, Ours::variable);
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
    fn whether_contexts_are_checked_does_not_change_what_requests_do() {
        let _alone = alone();
        let picks = |variables: usize| -> Vec<u64> {
            let mut own = Own::request(Rules::new(1, 1, variables, Ours::variable), 9);
            let step = |_| {
                own.check("here");
                own.scribble();
                own.pick(1000)
            };
            (0..50).map(step).collect()
        };
        Context::empty().run(|| assert_eq!(picks(0), picks(3)));
    }

    #[test]
    fn without_variables_nothing_is_bound_or_checked() {
        let rules = Rules::new(1, 1, 0, Ours::variable);
        let mut own = Own::request(rules, 1);
        own.bind();
        assert!(Context::current().iter().next().is_none());
        assert!((0..100).all(|_| {
            own.check("here");
            own.scribble().is_none()
        }));
    }
}
