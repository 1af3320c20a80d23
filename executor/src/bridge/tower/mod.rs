//! Layers for tower services: a context and a deadline per request, and what needs a clock.
//!
//! | layer | for |
//! | --- | --- |
//! | [`RequestContextLayer`] | a server: variables from headers, a deadline, for the call and the response's body |
//! | [`PropagateLayer`] | a client: the caller's variables, trace and remaining time in the headers of a call |
//! | [`TimeoutLayer`] | a limit for a call, until it has its response |
//! | [`RetryPolicy`] | the policy of tower's `Retry`: backoff, jitter, a budget, and never past the deadline |
//! | [`RateLimitLayer`] | so many calls in so much time |
//! | [`Buffer`] | a queue in front of a service that is not `Clone` |
//!
//! tower's other layers run on this executor as they are, among them `ConcurrencyLimit`, `LoadShed`
//! and `Retry`. The guide's page `goes_with` says which, and which need something in their place.
//!
//! # Contexts and deadlines
//!
//! A service's `call` runs in the caller's context, and the future that `call` returns in that of
//! the task that polls the future: for most callers that is the same. [`RequestContextLayer`] alone
//! gives a context of its own. [`Buffer`] takes the caller's context along to where it calls.
//!
//! A layer that limits makes its limit the current [`deadline`](crate::deadline()), within the one
//! that is current at `call`. So the inner service can ask how much time is left, and pass it on.
//!
//! # Clones
//!
//! A server such as hyper, by `TowerToHyperService`, clones the service for each request, calls
//! `poll_ready` and `call` on the clone, over HTTP/2 in a task of the request's own. So what
//! several requests have in common is shared by the clones: the permits of a [`RateLimit`], the
//! queue of a [`Buffer`], the budget of a [`RetryPolicy`]. What `poll_ready` has reserved belongs
//! to one clone, and returns when the clone is dropped without a `call`.
#![forbid(unsafe_code)]

mod buffer;
mod grpc;
mod propagate;
mod rate_limit;
mod refused;
mod request_context;
mod request_scope;
mod response_body;
mod retry;
mod timeout;

use std::error::Error as StdError;

pub use self::buffer::Buffer;
pub use self::grpc::grpc_timeout;
pub use self::propagate::{Propagate, PropagateFuture, PropagateLayer};
pub use self::rate_limit::{RateLimit, RateLimitLayer};
pub use self::refused::Refused;
pub use self::request_context::{RequestContext, RequestContextLayer, RequestFuture};
pub use self::response_body::ResponseBody;
pub use self::retry::{RetryBudget, RetryPolicy};
pub use self::timeout::{Timeout, TimeoutFuture, TimeoutLayer};

/// An error of a service, a body or a layer, as tower's layers have it.
pub type BoxError = Box<dyn StdError + Send + Sync>;
