//! A work-stealing async executor whose tasks *inherit* their spawner's context.
//!
//! A request id, a tenant, a deadline, a precision: set it once, and every future you await and every task you spawn
//! sees it, on whichever worker it is polled, with nothing written at the call site.
//!
//! ```
//! use heirloom::context_var;
//!
//! context_var! { static REQUEST_ID: u64; }
//!
//! async fn query() -> String {
//!     // Four calls deep, nobody has passed it along.
//!     format!("request {}", REQUEST_ID.get().unwrap())
//! }
//!
//! heirloom::block_on(async {
//!     REQUEST_ID.set(7);
//!     assert_eq!(heirloom::spawn(query()).await.unwrap(), "request 7");
//! });
//! ```
//!
//! # The rule
//!
//! **Spawning forks, awaiting shares.** Every spawned future is a task that has captured what it inherits of its spawner's
//! context at the call. The worker swaps the task's context in for each poll and out after. A future that is merely
//! awaited, or wrapped in [`wait_for`], is part of the task that awaits it. See [`context`] for all that can be done
//! with variables and contexts.
//!
//! # Async code, run synchronously
//!
//! [`run_eagerly`] runs async functions on the calling thread, without a runtime: the leaf operations of this crate block
//! where they would suspend, and [`spawn`](spawn()) runs its task there and then. So one set of async functions serves a
//! synchronous front end and an asynchronous one. [`try_run_eagerly`] does so only as far as nothing would wait, and says what
//! would; authors of leaf futures ask [`is_eager`]. With [`task::Builder::eager`] a single task is polled once where it is
//! spawned.
//!
//! # What is promised
//!
//! Each of these has a test of its name.
//!
//! * **Every wake-up leads to a poll** that begins after it, unless the task is over.
//! * **No poll after completion.**
//! * **A future is dropped exactly once, in its own context**, whichever thread does it.
//! * **Wakers may outlive the runtime.** They do nothing then, and keep some 20 KiB of the
//!   executor's own, but no value of the user's; the same is true of handles.
//! * **Every runnable task runs within a bounded time**, if there are finitely many and each poll ends within some
//!   bound: nobody is starved by the next slot, by pairs that wake each other, by the injector, or by timers.
//! * **A worker that sleeps is woken by work from anywhere.**
//! * **Shutdown drops every future that is not being polled before it returns.**
//! * **A panicking task harms only its joiner.**
//! * **No thread-creation failure panics.**
//! * **An idle runtime uses no CPU.**
//! * **The context a task sees is right whichever worker polls it.**
//! * **Every API answers during thread teardown.**
//! * **One allocation per task at most**, for its future, its output and all that belongs to it. What only some tasks have, a
//!   name, an identity that somebody asks for, a joiner that is no task of this crate, comes on top.
//! * **Dropping a runtime anywhere is safe**, also inside its own task.
//!
//! Nothing is promised about order. Numbers, such as how often a queue is looked at, may change.
//!
//! # What cannot happen here, and what can
//!
//! The task that was woken or spawned last waits for the end of the poll that its worker has begun, even if other workers are
//! idle: a poll that blocks delays it. Use [`spawn_blocking`] for what blocks. All limits that are
//! known, and what to write instead, stand on the page [`known_limits`].
//!
//! Forking the process is not supported while a runtime exists, except to call `exec`: the child has none of the
//! threads.

#![cfg_attr(docsrs, feature(doc_cfg))]
// These panic when standard error takes nothing; see `report`.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod bridge;
mod clock;
/// Context variables, snapshots, and futures with a context of their own: the crate `heirloom-context`, and what of it
/// needs the executor.
pub mod context {
    #[cfg(all(feature = "channel", not(loom)))]
    #[cfg_attr(docsrs, doc(cfg(feature = "channel")))]
    pub use crate::structured::channel;
    pub use heirloom_context::*;
}
mod eager;
mod instrument;
mod io;
pub mod known_limits;
#[cfg(feature = "net")]
pub mod net;
mod runtime;
mod scheduler;
#[cfg(all(feature = "net", unix))]
pub mod signal;
mod slab;
mod structured;
pub mod task;
pub mod time;
mod util;

#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
pub use bridge::hyper;
pub use eager::is_eager;
pub use heirloom_context::{
    Context, ContextFutureExt, ContextIteratorExt, ContextStreamExt, ContextVar, context_var,
};
pub use heirloom_macros::{main, test};
pub use instrument::hooks::Hooks;
pub use instrument::stats::{Stats, TaskDump, WorkerStats};
pub use runtime::builder::Builder;
pub use runtime::eager_call::{WouldSuspend, run_eagerly, try_run_eagerly};
pub use runtime::handle::Handle;
pub use runtime::local::{LocalSet, spawn_local};
pub use runtime::spawn::{block_on, spawn, spawn_background, spawn_blocking, spawn_in};
pub use runtime::{Runtime, ShutdownReport};
pub use scheduler::shared::PanicPolicy;
pub use structured::cancel_token::{CancelToken, Cancelled, DropGuard};
pub use structured::group::{GroupError, GroupHandle, GroupScope, Results, TaskGroup};
pub use structured::shield::{Shield, shield};
pub use task::join_handle::{AbortHandle, CancelReason, JoinError, JoinHandle};
pub use task::{TaskMeta, yield_now};
pub use time::{Elapsed, deadline, interval, remaining, sleep, sleep_until, wait_for, wait_until};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeIsTested;
