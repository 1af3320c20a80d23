//! What sees the runtime from outside: hooks and ambient states around tasks, numbers. It is
//! called, and calls nothing.

pub(crate) mod hooks;
mod prometheus;
pub(crate) mod stats;
