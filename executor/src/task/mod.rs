//! One task: the options of a spawn, waiting for a task and ending it, why it has no output, which
//! task is running.
//!
//! | for | see |
//! | --- | --- |
//! | a name, a context, a runtime, a start in place | [`Builder`] |
//! | waiting for a task, cancelling it | [`JoinHandle`], [`AbortHandle`]; without owning it: [`Shield`] |
//! | why it has no output | [`JoinError`], [`CancelReason`] |
//! | which task is running, and what is known of one | [`current`](current()), [`TaskMeta`], [`Id`], [`TaskState`] |
//! | tasks that are not `Send`, or stay on one thread | [`LocalSet`], [`spawn_local`](crate::spawn_local) |
//! | letting others run; leaves that are always ready | [`yield_now`], [`budget`] |
//! | several tasks together | [`TaskGroup`](crate::TaskGroup), in the module [`group`](crate::group) |
//!
//! **A [`JoinHandle`] that is dropped cancels its task**; [`detach`](JoinHandle::detach) lets the
//! task run on. A panic is caught, and is the joiner's to see.
//!
//! ```
//! use heirloom::task;
//!
//! # heirloom::block_on(async {
//! let named = task::Builder::new().name("audit").spawn(async { 6 / std::hint::black_box(0) });
//! let error = named.await.unwrap_err();
//! assert!(error.is_panic());
//! assert_eq!(error.to_string(), "task `audit` panicked: attempt to divide by zero");
//!
//! let waiting = heirloom::spawn(std::future::pending::<()>());
//! waiting.abort_handle().abort_with("the client has gone");
//! assert_eq!(waiting.await.unwrap_err().reason().unwrap().to_string(), "the client has gone");
//! # });
//! ```

pub mod budget;
pub(crate) mod cell;
pub(crate) mod current;
pub(crate) mod harness;
pub(crate) mod id;
pub(crate) mod info;
pub(crate) mod join_handle;
pub(crate) mod join_waker;
pub(crate) mod leaf;
pub(crate) mod lent;
#[cfg(debug_assertions)]
pub(crate) mod mistakes;
#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod order_tests;
pub(crate) mod output;
pub(crate) mod panicked;
mod phase;
mod protocol;
pub(crate) mod record;
pub(crate) mod state;
#[cfg(any(feature = "stacks", all(test, loom)))]
mod ticket;
// `no_trace.rs` has the same interface for records.
#[cfg_attr(not(all(feature = "stacks", not(loom))), path = "no_trace.rs")]
pub(crate) mod trace;
pub(crate) mod waker;

pub use crate::runtime::local::LocalSet;
pub use crate::runtime::task_builder::Builder;
pub use crate::structured::shield::Shield;
pub use budget::yield_now;
pub use current::{TaskMeta, current};
pub use id::Id;
pub use join_handle::{AbortHandle, CancelReason, JoinError, JoinHandle};
pub use leaf::{Leaf, SocketKind, SocketOperation};
pub use phase::TaskState;

use std::ptr::NonNull;
use std::task::Waker;

use cell::{Header, Runnable};

use crate::slab;
use crate::util::counters::Ending;

/// Where a task goes when it is to be polled, and where its memory comes from.
pub(crate) trait Schedule: 'static {
    /// What the tasks of this scheduler share. Their pages keep it.
    type Shared: Send + Sync + 'static;

    /// Takes a task that was woken or spawned.
    fn schedule(shared: &Self::Shared, task: Runnable);

    /// Takes a task that was woken by a thread that holds no reference of the shared part: the
    /// shared part may be dropped with the task during the call.
    ///
    /// # Safety
    /// The caller gives up a reference that a transition has counted for a runnable; the task is
    /// this scheduler's.
    unsafe fn wake(task: NonNull<Header>) {
        // SAFETY: the reference was counted for a runnable, and the page of the task keeps the
        // shared part.
        unsafe { Self::schedule(slab::shared_of(task.cast()), Runnable::from_raw(task)) }
    }

    /// As [`wake`](Self::wake). A scheduler that tells the hooks of wake-ups does so before.
    ///
    /// # Safety
    /// As `wake`.
    unsafe fn wake_and_tell(task: NonNull<Header>) {
        // SAFETY: the contract is the same.
        unsafe { Self::wake(task) }
    }

    /// Takes a task that was spawned by a thread that holds a reference of the shared part. If the
    /// scheduler accepts no more tasks, the task is cancelled.
    fn launch(shared: &Self::Shared, task: Runnable) {
        Self::schedule(shared, task);
    }

    /// Frees the slot of a task; see [`slab::free`].
    ///
    /// # Safety
    /// The task is gone; its heap's pages hold a `Self::Shared`.
    unsafe fn free(task: NonNull<Header>);

    /// A task is about to be done.
    fn ending(_shared: &Self::Shared, _ending: Ending) {}

    /// Whether a panic in a task ends the process.
    fn aborts_on_panic(_shared: &Self::Shared) -> bool {
        false
    }

    /// Whether mistakes are reported.
    #[cfg(debug_assertions)]
    fn reports_mistakes(_shared: &Self::Shared) -> bool {
        false
    }

    /// Whether a poll that took too long is reported when it has ended.
    #[cfg(debug_assertions)]
    fn reports_long_polls(shared: &Self::Shared) -> bool {
        Self::reports_mistakes(shared)
    }

    /// Whether its tasks may block their thread.
    #[cfg(debug_assertions)]
    const MAY_BLOCK: bool = false;
}

/// Stays with a task that is polled where it was spawned, and waits there between polls.
pub(crate) trait Attendant {
    /// The waker that the future wakes instead of the task.
    fn waker(&self) -> &Waker;

    /// Called inside the task when its future is pending: waits until the future is to be polled
    /// again. False: the task goes on without the attendant.
    fn again(&self) -> bool;
}
