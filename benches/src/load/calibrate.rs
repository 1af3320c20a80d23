//! What an executor sustains at most: the rate of which an open loop is then given a share.
//!
//! ```text
//!   closed loops, twice as many clients each time,      a rate that cannot be kept up with
//!   until more of them bring nothing                ──►      │
//!   open loops at a rate half-way between the last  ──►  the highest rate that was kept up with
//!   that was kept up with and the last that was not
//! ```
//!
//! What a closed loop ends is more than can be sustained. When work never runs out, an executor
//! neither parks nor wakes, takes timers and events in large batches, and shares its processors
//! with no thread that starts requests on time. On two processors, 60 % of what tokio ends in a
//! closed loop of `service` can already be more than it ends in an open one. So the closed loop
//! only says where to begin, since it needs to know nothing of the executor.
//!
//! A rate is kept up with if nearly as many requests end as are due. Whether a queue grows by less
//! than that shows after minutes only; a share well below 1 does not depend on it.

use std::io;

use super::drive::Load;
use super::outcome::Round;
use super::record::Tally;
use super::scenario::About;

/// By how much a step must exceed the best one before it for more clients to be tried.
const GAIN: f64 = 1.05;

/// So many steps in a row without a gain are enough: one may have been disturbed.
const WITHOUT_GAIN: usize = 2;

/// What share of the requests that are due must end.
const KEPT_UP: f64 = 0.98;

/// How often a rate is offered that is not kept up with: the first time may have been disturbed.
const TRIES: usize = 2;

/// How far apart, as a ratio, the rates may be between which the sustained one lies.
const PRECISION: f64 = 1.05;

/// An executor that does not keep up with this share of what a closed loop ends sustains nothing.
const LEAST: f64 = 0.02;

/// One load that was tried.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which.
    pub load: Load,
    /// What came of it.
    pub round: Round,
}

impl Step {
    /// Requests that ended, a second.
    pub fn per_second(&self) -> f64 {
        self.round.measured.get(Tally::Finished) as f64 / self.round.window.as_secs_f64().max(1e-9)
    }
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
    /// The requests a second that it keeps up with.
    pub sustained: f64,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}

impl Calibration {
    /// The closed loop in which most requests ended.
    pub fn best_closed(&self) -> Option<&Step> {
        let closed = self.steps.iter().filter(|step| matches!(step.load, Load::Closed { .. }));
        closed.max_by(|one, other| one.per_second().total_cmp(&other.per_second()))
    }

    /// What must not be, in words.
    pub fn wrong(&self) -> Option<String> {
        let sum = |of: &dyn Fn(&Step) -> u64| self.steps.iter().map(of).sum::<u64>();
        let violations = sum(&|step| step.round.all.get(Tally::Violations));
        let stuck = sum(&|Step { load, round }| match load {
            Load::Closed { .. } if !round.interrupted => round.unfinished,
            // More than it can do was asked of it, perhaps.
            _ => 0,
        });
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
        self.share * self.sustained
    }
}

/// The highest rate that is kept up with, and the steps of the search for it. Closed loops begin
/// with `first` clients and have no more than `most`; `open` makes the load of a rate. `measure`
/// says how many requests a second end under a load, beside what it returns. No step follows one
/// for which that is `None`.
///
/// # Errors
/// That of a step.
pub fn search<T>(
    first: usize,
    most: usize,
    open: impl Fn(f64) -> Load,
    mut measure: impl FnMut(Load) -> io::Result<(Option<f64>, T)>,
) -> io::Result<(f64, Vec<T>)> {
    let mut steps = Vec::new();
    let mut take = |load| {
        let (ended, step) = measure(load)?;
        steps.push(step);
        io::Result::Ok(ended)
    };
    let sustained = sustained(first, most, open, &mut take)?;
    Ok((sustained, steps))
}

/// The highest rate that is kept up with; `take` takes a step.
fn sustained(
    first: usize,
    most: usize,
    open: impl Fn(f64) -> Load,
    take: &mut impl FnMut(Load) -> io::Result<Option<f64>>,
) -> io::Result<f64> {
    let mut clients = first.min(most);
    let (mut best, mut without_gain) = (0.0, 0);
    loop {
        let Some(ended) = take(Load::Closed { clients })? else { return Ok(0.0) };
        without_gain = if ended >= GAIN * best { 0 } else { without_gain + 1 };
        best = f64::max(best, ended);
        if without_gain == WITHOUT_GAIN || clients >= most {
            break;
        }
        clients = (2 * clients).min(most);
    }
    let (mut low, mut high) = (0.0, best);
    while high > PRECISION * low && high > LEAST * best {
        let rate = f64::midpoint(low, high);
        let mut kept_up = false;
        for _ in 0..TRIES {
            let Some(ended) = take(open(rate))? else { return Ok(low) };
            kept_up = ended >= KEPT_UP * rate;
            if kept_up {
                break;
            }
        }
        *(if kept_up { &mut low } else { &mut high }) = rate;
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executor that answers each request after a millisecond. It ends at most `closed` requests
    /// a second in a closed loop and `open` in an open one; at step `disturbed` other programs
    /// leave it half of that.
    struct Fake {
        closed: f64,
        open: f64,
        disturbed: usize,
    }

    impl Fake {
        fn search(&self, first: usize, most: usize) -> (f64, Vec<Load>) {
            let mut step = 0;
            let measure = |load| {
                step += 1;
                let left = if step == self.disturbed { 0.5 } else { 1.0 };
                let ended = match load {
                    Load::Closed { clients } => f64::min(clients as f64 * 1000.0, left * self.closed),
                    Load::Open { per_second, .. } => f64::min(per_second, left * self.open),
                };
                Ok((Some(ended), load))
            };
            search(first, most, |per_second| Load::Open { per_second, most_in_flight: 1 }, measure).unwrap()
        }
    }

    const FAKE: Fake = Fake { closed: 50_000.0, open: 35_000.0, disturbed: 0 };

    fn clients(steps: &[Load]) -> Vec<usize> {
        let of = |load: &Load| if let Load::Closed { clients } = load { Some(*clients) } else { None };
        steps.iter().filter_map(of).collect()
    }

    /// Whether that is what the fake sustains.
    fn is_right(sustained: f64) -> bool {
        (FAKE.open / PRECISION..=FAKE.open / KEPT_UP).contains(&sustained)
    }

    #[test]
    fn the_rate_is_one_that_is_kept_up_with_and_not_what_a_closed_loop_ends() {
        let (sustained, steps) = FAKE.search(8, 100_000);
        assert!(is_right(sustained), "{sustained}: {steps:?}");
        assert_eq!(clients(&steps), [8, 16, 32, 64, 128, 256]);
        assert!(steps.len() < 20, "{steps:?}");
    }

    #[test]
    fn no_step_that_is_disturbed_decides() {
        let steps = FAKE.search(8, 100_000).1.len();
        for disturbed in 1..=steps {
            let (sustained, steps) = Fake { disturbed, ..FAKE }.search(8, 100_000);
            assert!(is_right(sustained), "step {disturbed}, {sustained}: {steps:?}");
        }
    }

    #[test]
    fn no_step_has_more_clients_than_there_may_be() {
        assert_eq!(clients(&FAKE.search(8, 20).1), [8, 16, 20]);
        let (sustained, steps) = FAKE.search(64, 20);
        // As many as 20 clients end is all that is tried.
        assert!(clients(&steps) == [20] && (19_000.0..=20_000.0).contains(&sustained), "{sustained}");
    }

    #[test]
    fn an_executor_that_keeps_up_with_nothing_sustains_nothing() {
        assert_eq!(Fake { open: 0.0, ..FAKE }.search(8, 100).0, 0.0);
    }

    #[test]
    fn an_executor_that_fails_or_an_interruption_ends_the_search() {
        let open = |per_second| Load::Open { per_second, most_in_flight: 1 };
        let failing = search(1, 100, open, |_| Err::<(Option<f64>, ()), _>(io::Error::other("no thread")));
        assert_eq!(failing.unwrap_err().to_string(), "no thread");
        for last in [2, 5] {
            let mut asked = 0;
            let measure = |load: Load| {
                asked += 1;
                let ended = if let Load::Open { per_second, .. } = load { per_second } else { 1000.0 };
                Ok(((asked < last).then_some(ended), ()))
            };
            let (_, steps) = search(1, 100, open, measure).unwrap();
            assert_eq!((steps.len(), asked), (last, last));
        }
    }
}
