//! Async code that is run synchronously, because a flag in the execution state says so.
//!
//! # Who does what
//!
//! | part | knows | does |
//! | --- | --- | --- |
//! | the flag | one bit of the [execution state](raw::Execution), which follows the call | says that leaves are to block |
//! | [`frame`] | who drives this thread's eager code, and until when leaves may block | answers leaves; tells a driver how long to wait |
//! | [`signal`] | one call's wake-up | lends a waker that costs nothing until it is cloned |
//! | [`run`] | a call of [`run_eagerly`] | drives a future |
//!
//! A task that is spawned under the flag is driven by `scheduler::inline`, in the same way.
//!
//! # Two kinds of leaves
//!
//! ```text
//!   driver ──poll──► … ──poll──► leaf that is not ready
//!     ▲                            │
//!     │                            ├─ 1 only the clock or the kernel can end it: `not_ready` says until when, and it blocks there
//!     └──────── 2 pending ─────────┴─ 2 somebody else will wake it: it leaves its waker as ever, calls `suspends`, is pending
//!     3 wait for the wake-up, or for the instant that a `wait_for` has noted; poll again
//! ```
//!
//! By 1 nothing above a leaf is polled twice: that is what makes deep calls cheap. 2 comes back to the driver, so that the
//! other branches of a `join!` get their turn: one of them may be what the leaf waits for.
//!
//! # Deadlines
//!
//! A leaf blocks until the ambient deadline, and then is pending. If the deadline is that of a `wait_for` inside
//! the call (the frame is *limited*), that one ends. Else nobody in here can end anything: the driver notes that
//! the call is *overdue*, and from then on leaves block for as long as they must.
//!
//! A child that was begun inline and is pending when its time is up is given to the scheduler, as any other task.
//!
//! # Why no wake-up is lost
//!
//! What wakes during a poll leaves a mark, by the borrowed waker or by a clone, and the driver looks at both before it
//! waits, under the lock of what it waits with. Notes of instants are made on this thread.

pub(crate) mod frame;
pub(crate) mod inline;
mod signal;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use frame::{
    Frame, NotReady, leave_behind, limited, not_ready, refuse_to_join, refuses, suspends, unenforced, wake_at,
};
pub(crate) use signal::Signal;

use heirloom_context::raw;

/// Whether the running code is to block where it would suspend: inside [`run_eagerly`] and [`try_run_eagerly`].
///
/// For authors of leaf futures, who ask when they are not ready. It is one load and a mask. A leaf may ignore it: when
/// it is pending, the thread is parked until its waker is called.
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
