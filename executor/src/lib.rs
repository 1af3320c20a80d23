//! A work-stealing async executor whose tasks *inherit* their spawner's context.
//!
//! A request id, a tenant, a deadline, a precision: set it once, and every future you await and
//! every task you spawn sees it, on whichever worker it is polled, with nothing written at the call
//! site.
//!
//! ```
//! use heirloom::context_var;
//!
//! context_var! { static REQUEST_ID: u64; }
//!
//! async fn query() -> String {
//!     // Four calls deep, no argument has passed it along.
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
//! **Spawning forks, awaiting shares.** Every spawned future is a task that has captured what it
//! inherits of its spawner's context at the call. The worker swaps the task's context in for each
//! poll and out after. A future that is merely awaited, or wrapped in [`wait_for`], is part of the
//! task that awaits it.
//!
//! # Where to look
//!
//! The root has the verbs, and the types that nearly every program names. Everything else stands in
//! a module.
//!
//! | for | see | in |
//! | --- | --- | --- |
//! | variables, snapshots, futures and streams with a context of their own | [`context_var!`], [`ContextVar`], [`Context`] | [`context`] |
//! | running things | [`spawn`](spawn()), [`spawn_in`], [`spawn_background`], [`spawn_blocking`], [`spawn_local`], [`block_on`], [`yield_now`] | the root |
//! | one task: its options, its handles, its errors, its identity, its budget | [`JoinHandle`], [`task::Builder`], [`task::AbortHandle`], [`task::JoinError`], [`task::LocalSet`] | [`task`] |
//! | waiting for several, where the first failure ends all | [`TaskGroup`] | [`group`] |
//! | asking for an end; finishing all the same | [`CancelToken`]; [`shield`](shield()) | [`cancel`]; the root |
//! | time, limits and deadlines | [`sleep`](sleep()), [`interval`](interval()), [`wait_for`], [`wait_until`], [`deadline`](deadline()), [`remaining`] | [`time`] |
//! | async code, run synchronously | [`run_eagerly`], [`try_run_eagerly`], [`is_eager`] | [`eager`] |
//! | runtimes: options, numbers, hooks, the end; entering one | [`Runtime`], [`Handle`] | [`runtime`] |
//! | sockets, names and signals (feature `net`, on by default), hyper 1 (feature `hyper`), channels whose messages carry a context (feature `channel`, on by default) | | `net`, `signal`; `hyper`; `context::channel` |
//! | a program or a test in one line | [`#[main]`](macro@main), [`#[test]`](macro@test) | the root |
//! | what the crate does not do, and what to write instead | | [`known_limits`] |
//!
//! # What is promised
//!
//! Each of these has a test of its name.
//!
//! * **Every wake-up leads to a poll** that begins after it, unless the task has ended.
//! * **No poll after completion.**
//! * **A future is dropped exactly once, in its own context**, whichever thread does it.
//! * **Wakers may outlive the runtime.** They do nothing then, and keep some 20 KiB of the
//!   executor's own, but no value of the user's; the same is true of handles.
//! * **Every runnable task runs within a bounded time**, if there are finitely many and each poll
//!   ends within some bound: no task is starved by the next slot, by pairs that wake each other, by
//!   the injector, or by timers.
//! * **A worker that sleeps is woken by work from anywhere.**
//! * **Shutdown drops every future that is not being polled before it returns.**
//! * **A panicking task harms only its joiner.**
//! * **No thread-creation failure panics.**
//! * **An idle runtime uses no CPU.**
//! * **The context a task sees is right whichever worker polls it.**
//! * **Every API answers during thread teardown.**
//! * **One allocation per task at most**, for its future, its output and all that belongs to it.
//!   What only some tasks have comes on top: a name, an identity that is asked for, a joiner that
//!   is no task of this crate.
//! * **Dropping a runtime anywhere is safe**, also inside its own task.
//!
//! Nothing is promised about order. Numbers, such as how often a queue is looked at, may change.
//!
//! # What cannot happen
//!
//! * A spawned task that is forgotten does not run on: the handle owns the task, and `detach` is
//!   the word for the exception.
//! * A call that needs a runtime does not panic for want of one: the default runtime starts at
//!   first use.
//! * A task does not see the context of the task that its worker has polled before.
//!
//! # What can
//!
//! The task that was woken or spawned last waits for the end of the poll that its worker has begun,
//! even if other workers are idle: a poll that blocks delays it. Use [`spawn_blocking`] for what
//! blocks. All limits that are known, and what to write instead, stand on the page
//! [`known_limits`].
//!
//! Forking the process is not supported while a runtime exists, except to call `exec`: the child
//! has none of the threads.

#![cfg_attr(docsrs, feature(doc_cfg))]
// These panic when standard error takes nothing; see `report`.
#![warn(clippy::print_stderr, clippy::print_stdout)]

// The public modules. Each is the page of what it defines and passes on; an item stands on one page.
/// Context variables, snapshots, and futures with a context of their own: the crate
/// `heirloom-context`, and what of it needs the executor.
pub mod context {
    #[cfg(all(feature = "channel", not(loom)))]
    #[cfg_attr(docsrs, doc(cfg(feature = "channel")))]
    pub use crate::structured::channel;
    pub use heirloom_context::*;
}
pub mod eager;
pub mod known_limits;
#[cfg(feature = "net")]
#[cfg_attr(docsrs, doc(cfg(feature = "net")))]
pub mod net;
pub mod runtime;
#[cfg(all(feature = "net", unix))]
#[cfg_attr(docsrs, doc(cfg(feature = "net")))]
pub mod signal;
pub mod task;
pub mod time;
pub use structured::{cancel_token as cancel, group};

mod bridge;
mod clock;
mod instrument;
mod io;
mod scheduler;
mod slab;
mod structured;
mod util;

// The verbs, and the types that nearly every program names. All else is reached through its module.
pub use eager::{is_eager, run_eagerly, try_run_eagerly};
#[doc(no_inline)]
pub use heirloom_context::{Context, ContextVar, context_var};
pub use heirloom_macros::{main, test};
pub use runtime::local::spawn_local;
pub use runtime::spawn::{block_on, spawn, spawn_background, spawn_blocking, spawn_in};
pub use runtime::{Handle, Runtime};
pub use structured::cancel_token::CancelToken;
pub use structured::group::TaskGroup;
pub use structured::shield::shield;
pub use task::{JoinHandle, yield_now};
pub use time::{deadline, interval, remaining, sleep, sleep_until, wait_for, wait_until};

#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
pub use bridge::hyper;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeIsTested;
