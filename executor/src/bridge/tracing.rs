//! The span of `tracing` that is current where a task is spawned, current in the task.
use heirloom_context::{Ambient, Crossing};
use tracing::Span;

use crate::runtime::Builder;

/// tracing's current span as an [ambient state](crate::context::Ambient).
#[derive(Clone, Copy, Debug, Default)]
pub struct CurrentSpan;

impl Ambient for CurrentSpan {
    type State = Span;

    #[inline]
    fn capture(&self, _: &Crossing<'_>) -> Option<Span> {
        let span = Span::current();
        (!span.is_none()).then_some(span)
    }

    #[inline]
    fn around(&self, span: &mut Span, f: &mut dyn FnMut()) {
        span.in_scope(f);
    }
}

impl Builder {
    /// The span that is current where a task is spawned is current in the task.
    #[must_use]
    pub fn tracing(self) -> Self {
        self.ambient(&CurrentSpan)
    }
}
