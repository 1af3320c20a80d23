//! Errors: misuse that is the caller's to handle, never a panic in a destructor.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

use crate::token::Token;

/// Why a [`reset`](crate::ContextVar::reset) was refused. The token is inside, unused.
pub struct ResetError<T> {
    kind: ResetErrorKind,
    token: Token<T>,
}

/// What was wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetErrorKind {
    /// It was made by another variable.
    WrongVariable,
    /// It was made in another context: another task or thread, another `run`, or on the other side
    /// of an `isolated` or `in_context` boundary.
    WrongContext,
    /// It was made under a [`Binding`](crate::Binding) that is gone.
    Stale,
}

impl<T> ResetError<T> {
    pub(crate) fn new(kind: ResetErrorKind, token: Token<T>) -> Self {
        ResetError { kind, token }
    }

    /// What was wrong.
    pub fn kind(&self) -> ResetErrorKind {
        self.kind
    }

    /// The token, to be used in the right place.
    pub fn into_token(self) -> Token<T> {
        self.token
    }
}

impl fmt::Display for ResetErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResetErrorKind::WrongVariable => "the token was made by another context variable",
            ResetErrorKind::WrongContext => {
                "the token was made in another context; reset it in the task, thread or run that made it"
            }
            ResetErrorKind::Stale => "the token was made under a binding that has been dropped since",
        })
    }
}

impl<T> fmt::Display for ResetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<T> fmt::Debug for ResetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetError").field("kind", &self.kind).field("token", &self.token).finish()
    }
}

impl<T> Error for ResetError<T> {}

/// A [`ContextCell`](crate::ContextCell) was entered while it was entered already: by this thread,
/// further up, or by another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyEntered(pub(crate) ());

impl fmt::Display for AlreadyEntered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the context cell is entered already; enter it again when that is over, or run in its snapshot",
        )
    }
}

impl Error for AlreadyEntered {}
