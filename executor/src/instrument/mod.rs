//! What sees the runtime from outside: hooks and ambient states around tasks, numbers, dumps. It is
//! called, and calls nothing.

pub(crate) mod dump;
pub(crate) mod hooks;
mod prometheus;
pub(crate) mod stall;
pub(crate) mod stats;
