//! The first failure of a group, and the same as any caller's error.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::error::Error;
use std::fmt;

#[cfg(doc)]
use super::TaskGroup;
use crate::task::{CancelReason, JoinError};

/// Why a [`TaskGroup`] has failed.
///
/// It is displayed as the error that it holds, so it can be reported as it is.
///
/// # In the caller's error type
///
/// | the caller returns | the line |
/// | --- | --- |
/// | `anyhow::Error`, `Box<dyn Error + Send + Sync>` and the like | `.map_err(GroupError::into_error)?` |
/// | the same, and `E` implements [`Error`] | `?` |
/// | a type of its own with `From<GroupError<E>>` | `?` |
///
/// `anyhow::Error` and `Box<dyn Error>` do not implement `Error`, so a `GroupError` of one of them
/// does not either, and a bare `?` does not convert it.
#[derive(Debug)]
pub enum GroupError<E> {
    /// A child, or the body of the scope, returned this error.
    Failed(E),
    /// A child panicked.
    Panicked(JoinError),
    /// The runtime cancelled a child, or could not run it.
    Cancelled(CancelReason),
}

impl<E> GroupError<E> {
    /// Converts it into an error that each error type converts from by `?`, also if `E` itself is
    /// no [`Error`]: `anyhow::Error`, `Box<dyn Error + Send + Sync>`, `String`. Text and sources
    /// are those of the error inside.
    ///
    /// ```
    /// use std::error::Error;
    /// use heirloom::group::GroupError;
    /// use heirloom::TaskGroup;
    ///
    /// type Anything = Box<dyn Error + Send + Sync>;
    ///
    /// async fn fetch_all() -> Result<u32, Anything> {
    ///     let fetched = TaskGroup::<Anything>::scope(async |group| {
    ///         group.spawn(async { Ok("x".parse().map(|_: u32| ())?) });
    ///         Ok(1)
    ///     });
    ///     Ok(fetched.await.map_err(GroupError::into_error)?)
    /// }
    ///
    /// let error = heirloom::block_on(fetch_all()).unwrap_err();
    /// assert_eq!(error.to_string(), "invalid digit found in string");
    /// ```
    #[must_use]
    pub fn into_error(self) -> GroupFailure
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        GroupFailure(match self {
            GroupError::Failed(error) => error.into(),
            GroupError::Panicked(error) => error.into(),
            GroupError::Cancelled(reason) => GroupError::<Infallible>::Cancelled(reason).into(),
        })
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupError::Failed(error) => error.fmt(f),
            GroupError::Panicked(error) => error.fmt(f),
            GroupError::Cancelled(reason) => write!(f, "a task of the group was cancelled: {reason}"),
        }
    }
}

// The compiler shows the next line to a caller whose `?` needs this and whose `E` is no `Error`.
#[rustfmt::skip]
impl<E: Error> Error for GroupError<E> { // `E` is no `Error`? `.map_err(GroupError::into_error)?`
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            GroupError::Failed(error) => error.source(),
            GroupError::Panicked(error) => error.source(),
            GroupError::Cancelled(_) => None,
        }
    }
}

/// The failure of a [`TaskGroup`] with any error, as an [`Error`]; made by
/// [`GroupError::into_error`].
///
/// It is displayed as the error inside, and has the sources of that.
pub struct GroupFailure(Box<dyn Error + Send + Sync>);

impl GroupFailure {
    /// The error inside: that of the child or body, or a [`JoinError`].
    #[must_use]
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.0
    }
}

impl fmt::Debug for GroupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for GroupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for GroupFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
