//! What every floor may use: primitives that are the standard library's or loom's, and small tools without an opinion.

pub(crate) mod idle_condvar;
pub(crate) mod report;
pub(crate) mod room;
pub(crate) mod switches;
pub(crate) mod thread_state;
pub(crate) mod threads;
pub(crate) mod waker_set;

pub(crate) use heirloom_context::internal::{panic, sync};
