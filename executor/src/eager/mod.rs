//! Async code, run synchronously, on the thread that calls and without a worker.
//!
//! | for | see |
//! | --- | --- |
//! | a synchronous front end to async functions: leaves block where they would suspend | [`run_eagerly`] |
//! | the same, where waiting is an error | [`try_run_eagerly`], [`WouldSuspend`] |
//! | knowing that it is so, in a leaf future of one's own | [`is_eager`] |
//! | one task that begins where it is spawned, without any of this | [`task::Builder::start_inline`](crate::task::Builder::start_inline) |
//!
//! One set of async functions so serves a synchronous caller and an asynchronous one. A flag beside
//! the context, the *eager flag*, makes the leaf operations of this crate block where they would
//! suspend, and makes [`spawn`](crate::spawn()) run its task as a part of the call.
//!
//! ```
//! use std::time::Duration;
//! use heirloom::{run_eagerly, sleep, spawn, try_run_eagerly};
//!
//! async fn look_up(key: u32) -> u32 {
//!     spawn(async move { key * 2 }).await.unwrap()
//! }
//!
//! assert_eq!(run_eagerly(look_up(21)), 42); // no worker, no other thread
//! run_eagerly(sleep(Duration::from_millis(1))); // blocks for a millisecond
//! assert_eq!(try_run_eagerly(look_up(21)), Ok(42));
//! assert!(try_run_eagerly(sleep(Duration::from_secs(1))).is_err());
//! ```
//!
//! The guide has a [chapter](crate::guide::eager) on it.

pub(crate) mod frame;
pub(crate) mod inline;
pub(crate) mod protocol;
mod signal;
#[cfg(all(test, not(loom)))]
mod tests;

pub use crate::runtime::eager_call::{WouldSuspend, run_eagerly, try_run_eagerly};
pub(crate) use frame::{
    Frame, NotReady, keep_unfinished, limited, not_ready, refuse_to_join, refuses, suspends, unenforced,
    wake_at,
};
pub(crate) use signal::DriverSignal;

use heirloom_context::raw;

/// Whether the running code is to block where it would suspend: inside [`run_eagerly`] and
/// [`try_run_eagerly`].
///
/// For authors of leaf futures, whose futures ask this when they are not ready. It is one load and
/// a mask. A leaf may ignore the flag: when it is pending, the thread is parked until the leaf's
/// waker is called.
///
/// ```
/// use heirloom::{is_eager, run_eagerly};
///
/// assert!(run_eagerly(async { is_eager() }));
/// assert!(!is_eager());
/// assert!(!heirloom::block_on(async { is_eager() }));
/// ```
#[inline]
#[must_use]
pub fn is_eager() -> bool {
    raw::execution().eager()
}
