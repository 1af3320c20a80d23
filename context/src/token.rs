//! Tokens: what a `set` has replaced.
#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

use crate::bindings::{Entry, Id};
use crate::current::GuardKey;

/// What a [`set`](crate::ContextVar::set) or [`unset`](crate::ContextVar::unset) has replaced, to
/// be put back by [`reset`](crate::ContextVar::reset).
///
/// Used once, by move; ignoring it is fine. It borrows nothing, and keeps the former value alive
/// until it goes.
///
/// ```
/// # heirloom_context::context_var! { static DEPTH: u32; }
/// let outer = DEPTH.set(1);
/// let inner = DEPTH.set(2);
/// DEPTH.reset(inner).unwrap();
/// assert_eq!(DEPTH.get(), Some(1));
/// DEPTH.reset(outer).unwrap();
/// assert_eq!(DEPTH.get(), None);
/// ```
pub struct Token<T> {
    parts: Parts<T>,
    previous: Entry,
    guard: Option<GuardKey>,
}

// The previous value is given back or dropped, never looked at.
impl<T> std::panic::UnwindSafe for Token<T> {}
impl<T> std::panic::RefUnwindSafe for Token<T> {}

/// A token without what it has to give.
pub(crate) struct Parts<T> {
    id: Id,
    identity: u64,
    of: PhantomData<fn() -> T>,
}

impl<T> Token<T> {
    pub(crate) fn new(id: Id, identity: u64, guard: Option<GuardKey>, previous: Entry) -> Self {
        Token { parts: Parts { id, identity, of: PhantomData }, previous, guard }
    }

    pub(crate) fn id(&self) -> Id {
        self.parts.id
    }

    pub(crate) fn identity(&self) -> u64 {
        self.parts.identity
    }

    pub(crate) fn open(self) -> (Entry, Option<GuardKey>, Parts<T>) {
        (self.previous, self.guard, self.parts)
    }
}

impl<T> Parts<T> {
    pub(crate) fn close(self, previous: Entry, guard: Option<GuardKey>) -> Token<T> {
        Token { parts: self, previous, guard }
    }
}

impl<T> fmt::Debug for Token<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let previous = match &self.previous {
            Entry::Absent | Entry::Hidden => "unset",
            Entry::Bound(_) => "set",
        };
        f.debug_struct("Token").field("previous", &previous).finish_non_exhaustive()
    }
}
