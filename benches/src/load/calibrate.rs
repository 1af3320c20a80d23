//! What an executor sustains at most: the rate of which an open loop is then given a share.
//!
//! The rate is found by closed loops, with twice as many clients from step to step, until more
//! clients bring no more requests a second. A closed loop is never overloaded: what it cannot do it
//! does not begin. So each step has a steady state, and its throughput is a rate that is sustained.
//! An open loop at a rate that is too high has none: whether its queue still grows or only varies
//! shows after minutes, and a search over rates has many such steps. A number of clients that is
//! fixed would not do either: requests that mostly sleep need many before an executor is full.

use std::io;

use super::outcome::Round;
use super::record::Tally;
use super::scenario::About;

/// By how much a step must exceed the best one before it for the search to go on.
const GAIN: f64 = 1.05;

/// So many steps in a row without a gain end the search: one may have been disturbed.
const WITHOUT_GAIN: usize = 2;

/// A closed loop with so many clients.
#[derive(Clone, Debug)]
pub struct Step {
    /// How many.
    pub clients: usize,
    /// What came of it.
    pub round: Round,
}

/// What an executor sustains, and how that was found.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The scenario.
    pub about: About,
    /// The executor.
    pub executor: &'static str,
    /// What is taken of it.
    pub share: f64,
    /// The steps, in their order: one at least.
    pub steps: Vec<Step>,
}

impl Step {
    /// Requests that ended, a second.
    pub fn per_second(&self) -> f64 {
        self.round.measured.get(Tally::Finished) as f64 / self.round.window.as_secs_f64().max(1e-9)
    }
}

impl Calibration {
    /// The step with the highest rate.
    pub fn best(&self) -> &Step {
        let highest = self.steps.iter().max_by(|one, other| one.per_second().total_cmp(&other.per_second()));
        highest.expect("a search has a step")
    }

    /// What must not be, in words.
    pub fn wrong(&self) -> Option<String> {
        let sum = |of: &dyn Fn(&Round) -> u64| self.steps.iter().map(|step| of(&step.round)).sum::<u64>();
        let violations = sum(&|round| round.all.get(Tally::Violations));
        let stuck = sum(&|round| if round.interrupted { 0 } else { round.unfinished });
        (violations + stuck > 0).then(|| {
            format!(
                "{}, while the rate was found: {violations} wrong values of variables, and {stuck} requests that \
                 NEVER ENDED",
                self.executor
            )
        })
    }

    /// The rate that the executors are given.
    pub fn rate(&self) -> f64 {
        self.share * self.best().per_second()
    }
}

/// Steps of a search that begins with `first` clients and has no more than `most` in any; `measure`
/// is given the number of clients, and says the rate beside what it returns. No step follows one
/// whose rate is `None`.
///
/// # Errors
/// That of a step.
pub fn search<T>(
    first: usize,
    most: usize,
    mut measure: impl FnMut(usize) -> io::Result<(Option<f64>, T)>,
) -> io::Result<Vec<T>> {
    let mut clients = first.min(most);
    let mut steps = Vec::new();
    let (mut best, mut without_gain) = (0.0, 0);
    loop {
        let (rate, step) = measure(clients)?;
        steps.push(step);
        let Some(rate) = rate else { return Ok(steps) };
        without_gain = if rate >= GAIN * best { 0 } else { without_gain + 1 };
        best = f64::max(best, rate);
        if without_gain == WITHOUT_GAIN || clients >= most {
            return Ok(steps);
        }
        clients = (2 * clients).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps on an executor that answers each request after a millisecond, and at most `capacity` a
    /// second; at step `disturbed` other programs leave it half of that.
    fn steps(first: usize, most: usize, capacity: f64, disturbed: usize) -> Vec<(usize, f64)> {
        let mut at = 0;
        let measure = |clients: usize| {
            at += 1;
            let capacity = if at == disturbed { capacity / 2.0 } else { capacity };
            let rate = f64::min(clients as f64 * 1000.0, capacity);
            Ok((Some(rate), (clients, rate)))
        };
        search(first, most, measure).unwrap()
    }

    fn best(steps: &[(usize, f64)]) -> f64 {
        steps.iter().map(|step| step.1).fold(0.0, f64::max)
    }

    #[test]
    fn clients_double_until_more_of_them_bring_nothing() {
        let all = steps(8, 100_000, 50_000.0, 0);
        let clients: Vec<usize> = all.iter().map(|step| step.0).collect();
        assert_eq!((clients, best(&all)), (vec![8, 16, 32, 64, 128, 256], 50_000.0));
    }

    #[test]
    fn one_step_that_was_disturbed_does_not_end_the_search() {
        assert_eq!(best(&steps(32, 100_000, 50_000.0, 2)), 50_000.0);
    }

    #[test]
    fn no_step_has_more_clients_than_there_may_be() {
        let all = steps(8, 20, 50_000.0, 0);
        assert_eq!(all, [(8, 8000.0), (16, 16_000.0), (20, 20_000.0)]);
        assert_eq!(steps(64, 20, 50_000.0, 0), [(20, 20_000.0)]);
    }

    #[test]
    fn an_executor_that_fails_or_an_interruption_ends_the_search() {
        let failing = search(1, 100, |_| Err::<(Option<f64>, ()), _>(io::Error::other("no thread")));
        assert_eq!(failing.unwrap_err().to_string(), "no thread");
        let mut asked = 0;
        let steps = search(1, 100, |_| {
            asked += 1;
            Ok(((asked < 3).then_some(f64::from(asked)), ()))
        });
        assert_eq!((steps.unwrap().len(), asked), (3, 3));
    }
}
