//! How long a thread that waits looks around before it sleeps.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::Duration;

use crate::util::switches::SEARCH_PATIENCE;

/// How long a thread looks around: as long as a sleep costs if its last waits were that short, else not at all.
///
/// Sleeping and being woken costs both sides 5 to 50 µs, so looking around that long wastes at most as much again. It is
/// done only after several waits in a row that it would have covered.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    score: Cell<u32>,
}

/// The longest search. About what it costs to sleep and be woken.
const SEARCH_MAX: Duration = Duration::from_micros(50);
/// Waits that would have been covered before the first search.
const TRUST: u32 = 3;
const SCORE_MAX: u32 = 8;

impl Patience {
    pub(crate) const fn new() -> Patience {
        Patience { score: Cell::new(0) }
    }

    /// For how long to look around.
    pub(crate) fn limit(&self) -> Duration {
        if SEARCH_PATIENCE && self.score.get() >= TRUST { SEARCH_MAX } else { Duration::ZERO }
    }

    /// A wait has ended, and took so long, searching included.
    pub(crate) fn waited(&self, time: Duration) {
        let score = self.score.get();
        self.score.set(if time <= SEARCH_MAX { (score + 1).min(SCORE_MAX) } else { score / 2 });
    }
}
