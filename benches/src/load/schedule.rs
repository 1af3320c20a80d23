//! When requests of an open loop are meant to start.
//!
//! An open loop does not wait for answers: request `n` is due at `n / rate`, come what may. Its
//! latency counts from that moment, not from the moment at which it could be sent. So a stall is
//! paid by every request that was due during it. A loop that starts the next request when the last
//! one is answered would stall together with what it measures, and report one slow request (this is
//! called coordinated omission).

use std::time::{Duration, Instant};

/// Moments at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Instant,
    per_second: f64,
}

impl Schedule {
    /// `per_second` moments a second, the first one at `start`.
    pub fn new(start: Instant, per_second: f64) -> Schedule {
        Schedule { start, per_second }
    }

    /// When request `number` is due.
    pub fn intended(&self, number: u64) -> Instant {
        // Computed anew for each, so that no error adds up.
        self.start + Duration::from_secs_f64(number as f64 / self.per_second)
    }

    /// How many are due by `now`.
    pub fn due_by(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.start) {
            // Exact moments are due; the tolerance is far below a nanosecond's worth of requests.
            Some(since) => (since.as_secs_f64() * self.per_second + 1e-6).floor() as u64 + 1,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_evenly_spaced_and_do_not_drift() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 3.0);
        assert_eq!(schedule.intended(0), start);
        assert_eq!(schedule.intended(3_000_000), start + Duration::from_secs(1_000_000));
        let step = schedule.intended(2) - schedule.intended(1);
        assert!((step.as_secs_f64() - 1.0 / 3.0).abs() < 1e-8);
    }

    #[test]
    fn a_request_is_due_from_its_moment_on() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 1000.0);
        assert_eq!(schedule.due_by(start), 1);
        for number in [1, 7, 999, 12_345] {
            let at = schedule.intended(number);
            assert_eq!(schedule.due_by(at), number + 1);
            assert_eq!(schedule.due_by(at - Duration::from_micros(1)), number);
        }
        assert_eq!(schedule.due_by(start - Duration::from_nanos(1)), 0);
    }

    /// What the whole is for: after a stall of 100 ms each request that was due in it is late by
    /// what was left of it.
    #[test]
    fn a_stall_is_paid_by_every_request_that_was_due_in_it() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 100.0);
        let resumed = start + Duration::from_millis(100);
        let late: Vec<u128> =
            (0..schedule.due_by(resumed)).map(|n| (resumed - schedule.intended(n)).as_millis()).collect();
        assert_eq!(late, [100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 0]);
    }
}
