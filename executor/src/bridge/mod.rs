//! Implementations of other crates' runtime traits: a module per crate, behind the feature of its
//! name.

#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "opentelemetry")]
pub mod opentelemetry;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "tracing")]
pub mod tracing;
