//! Live contexts that are shared on purpose.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::context::Context;
use crate::current::{self, Owned};
use crate::error::AlreadyEntered;
use crate::storage::Bindings;
use crate::util::panic;

/// A context that keeps what is written in it, from one entry to the next; a handle, to be cloned.
///
/// Everything else in this crate gives away copies. A cell is for the rare case in which several calls, or several
/// tasks one after the other, are to *share* a context. It is entered by one of them at a time.
///
/// # Examples
///
/// ```
/// use heirloom_context::{Context, ContextCell, context_var};
///
/// context_var! { static COUNT: u32 = 0; }
///
/// let cell = ContextCell::new(Context::current());
/// let count = || COUNT.set(COUNT.get().unwrap() + 1);
/// cell.run(count).unwrap();
/// cell.run(count).unwrap();
/// assert_eq!(cell.snapshot().get(&COUNT), Some(2));
/// assert!(!COUNT.is_set());
///
/// // Twice at once is refused.
/// assert!(cell.run(|| cell.run(|| ())).unwrap().is_err());
/// ```
#[derive(Clone)]
pub struct ContextCell {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    /// `None` while somebody is inside, who has it.
    live: Option<Owned>,
    /// What it was when it was last entered.
    entered_with: Bindings,
    /// Tasks to be told when it is free.
    waiting: Vec<Waker>,
}

impl ContextCell {
    /// A cell that starts as a copy of `context`.
    pub fn new(context: Context) -> Self {
        let state = State {
            live: Some(Owned::snapshot_of(context.into_bindings())),
            entered_with: Bindings::EMPTY,
            waiting: Vec::new(),
        };
        ContextCell { shared: Arc::new(Shared { state: Mutex::new(state) }) }
    }

    /// Runs `f` inside. What it writes stays in the cell, also if it panics.
    ///
    /// # Errors
    /// If somebody is inside already: this very thread further up, or another one. `f` is not run then. Later is fine.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> Result<R, AlreadyEntered> {
        let mut visit = self.take(None).ok_or(AlreadyEntered(()))?;
        let _entered = current::enter(visit.live.as_mut().expect("just taken"));
        Ok(f())
    }

    /// [`run`](Self::run) for a task: if somebody is inside, `waker` is woken when they leave.
    pub(crate) fn poll_run<R>(&self, waker: &Waker, f: impl FnOnce() -> R) -> Poll<R> {
        // Cloned before the lock is taken: a waker is a stranger's code.
        let Some(mut visit) = self.take(Some(waker.clone())) else { return Poll::Pending };
        let _entered = current::enter(visit.live.as_mut().expect("just taken"));
        Poll::Ready(f())
    }

    /// A copy of what is in the cell; while somebody is inside, of what was when they entered.
    ///
    /// ```
    /// # use heirloom_context::{Context, ContextCell, context_var};
    /// # context_var! { static COUNT: u32; }
    /// let cell = ContextCell::new(Context::empty().with_var(&COUNT, 1));
    /// cell.run(|| {
    ///     COUNT.set(2);
    ///     assert_eq!(cell.snapshot().get(&COUNT), Some(1));
    /// })
    /// .unwrap();
    /// assert_eq!(cell.snapshot().get(&COUNT), Some(2));
    /// ```
    pub fn snapshot(&self) -> Context {
        let state = self.shared.lock();
        Context::from_bindings(match &state.live {
            Some(live) => live.bindings(),
            None => state.entered_with.clone(),
        })
    }

    fn take(&self, mut waker: Option<Waker>) -> Option<Visit<'_>> {
        // `waker` outlives the lock: what is not kept of it is dropped outside.
        let mut state = self.shared.lock();
        let Some(live) = state.live.take() else {
            // Once is enough, however often it is polled. (Comparing runs no code of the waker's.)
            let fresh = waker.take_if(|waker| !state.waiting.iter().any(|waiting| waiting.will_wake(waker)));
            state.waiting.extend(fresh);
            return None;
        };
        let before = std::mem::replace(&mut state.entered_with, live.bindings());
        drop(state);
        // Values that nobody else has end here, not under the lock.
        drop(before);
        Some(Visit { shared: &self.shared, live: Some(live) })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody is inside until this is dropped.
struct Visit<'a> {
    shared: &'a Shared,
    live: Option<Owned>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.live = self.live.take();
        let before = std::mem::replace(&mut state.entered_with, Bindings::EMPTY);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // First those who wait, each whatever the others do; then the values that nobody else has.
        for waker in waiting {
            panic::swallow(|| waker.wake());
        }
        drop(before);
    }
}

impl fmt::Debug for ContextCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entered = self.shared.lock().live.is_none();
        f.debug_struct("ContextCell").field("entered", &entered).finish_non_exhaustive()
    }
}
