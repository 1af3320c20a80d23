//! Clients of real servers, on a runtime with a tokio guest. `.ci/ecosystem` starts the servers.

mod nats;
mod postgres;
mod redis;
mod sqlx;
