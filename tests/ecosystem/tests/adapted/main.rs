//! Libraries that bring a trait for the runtime below them, by the crate `heirloom-adaptors`.

mod async_rs;
mod aws;
#[cfg(feature = "servers")]
mod hickory;
#[cfg(feature = "servers")]
mod lapin;
mod opentelemetry;
mod quinn;
#[cfg(feature = "kafka")]
mod rdkafka;
