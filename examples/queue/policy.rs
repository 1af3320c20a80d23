//! How many jobs run at once, how long each may take, how often it is tried.

use std::time::Duration;

/// What a worker goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Jobs that run at the same time in one process.
    pub(crate) concurrency: usize,
    /// The time that an attempt has.
    pub(crate) limit: Duration,
    /// How long a claimed job is kept from other workers. More than `limit`, so that a worker that
    /// lives ends the attempt before its lease does, and no lease has to be renewed.
    pub(crate) lease: Duration,
    /// Attempts that a job has, those included that were cut by the death of a process: a job that
    /// kills its process each time must not be tried for ever.
    pub(crate) attempts: u32,
    /// The pause after the first failed attempt. Each later one is twice as long.
    pub(crate) pause: Duration,
    pub(crate) longest_pause: Duration,
    /// How often to look for jobs that other processes have enqueued. Those of this process are
    /// announced, and delayed ones are waited for to the millisecond.
    pub(crate) poll: Duration,
    /// How long running jobs may go on after the request to stop.
    pub(crate) drain: Duration,
}

impl Policy {
    pub(crate) const SERVICE: Policy = Policy {
        concurrency: 16,
        limit: Duration::from_secs(30),
        lease: Duration::from_secs(60),
        attempts: 10,
        pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(3600),
        poll: Duration::from_secs(1),
        drain: Duration::from_secs(20),
    };

    /// For demonstration and test: what takes seconds in a service takes milliseconds. A job may be
    /// caught by each of a dozen kills.
    pub(crate) const QUICK: Policy = Policy {
        concurrency: 8,
        limit: Duration::from_millis(400),
        lease: Duration::from_millis(800),
        attempts: 20,
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(40),
        poll: Duration::from_millis(20),
        drain: Duration::from_millis(50),
    };

    /// How long to wait after the failed attempt of this number, which counts from 1: exponential,
    /// with a jitter of half of it. Jobs that failed together, because what they all need was
    /// away, must not come back together. `luck` is from 0 to 1.
    pub(crate) fn pause(&self, attempt: u32, luck: f64) -> Duration {
        let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let pause = self.pause.saturating_mul(factor).min(self.longest_pause);
        pause.mul_f64(0.5 + luck.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = Policy { longest_pause: Duration::from_secs(60), ..Policy::SERVICE };
        let seconds: Vec<_> = (1..9).map(|attempt| policy.pause(attempt, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(policy.pause(u32::MAX, 1.0), Duration::from_secs(60));
    }

    #[test]
    fn the_jitter_takes_away_half_at_most() {
        assert_eq!(Policy::SERVICE.pause(3, 0.0), Duration::from_secs(2));
        assert_eq!(Policy::SERVICE.pause(3, 0.5), Duration::from_secs(3));
    }

    #[test]
    fn an_attempt_ends_before_its_lease() {
        for policy in [Policy::SERVICE, Policy::QUICK] {
            assert!(policy.limit < policy.lease);
        }
    }
}
