//! The stock of handles: many forks of one context for one atomic operation.
//!
//! # Terms
//!
//! * A **fork** is a further handle of the current bindings, for a snapshot or a child.
//! * The **stock** belongs to the slot: handles of the current bindings that are counted already,
//!   and that no snapshot or task owns.
//!
//! # Transitions
//!
//! * **ST1**, a fork, and the stock has a handle: [`snapshot`], [`fork_of`]. The fork gets it.
//! * **ST2**, a fork, and the stock is empty: [`refill`]. A batch of handles is counted; the fork
//!   gets one, the stock the others.
//! * **ST3**, a handle of the current bindings is given up: [`give_back`]. It goes into the stock;
//!   above [`BATCH_MAX`] a batch is counted down.
//! * **ST4**, the slot's word, or what it points to, is about to change: [`Stock::close`]. The
//!   stock is counted down and forgotten.
//!
//! Batches grow with the number of forks since the last ST4. A word's first batch is as large as
//! the former word had forks in all: a task that spawns two children takes two handles at once.
//!
//! # Why nothing is kept longer, and no handle is the last
//!
//! The slot's word has a handle of its own on the very bindings in stock, and ST4 comes before that
//! handle goes. So the stock never has the last handle, and never outlives the word.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::lookup::flatten;
use super::{Closed, SLOT};
use crate::bindings::Bindings;
use crate::bindings::flat::Header;
use crate::util::switches;

/// Most handles that are counted at once.
///
/// 64 makes an atomic operation of 5 ns a fraction of a nanosecond per fork (`benches`, row "fork,
/// many from one parent"); more gains nothing.
const BATCH_MAX: usize = 64;

/// See the protocol.
pub(super) struct Stock {
    /// The slot's own bindings, if there are or were handles in stock; else null.
    of: Cell<*mut Header>,
    /// How many handles there are.
    spare: Cell<usize>,
    /// How many to count the next time.
    batch: Cell<usize>,
    /// Forks since the word is what it is.
    forks: Cell<usize>,
}

impl Stock {
    pub(super) const fn new() -> Stock {
        Stock {
            of: Cell::new(ptr::null_mut()),
            spare: Cell::new(0),
            batch: Cell::new(1),
            forks: Cell::new(0),
        }
    }

    /// Whether step ST4 has something to do.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        !self.of.get().is_null()
    }

    /// Step ST4.
    pub(super) fn close(&self) {
        let forks = self.forks.replace(0);
        if forks != 0 {
            self.batch.set(forks.min(BATCH_MAX));
        }
        let spare = self.spare.replace(0);
        if let Some(header) = NonNull::new(self.of.replace(ptr::null_mut()))
            && spare != 0
        {
            // SAFETY: these handles were counted for the stock; the word, unchanged since, has one
            // more.
            unsafe { Bindings::release_some(header, spare) };
        }
    }

    /// Step ST1.
    #[inline]
    fn take(&self, header: NonNull<Header>) -> bool {
        let spare = self.spare.get();
        // (The second half only fails after an allocator has swapped in the middle of a write.)
        let has = spare != 0 && self.of.get() == header.as_ptr();
        if has {
            self.spare.set(spare - 1);
        }
        has
    }
}

/// A copy of everything visible. One count at most; none from the empty context.
#[inline]
pub(crate) fn snapshot() -> Bindings {
    SLOT.with(|slot| {
        let word = slot.word.get();
        if word.is_layer() {
            let _closed = Closed::new(slot);
            // SAFETY: the slot owns its word, and is closed, so that nothing changes it meanwhile.
            return unsafe { flatten(word) };
        }
        // SAFETY: the slot owns its word.
        let Some(header) = (unsafe { word.own_header() }) else { return Bindings::EMPTY };
        let stock = &slot.stock;
        let forks = stock.forks.get() + 1;
        stock.forks.set(forks);
        if !switches::HANDLE_STOCK {
            // SAFETY: the slot owns its word.
            unsafe { Bindings::retain(header, 1) };
        } else if !stock.take(header) {
            // SAFETY: as above.
            unsafe { refill(header, forks) };
        }
        // SAFETY: one of the handles counted above, or taken from the stock.
        unsafe { Bindings::from_raw(header.as_ptr()) }
    })
}

/// Step ST2, but for the fork, whose handle is counted too.
///
/// # Safety
/// The bindings are the slot's own.
#[inline(never)]
unsafe fn refill(header: NonNull<Header>, forks: usize) {
    SLOT.with(|slot| {
        let stock = &slot.stock;
        let batch = if forks == 1 { stock.batch.get() } else { forks.min(BATCH_MAX) };
        if stock.is_open() {
            stock.close();
            stock.forks.set(forks);
        }
        // SAFETY: the slot owns its word.
        unsafe { Bindings::retain(header, batch) };
        stock.of.set(header.as_ptr());
        stock.spare.set(batch - 1);
    });
}

/// A further handle of any bindings; from the stock, if they are the current ones: a spawner looks
/// at what its child has.
///
/// # Safety
/// The bindings are alive.
pub(super) unsafe fn fork_of(header: NonNull<Header>) -> Bindings {
    // SAFETY: alive by this function's contract; the handle is taken from the stock, or counted
    // here.
    unsafe {
        if !SLOT.with(|slot| slot.stock.take(header)) {
            Bindings::retain(header, 1);
        }
        Bindings::from_raw(header.as_ptr())
    }
}

/// Gives a handle up: step ST3, if it is one of the current bindings.
#[inline]
pub(crate) fn give_back(bindings: Bindings) {
    SLOT.with(|slot| {
        let Some(header) = NonNull::new(bindings.as_raw()) else { return };
        let stock = &slot.stock;
        // SAFETY: the slot owns its word.
        let is_current =
            stock.of.get() == header.as_ptr() || unsafe { slot.word.get().own_header() } == Some(header);
        if !switches::HANDLE_STOCK || !is_current {
            return drop(bindings);
        }
        bindings.into_raw();
        stock.of.set(header.as_ptr());
        let mut spare = stock.spare.get() + 1;
        if spare > BATCH_MAX {
            // SAFETY: these handles are the stock's; the word has one more.
            unsafe { Bindings::release_some(header, BATCH_MAX) };
            spare -= BATCH_MAX;
        }
        stock.spare.set(spare);
    });
}
