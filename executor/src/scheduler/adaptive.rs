//! What a worker learns from its own last minutes: how long to search before it parks, and whether to steal at all.
//!
//! Neither is needed for anything to be right; both forget within a few turns what is no longer so.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::switches::{DEPUTY, SEARCH_PATIENCE, STEAL_BACKOFF};

/// How long whoever waits looks around before it sleeps: as long as pays if work comes back that soon, else not at all.
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

/// Whether stealing is worth the while.
///
/// Moving a task to another processor costs a few hundred nanoseconds, waking that processor several microseconds. A burst
/// of tasks that do nothing is over sooner if nobody helps. A thief therefore looks at its clock when it has stolen and
/// again when it has nothing left: what lasted less than [`WORTH`] was not worth it. After [`DOUBTS`] such batches it
/// *watches*: it sleeps for a while, tries one batch, and so on, with longer naps each time, until a batch is worth it, or
/// there is nothing to steal.
#[derive(Debug, Default)]
pub(crate) struct Gain {
    stolen: Cell<Option<Instant>>,
    doubts: Cell<u32>,
    /// One batch may be tried whatever the doubts.
    probe: Cell<bool>,
}

const WORTH: Duration = Duration::from_micros(10);
const DOUBTS: u32 = 2;
/// The first nap. A few times what it costs to wake up for nothing.
const NAP_MIN: Duration = Duration::from_micros(50);
/// The longest, and so the longest time that work waits behind a long poll while its worker's last batches were not worth
/// it and others sleep.
const NAP_MAX: Duration = Duration::from_millis(1);
const DOUBTS_MAX: u32 = DOUBTS + 5;

impl Gain {
    /// A batch was stolen.
    pub(crate) fn stole(&self) {
        self.stolen.set(Some(Instant::now()));
    }

    /// There is nothing left to do here.
    pub(crate) fn ran_dry(&self, now: Instant) {
        if STEAL_BACKOFF && let Some(stolen) = self.stolen.take() {
            let worth = now.saturating_duration_since(stolen) >= WORTH;
            self.doubts.set(if worth { 0 } else { (self.doubts.get() + 1).min(DOUBTS_MAX) });
        }
    }

    /// The worker was woken, or has had its nap.
    pub(crate) fn woken(&self) {
        self.probe.set(true);
    }

    /// Whether to steal now.
    pub(crate) fn may_steal(&self) -> bool {
        self.doubts.get() < DOUBTS || self.probe.take()
    }

    /// How long to nap if there is something to steal that is probably not worth it.
    pub(crate) fn nap(&self) -> Option<Duration> {
        let naps = self.doubts.get().checked_sub(DOUBTS)?;
        Some((NAP_MIN * 2u32.pow(naps)).min(NAP_MAX))
    }
}

/// Whether a worker that goes to sleep beside the keeper naps, as its deputy.
///
/// A keeper that gets up for an event or a timer, and then polls tasks, leaves nobody to keep the time. Waking another one
/// each time costs more than the event. Where keepers come and go, one of the others therefore naps, and looks. After a nap
/// in which none has gone it sleeps on.
#[derive(Debug, Default)]
pub(crate) struct Deputy {
    /// How often keepers had got up when this worker last went to sleep.
    turns: Cell<usize>,
    naps: Cell<u32>,
}

/// The first nap: what is waited for outside is mostly farther away.
const DUTY_MIN: Duration = Duration::from_millis(1);
/// Doublings. With the longest nap, a hundred wake-ups per second, only where keepers come and go, and with the first ones:
/// how long a timer or an event may have to wait behind a long poll while others sleep.
const DUTY_DOUBLINGS: u32 = 3;

impl Deputy {
    /// How long to nap, if at all; `turns` is how often keepers have got up.
    pub(crate) fn nap(&self, turns: usize, keeper: bool) -> Option<Duration> {
        if self.turns.replace(turns) == turns || keeper || !DEPUTY {
            self.naps.set(0);
            return None;
        }
        let naps = self.naps.get();
        self.naps.set((naps + 1).min(DUTY_DOUBLINGS));
        Some(DUTY_MIN * 2u32.pow(naps))
    }
}
