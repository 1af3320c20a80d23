//! What a job is: its body on the broker. The body also says what the context of the job must be,
//! which a real one would not: the program compares.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::policy::LEASE;
use crate::queue::Ending;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What has been submitted together.
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
