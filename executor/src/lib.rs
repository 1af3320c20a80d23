#![doc = include_str!("manual.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// These panic when standard error takes nothing; see `report`.
#![warn(clippy::print_stderr, clippy::print_stdout)]

// The public modules. Each is the page of what it defines and passes on; an item stands on one
// page.
pub mod context {
    #![doc = include_str!("context.md")]
    #[cfg(all(feature = "channel", not(loom)))]
    #[cfg_attr(docsrs, doc(cfg(feature = "channel")))]
    pub use crate::structured::channel;
    pub use heirloom_context::*;
}
pub mod eager;
pub mod known_limits;
#[cfg(feature = "net")]
#[cfg_attr(docsrs, doc(cfg(feature = "net")))]
pub mod net;
pub mod runtime;
#[cfg(all(feature = "net", unix))]
#[cfg_attr(docsrs, doc(cfg(feature = "net")))]
pub mod signal;
pub mod task;
pub mod time;
pub mod wire;
pub use structured::{cancel_token as cancel, group};

mod bridge;
mod clock;
// Its programs use sockets and channels.
#[cfg(all(feature = "channel", feature = "net"))]
pub mod guide;
mod instrument;
mod io;
mod scheduler;
mod slab;
mod structured;
mod util;

// The verbs, and the types that nearly every program names. All else is reached through its module.
pub use eager::{is_eager, run_eagerly, try_run_eagerly};
#[doc(no_inline)]
pub use heirloom_context::{Context, ContextVar, context_var};
pub use heirloom_macros::{main, test};
pub use runtime::local::spawn_local;
pub use runtime::spawn::{block_on, spawn, spawn_background, spawn_blocking, spawn_in};
pub use runtime::{Handle, Runtime};
#[doc(no_inline)]
pub use structured::cancel_token::CancelToken;
#[doc(no_inline)]
pub use structured::group::TaskGroup;
pub use structured::shield::shield;
pub use task::{JoinHandle, yield_now};
pub use time::{deadline, interval, remaining, sleep, sleep_until, wait_for, wait_until};

#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
pub use bridge::hyper;
#[cfg(feature = "opentelemetry")]
#[cfg_attr(docsrs, doc(cfg(feature = "opentelemetry")))]
pub use bridge::opentelemetry;
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use bridge::tokio;
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub use bridge::tower;
#[cfg(feature = "tracing")]
#[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
pub use bridge::tracing;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeIsTested;
