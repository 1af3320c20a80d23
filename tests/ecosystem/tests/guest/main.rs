//! Libraries that need tokio's runtime and no server of their own, on a runtime with a tokio guest.

mod itself;
mod reqwest;
mod tonic;
mod tower;
