//! Context variables, snapshots, and futures with a context of their own: the crate
//! `heirloom-context`, and the parts of this interface that need the executor.
#![forbid(unsafe_code)]

#[cfg(all(feature = "channel", not(loom)))]
#[cfg_attr(docsrs, doc(cfg(feature = "channel")))]
pub mod channel;

pub use heirloom_context::*;
