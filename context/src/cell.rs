//! Live contexts that are shared on purpose.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::bindings::Bindings;
use crate::context::Context;
use crate::current::{self, Owned};
use crate::error::AlreadyEntered;
use crate::panicked;
use crate::util::panic;
use crate::util::sync::{Mutex, lock};

/// A context that keeps what is written in it, from one entry to the next; a handle, to be cloned.
///
/// Everything else in this crate gives away copies. A cell is for the rare case in which several
/// calls, or several tasks one after the other, are to *share* a context. It is entered by one of
/// them at a time.
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::ContextCell;
/// use heirloom::{Context, context_var};
///
/// context_var! { static COUNT: u32 = 0; }
///
/// let cell = ContextCell::new(Context::current());
/// let count = || COUNT.set(COUNT.get() + 1);
/// cell.run(count).unwrap();
/// cell.run(count).unwrap();
/// assert_eq!(cell.snapshot().get(&COUNT), Some(2));
/// assert!(!COUNT.is_set());
///
/// // Twice at once is refused.
/// assert!(cell.run(|| cell.run(|| ())).unwrap().is_err());
/// ```
#[doc(alias = "RequestContext")]
#[derive(Clone)]
pub struct ContextCell {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// `None` while the cell is entered: the visit has it.
    live: Option<Owned>,
    /// What it was when it was last entered.
    entered_with: Bindings,
    /// Tasks to be told when it is free.
    waiting: Vec<Waker>,
}

impl ContextCell {
    /// A cell that starts as a copy of `context`.
    pub fn new(context: Context) -> Self {
        let shared = Shared {
            live: Some(Owned::snapshot_of(context.into_bindings())),
            entered_with: Bindings::EMPTY,
            waiting: Vec::new(),
        };
        ContextCell { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Runs `f` inside. What it writes stays in the cell, also if it panics.
    ///
    /// # Errors
    /// If the cell is entered already: by this very thread further up, or by another one. `f` is
    /// not run then. Later is fine.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> Result<R, AlreadyEntered> {
        let mut visit = self.take(None).ok_or(AlreadyEntered(()))?;
        let _entered = current::enter(visit.live.as_mut().expect("just taken"));
        Ok(panicked::noted(f))
    }

    /// [`run`](Self::run) for a task: if the cell is entered already, `waker` is woken when it is
    /// left.
    pub(crate) fn poll_run<R>(&self, waker: &Waker, f: impl FnOnce() -> R) -> Poll<R> {
        // Cloned before the lock is taken: cloning a waker is user code.
        let Some(mut visit) = self.take(Some(waker.clone())) else { return Poll::Pending };
        let _entered = current::enter(visit.live.as_mut().expect("just taken"));
        Poll::Ready(panicked::noted(f))
    }

    /// A copy of what is in the cell; while it is entered, of what was in it at the entry.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::ContextCell;
    /// use heirloom::{Context, context_var};
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
        let state = lock(&self.shared);
        Context::from_bindings(match &state.live {
            Some(live) => live.bindings(),
            None => state.entered_with.clone(),
        })
    }

    fn take(&self, mut waker: Option<Waker>) -> Option<Visit<'_>> {
        // `waker` outlives the lock: what is not kept of it is dropped outside.
        let mut state = lock(&self.shared);
        let Some(live) = state.live.take() else {
            // Once is enough, however often it is polled. (Comparing runs no code of the waker's.)
            let fresh = waker.take_if(|waker| !state.waiting.iter().any(|waiting| waiting.will_wake(waker)));
            state.waiting.extend(fresh);
            return None;
        };
        let before = std::mem::replace(&mut state.entered_with, live.bindings());
        drop(state);
        // Its values may end here, not under the lock.
        drop(before);
        Some(Visit { shared: &self.shared, live: Some(live) })
    }
}

/// The cell is entered until this is dropped.
struct Visit<'a> {
    shared: &'a Mutex<Shared>,
    live: Option<Owned>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut state = lock(self.shared);
        state.live = self.live.take();
        let before = std::mem::replace(&mut state.entered_with, Bindings::EMPTY);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // First the waiting tasks, each also if waking another one panics; then values may end.
        for waker in waiting {
            panic::swallow(|| waker.wake());
        }
        drop(before);
    }
}

impl fmt::Debug for ContextCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entered = lock(&self.shared).live.is_none();
        f.debug_struct("ContextCell").field("entered", &entered).finish_non_exhaustive()
    }
}
