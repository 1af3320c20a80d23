//! What sees the runtime from outside: hooks and ambient states around tasks, numbers, dumps. It is
//! called, and calls nothing.

pub(crate) mod dump;
pub(crate) mod hooks;
mod prometheus;
#[cfg(all(feature = "stacks", not(loom)))]
pub(crate) mod stacks;
pub(crate) mod stall;
pub(crate) mod stats;
