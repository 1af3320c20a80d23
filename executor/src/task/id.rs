//! Identities of tasks.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A task's identity, never reused in a process.
///
/// A task gets it when somebody first asks; tasks whose identity nobody wants to know are no larger for it.
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
        /// Taken from the shared counter at a time, so that threads do not fight for it.
        const RANGE: u64 = 1024;
        static NEXT: AtomicU64 = AtomicU64::new(RANGE);
        thread_local! {
            static MINE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
        }
        // Without drop glue, so it answers during thread teardown.
        MINE.with(|mine| {
            if mine.get() % RANGE == 0 {
                mine.set(NEXT.fetch_add(RANGE, Ordering::Relaxed));
            }
            Id(mine.replace(mine.get() + 1))
        })
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
