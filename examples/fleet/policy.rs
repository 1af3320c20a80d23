//! How many jobs run at once, how long each may take, how often it is tried.

use std::time::Duration;

/// Jobs that run at the same time in one process.
pub(crate) const SLOTS: usize = 128;
/// A worker asks the broker for jobs when this many slots are free, for all that are free then: one
/// request brings several jobs.
pub(crate) const FREE_SLOTS: usize = SLOTS / 8;
/// How long such a request stays with the broker while there are no jobs.
pub(crate) const PULL: Duration = Duration::from_secs(2);
/// How long a worker waits after such a request has failed.
pub(crate) const FAILED_PULL: Duration = Duration::from_millis(100);
/// The time that an attempt has, or less, if the job's deadline is sooner.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// A job is delivered again, to any worker, when the broker has heard nothing of it for so long.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// So often a worker tells the broker that a job is still being worked on.
pub(crate) const EXTEND: Duration = Duration::from_secs(1);
/// Deliveries that a job has, those included that were cut by the death of a process: a job that
/// kills its process each time must not be tried for ever.
pub(crate) const ATTEMPTS: i64 = 5;
/// How long running jobs may go on after the request to stop.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// How long a worker process has to end after that request, before it is killed: to drain, to flush
/// what it has said, and to stop its threads.
pub(crate) const END: Duration = Duration::from_secs(15);
/// How long after the end of a worker process the next one starts.
pub(crate) const RESTART: Duration = Duration::from_millis(500);

const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long to wait after the failed attempt of this number, which counts from 1: exponential, with
/// a jitter of half of it. Jobs that failed together, because what they all need was away, must not
/// come back together. `luck` is from 0 to 1.
pub(crate) fn pause(attempt: i64, luck: f64) -> Duration {
    let doubled = u32::try_from(attempt - 1).ok().and_then(|times| 1_u32.checked_shl(times));
    let pause = PAUSE.saturating_mul(doubled.unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
    pause.mul_f64(0.5 + luck.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let milliseconds: Vec<_> = (1..5).map(|attempt| pause(attempt, 1.0).as_millis()).collect();
        assert_eq!(milliseconds, [20, 40, 80, 160]);
        assert_eq!(pause(i64::MAX, 1.0), LONGEST_PAUSE);
        assert_eq!(pause(3, 0.0), Duration::from_millis(40));
    }

    #[test]
    fn a_lease_is_extended_before_it_ends() {
        assert!(EXTEND * 2 < LEASE);
    }

    #[test]
    fn a_worker_is_not_killed_before_it_has_drained() {
        assert!(DRAIN * 2 < END);
    }
}
