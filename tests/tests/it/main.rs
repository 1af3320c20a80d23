//! Tasks, contexts, groups and timers, seen through the public interface only.
//!
//! One module per behaviour; the list of failure cases and their tests is in `FAILURES.md`. What
//! needs sockets or another library is in `services`, what looks into a runtime is in `inside`.
// Handles are what many tests are about: roots return them, and `let _ =` on one is a case. So are
// clones of wakers.
#![allow(missing_docs, clippy::async_yields_async, clippy::let_underscore_future, clippy::waker_clone_wake)]

mod bad_input;
mod blocking;
mod cancel_tokens;
mod channel;
mod contexts;
mod deadlines;
mod default_runtime;
mod eager;
mod eager_children;
mod eager_tasks;
mod entered;
mod fairness;
mod group_results;
mod groups;
mod inheritance;
mod join_handle;
mod lifecycle;
mod local;
mod main_end;
mod many_workers;
mod mistakes;
mod promises;
mod queues;
mod races;
mod reentrancy;
mod requests;
mod shared_contexts;
mod shutdown;
mod soak;
mod starvation;
mod teardown;
mod timers;
mod traits;
mod virtual_time;
mod wakes;
