//! What a job is: its body on the broker. The body also says what the context of the job must be,
//! which a real one would not: the program compares.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::policy::LEASE;
use crate::queue::{Ending, Result};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What has been submitted together. It is part of subjects and of ids.
    pub(crate) run: String,
    /// From 0, within the run.
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// Of the request that has submitted the job.
    pub(crate) request: String,
    pub(crate) tenant: String,
    pub(crate) user: u64,
    pub(crate) trace: u64,
    /// The job's deadline, in milliseconds since 1970.
    pub(crate) until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Plain,
    /// Fails at the first attempt.
    Flaky,
    /// Panics at the first attempt.
    Panicking,
    /// Takes longer than the broker waits for news of it.
    Slow,
    /// Fails each time.
    Hopeless,
    /// Has a deadline before anything can be done.
    Hurried,
}

/// Names with what a format may stumble on.
const TENANTS: [&str; 4] = ["acme", "Zoë & Söhne", "100 %; a=b, \"c\"", " x + y "];

impl Kind {
    /// The kind of a job of a mixed run.
    pub(crate) fn of(number: u64) -> Kind {
        match (number % 100, number % 1_000) {
            (20, _) => Kind::Flaky,
            (40, _) => Kind::Panicking,
            (60, _) => Kind::Hopeless,
            (80, _) => Kind::Hurried,
            (_, 99) => Kind::Slow,
            _ => Kind::Plain,
        }
    }

    /// How long after it was submitted the job must have ended.
    pub(crate) fn limit(self) -> Duration {
        match self {
            Kind::Hurried => Duration::from_millis(1),
            _ => Duration::from_secs(1_200),
        }
    }

    /// How long a job of this kind works.
    pub(crate) fn takes(self) -> Duration {
        match self {
            Kind::Slow => LEASE + LEASE / 2,
            Kind::Hurried => Duration::from_secs(3_600),
            _ => Duration::from_millis(1),
        }
    }

    pub(crate) fn ends(self) -> Ending {
        match self {
            Kind::Hopeless => Ending::Dead,
            Kind::Hurried => Ending::Expired,
            _ => Ending::Done,
        }
    }
}

impl Job {
    pub(crate) fn new(run: &str, number: u64, kind: Kind) -> Job {
        Job {
            run: run.to_owned(),
            number,
            kind,
            request: format!("r-{number}"),
            tenant: TENANTS[number as usize % TENANTS.len()].to_owned(),
            user: number * 7,
            trace: number + 1,
            until: milliseconds() + u64::try_from(kind.limit().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Reads the body of a message. A run that can be no part of a subject is refused here: a job
    /// of it could never end.
    pub(crate) fn read(body: &[u8]) -> Result<Job> {
        let job: Job = serde_json::from_slice(body)?;
        let is_plain = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        if job.run.is_empty() || job.run.len() > 64 || !job.run.bytes().all(is_plain) {
            return Err(format!("{:?} is no name of a run", job.run).into());
        }
        Ok(job)
    }

    /// The id by which the broker knows the job again.
    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.run, self.number)
    }
}

/// Since 1970, by this machine's clock.
pub(crate) fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_whose_run_is_no_part_of_a_subject_is_no_job() {
        let read = |run: &str| Job::read(&serde_json::to_vec(&Job::new(run, 7, Kind::Plain)).unwrap());
        assert_eq!(read("19acb7c0d1e-4711").unwrap().number, 7);
        for run in ["", "a\nb", "a\rb", "a.b", "a b", "*", ">", "é", &"a".repeat(65)] {
            assert!(read(run).is_err(), "{run:?}");
        }
        assert!(Job::read(b"{}").is_err());
    }
}
