//! What the future and the body of a request have in common.

use std::task::{Context as Poller, Poll};
use std::time::Duration;

use heirloom_context::wire::TraceContext;
use heirloom_context::{Context, ContextCell};

use crate::clock::{after, now};
use crate::time::{Elapsed, StartedLimit};

/// What a request runs in. It moves from the future into the body, so that one of them at a time
/// enters the cell.
#[derive(Debug)]
pub(super) struct RequestScope {
    surroundings: Surroundings,
    limit: StartedLimit,
}

/// What is current in each step, besides the limit.
#[derive(Debug)]
struct Surroundings {
    /// `None` at a client: the context is that of the code that polls.
    cell: Option<ContextCell>,
    /// OpenTelemetry's context, if the request has brought one.
    #[cfg(feature = "opentelemetry")]
    parent: Option<opentelemetry::Context>,
}

impl Surroundings {
    fn run<R>(&self, step: impl FnOnce() -> R) -> R {
        #[cfg(feature = "opentelemetry")]
        let _attached = self.parent.clone().map(opentelemetry::Context::attach);
        match &self.cell {
            Some(cell) => cell.run(step).expect("one step of a request at a time"),
            None => step(),
        }
    }
}

impl RequestScope {
    /// At a server: a scope whose context starts from `context`, and which lasts for `time`, or as
    /// long as the current deadline allows.
    pub(super) fn new(context: Context, time: Option<Duration>) -> Self {
        RequestScope::within(Some(ContextCell::new(context)), time)
    }

    /// At a client: a scope that lasts for `time`, or as long as the current deadline allows.
    pub(super) fn of_caller(time: Option<Duration>) -> Self {
        RequestScope::within(None, time)
    }

    fn within(cell: Option<ContextCell>, time: Option<Duration>) -> Self {
        RequestScope {
            surroundings: Surroundings {
                cell,
                #[cfg(feature = "opentelemetry")]
                parent: None,
            },
            limit: StartedLimit::new(time.and_then(|time| after(now(), time))),
        }
    }

    /// The scope, in which the span that calls is the current one of OpenTelemetry's.
    #[cfg_attr(not(feature = "opentelemetry"), allow(unused_mut, unused_variables))]
    pub(super) fn in_trace(mut self, trace: Option<&TraceContext>) -> Self {
        #[cfg(feature = "opentelemetry")]
        {
            use opentelemetry::trace::TraceContextExt;
            let parent = |trace: &TraceContext| {
                opentelemetry::Context::current().with_remote_span_context(trace.into())
            };
            self.surroundings.parent = trace.map(parent);
        }
        self
    }

    pub(super) fn run<R>(&self, step: impl FnOnce() -> R) -> R {
        self.limit.run(|| self.surroundings.run(step))
    }

    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Poller<'_>,
        step: impl FnOnce(&mut Poller<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Elapsed>> {
        let surroundings = &self.surroundings;
        self.limit.poll(cx, |cx| surroundings.run(|| step(cx)))
    }

    /// Whether time is up.
    pub(super) fn check(&self) -> Result<(), Elapsed> {
        self.limit.check()
    }

    /// Whether no more time is left than that.
    pub(super) fn check_until(&self, left: Duration) -> Result<(), Elapsed> {
        self.limit.check_until(left)
    }
}
