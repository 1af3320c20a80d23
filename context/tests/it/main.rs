//! The behaviour of context variables, seen through the public interface only.
//!
//! One binary, one module per behaviour. Nothing here needs a particular executor: what is
//! asynchronous runs on every executor of [`support::Executor`], with the same results.

// Pointers to functions that take and return options of references are long by nature.
#![allow(clippy::type_complexity)]

mod support;

mod abandoned;
mod ambient;
mod auto_traits;
mod bindings;
mod cells;
mod defaults;
mod executors;
mod futures_modes;
mod hooks;
mod hooks_and_destructors;
mod hostile;
mod inheritance;
mod inspection;
mod iterators;
mod join_select;
mod lifetimes;
mod model;
mod nesting;
mod raw_slot;
mod scopes;
mod size;
mod snapshots;
mod storage_model;
mod stories;
mod streams;
mod teardown;
mod tokens;
mod unset;
mod variables;
mod wire;
