//! How long an idle worker searches before it parks.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::Duration;

use crate::util::switches::SEARCH_PATIENCE;

/// How long a worker searches: as long as a sleep costs if its last waits were that short, else not
/// at all.
///
/// Sleeping and being woken costs both sides 5 to 50 µs, so a search of that length wastes at most
/// as much again. A worker searches only after several waits in a row that a search would have
/// covered.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    score: Cell<u32>,
}

/// The longest search: about the cost of a sleep and a wake-up.
const SEARCH_MAX: Duration = Duration::from_micros(50);
/// How many covered waits come before the first search.
const TRUST: u32 = 3;
const SCORE_MAX: u32 = 8;

impl Patience {
    pub(crate) const fn new() -> Patience {
        Patience { score: Cell::new(0) }
    }

    /// The limit of the next search.
    pub(crate) fn limit(&self) -> Duration {
        if SEARCH_PATIENCE && self.score.get() >= TRUST { SEARCH_MAX } else { Duration::ZERO }
    }

    /// A wait of this length has ended, including the search.
    pub(crate) fn waited(&self, time: Duration) {
        let score = self.score.get();
        self.score.set(if time <= SEARCH_MAX { (score + 1).min(SCORE_MAX) } else { score / 2 });
    }
}
