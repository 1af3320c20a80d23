//! The behaviour of the executor, seen through the public interface only.
//!
//! One binary, one module per behaviour; the list of failure cases and their tests is in
//! `FAILURES.md`.
// Handles are what many tests are about: roots return them, and `let _ =` on one is a case. So are
// clones of wakers.
#![allow(missing_docs, clippy::async_yields_async, clippy::let_underscore_future, clippy::waker_clone_wake)]

mod bad_input;
mod blocking;
mod cancel_tokens;
mod channel;
mod contexts;
// Other people's threads, polls and processes, here and in `goes_with`: nothing for an interpreter.
#[cfg(not(miri))]
mod crossings;
mod deadlines;
mod default_runtime;
mod dump;
mod eager;
mod eager_children;
mod eager_tasks;
mod entered;
mod fairness;
#[cfg(not(miri))]
mod goes_with;
mod group_results;
mod groups;
mod hooks;
// TLS with a cryptography in C.
#[cfg(all(unix, not(miri)))]
mod http_client;
mod hyper;
mod inheritance;
mod inside;
mod isolation;
mod join_handle;
mod lifecycle;
mod local;
mod main_end;
mod mistakes;
mod net;
// Thread-locals of other libraries, and thousands of tasks: nothing for an interpreter.
#[cfg(not(miri))]
mod otel;
mod promises;
mod queues;
mod races;
mod reentrancy;
mod requests;
mod service;
mod shutdown;
mod soak;
#[cfg(not(miri))]
mod spans;
mod spawned;
// Stacks of an interpreter are not those of a program.
#[cfg(not(miri))]
mod stacks;
mod starvation;
mod teardown;
mod timers;
mod tokio_guest;
mod tower_buffer;
mod tower_layers;
mod tower_request_layer;
mod tower_requests;
mod traits;
mod unset;
mod virtual_time;
mod wakes;
mod watchdog;
mod wire_headers;
