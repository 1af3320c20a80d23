//! Numbers, dumps, await stacks, hooks and the watchdog, seen through the public interface only.
//!
//! One module per behaviour; the list of failure cases and their tests is in `FAILURES.md`.
#![allow(missing_docs, clippy::async_yields_async)]

mod dump;
mod hooks;
mod inside;
// Stacks of an interpreter are not those of a program.
#[cfg(not(miri))]
mod stacks;
mod unset;
mod watchdog;
