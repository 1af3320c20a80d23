//! What came of it: rounds, and the run they add up to.

use std::time::Duration;

use super::calibrate::Calibration;
use super::check::Carrier;
use super::drive::Load;
use super::executor::{Alarms, Observed};
use super::machine::{self, Memory};
use super::record::{Histograms, Metric, Tally, Totals};
use super::scenario::About;
use super::tail;

/// What one round gave.
#[derive(Clone, Debug)]
pub struct Round {
    /// How long was measured.
    pub window: Duration,
    /// What was counted within that time.
    pub measured: Totals,
    /// What was counted in the whole round, warm-up and drain included.
    pub all: Totals,
    /// Of requests and tasks that ended after the warm-up.
    pub histograms: Histograms,
    /// Requests that had not ended when the time to drain was up.
    pub unfinished: u64,
    /// Requests of an open loop that were due and were not even started.
    pub behind: u64,
    /// Of the whole process, while measuring.
    pub processor_time: Option<Duration>,
    /// Of everything else on this machine, while measuring.
    pub others_time: Option<Duration>,
    /// What the executor told before and after.
    pub observed: (Observed, Observed),
    /// In bytes.
    pub peak_memory: Option<u64>,
    /// What was seen on the way.
    pub timeline: Timeline,
    /// The first violations, in words.
    pub violations: Vec<String>,
    /// What the executor's watchdog reported, warm-up and drain included.
    pub alarms: Option<Alarms>,
    /// Whether it was broken off.
    pub interrupted: bool,
}

/// What was seen at one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tick {
    /// Since measuring began.
    pub at: Duration,
    /// Units since the last look, a second.
    pub units_per_second: f64,
    /// Requests begun and not ended.
    pub in_flight: u64,
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Tasks that waited for a worker.
    pub queued: Option<u64>,
    /// How much of the time since the last look each worker was on a processor: 0 to 1.
    pub busy: Vec<f64>,
}

/// What was seen, look by look.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// At the beginning.
    pub memory: Option<Memory>,
    /// All looks.
    pub ticks: Vec<Tick>,
    threads: Vec<(u32, Duration)>,
    units: u64,
}

impl Timeline {
    /// One that begins now, when so much has been counted, and watches these threads.
    pub fn new(memory: Option<Memory>, totals: &Totals, threads: Vec<u32>) -> Timeline {
        let timed = |thread| Some((thread, machine::thread_time(thread)?));
        let threads = threads.into_iter().filter_map(timed).collect();
        Timeline { memory, ticks: Vec::new(), threads, units: totals.get(Tally::Units) }
    }

    /// Adds a look.
    pub fn add(&mut self, at: Duration, totals: &Totals, in_flight: u64, observed: &Observed) {
        let since = at.saturating_sub(self.ticks.last().map_or(Duration::ZERO, |tick| tick.at));
        let seconds = since.as_secs_f64().max(1e-9);
        let units = totals.get(Tally::Units);
        let more = units.saturating_sub(std::mem::replace(&mut self.units, units));
        let busy = self.threads.iter_mut().map(|(thread, before)| {
            let now = machine::thread_time(*thread).unwrap_or(*before);
            let used = now.saturating_sub(std::mem::replace(before, now));
            (used.as_secs_f64() / seconds).min(1.0)
        });
        self.ticks.push(Tick {
            at,
            units_per_second: more as f64 / seconds,
            in_flight,
            memory: machine::memory().map_or(0, |memory| memory.now),
            queued: observed.queued,
            busy: busy.collect(),
        });
    }

    /// The most memory that was seen.
    pub fn most_memory(&self) -> u64 {
        self.ticks.iter().map(|tick| tick.memory).max().unwrap_or(0)
    }
}

/// One executor under one scenario: all rounds.
#[derive(Clone, Debug)]
pub struct Run {
    /// The scenario.
    pub about: About,
    /// How requests were started.
    pub load: Load,
    /// The executor.
    pub executor: &'static str,
    /// What brought variables to tasks.
    pub carrier: Carrier,
    /// The distributions of all rounds.
    pub histograms: Histograms,
    /// What [`tail::of_round`] takes of the distributions of each.
    pub tails: Vec<Vec<f64>>,
    /// The rounds, without their distributions.
    pub rounds: Vec<Round>,
}

impl Run {
    /// One that has no rounds yet.
    pub fn new(about: About, load: Load, executor: &'static str, carrier: Carrier) -> Run {
        let histograms = Histograms::default();
        Run { about, load, executor, carrier, histograms, tails: Vec::new(), rounds: Vec::new() }
    }

    /// Adds a round.
    pub fn add(&mut self, mut round: Round) {
        let histograms = std::mem::take(&mut round.histograms);
        self.tails.push(tail::of_round(&histograms));
        self.histograms.add(&histograms);
        self.rounds.push(round);
    }

    /// How long was measured.
    pub fn window(&self) -> Duration {
        self.rounds.iter().map(|round| round.window).sum()
    }

    /// What was counted while measuring.
    pub fn measured(&self) -> Totals {
        self.sum(|round| &round.measured)
    }

    /// What was counted at all.
    pub fn all(&self) -> Totals {
        self.sum(|round| &round.all)
    }

    fn sum(&self, of: impl Fn(&Round) -> &Totals) -> Totals {
        let mut sum = Totals::default();
        self.rounds.iter().for_each(|round| sum.add(of(round)));
        sum
    }

    /// Units a second.
    pub fn throughput(&self) -> f64 {
        self.per_second(Tally::Units)
    }

    /// Something that was counted, a second.
    pub fn per_second(&self, tally: Tally) -> f64 {
        self.measured().get(tally) as f64 / self.window().as_secs_f64().max(1e-9)
    }

    /// Variables that had a wrong value.
    pub fn violations(&self) -> u64 {
        self.all().get(Tally::Violations)
    }

    /// Requests that did not end.
    pub fn unfinished(&self) -> u64 {
        self.rounds.iter().map(|round| round.unfinished).sum()
    }

    /// Requests that were due and not started.
    pub fn behind(&self) -> u64 {
        self.rounds.iter().map(|round| round.behind).sum()
    }

    /// Requests that did not end although nothing but the executor kept them from it.
    pub fn stuck(&self) -> u64 {
        match self.load {
            Load::Closed { .. } => {
                let lost = self.rounds.iter().filter(|round| !round.interrupted);
                lost.map(|round| round.unfinished).sum()
            }
            // More than it can do was asked of it, perhaps.
            Load::Open { .. } => 0,
        }
    }

    /// A quantile of a metric, in nanoseconds.
    pub fn quantile(&self, metric: Metric, quantile: f64) -> Option<u64> {
        Some(self.histograms.get(metric)?.value_at_quantile(quantile))
    }

    /// Processors that were busy, on average.
    pub fn processors(&self) -> Option<f64> {
        let used: Option<Duration> = self.rounds.iter().map(|round| round.processor_time).sum();
        Some(used?.as_secs_f64() / self.window().as_secs_f64().max(1e-9))
    }

    /// Processors that everything else kept busy, on average.
    pub fn others(&self) -> Option<f64> {
        let used: Option<Duration> = self.rounds.iter().map(|round| round.others_time).sum();
        Some(used?.as_secs_f64() / self.window().as_secs_f64().max(1e-9))
    }

    /// The sum of a counter of the executor's over all rounds.
    pub fn counted(&self, of: impl Fn(&Observed) -> Option<u64>) -> Option<u64> {
        let of = &of;
        self.rounds
            .iter()
            .map(|Round { observed: (start, end), .. }| Some(of(end)?.saturating_sub(of(start)?)))
            .sum()
    }

    /// What the executor's watchdog reported; `None` without a watchdog.
    pub fn alarms(&self) -> Option<Alarms> {
        let mut all: Option<Alarms> = None;
        for alarms in self.rounds.iter().filter_map(|round| round.alarms.as_ref()) {
            all.get_or_insert_default().add(alarms);
        }
        all
    }

    /// How many tasks waited for a worker: on average, and at most.
    pub fn queue_depth(&self) -> Option<(f64, u64)> {
        let depths: Vec<u64> = self.ticks().filter_map(|tick| tick.queued).collect();
        let most = depths.iter().copied().max()?;
        Some((depths.iter().sum::<u64>() as f64 / depths.len() as f64, most))
    }

    /// How busy each worker was, on average over all rounds: 0 to 1.
    pub fn busy(&self) -> Vec<f64> {
        let workers = self.ticks().map(|tick| tick.busy.len()).max().unwrap_or(0);
        let of = |worker: usize| {
            let shares: Vec<f64> = self.ticks().filter_map(|tick| tick.busy.get(worker).copied()).collect();
            shares.iter().sum::<f64>() / shares.len() as f64
        };
        (0..workers).map(of).collect()
    }

    /// Resident memory at the beginning, the most, and at the end, in bytes.
    pub fn memory(&self) -> Option<(u64, u64, u64)> {
        let start = self.rounds.first()?.timeline.memory?.now;
        let most = self.rounds.iter().filter_map(|round| round.peak_memory).max()?;
        let end = self.rounds.last()?.timeline.ticks.last().map_or(start, |tick| tick.memory);
        Some((start, most, end))
    }

    /// All looks, round after round, and the time at which each was taken, the rounds put end to
    /// end.
    pub fn timed_ticks(&self) -> Vec<(f64, &Tick)> {
        let mut from = 0.0;
        let mut all = Vec::new();
        for round in &self.rounds {
            all.extend(round.timeline.ticks.iter().map(|tick| (from + tick.at.as_secs_f64(), tick)));
            from += round.window.as_secs_f64();
        }
        all
    }

    fn ticks(&self) -> impl Iterator<Item = &Tick> {
        self.rounds.iter().flat_map(|round| &round.timeline.ticks)
    }
}

/// Everything that was run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Where.
    pub machine: machine::Machine,
    /// How.
    pub settings: super::options::Settings,
    /// What a context costs here.
    pub price: super::price::Price,
    /// How the rates were found, scenario by scenario, if they were.
    pub calibrations: Vec<Calibration>,
    /// What came of it, scenario by scenario.
    pub runs: Vec<Run>,
    /// Whether it was broken off.
    pub interrupted: bool,
}

impl Outcome {
    /// How a scenario's rate was found, if it was.
    pub fn calibration_of(&self, about: About) -> Option<&Calibration> {
        self.calibrations.iter().find(|calibration| calibration.about.name == about.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_look_tells_the_rate_since_the_one_before_and_the_first_since_the_beginning() {
        let units = |units| Totals::of(&[(Tally::Units, units)]);
        let mut timeline = Timeline::new(None, &units(1000), Vec::new());
        for (at, total) in [(10, 1100), (20, 1200), (40, 1400)] {
            timeline.add(Duration::from_millis(at), &units(total), 0, &Observed::default());
        }
        let rates: Vec<f64> = timeline.ticks.iter().map(|tick| tick.units_per_second.round()).collect();
        assert_eq!(rates, [10_000.0; 3]);
    }
}
