//! Values whose making and dropping is counted.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the values that were made and the values that were dropped.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    dropped: AtomicUsize,
}

/// A value that is counted by a [`Ledger`]; a clone counts as another value.
#[derive(Debug)]
pub struct Counted {
    ledger: Ledger,
    id: u64,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// A value that is counted here.
    pub fn counted(&self, id: u64) -> Counted {
        self.counts.made.fetch_add(1, Ordering::SeqCst);
        Counted { ledger: self.clone(), id }
    }

    /// How many values were made.
    pub fn made(&self) -> usize {
        self.counts.made.load(Ordering::SeqCst)
    }

    /// How many values were dropped.
    pub fn dropped(&self) -> usize {
        self.counts.dropped.load(Ordering::SeqCst)
    }

    /// How many values are left.
    pub fn alive(&self) -> usize {
        self.made() - self.dropped()
    }
}

impl Counted {
    /// Whatever the test recognises it by. A method, because a closure that reads a field captures
    /// that field alone.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        self.ledger.counted(self.id)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.ledger.counts.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Calls a closure when it is dropped, once.
pub struct OnDrop(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl OnDrop {
    /// Calls `f` when it is dropped.
    pub fn new(f: impl FnOnce() + Send + 'static) -> OnDrop {
        OnDrop(Mutex::new(Some(Box::new(f))))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            f();
        }
    }
}

impl fmt::Debug for OnDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDrop")
    }
}

/// A list that many threads append to.
#[derive(Debug)]
pub struct Log<T> {
    lines: Arc<Mutex<Vec<T>>>,
}

impl<T> Log<T> {
    /// An empty list.
    pub fn new() -> Log<T> {
        Log { lines: Arc::new(Mutex::new(Vec::new())) }
    }

    /// Appends a line.
    pub fn push(&self, line: T) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all lines out.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Default for Log<T> {
    fn default() -> Log<T> {
        Log::new()
    }
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Log<T> {
        Log { lines: self.lines.clone() }
    }
}
