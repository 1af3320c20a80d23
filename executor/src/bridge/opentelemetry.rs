//! OpenTelemetry's context in tasks.
//!
//! OpenTelemetry keeps its current [`Context`] (the active span, the baggage) in a thread-local.
//! With [`Builder::opentelemetry`] the one that is current where a task is spawned is current in
//! each poll of the task, and in its drop; nothing has to be wrapped by `with_context`.
//! `#[heirloom::main(opentelemetry)]` and `#[heirloom::test(opentelemetry)]` say the same for a
//! program and a test.
//!
//! ```
//! use heirloom::{Runtime, spawn};
//! use opentelemetry::Context;
//!
//! #[derive(Debug, PartialEq)]
//! struct Tenant(u32);
//!
//! # fn main() -> std::io::Result<()> {
//! let runtime = Runtime::builder().opentelemetry().build()?;
//! runtime.block_on(async {
//!     let task = {
//!         let _attached = Context::current_with_value(Tenant(7)).attach();
//!         spawn(async {
//!             heirloom::yield_now().await;
//!             spawn(async { Context::current().get() == Some(&Tenant(7)) }).await.unwrap()
//!         })
//!     };
//!     assert!(Context::current().get::<Tenant>().is_none());
//!     assert!(task.await.unwrap());
//! });
//! # Ok(()) }
//! ```
//!
//! # What goes where
//!
//! | what | which context is current |
//! | --- | --- |
//! | a task, also of a local set or of eager code; a blocking closure | its spawner's, at the spawn |
//! | a [background task](crate::spawn_background) | none |
//! | the future of [`block_on`](crate::block_on) and of an [eager call](crate::run_eagerly) | the caller's: the thread is the same |
//! | a future that is awaited, a branch of `join!` | the task's |
//!
//! A guard of `attach` must not be held across an await: the task would go on without it on another
//! thread, and the thread would keep it. Give a part of a task a context of its own by
//! [`with_otel_context`](crate::context::opentelemetry::OtelFutureExt::with_otel_context), which
//! attaches also while the future is dropped; OpenTelemetry's own `with_context` does not.
//!
//! Where the layer of `tracing-opentelemetry` is in use, spans carry the context along, and
//! [`Builder::tracing`](crate::runtime::Builder::tracing) is enough. With both, call it first.
//!
//! Variables as baggage: [`context::opentelemetry`](crate::context::opentelemetry).

#[doc(no_inline)]
pub use heirloom_context::opentelemetry::{BaggageVars, InOtelContext, OtelFutureExt};
use heirloom_context::{Ambient, Crossing};
use opentelemetry::{Context, ContextGuard};

use crate::runtime::Builder;

/// OpenTelemetry's current context as an [ambient state](crate::context::Ambient); what
/// [`Builder::opentelemetry`] adds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CurrentContext;

impl Ambient for CurrentContext {
    type State = Context;
    type Guard<'a> = ContextGuard;

    /// Also an empty one: a task of a local set must not see the one of the set's runner.
    fn capture(&self, _: &Crossing<'_>) -> Option<Context> {
        Some(Context::current())
    }

    fn enter(&self, context: &mut Context) -> ContextGuard {
        context.clone().attach()
    }
}

impl Builder {
    /// OpenTelemetry's context that is current where a task is spawned is current in each poll of
    /// the task, and in its drop; see [`heirloom::opentelemetry`](crate::opentelemetry).
    ///
    /// A poll costs a clone of the context, which is two counts at most.
    #[must_use]
    pub fn opentelemetry(self) -> Self {
        self.ambient(&CurrentContext)
    }
}
