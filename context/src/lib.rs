//! Context variables that tasks inherit.
//!
//! A request id, a tenant, a deadline, a precision: set once, seen by everything that is called,
//! awaited or spawned from there, with nothing written at the call site. What `contextvars` are to
//! Python.
//!
//! # The rule
//!
//! **Spawning forks, awaiting shares.** A task owns one context. A spawned task starts from what it
//! inherits of its spawner's context, taken at the spawn call; after that neither sees the other's
//! writes. A future that is merely awaited runs in the task that polls it: it sees that task's
//! values, and what it sets stays visible to its caller. So inlining an async fn into its caller,
//! or extracting a block into one, changes nothing.
//!
//! ```
//! use heirloom_context::{ContextFutureExt, context_var};
//!
//! context_var! { static ANSWER: u32; }
//!
//! async fn set() {
//!     ANSWER.set(42);
//! }
//!
//! # futures::executor::block_on(async {
//! set().isolated().await;
//! assert_eq!(ANSWER.get(), None); // a context of its own: 42 does not stay
//!
//! set().await;
//! assert_eq!(ANSWER.get(), Some(42)); // a call is a call: 42 stays
//! # });
//! ```
//!
//! # Two words
//!
//! *Copy* means everything as it is: [`Context::current`], [`Context::run`], [`Context::wrap`],
//! `in_context`. *Inherit* means a copy to which each variable's [policy](Inherit) was applied:
//! [`Context::inherited`], and what executors do at a spawn. What is given explicitly is taken as
//! given.
//!
//! # Under which executor
//!
//! This crate knows none. On plain threads each thread has a root context, empty at first, which
//! behaves like a set of thread-locals. An executor that uses [`raw`] gives every task its own.
//! Under any other executor, **wrap what you spawn**: a `set` in an unwrapped task lands in the
//! root context of the worker that happens to poll it. (On tokio, the module `tokio`, of the
//! feature `tokio-hooks`, does so for each `tokio::spawn`.)
//!
//! ```
//! use heirloom_context::{Context, ContextFutureExt, context_var};
//!
//! context_var! { static REQUEST_ID: u64; }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! REQUEST_ID.set(7);
//! let task = async { REQUEST_ID.get() };
//! let read = tokio::spawn(task.in_context(Context::inherited()));
//! assert_eq!(read.await.unwrap(), Some(7));
//! # });
//! ```
//!
//! # What the examples say
//!
//! The executor `heirloom` re-exports all of this crate as `heirloom::context`, and [`Context`],
//! [`ContextVar`] and [`context_var!`] at its root. Its users are most, so the examples of items
//! say that. In a program that depends on `heirloom-context` alone, write `heirloom_context` for
//! `heirloom::context` and for `heirloom`.
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | variables, with a default or without | [`context_var!`], [`ContextVar`], [`WithDefault`], [`NoDefault`] |
//! | why a variable has no value | [`ContextVar::try_get`], [`Unset`], [`detect_losses`] |
//! | undoing a set | [`Token`], [`Binding`], [`ContextVar::scope`] |
//! | snapshots, callbacks, other threads | [`Context`] |
//! | a context shared on purpose | [`ContextCell`] |
//! | a future with a context of its own | [`ContextFutureExt`] |
//! | a stream or an iterator with one | [`ContextStreamExt`], [`ContextIteratorExt`] |
//! | branches that do not disturb each other | [`join!`], [`join_all`], [`select`] |
//! | what a spawned task gets | [`Inherit`] |
//! | mirroring a variable, carrying foreign state | [`VarOptions::on_change`], [`Ambient`] |
//! | contexts through a plain `tokio::spawn` | the module `tokio`, with the feature `tokio-hooks` |
//! | variables in the lines of a log | `LogVars`, with the feature `log` or `tracing-subscriber` |
//! | variables in OpenTelemetry's baggage | the module `opentelemetry`, with the feature of that name |
//! | contexts in the headers of calls and messages to other processes | [`wire`] |
//! | writing an executor | [`raw`] |
//!
//! [`join_all`]: future::join_all
//! [`select`]: future::select
//!
//! # When a thread ends
//!
//! A thread's root context is dropped with its thread-locals. Every function still answers in the
//! destructors that run after that: nothing is bound then, and what is set is dropped at once. A
//! value whose destructor panics while its thread ends is reported by the panic hook, and harms
//! nothing else.

mod ambient;
mod binding;
mod bindings;
mod cell;
mod context;
mod current;
mod default;
mod error;
pub mod future;
mod iter;
mod join;
mod join_all;
#[cfg(feature = "log")]
pub mod log;
#[cfg(any(feature = "log", feature = "tracing-subscriber"))]
mod log_vars;
mod macros;
#[cfg(feature = "opentelemetry")]
pub mod opentelemetry;
mod panicked;
pub mod raw;
mod stream;
mod token;
#[cfg(feature = "tokio-hooks")]
pub mod tokio;
#[cfg(feature = "tracing-subscriber")]
pub mod tracing;
mod unset;
mod util;
mod value;
mod var;
pub mod wire;
mod with_context;

pub use ambient::{Ambient, AmbientGuard, AmbientSnapshot, Ambients, Crossing, CrossingKind};
pub use binding::Binding;
pub use cell::ContextCell;
pub use context::{Change, Context, ContextEntry, Difference, Entries};
pub use default::{NoDefault, WithDefault};
pub use error::{AlreadyEntered, ResetError, ResetErrorKind};
pub use future::{ContextFutureExt, InCell};
pub use iter::ContextIteratorExt;
#[cfg(any(feature = "log", feature = "tracing-subscriber"))]
pub use log_vars::LogVars;
pub use stream::ContextStreamExt;
pub use token::Token;
pub use unset::{Unset, UnsetCause, detect_losses};
pub use value::{DebugText, Inherit, OnChange, VarOptions};
pub use var::ContextVar;
pub use with_context::WithContext;

/// Shared with the executor of this project. No part of the public interface, and without any
/// promise.
#[doc(hidden)]
pub mod internal {
    pub use crate::panicked::{message_of, variables_of};
    pub use crate::unset::{RunningTask, describe_tasks};
    pub use crate::util::{panic, sync, tagged};

    /// What a user of the executor sees of this crate, for the examples: they can be pasted into a
    /// program that depends on `heirloom` alone.
    pub mod heirloom {
        pub use crate as context;
        pub use crate::{Context, ContextVar, context_var};
    }
}
