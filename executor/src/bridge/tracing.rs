//! The span of `tracing` that is current where a task is spawned, current in the task.
use heirloom_context::{Ambient, Crossing};
use tracing::Span;
use tracing::span::Entered;

use crate::runtime::Builder;

/// tracing's current span as an [ambient state](crate::context::Ambient).
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
    /// The span that is current where a task is spawned is current in the task.
    #[must_use]
    pub fn tracing(self) -> Self {
        self.ambient(&CurrentSpan)
    }
}
