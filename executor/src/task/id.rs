//! Identities of tasks.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A task's identity, never reused in a process.
///
/// A task gets its identity when it is first asked for. Tasks whose identity is never asked for
/// take no memory for it.
///
/// ```
/// # heirloom::block_on(async {
/// let (one, two) = (heirloom::spawn(async {}), heirloom::spawn(async {}));
/// assert_ne!(one.id(), two.id());
/// # });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

impl Id {
    pub(crate) fn next() -> Id {
        /// How many identities a thread takes from the shared counter at a time, so that threads
        /// rarely write to it.
        const RANGE: u64 = 1024;
        static NEXT: AtomicU64 = AtomicU64::new(RANGE);
        thread_local! {
            // Without drop glue, so that it answers during thread teardown.
            static NEXT_OF_THREAD: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
        }
        NEXT_OF_THREAD.with(|next| {
            if next.get() % RANGE == 0 {
                // Relaxed: identities are distinct, and order nothing.
                next.set(NEXT.fetch_add(RANGE, Ordering::Relaxed));
            }
            Id(next.replace(next.get() + 1))
        })
    }
}

impl Id {
    /// The number that dumps, errors and reports show. Never zero.
    ///
    /// ```
    /// # heirloom::block_on(async {
    /// let id = heirloom::spawn(async {}).id();
    /// assert_eq!(id.number().to_string(), id.to_string());
    /// # });
    /// ```
    #[doc(alias = "as_u64")]
    pub fn number(self) -> u64 {
        self.0
    }

    /// None for zero.
    pub(super) fn of_number(number: u64) -> Option<Id> {
        (number != 0).then_some(Id(number))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.0)
    }
}
