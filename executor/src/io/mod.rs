//! Sockets and signals, and the driver that tells when they are ready.

pub mod net;
mod registration;
#[cfg(unix)]
pub mod signal;

pub(crate) use registration::{Direction, Registration};
