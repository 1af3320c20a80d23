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
/// # use heirloom_context::internal::heirloom;
/// heirloom::context_var! { static DEPTH: u32; }
/// let outer = DEPTH.set(1);
/// let inner = DEPTH.set(2);
/// DEPTH.reset(inner).unwrap();
/// assert_eq!(DEPTH.get(), Some(1));
/// DEPTH.reset(outer).unwrap();
/// assert_eq!(DEPTH.get(), None);
/// ```
pub struct Token<T> {
    pub(crate) id: Id,
    /// Of the context it was made in; zero in a thread that was being torn down.
    pub(crate) identity: u64,
    pub(crate) guard: Option<GuardKey>,
    pub(crate) previous: Entry,
    of: PhantomData<fn() -> T>,
}

// The previous value is given back or dropped, never looked at.
impl<T> std::panic::UnwindSafe for Token<T> {}
impl<T> std::panic::RefUnwindSafe for Token<T> {}

impl<T> Token<T> {
    pub(crate) fn new(id: Id, identity: u64, guard: Option<GuardKey>, previous: Entry) -> Self {
        Token { id, identity, guard, previous, of: PhantomData }
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
