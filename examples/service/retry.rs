//! When a failed call is tried again: after a pause that grows, and only if retries are few.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// The pause before the first retry is at most this long; before each later one, twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// A retry costs as much as this many calls earn, so that one call in five may be retried.
const PRICE: u32 = 5;
/// What a backend that was well for long has saved: twenty retries at once.
const MOST_SAVED: u32 = 20 * PRICE;

/// A random part of the longest pause after so many attempts. Callers that failed together come
/// back one by one.
pub(crate) fn pause_after(attempt: u32) -> Duration {
    (FIRST_PAUSE * 2_u32.pow(attempt - 1)).mul_f64(fastrand::f64())
}

/// Keeps retries in proportion to calls. A backend that is down gets a fifth more calls from this
/// service, not several times as many.
pub(crate) struct RetryBudget {
    saved: AtomicU32,
}

impl RetryBudget {
    pub(crate) fn new() -> RetryBudget {
        RetryBudget { saved: AtomicU32::new(MOST_SAVED) }
    }

    /// A call was made.
    pub(crate) fn earn(&self) {
        let more = |saved| (saved < MOST_SAVED).then_some(saved + 1);
        let _full = self.saved.fetch_update(Relaxed, Relaxed, more);
    }

    /// Takes the price of one retry. `false` if there is not enough.
    pub(crate) fn spend(&self) -> bool {
        self.saved.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(PRICE)).is_ok()
    }
}
