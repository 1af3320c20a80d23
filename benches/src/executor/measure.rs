//! The rounds: which contender is measured when, what is kept, and what happens to a peer that does
//! not come back.

use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::plan::{NEVER, Plan};
use super::row::{Compared, Contender, Part, Row, Sampler};
use crate::harness::turn;
use crate::stats::Spread;

/// What came of a row.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The row.
    pub row: Row,
    /// The figures of each contender.
    pub contenders: Vec<Figures>,
}

/// The figures of one contender in one row.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The contender's name.
    pub name: &'static str,
    /// Per round, per part.
    pub rounds: Vec<Vec<f64>>,
}

impl Measured {
    /// The figures of one part, round by round.
    pub fn rounds_of(&self, name: &str, part: usize) -> Option<Vec<f64>> {
        let figures = self.contenders.iter().find(|figures| figures.name == name)?;
        Some(figures.rounds.iter().map(|round| round[part]).collect())
    }

    /// The spread of one part.
    pub fn spread(&self, name: &str, part: usize) -> Option<Spread> {
        Spread::of(self.rounds_of(name, part)?)
    }

    /// The spread of what one part is judged by: its ratio, its speed-up, or itself.
    pub fn judged(&self, name: &str, part: usize) -> Option<Spread> {
        let own = self.rounds_of(name, part)?;
        match self.row.parts[part].compared {
            Compared::To(other) => Spread::of_ratios(&own, &self.rounds_of(other, part)?),
            Compared::Faster(other) => Spread::of_ratios(&self.rounds_of(other, part)?, &own),
            Compared::Itself => Spread::of(own),
        }
    }

    /// The row's parts, numbered.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &'static Part)> {
        self.row.parts.iter().enumerate()
    }
}

/// Ends the process when a sample takes far too long, and names the contender. A thread that hangs
/// cannot be ended alone.
#[derive(Debug)]
pub struct Watchdog(Arc<Mutex<Option<(String, Instant)>>>);

/// Longer than any sample takes on a slow, busy machine.
const TOO_LONG: Duration = Duration::from_secs(120);

impl Default for Watchdog {
    fn default() -> Self {
        let watched: Arc<Mutex<Option<(String, Instant)>>> = Arc::default();
        let seen = watched.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                let watched = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some((what, since)) = watched
                    && since.elapsed() > TOO_LONG
                {
                    eprintln!("{what}: no end after {TOO_LONG:?}; given up");
                    process::exit(3);
                }
            }
        });
        Watchdog(watched)
    }
}

impl Watchdog {
    fn watch<R>(&self, what: String, f: impl FnOnce() -> R) -> R {
        let set = |watched| *self.0.lock().unwrap_or_else(PoisonError::into_inner) = watched;
        set(Some((what, Instant::now())));
        let result = f();
        set(None);
        result
    }
}

/// Measures one row: in each round all contenders in turn, in an order that changes.
pub fn measure(row: Row, contenders: &[Contender], plan: &Plan, watchdog: &Watchdog) -> Measured {
    let part_in = |contender: &Contender| {
        contender
            .rows
            .iter()
            .find(|(name, _)| *name == row.name)
            .map(|&(_, sampler)| (contender.name, sampler))
    };
    let plan = &Plan { sample: plan.sample * row.samples, ..*plan };
    let taking_part: Vec<(&'static str, Sampler)> = contenders.iter().filter_map(part_in).collect();
    let mut figures: Vec<Figures> =
        taking_part.iter().map(|&(name, _)| Figures { name, rounds: Vec::new() }).collect();
    for round in 0..plan.rounds {
        for position in 0..taking_part.len() {
            let at = turn(round, position, taking_part.len());
            let (name, sampler) = taking_part[at];
            // A contender that never finished is not asked again.
            let given_up = figures[at].rounds.first().filter(|first| first.contains(&NEVER)).cloned();
            let sample = given_up
                .unwrap_or_else(|| watchdog.watch(format!("{name} in {}", row.name), || sampler(plan)));
            assert_eq!(sample.len(), row.parts.len(), "{name} in {}: figures and parts", row.name);
            figures[at].rounds.push(sample);
        }
    }
    Measured { row, contenders: figures }
}
