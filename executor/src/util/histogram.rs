//! Histograms of times with fixed buckets, whose width grows with the value.
//!
//! A power of two is divided into [`PARTS`] buckets, so that a bucket is at most an eighth of its
//! values wide. To record is to find the bucket by the highest bits, and three plain stores.
#![forbid(unsafe_code)]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Buckets of one power of two: two to the power of [`BITS`].
const PARTS: usize = 1 << BITS;
const BITS: u32 = 3;
/// Values of this many bits and more share the last bucket: some eighteen minutes.
const LARGEST: u32 = 40;
/// The number of buckets.
pub(crate) const BUCKETS: usize = (LARGEST - BITS + 1) as usize * PARTS;

/// A histogram that one thread writes and others read.
pub(crate) struct AtomicHistogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for AtomicHistogram {
    fn default() -> AtomicHistogram {
        AtomicHistogram { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

/// The bucket of a value.
#[inline]
fn bucket(value: u64) -> usize {
    let value = value.min((1 << LARGEST) - 1);
    let Some(shift) = (u64::BITS - value.leading_zeros()).checked_sub(BITS + 1) else {
        return value as usize;
    };
    // The highest bit and the `BITS` below it; the highest counts as one power of two more.
    shift as usize * PARTS + (value >> shift) as usize
}

/// The largest value of a bucket.
pub(crate) fn upper(bucket: usize) -> u64 {
    let shift = (bucket / PARTS).saturating_sub(1);
    let first = (bucket - shift * PARTS) as u64;
    ((first + 1) << shift) - 1
}

impl AtomicHistogram {
    /// Records a value. For the one writer, or under a lock.
    #[inline]
    pub(crate) fn record(&self, nanoseconds: u64) {
        let add =
            |counter: &AtomicU64, by: u64| counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
        add(&self.buckets[bucket(nanoseconds)], 1);
        add(&self.sum, nanoseconds);
    }

    /// Adds what was recorded to `counts`, and returns the sum of the values.
    pub(crate) fn add_to(&self, counts: &mut [u64; BUCKETS]) -> u64 {
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            *count += bucket.load(Relaxed);
        }
        self.sum()
    }

    /// The sum of the values.
    pub(crate) fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_and_are_an_eighth_wide() {
        let mut lower = 0;
        for index in 0..BUCKETS {
            let upper = upper(index);
            assert_eq!((bucket(lower), bucket(upper)), (index, index), "{lower} to {upper}");
            assert!((upper - lower) * PARTS as u64 <= upper, "{lower} to {upper}");
            lower = upper + 1;
        }
        assert_eq!(lower, 1 << LARGEST);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
