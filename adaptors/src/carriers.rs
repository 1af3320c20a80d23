//! Headers of messages as carriers of contexts.

#[cfg(feature = "lapin")]
mod amqp;
#[cfg(feature = "async-nats")]
mod nats;

#[cfg(feature = "lapin")]
pub use amqp::AmqpHeaders;
#[cfg(feature = "async-nats")]
pub use nats::NatsHeaders;
