//! What the future and the body of a request have in common.

use std::task::{Context as Poller, Poll};
use std::time::Duration;

use heirloom_context::{Context, ContextCell};

use crate::clock::{after, now};
use crate::time::{Elapsed, StartedLimit};

/// What a request runs in. It moves from the future into the body, so that one of them at a time
/// enters the cell.
#[derive(Debug)]
pub(super) struct RequestScope {
    cell: ContextCell,
    limit: StartedLimit,
}

impl RequestScope {
    /// A scope whose context starts from `context`, and which lasts for `time`, or as long as the
    /// current deadline allows.
    pub(super) fn new(context: Context, time: Option<Duration>) -> Self {
        RequestScope {
            cell: ContextCell::new(context),
            limit: StartedLimit::new(time.and_then(|time| after(now(), time))),
        }
    }

    pub(super) fn run<R>(&self, step: impl FnOnce() -> R) -> R {
        self.limit.run(|| self.cell.run(step).expect("one step of a request at a time"))
    }

    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Poller<'_>,
        step: impl FnOnce(&mut Poller<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Elapsed>> {
        let cell = &self.cell;
        self.limit.poll(cx, |cx| cell.run(|| step(cx)).expect("one step of a request at a time"))
    }

    /// Whether time is up.
    pub(super) fn check(&self) -> Result<(), Elapsed> {
        self.limit.check()
    }
}
