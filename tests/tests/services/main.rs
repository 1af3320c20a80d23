//! Sockets, servers and clients, and the bridges to other libraries, seen through the public
//! interface only.
//!
//! One module per behaviour; the list of failure cases and their tests is in `FAILURES.md`.
#![allow(missing_docs, clippy::async_yields_async)]

// Other people's threads, polls and processes, here and in `goes_with`: nothing for an interpreter.
#[cfg(not(miri))]
mod crossings;
#[cfg(not(miri))]
mod goes_with;
// TLS with a cryptography in C.
#[cfg(all(unix, not(miri)))]
mod http_client;
mod hyper;
mod isolation;
mod net;
// Thread-locals of other libraries, and thousands of tasks: nothing for an interpreter.
#[cfg(not(miri))]
mod otel;
mod service;
#[cfg(not(miri))]
mod spans;
mod spawned;
mod tokio_guest;
mod tower_buffer;
mod tower_layers;
mod tower_request_layer;
mod tower_requests;
mod wire_headers;
