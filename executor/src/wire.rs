//! Contexts in the headers of calls and messages to other processes, with the time that is left.
//!
//! A variable travels only if its declaration says so: `wire = "name"`. Then [`inject`] writes the
//! current context into headers, in W3C's formats, and an [`Inbound`], an allow-list, reads them at
//! the other end. The guide's chapter [wire](crate::guide::wire) has the formats and the rules.
//!
//! | for | see |
//! | --- | --- |
//! | writing the current context, the trace and the deadline into headers | [`inject`], [`inject_as`] |
//! | all else | [`heirloom::context::wire`](crate::context::wire) |
//!
//! ```
//! use std::collections::HashMap;
//! use std::time::Duration;
//! use heirloom::wire::{self, Inbound};
//! use heirloom::{Context, context_var, wait_for};
//!
//! context_var! { static TENANT: String, wire = "tenant"; }
//!
//! # heirloom::block_on(async {
//! // One process:
//! TENANT.set("acme".to_owned());
//! let call = async {
//!     let mut headers = HashMap::new();
//!     wire::inject(&mut headers);
//!     headers
//! };
//! let headers = wait_for(call, Duration::from_secs(2)).await.unwrap();
//!
//! // The other one:
//! let received = Inbound::new().var(&TENANT).extract(&headers);
//! assert!(received.remaining().unwrap().unwrap() <= Duration::from_secs(2));
//! let context = received.bind(&Context::empty());
//! assert_eq!(context.get(&TENANT).as_deref(), Some("acme"));
//! # });
//! ```
#![forbid(unsafe_code)]

#[doc(no_inline)]
pub use heirloom_context::wire::*;

use crate::time::remaining;

/// Writes the current context into the headers of a call or a message, and how much time is
/// [left](crate::remaining) in [`REQUEST_TIMEOUT`]; see
/// [`inject_with`] for what is written.
///
/// Call it as late as possible: the time is measured here. Without a deadline, the header of the
/// deadline is removed.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::time::Duration;
/// use heirloom::{wait_for, wire};
///
/// # heirloom::block_on(async {
/// let mut headers = BTreeMap::new();
/// wait_for(async { wire::inject(&mut headers) }, Duration::from_secs(100)).await.unwrap();
/// assert!(headers["x-request-timeout"].starts_with("99999")); // less than 100 seconds
///
/// wire::inject(&mut headers);
/// assert!(headers.is_empty());
/// # });
/// ```
///
/// # Panics
/// If the codec of a variable does: nothing is written then.
pub fn inject<C: Injector + ?Sized>(carrier: &mut C) -> Injected {
    inject_as(carrier, REQUEST_TIMEOUT)
}

/// The same for a protocol that has a header of its own for the deadline, such as
/// [`GRPC_TIMEOUT`]. The name is given in lower case.
pub fn inject_as<C: Injector + ?Sized>(carrier: &mut C, deadline_header: &str) -> Injected {
    inject_with(carrier, deadline_header, remaining())
}
