//! Freeing the memory that a queue or table needed for a burst.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::mem;

use slab::Slab;

/// How many bytes an empty queue or table keeps.
///
/// An idle runtime may keep so much. A longer queue was filled by a thousand pushes, beside which
/// an allocation costs little: so a steady load pays little for memory that it frees and allocates
/// again.
const KEPT_BYTES: usize = 8 * 1024;

/// The capacity of [`KEPT_BYTES`].
const fn kept_capacity<T>() -> usize {
    // Elements without a size need no memory.
    if mem::size_of::<T>() == 0 { usize::MAX } else { KEPT_BYTES / mem::size_of::<T>() }
}

/// Frees the memory of an empty queue beyond [`KEPT_BYTES`]. To be called after a pop.
#[inline]
pub(crate) fn trim<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > kept_capacity::<T>() {
        *queue = VecDeque::with_capacity(kept_capacity::<T>());
    }
}

/// The same for a slab. To be called after a removal.
#[inline]
pub(crate) fn trim_slab<T>(slab: &mut Slab<T>) {
    if slab.is_empty() && slab.capacity() > kept_capacity::<T>() {
        *slab = Slab::new();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_keeps_the_memory_of_a_short_one() {
        let (mut queue, mut slab) = (VecDeque::new(), Slab::new());
        for number in 0..100_000_u64 {
            queue.push_back(number);
            slab.insert(number);
        }
        while queue.pop_front().is_some() {
            trim(&mut queue);
            assert!(queue.is_empty() || queue.capacity() >= 100_000);
        }
        for key in 0..100_000 {
            slab.remove(key);
            trim_slab(&mut slab);
        }
        assert!(queue.capacity() <= kept_capacity::<u64>() && slab.capacity() <= kept_capacity::<u64>());
        // Below that, no memory is freed.
        queue.push_back(1);
        let capacity = queue.capacity();
        queue.pop_front();
        trim(&mut queue);
        assert_eq!(queue.capacity(), capacity);
    }
}
