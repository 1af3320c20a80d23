//! A root's book of borrowers, and the lock on it.

use crate::util::sync::atomic::AtomicBool;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::{UnsafeCell, spin, weakened};

/// A root's book of borrowers.
pub(super) struct Ledger {
    locked: AtomicBool,
    /// There was a borrower once. Written under the lock by holders of a handle; read by the last of them.
    pub(super) lent: AtomicBool,
    pub(super) book: UnsafeCell<Book>,
}

pub(super) struct Book {
    pub(super) borrowers: u32,
    pub(super) retired: bool,
}

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger {
            locked: AtomicBool::new(false),
            lent: AtomicBool::new(false),
            book: UnsafeCell::new(Book { borrowers: 0, retired: false }),
        }
    }

    #[inline]
    pub(super) fn lock(&self) {
        let mut turn = 0;
        // Pairs with the release store in `unlock`: what the last owner wrote in the book, and emptied in the slots,
        // is seen.
        while self.locked.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
            spin(turn);
            turn = turn.saturating_add(1);
        }
    }

    #[inline]
    pub(super) fn unlock(&self) {
        // Pairs with the acquire exchange in `lock`. The last access: the table may be gone after it.
        self.locked.store(false, if weakened("unlock") { Relaxed } else { Release });
    }
}
