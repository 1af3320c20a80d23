//! Queues that free the memory of a burst.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::mem;

use slab::Slab;

/// How many bytes a queue or a table keeps when it is empty.
///
/// An idle runtime may keep this much. A longer queue was filled by a thousand pushes, beside which
/// an allocation is cheap: so a steady load pays little for memory that is freed and allocated
/// again.
const KEPT: usize = 8 * 1024;

const fn kept<T>() -> usize {
    // Values without a size take no memory.
    if mem::size_of::<T>() == 0 { usize::MAX } else { KEPT / mem::size_of::<T>() }
}

/// Frees memory after a pop, if the queue is empty.
#[inline]
pub(crate) fn trim<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > kept::<T>() {
        queue.shrink_to(kept::<T>());
    }
}

/// Frees memory after a removal, if the table is empty.
#[inline]
pub(crate) fn trim_slab<T>(slab: &mut Slab<T>) {
    if slab.is_empty() && slab.capacity() > kept::<T>() {
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
        assert!(queue.capacity() <= kept::<u64>() && slab.capacity() <= kept::<u64>());
        // A short queue keeps its memory.
        queue.push_back(1);
        let room = queue.capacity();
        queue.pop_front();
        trim(&mut queue);
        assert_eq!(queue.capacity(), room);
    }
}
