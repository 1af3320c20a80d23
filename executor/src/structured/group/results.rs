//! The results of a group as streams: outside of a scope with the failure, inside without.
#![forbid(unsafe_code)]

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

#[cfg(doc)]
use super::GroupScope;
use super::ready_list::GroupWaiter;
use super::shared::GroupShared;
use super::{GroupError, TaskGroup};
use crate::task::budget::Claim;

/// The results of a [`TaskGroup`] as a stream; made by [`TaskGroup::results`].
///
/// Dropping it leaves the group and its results as they are.
#[doc(alias = "join_next")]
#[doc(alias = "as_completed")]
#[must_use = "streams do nothing unless they are polled"]
pub struct Results<'a, E, T> {
    pub(super) group: &'a TaskGroup<E, T>,
    pub(super) waiter: GroupWaiter<'a>,
    pub(super) claim: Claim,
}

impl<E, T> Stream for Results<'_, E, T> {
    type Item = Result<T, GroupError<E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Results { group, waiter, claim } = &mut *self;
        let shared = &group.handle.shared;
        claim.spend(cx, |cx| {
            if group.in_scope {
                // The failure is the scope's to return.
                shared.poll_output(waiter, cx).map(|output| output.map(Ok))
            } else {
                shared.poll_result(waiter, cx)
            }
        })
    }
}

impl<E, T> fmt::Debug for Results<'_, E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.group.handle.shared.debug("Results", f)
    }
}

/// The outputs of a [`GroupScope`] as a stream; made by [`GroupScope::results`].
///
/// Dropping it leaves the group and its outputs as they are.
#[must_use = "streams do nothing unless they are polled"]
pub struct ScopeResults<'a, E, T> {
    pub(super) shared: &'a GroupShared<E, T>,
    pub(super) waiter: GroupWaiter<'a>,
    pub(super) claim: Claim,
}

impl<E, T> Stream for ScopeResults<'_, E, T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let ScopeResults { shared, waiter, claim } = &mut *self;
        claim.spend(cx, |cx| shared.poll_output(waiter, cx))
    }
}

impl<E, T> fmt::Debug for ScopeResults<'_, E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.debug("ScopeResults", f)
    }
}
