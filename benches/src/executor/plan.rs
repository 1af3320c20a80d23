//! How long to measure, and one sample of one peer.

use std::time::Duration;

use crate::harness::Sample;
use crate::peers::Executor;

/// Worker threads of every peer.
pub const WORKERS: usize = 2;

/// A figure of a sample that never came to its end.
pub const NEVER: f64 = f64::INFINITY;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Samples per peer.
    pub rounds: usize,
    /// For how long a sample repeats its batch: at least once.
    pub sample: Duration,
    /// Whether it is only asked if everything runs.
    pub smoke: bool,
}

impl Plan {
    /// The full measurement.
    pub const FULL: Plan = Plan { rounds: 9, sample: Duration::from_millis(40), smoke: false };
    /// Only asks whether everything runs; the numbers mean nothing.
    pub const SMOKE: Plan = Plan { rounds: 1, sample: Duration::ZERO, smoke: true };

    /// `n`, or a tenth of it if only a smoke test runs.
    pub fn many(&self, n: u32) -> u32 {
        if self.smoke { n.div_ceil(10) } else { n }
    }

    /// How long to wait for a peer that may never finish.
    pub fn patience(&self) -> Duration {
        if self.smoke { Duration::from_millis(200) } else { Duration::from_secs(3) }
    }
}

/// Adds batches up until they have taken the time of a sample; after one that does not count, to
/// warm up.
pub fn repeated(plan: &Plan, mut batch: impl FnMut() -> Sample) -> Sample {
    let mut sum = Sample { ops: 0, elapsed: Duration::ZERO };
    if !plan.smoke {
        batch();
    }
    loop {
        let Sample { ops, elapsed } = batch();
        sum = Sample { ops: sum.ops + ops, elapsed: sum.elapsed + elapsed };
        if sum.elapsed >= plan.sample {
            return sum;
        }
    }
}

/// Starts a peer, lets `measure` use it, and stops it. Starting and stopping are in no figure, and
/// no other peer runs at the time.
pub fn started<E: Executor, R>(measure: impl FnOnce(E) -> R) -> R {
    E::within(|| {
        let peer = E::start(WORKERS);
        let result = measure(peer);
        peer.stop();
        result
    })
}

/// The commonest kind of sample: nanoseconds per operation of a repeated batch.
pub fn timed<E: Executor>(plan: &Plan, mut batch: impl FnMut(E) -> Sample) -> Vec<f64> {
    vec![started::<E, _>(|peer| repeated(plan, || batch(peer))).ns()]
}
