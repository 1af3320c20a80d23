//! The spans of `tracing` in tasks.
//!
//! `tracing` keeps its current span in a thread-local. With [`Builder::tracing`] the span that is
//! current where a task is spawned is current in each poll of the task, and in its drop; no future
//! has to be wrapped by `instrument`. `#[heirloom::main(tracing)]` and `#[heirloom::test(tracing)]`
//! say the same for a program and a test;
//! [`build_default`](crate::runtime::Builder::build_default) for the default runtime of a program
//! that has no such `main`.
//!
//! ```
//! use heirloom::{Runtime, spawn};
//! use tracing::Span;
//!
//! # fn main() -> std::io::Result<()> {
//! # tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
//! let runtime = Runtime::builder().tracing().build()?;
//! runtime.block_on(async {
//!     let request = tracing::info_span!("request");
//!     let task = request.in_scope(|| {
//!         spawn(async {
//!             heirloom::yield_now().await;
//!             spawn(async { Span::current() }).await.unwrap()
//!         })
//!     });
//!     assert!(Span::current().is_none());
//!     assert_eq!(task.await.unwrap(), request);
//! });
//! # Ok(()) }
//! ```
//!
//! # What goes where
//!
//! | what | which span is current |
//! | --- | --- |
//! | a task, also of a local set or of eager code; a blocking closure | its spawner's, at the spawn |
//! | a [background task](crate::spawn_background) | none |
//! | the future of [`block_on`](crate::block_on) and of an [eager call](crate::run_eagerly) | the caller's: the thread is the same |
//! | a future that is awaited, a branch of `join!` | the task's |
//! | a task whose span the thread is in already, with another one inside | the other one: the registry of `tracing-subscriber` takes a span that is entered twice for current once, where it is outermost. Only a set or eager code that is run inside of spans comes to that |
//! | a task of a local set that was spawned in no span, while the set is run in one | the runner's: `tracing` has no way to leave a span for a while |
//!
//! A guard of [`Span::enter`] must not be held across an await: the task would go on without it on
//! another thread, and the thread would stay in the span. Give a part of a task a span of its own
//! by `Instrument::instrument`, which goes with this.
//!
//! The span of a task stays open until the task has ended. A task that is to be a span of its own
//! says so: `spawn(future.instrument(info_span!("fetch")))`.
//!
//! # Cost
//!
//! Where no span is current, a spawn looks for one; the task's polls and its end cost nothing
//! more. In a span, a spawn costs what a clone of the span does, and a poll an enter and an exit;
//! that is the business of the subscriber. A task that has returned is dropped in the same enter.
//! The benchmark `ambient` has figures.
//!
//! Variables as fields of events and spans: `heirloom::context::LogVars`, with the feature
//! `tracing-subscriber`.

use heirloom_context::{Ambient, Crossing};
use tracing::Span;
use tracing::span::Entered;

use crate::runtime::Builder;

/// The current span as an [ambient state](crate::context::Ambient); what [`Builder::tracing`] adds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CurrentSpan;

impl Ambient for CurrentSpan {
    type State = Span;
    type Guard<'a> = Entered<'a>;

    #[inline]
    fn capture(&self, _: &Crossing<'_>) -> Option<Span> {
        let span = Span::current();
        (!span.is_none()).then_some(span)
    }

    #[inline]
    fn enter<'a>(&self, span: &'a mut Span) -> Entered<'a> {
        span.enter()
    }
}

impl Builder {
    /// The span of `tracing` that is current where a task is spawned is current in each poll of the
    /// task, and in its drop; see [`heirloom::tracing`](crate::tracing).
    #[must_use]
    #[doc(alias = "instrument")]
    #[doc(alias = "in_current_span")]
    pub fn tracing(self) -> Self {
        self.ambient(&CurrentSpan)
    }
}
