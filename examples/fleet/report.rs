//! How a run has ended: counted, and compared with what was submitted.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::job::Kind;
use crate::queue::{CUT, Ended, Ending, Stored};

/// Deliveries of a job after the first that its own failure does not explain. What came of them is
/// not known: the job may have run to its end, in a worker that died before it could say so.
fn unexplained(ended: &Ended) -> i64 {
    let own = match ended.job.kind {
        Kind::Flaky | Kind::Panicking => 2,
        Kind::Hopeless => crate::policy::ATTEMPTS,
        Kind::Plain | Kind::Slow | Kind::Hurried => 1,
    };
    (ended.attempt - own).max(0)
}

/// What is known of the jobs of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    submitted: u64,
    ended: HashMap<u64, Ended>,
    /// How often a job ran to its end once more.
    duplicates: u64,
    violations: Vec<String>,
    first: Option<SystemTime>,
    last: Option<(SystemTime, u64)>,
}

impl Report {
    pub(crate) fn new(submitted: u64) -> Report {
        Report { submitted, ..Report::default() }
    }

    /// Counts a message, also one that is no ending: it is not read again.
    pub(crate) fn add(&mut self, stored: Stored) {
        self.first.get_or_insert(stored.at);
        self.last = Some((stored.at, stored.sequence));
        let ended = match stored.ended {
            Ok(ended) => ended,
            Err(error) => {
                self.violations.push(format!("message {} is no ending: {error}", stored.sequence));
                return;
            }
        };
        let number = ended.job.number;
        for violation in &ended.violations {
            self.violations.push(format!("job {number}: {violation}"));
        }
        if ended.ending == Ending::Again {
            self.duplicates += 1;
            return;
        }
        if ended.ending != ended.job.kind.ends() {
            let Ended { job, ending, reason, .. } = &ended;
            self.violations.push(format!("job {number}, {:?}, has ended as {ending}: {reason:?}", job.kind));
        }
        if self.ended.insert(number, ended).is_some() {
            self.violations.push(format!("job {number} has two endings"));
        }
    }

    /// How many jobs have ended.
    pub(crate) fn len(&self) -> u64 {
        self.ended.len() as u64
    }

    pub(crate) fn tenths(&self) -> u64 {
        self.len() * 10 / self.submitted.max(1)
    }

    /// The number of the last message that was read.
    pub(crate) fn last(&self) -> u64 {
        self.last.map_or(0, |(_, sequence)| sequence)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.len() >= self.submitted
    }

    fn count(&self, which: impl Fn(&Ended) -> bool) -> usize {
        self.ended.values().filter(|ended| which(ended)).count()
    }

    /// What is wrong, a sentence each.
    pub(crate) fn violations(&self) -> Vec<String> {
        let lost = (0..self.submitted).filter(|number| !self.ended.contains_key(number));
        let foreign = self.ended.keys().filter(|number| **number >= self.submitted);
        let lost = lost.map(|number| format!("job {number} has not ended"));
        let foreign = foreign.map(|number| format!("job {number} was not submitted"));
        self.violations.iter().cloned().chain(lost).chain(foreign).collect()
    }

    /// From the first ending to the last one, by the broker's clock.
    fn took(&self) -> Duration {
        let both = self.first.zip(self.last);
        both.and_then(|(first, (last, _))| last.duration_since(first).ok()).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [done, expired, dead] = [Ending::Done, Ending::Expired, Ending::Dead]
            .map(|ending| self.count(|ended| ended.ending == ending));
        let cut = self.count(|ended| ended.reason.as_deref() == Some(CUT));
        let redelivered: i64 = self.ended.values().map(unexplained).sum();
        let perhaps_twice = self.count(|ended| unexplained(ended) > 0);
        let seconds = self.took().as_secs_f64();
        writeln!(f, "submitted: {}", self.submitted)?;
        writeln!(f, "done: {done}, expired: {expired} (cut: {cut}), dead: {dead}")?;
        writeln!(
            f,
            "redelivered: {redelivered}, perhaps ran twice: {perhaps_twice}, duplicates: {}",
            self.duplicates
        )?;
        writeln!(f, "in {seconds:.2} s, {:.0} jobs a second", self.len() as f64 / seconds.max(0.001))?;
        write!(f, "context violations: {}", self.violations().len())
    }
}

#[cfg(test)]
mod tests;
