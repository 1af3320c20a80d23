//! Queues that give the memory of a burst back.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::mem;

use slab::Slab;

/// What a queue or a table keeps when it has run empty, in bytes.
///
/// An idle runtime may well hold on to it. A longer queue was filled by a thousand pushes, beside
/// which an allocation is nothing: so a steady load pays little for room that it gives back and
/// takes again.
const KEPT: usize = 8 * 1024;

const fn kept<T>() -> usize {
    // What has no size takes no room.
    if mem::size_of::<T>() == 0 { usize::MAX } else { KEPT / mem::size_of::<T>() }
}

/// Call it after a pop.
#[inline]
pub(crate) fn trim<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > kept::<T>() {
        queue.shrink_to(kept::<T>());
    }
}

/// Call it after a removal.
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
    fn what_has_run_empty_keeps_the_room_of_a_short_queue() {
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
        // Below that, none is given back.
        queue.push_back(1);
        let room = queue.capacity();
        queue.pop_front();
        trim(&mut queue);
        assert_eq!(queue.capacity(), room);
    }
}
