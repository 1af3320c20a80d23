//! Guards that were dropped where their entries could not be removed: how a context learns of them.
//!
//! A guard's entry is removed by the drop of the guard, in the context that it was made in. Dropped
//! anywhere else, a guard does nothing, there or at home: it is *abandoned*, and its value stays
//! bound. But then nothing below the newest abandoned entry of a variable is ever seen again, and
//! may go. Only the context itself can change its entries, so the drop leaves a note here, and the
//! context takes its notes at the next step that has to do with guards of the variable.
//!
//! A note is addressed to a [level](crate::frame): to a variable's entries in one context, or in
//! one scope. Each level that has guards has a number of its own, never reused.
//!
//! | what stands for a level | meaning |
//! | --- | --- |
//! | nothing | no guard of it was abandoned since it has last looked |
//! | noted | these guards of it were abandoned; the level has not looked yet |
//! | ended | the level has gone, and so many of its guards live on |
//!
//! | step | by | from, to |
//! | --- | --- | --- |
//! | [`note`](Registry::note) | the drop of a guard elsewhere | nothing or noted: noted; ended: one less, at last nothing |
//! | [`take`](Registry::take) | the level, at a bind, an unbind or a reset | noted: nothing |
//! | [`end`](Registry::end) | the level's drop | nothing or noted: ended, if guards live on, else nothing |
//!
//! Why nothing stays here: a guard is dropped once. Before the end of its level it makes at most
//! one note, which the level takes, at the end at the latest; after that it finds the level ended,
//! and counts it down. (A guard that is forgotten and outlives its level leaves a few bytes.) All
//! of this happens under one lock. The number of levels that are noted is atomic besides, so that a
//! level looks without the lock. A level that misses a note by looking too early finds it the next
//! time.
//!
//! Destructors never run under the lock: there are only numbers here.
#![forbid(unsafe_code)]

#[cfg(all(test, loom))]
mod models;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::PoisonError;

use crate::frame::GuardKey;
use crate::util::sync::atomic::AtomicUsize;
use crate::util::sync::atomic::Ordering::Relaxed;
use crate::util::sync::{Mutex, weakened};

enum State {
    Noted(Vec<GuardKey>),
    Ended(usize),
}

struct Registry {
    /// How many levels are noted. Changes under the lock only, so it needs no order: who looks
    /// without the lock and sees another number than zero takes the lock.
    noted: AtomicUsize,
    levels: Mutex<BTreeMap<u64, State>>,
}

impl Registry {
    #[cfg(not(loom))]
    const fn new() -> Registry {
        Registry { noted: AtomicUsize::new(0), levels: Mutex::new(BTreeMap::new()) }
    }

    #[cfg(loom)]
    fn new() -> Registry {
        Registry { noted: AtomicUsize::new(0), levels: Mutex::new(BTreeMap::new()) }
    }

    /// A guard of the level was abandoned. Returns whether the level is still there, with the
    /// guard's entry.
    fn note(&self, level: u64, key: GuardKey) -> bool {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        match levels.get_mut(&level) {
            Some(State::Noted(keys)) => keys.push(key),
            Some(State::Ended(left)) => {
                *left -= 1;
                if *left == 0 {
                    levels.remove(&level);
                }
                return false;
            }
            None => {
                levels.insert(level, State::Noted(vec![key]));
                if !weakened("count the level") {
                    self.noted.fetch_add(1, Relaxed);
                }
            }
        }
        true
    }

    /// Whether any level is noted.
    #[inline]
    fn is_any_noted(&self) -> bool {
        // Pairs with the additions in `note`, all of which, but the newest perhaps, it sees.
        self.noted.load(Relaxed) != 0
    }

    /// The guards of a level that were abandoned since the last call.
    fn take(&self, level: u64) -> Vec<GuardKey> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(State::Noted(keys)) = levels.get_mut(&level) else { return Vec::new() };
        let keys = std::mem::take(keys);
        levels.remove(&level);
        self.noted.fetch_sub(1, Relaxed);
        keys
    }

    /// A level goes, together with the entries of so many guards, none or more, of which it does
    /// not know that they were abandoned.
    fn end(&self, level: u64, guards: usize) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = guards;
        if let Some(State::Noted(keys)) = levels.remove(&level) {
            self.noted.fetch_sub(1, Relaxed);
            left -= keys.len();
        }
        if left != 0 && !weakened("remember the end") {
            levels.insert(level, State::Ended(left));
        }
    }
}

#[cfg(not(loom))]
static REGISTRY: Registry = Registry::new();

#[cfg(loom)]
loom::lazy_static! {
    static ref REGISTRY: Registry = Registry::new();
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Uses the registry, unless this thread is using it: an allocator that drops guards while the lock
/// is held is not to wait for itself. What it abandons then is not noted.
fn with_registry<R: Default>(f: impl FnOnce(&Registry) -> R) -> R {
    if INSIDE.replace(true) {
        return R::default();
    }
    let result = f(&REGISTRY);
    INSIDE.set(false);
    result
}

/// See [`Registry::note`].
pub(crate) fn note(level: u64, key: GuardKey) -> bool {
    with_registry(|registry| registry.note(level, key))
}

/// See [`Registry::is_any_noted`].
#[inline]
pub(crate) fn is_any_noted() -> bool {
    REGISTRY.is_any_noted()
}

/// See [`Registry::take`].
pub(crate) fn take(level: u64) -> Vec<GuardKey> {
    with_registry(|registry| registry.take(level))
}

/// See [`Registry::end`].
#[cold]
pub(crate) fn end(level: u64, guards: usize) {
    with_registry(|registry| registry.end(level, guards));
}
