//! Tools for every floor: primitives of the standard library or of loom, and small types without a
//! policy.

pub(crate) mod counters;
pub(crate) mod early;
pub(crate) mod histogram;
pub(crate) mod idle_condvar;
pub(crate) mod report;
pub(crate) mod room;
pub(crate) mod switches;
#[cfg(unix)]
pub(crate) mod system;
pub(crate) mod thread_state;
pub(crate) mod threads;
pub(crate) mod waker_set;

pub(crate) use heirloom_context::internal::{panic, sync, tagged};
