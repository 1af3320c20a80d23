//! Contenders take turns in one process: A B C, then C B A, then B C A, then A C B, ...
//!
//! ```text
//! Row "read"                     a question, and the cases it is asked for
//!   Case "8 variables"           built when its turn comes, dropped before the next one
//!     Contender "heirloom"       one way to do it: given a number of operations, times them
//!     Contender "imbl"
//! ```
//!
//! For each case the number of operations per sample is found first, per contender, so that a
//! sample takes about [`Plan::sample`]. Then come the rounds. In each, every contender gives one
//! sample; the order rotates by one every second round and runs backwards in between, so that no
//! contender always comes first or follows the same neighbour. What is compared is the ratio of two
//! samples of one round.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::stats::Spread;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Samples per contender.
    pub rounds: usize,
    /// What one sample should take.
    pub sample: Duration,
}

impl Plan {
    /// The full measurement.
    pub const FULL: Plan = Plan { rounds: 15, sample: Duration::from_millis(3) };
    /// Only asks whether everything runs; the numbers mean nothing.
    pub const SMOKE: Plan = Plan { rounds: 2, sample: Duration::from_micros(20) };
}

/// What one contender took in one round.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Operations done: at least as many as were asked for.
    pub ops: u64,
    /// The time they took.
    pub elapsed: Duration,
}

impl Sample {
    /// Nanoseconds per operation.
    pub fn ns(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.ops as f64
    }
}

/// Times `op` on every item of `items`, over and over, until it was done at least `ops` times.
///
/// `op` gets the item and the number of the pass, a value that differs over time. What it returns
/// goes through
/// [`black_box`] and is dropped within the timed region.
#[inline(always)]
pub fn cycle<T: Copy, R>(items: &[T], ops: u64, mut op: impl FnMut(T, u64) -> R) -> Sample {
    let passes = ops.div_ceil(items.len() as u64).max(1);
    let start = Instant::now();
    for pass in 0..passes {
        for &item in items {
            black_box(op(item, pass));
        }
    }
    Sample { elapsed: start.elapsed(), ops: passes * items.len() as u64 }
}

/// Times `op`, done `ops` times.
#[inline(always)]
pub fn repeat<R>(ops: u64, mut op: impl FnMut() -> R) -> Sample {
    let start = Instant::now();
    for _ in 0..ops {
        black_box(op());
    }
    Sample { elapsed: start.elapsed(), ops }
}

/// One way of doing what a case asks for.
pub struct Contender {
    name: String,
    sample: Box<dyn FnMut(u64) -> Sample>,
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Contender").field(&self.name).finish()
    }
}

impl Contender {
    /// A contender that does at least the given number of operations and says how long they took.
    ///
    /// What it needs around the timed region (entering a context, starting threads) it does within
    /// `sample`, before the clock starts and after it stops.
    pub fn new(name: impl Into<String>, sample: impl FnMut(u64) -> Sample + 'static) -> Self {
        Contender { name: name.into(), sample: Box::new(sample) }
    }

    /// How many operations make a sample of about `target`. Warms up on the way.
    fn calibrate(&mut self, target: Duration) -> u64 {
        let mut ops = 1;
        loop {
            let sample = (self.sample)(ops);
            if sample.elapsed * 4 >= target || ops >= 1 << 40 {
                let scale = target.as_secs_f64() / sample.elapsed.as_secs_f64().max(1e-9);
                return ((sample.ops as f64 * scale) as u64).max(1);
            }
            ops = sample.ops.max(ops) * 2;
        }
    }
}

/// A row at one size: contenders that do the same.
pub struct Case {
    label: String,
    build: Box<dyn FnOnce() -> Vec<Contender>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.label).finish()
    }
}

impl Case {
    /// A case whose contenders are built when its turn comes. The first contender is the one all
    /// are compared with.
    pub fn new(label: impl Into<String>, build: impl FnOnce() -> Vec<Contender> + 'static) -> Self {
        Case { label: label.into(), build: Box::new(build) }
    }
}

/// A question, asked for several cases.
#[derive(Debug)]
pub struct Row {
    /// By what name it is chosen on the command line.
    pub name: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// For what it is asked.
    pub cases: Vec<Case>,
}

/// What came of one case.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The row's name.
    pub row: &'static str,
    /// The case's label.
    pub case: String,
    /// For each contender its name, and nanoseconds per operation, round by round.
    pub contenders: Vec<(String, Vec<f64>)>,
}

impl Measured {
    /// The rounds of the contender called `name`.
    pub fn rounds_of(&self, name: &str) -> Option<&[f64]> {
        self.contenders.iter().find(|(have, _)| have == name).map(|(_, rounds)| rounds.as_slice())
    }

    /// The spread of `over / under`, round by round; `None` if one of them did not take part.
    pub fn ratio(&self, over: &str, under: &str) -> Option<Spread> {
        Spread::of_ratios(self.rounds_of(over)?, self.rounds_of(under)?)
    }
}

/// Measures one case.
pub fn measure(row: &'static str, case: Case, plan: Plan) -> Measured {
    let mut contenders = (case.build)();
    let count = contenders.len();
    let ops: Vec<u64> = contenders.iter_mut().map(|contender| contender.calibrate(plan.sample)).collect();
    let mut rounds = vec![Vec::with_capacity(plan.rounds); count];
    for round in 0..plan.rounds {
        for position in 0..count {
            let at = turn(round, position, count);
            rounds[at].push((contenders[at].sample)(ops[at]).ns());
        }
    }
    let names = contenders.into_iter().map(|contender| contender.name);
    Measured { row, case: case.label, contenders: names.zip(rounds).collect() }
}

/// Whose turn it is: every second round the order is rotated by one, and in between it runs
/// backwards.
pub(crate) fn turn(round: usize, position: usize, count: usize) -> usize {
    let position = if round % 2 == 1 { count - 1 - position } else { position };
    (position + round / 2) % count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn everyone_has_one_turn_a_round_and_comes_first_as_often_as_the_others() {
        for count in 1..6 {
            let mut firsts = vec![0; count];
            for round in 0..2 * count {
                let mut seen: Vec<usize> = (0..count).map(|position| turn(round, position, count)).collect();
                firsts[seen[0]] += 1;
                seen.sort_unstable();
                assert_eq!(seen, (0..count).collect::<Vec<_>>());
            }
            assert!(firsts.iter().all(|&times| times == 2), "{firsts:?}");
        }
    }

    #[test]
    fn contenders_are_interleaved() {
        let log = Rc::new(RefCell::new(String::new()));
        let contender = |name: &'static str| {
            let log = log.clone();
            Contender::new(name, move |ops| {
                log.borrow_mut().push_str(name);
                Sample { ops, elapsed: Duration::from_millis(1) }
            })
        };
        let contenders = vec![contender("a"), contender("b")];
        let case = Case::new("case", move || contenders);
        let measured = measure("row", case, Plan { rounds: 3, sample: Duration::from_millis(1) });
        // One call each to calibrate, then three rounds.
        assert_eq!(*log.borrow(), "ab".to_owned() + "ab" + "ba" + "ba");
        assert_eq!(measured.rounds_of("a").unwrap().len(), 3);
        assert_eq!(measured.ratio("a", "b").unwrap().median, 1.0);
        assert!(measured.ratio("a", "c").is_none());
    }

    #[test]
    fn a_cycle_does_at_least_what_was_asked() {
        let mut done = 0;
        let sample = cycle(&[1, 2, 3], 7, |_, _| done += 1);
        assert_eq!((done, sample.ops), (9, 9));
    }
}
