//! The borrowers of a root, counted under a spin lock.

use crate::util::sync::atomic::AtomicBool;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::{UnsafeCell, spin, weakened};

/// How many tables borrow from a root, and the lock on that number and on the counts per bucket.
pub(super) struct BorrowCount {
    locked: AtomicBool,
    /// There may be borrowers. Set under the lock. Cleared by the owner of the only handle, who has
    /// seen under the lock that there is none: only a handle or a borrower makes a borrower, so no
    /// other thread can set it then.
    pub(super) has_borrowers: AtomicBool,
    guarded: UnsafeCell<Guarded>,
}

/// What the lock guards, beside the counts per bucket.
pub(super) struct Guarded {
    pub(super) borrowers: u32,
    /// The root's last handle is gone.
    pub(super) retired: bool,
}

impl BorrowCount {
    pub(super) fn new() -> BorrowCount {
        BorrowCount {
            locked: AtomicBool::new(false),
            has_borrowers: AtomicBool::new(false),
            guarded: UnsafeCell::new(Guarded { borrowers: 0, retired: false }),
        }
    }

    #[inline]
    pub(super) fn lock(&self) {
        let mut round = 0;
        // Pairs with the release store in `unlock`: what the last owner counted, and which buckets
        // it emptied, is seen.
        while self.locked.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
            spin(round);
            round = round.saturating_add(1);
        }
    }

    #[inline]
    pub(super) fn unlock(&self) {
        // Pairs with the acquire exchange in `lock`. The last access: the table may be gone after
        // it.
        self.locked.store(false, if weakened("unlock") { Relaxed } else { Release });
    }

    /// Whether there is no borrower any more. Asked for by the owner of the only handle.
    #[cold]
    pub(super) fn have_ended(&self) -> bool {
        self.lock();
        // SAFETY: locked.
        let ended = unsafe { self.guarded() }.borrowers == 0;
        self.unlock();
        if ended {
            // No other handle, no borrower: no other thread can set it meanwhile.
            self.has_borrowers.store(false, Relaxed);
        }
        ended
    }

    /// # Safety
    /// This thread has the lock for as long as the answer is used, and uses one answer at a time.
    #[expect(clippy::mut_from_ref, reason = "the lock makes the reference unique")]
    pub(super) unsafe fn guarded(&self) -> &mut Guarded {
        // SAFETY: the lock keeps other threads out.
        self.guarded.with_mut(|guarded| unsafe { &mut *guarded })
    }
}
