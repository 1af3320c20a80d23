//! Contexts in the headers of calls and messages to other processes.
//!
//! A variable travels only if its declaration says so: `wire = "name"`. What is sent goes through
//! [`inject_with`], to the hosts of an [`Outbound`]; what is received goes through the allow-list
//! of an [`Inbound`].
//!
//! | for | see |
//! | --- | --- |
//! | the name and the codec of a variable | [`Wire`], [`WireBytes`] |
//! | writing the current context into headers; which hosts get it | [`inject_with`], [`clear`], [`Outbound`] |
//! | reading headers | [`Inbound`], [`Received`] |
//! | what headers are | [`Injector`], [`Extractor`]: maps of texts, and `http::HeaderMap` with the feature `http` |
//! | the trace without OpenTelemetry | [`TRACE`], [`TraceContext`] |
//! | what was dropped | [`Dropped`], [`dropped()`] |
//! | the formats by themselves | [`baggage`], [`timeout`], [`TraceContext`] |
//!
//! ```
//! # use heirloom_context::internal::heirloom;
//! use std::collections::HashMap;
//! use heirloom::context::wire::{self, Inbound};
//! use heirloom::{Context, context_var};
//!
//! context_var! { static TENANT: String, wire = "tenant"; }
//!
//! // One process:
//! let mut headers = HashMap::new();
//! TENANT.set("acme".to_owned());
//! wire::inject_with(&mut headers, wire::REQUEST_TIMEOUT, None);
//!
//! // The other one:
//! let inbound = Inbound::new().var(&TENANT);
//! let context = inbound.extract(&headers).bind(&Context::empty());
//! assert_eq!(context.run(|| TENANT.get()).as_deref(), Some("acme"));
//! ```
#![forbid(unsafe_code)]

// Most functions of this module are `#[inline]`, so that the compiler generates them, with the maps
// and sorts behind them, in crates that use them only: most programs send no context, and these
// were a fifth of what each of their debug builds compiled here.

pub mod baggage;
mod carrier;
mod dropped;
mod inbound;
mod outbound;
pub mod timeout;
mod trace;

pub use crate::value::{Wire, WireBytes};
pub use carrier::{Extractor, Injector};
pub use dropped::{Dropped, Reason, dropped};
pub use inbound::{Inbound, Received};
pub use outbound::{Injected, Outbound, clear, inject_with};
pub use timeout::InvalidTimeout;
pub use trace::{InvalidTrace, TRACE, TraceContext};

/// The header of the values of variables.
pub const BAGGAGE: &str = "baggage";
/// The header of the trace and of the span that calls.
pub const TRACEPARENT: &str = "traceparent";
/// The header of what the makers of tracing systems note beside.
pub const TRACESTATE: &str = "tracestate";
/// The header of the deadline in gRPC.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The header of the deadline elsewhere. There is no standard; the text is that of
/// [`GRPC_TIMEOUT`].
pub const REQUEST_TIMEOUT: &str = "x-request-timeout";
