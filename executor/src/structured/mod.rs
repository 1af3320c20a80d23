//! Waiting for several tasks, stopping them, handing over to them: the public interface of the
//! floors below, and nothing else.

pub mod cancel_token;
#[cfg(all(feature = "channel", not(loom)))]
pub mod channel;
pub mod group;
pub(crate) mod shield;
