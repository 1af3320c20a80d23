//! How many polls a worker makes before it looks around: at the injector, the timers and the poll.
//!
//! The bound is one of *time*. But reading the clock costs as much as a short poll. So the worker
//! counts polls, and reads the clock when it looks around: the duration of the last polls tells how
//! many fit between two looks. Polls that become longer shorten the interval at once; polls that
//! become shorter lengthen it by doubling. The idea is tokio's, which tunes the interval of its
//! injector by the mean time of a poll.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::limits::{LOOK_AROUND, LOOK_WITHIN};
use crate::util::switches::PACE;

pub(crate) struct Pace {
    /// Polls until the next look.
    left: Cell<u32>,
    /// Polls between the last look and the next one.
    interval: Cell<u32>,
    /// When the worker last looked around, if it has had tasks to poll ever since.
    looked: Cell<Option<Instant>>,
}

impl Pace {
    /// The first polls may be long, so the first looks come soon.
    pub(crate) const fn new() -> Pace {
        Pace { left: Cell::new(1), interval: Cell::new(1), looked: Cell::new(None) }
    }

    /// Counts a poll. Returns whether it is time to look around.
    #[inline]
    pub(crate) fn count(&self) -> bool {
        let left = self.left.get();
        if left == 0 {
            self.measure();
        } else {
            self.left.set(left - 1);
        }
        left == 0
    }

    /// The worker is about to wait: the time until the next look is more than that of its polls.
    pub(crate) fn pause(&self) {
        self.looked.set(None);
    }

    #[inline(never)]
    fn measure(&self) {
        let now = Instant::now();
        if !PACE {
            self.interval.set(LOOK_AROUND);
        } else if let Some(looked) = self.looked.replace(Some(now)) {
            self.interval.set(fitting(self.interval.get(), now - looked));
        }
        self.left.set(self.interval.get() - 1);
    }
}

/// How many polls fit between two looks, if `polls` of them took `took`.
fn fitting(polls: u32, took: Duration) -> u32 {
    let nanos = took.as_nanos().max(1);
    let fitting = LOOK_WITHIN.as_nanos() * u128::from(polls) / nanos;
    fitting.clamp(1, u128::from(LOOK_AROUND.min(2 * polls))) as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_bounded_by_time_and_by_polls() {
        assert_eq!(fitting(LOOK_AROUND, Duration::ZERO), LOOK_AROUND);
        assert_eq!(fitting(LOOK_AROUND, LOOK_WITHIN), LOOK_AROUND);
        // Polls of ten microseconds, and of a second.
        assert_eq!(fitting(61, Duration::from_micros(610)), (LOOK_WITHIN.as_micros() / 10) as u32);
        assert_eq!(fitting(61, Duration::from_secs(61)), 1);
        // The interval grows by doubling only.
        assert_eq!(fitting(1, Duration::from_nanos(50)), 2);
        assert_eq!(fitting(2, Duration::from_nanos(100)), 4);
    }

    #[test]
    fn looks_come_after_as_many_polls_as_the_interval_says() {
        let pace = Pace::new();
        pace.interval.set(5);
        let mut looks = (0..21).map(|_| {
            pace.pause();
            pace.count()
        });
        let looks: Vec<_> = looks.by_ref().collect();
        // The first look comes after one poll, then one after each five.
        assert_eq!(looks.iter().filter(|look| **look).count(), 4);
        assert!(looks[1] && looks[6] && looks[11] && looks[16]);
    }
}
