//! The cooperative budget: how many leaf operations a poll may complete before it lets others run.
//!
//! A *leaf* is a future that waits for something itself: a sleep, a socket, a join handle. A task
//! whose leaves are always ready never suspends. So a leaf of this crate consumes one *unit* when
//! it completes at its first poll. When no unit is left, the leaf reports pending once, with the
//! task woken, and completes at its next poll. That ends the poll, and then a limit, the other
//! branches of a `join!` and other tasks can run.
//!
//! **A leaf that was pending in an earlier poll completes without a unit.** The first branch of a
//! `join!` may spend all units of each poll; the other branches still make progress. What
//! one poll can complete is bounded by its units and by the leaves that were pending before.
//!
//! These give a full budget to each poll: workers,
//! [`block_on`](crate::block_on), [`LocalSet`](crate::task::LocalSet), the calls of
//! [`run_eagerly`](crate::run_eagerly()), closures of the blocking pool that block on a future.
//!
//! # What the budget cannot do
//!
//! It counts leaves of this crate. A leaf of another crate that is always ready (a channel that
//! always holds a message) occupies its worker for as long as it is ready, and no limit
//! around it can end it. Wrap such a leaf in [`cooperative`]:
//!
//! ```
//! use heirloom::task::budget::cooperative;
//! use futures::StreamExt;
//!
//! # heirloom::block_on(async {
//! let (sender, mut receiver) = futures::channel::mpsc::unbounded();
//! for number in 0..1_000 {
//!     sender.unbounded_send(number).unwrap();
//! }
//! drop(sender);
//! while let Some(number) = cooperative(receiver.next()).await {
//!     // Other tasks run after every 128 messages.
//!     # let _: i32 = number;
//! }
//! # });
//! ```
//!
//! The model is tokio's, with one difference: a leaf that was pending needs no unit.
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
#[cfg(feature = "net")]
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::thread;

use futures_core::Stream;
use heirloom_context::raw;

use crate::util::counters::{self, Counters};
use crate::util::thread_state::with;

/// Units per poll. As in tokio: high enough to cost little, low enough that other tasks wait for
/// microseconds only.
const UNITS: u32 = 128;

/// The budget where none applies.
pub(super) const UNLIMITED: u32 = u32::MAX;

/// Restores the former budget when it is dropped.
pub(crate) struct BudgetGuard(u32);

impl Drop for BudgetGuard {
    fn drop(&mut self) {
        with(|state| state.budget.set(self.0));
    }
}

/// Sets a full budget and returns the former one, for [`restore`].
#[inline]
pub(crate) fn refill() -> u32 {
    with(|state| state.budget.replace(UNITS))
}

#[inline]
pub(crate) fn restore(former: u32) {
    with(|state| state.budget.set(former));
}

/// A full budget until the guard is dropped; [`renew`] makes it full again.
pub(crate) fn full() -> BudgetGuard {
    let before = BudgetGuard(with(|state| state.budget.get()));
    start();
    before
}

/// Makes the budget full for the first poll of a future that is polled until it is done. Refusals
/// that were counted on this thread before belong to other futures, and are forgotten.
pub(crate) fn start() {
    with(|state| state.refused.set(0));
    with(|state| state.budget.set(UNITS));
}

/// Makes the budget full for the next poll of the same future, with a unit for each refusal of the
/// last poll: otherwise thousands of leaves that keep no state, in a join that polls all its
/// branches, would all be polled again for every 128 of them that complete.
#[inline]
pub(crate) fn renew() {
    with(|state| state.budget.set(state.refused.replace(0).clamp(UNITS, UNLIMITED - 1)));
}

/// Whether this poll has spent its budget.
pub(crate) fn is_spent() -> bool {
    with(|state| state.budget.get()) == 0
}

/// No budget applies until the guard is dropped.
pub(crate) fn unlimited() -> BudgetGuard {
    BudgetGuard(with(|state| state.budget.replace(UNLIMITED)))
}

/// The units left in this poll; `None` where no budget applies: under executors of other crates,
/// and in [`unconstrained`].
///
/// ```
/// assert_eq!(heirloom::task::budget::remaining(), None);
/// ```
pub fn remaining() -> Option<u32> {
    Some(with(|state| state.budget.get())).filter(|left| *left != UNLIMITED)
}

/// Consumes one unit, for leaf futures of your own. Pending, with the task woken, if none is left:
/// the leaf returns that.
///
/// No state is kept, so a leaf that is polled after a busy branch of a `join!` may find no unit in
/// any poll. [`cooperative`] remembers that its leaf has waited, and is the better choice where
/// there is a future to wrap.
///
/// Cancel-safe: no state is kept.
///
/// ```
/// use std::task::Poll;
/// # heirloom::block_on(std::future::poll_fn(|cx| {
/// assert!(heirloom::task::budget::consume(cx).is_ready());
/// # Poll::Ready(()) }));
/// ```
#[doc(alias = "consume_budget")]
pub fn consume(cx: &mut Context<'_>) -> Poll<()> {
    match with(|state| state.budget.get()) {
        UNLIMITED => Poll::Ready(()),
        0 => {
            with(|state| state.refused.set(state.refused.get().saturating_add(1)));
            spent(cx)
        }
        left => {
            with(|state| state.budget.set(left - 1));
            Poll::Ready(())
        }
    }
}

/// Makes `leaf`, a future or a stream of another crate, take part in the budget: it consumes a unit
/// each time it completes at once, and reports pending once, with the task woken, when none is
/// left.
///
/// Use it for leaves that may be ready many times in a row: channels, sockets and streams of other
/// crates. The page of [this module](self) has an example. Around futures that mostly wait it costs
/// a few instructions and changes nothing.
///
/// Cancel-safe as `leaf` is.
///
/// ```
/// use std::time::Duration;
/// use heirloom::task::budget::cooperative;
/// use heirloom::time::Elapsed;
/// use heirloom::wait_for;
///
/// # heirloom::block_on(async {
/// let busy = async {
///     loop {
///         cooperative(std::future::ready(())).await;
///     }
/// };
/// let result: Result<(), Elapsed> = wait_for(busy, Duration::from_millis(5)).await;
/// assert!(result.is_err());
/// # });
/// ```
pub fn cooperative<L>(leaf: L) -> Cooperative<L> {
    Cooperative { leaf, claim: Claim::default() }
}

pin_project_lite::pin_project! {
    /// A leaf that takes part in the budget; made by [`cooperative`].
    #[derive(Debug)]
    #[must_use = "futures and streams do nothing unless they are polled"]
    pub struct Cooperative<L> {
        #[pin]
        leaf: L,
        claim: Claim,
    }
}

impl<F: Future> Future for Cooperative<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.claim.spend(cx, |cx| this.leaf.poll(cx))
    }
}

impl<S: Stream> Stream for Cooperative<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        this.claim.spend(cx, |cx| this.leaf.poll_next(cx))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.leaf.size_hint()
    }
}

/// What a leaf remembers of its budget from one poll to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claim {
    /// The leaf was pending in an earlier poll: it needs no unit.
    waited: bool,
}

impl Claim {
    pub(crate) const fn new(waited: bool) -> Claim {
        Claim { waited }
    }

    /// Polls the leaf with `ready`, and consumes a unit if it completes at once. If no unit is
    /// left, pending without polling it, unless the leaf has waited.
    #[inline]
    pub(crate) fn spend<T>(
        &mut self,
        cx: &mut Context<'_>,
        ready: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.waited {
            ready!(self.refuse(cx));
        }
        let result = ready(cx);
        if result.is_pending() {
            self.waited = true;
        } else if !std::mem::take(&mut self.waited) {
            take_one();
        }
        result
    }

    /// [`spend`](Self::spend) for a leaf that is ready.
    #[inline]
    pub(crate) fn complete(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.spend(cx, |_| Poll::Ready(()))
    }

    /// Pending, with the task woken, if no unit is left.
    #[inline]
    fn refuse(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if with(|state| state.budget.get()) != 0 {
            return Poll::Ready(());
        }
        self.waited = true;
        spent(cx)
    }
}

/// The claim of the leaves of a socket in one direction, one after the other. Two tasks that use
/// the socket alternately share it, which may cost one of them a unit.
#[cfg(feature = "net")]
#[derive(Debug, Default)]
pub(crate) struct SharedClaim {
    waited: AtomicBool,
}

#[cfg(feature = "net")]
impl SharedClaim {
    /// [`Claim::spend`].
    #[inline]
    pub(crate) fn spend<T>(
        &self,
        cx: &mut Context<'_>,
        ready: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // Relaxed, without a partner: it is a hint for the next poll of the same leaf.
        let waited = self.waited.load(Relaxed);
        let mut claim = Claim { waited };
        let result = claim.spend(cx, ready);
        if claim.waited != waited {
            self.waited.store(claim.waited, Relaxed);
        }
        result
    }
}

/// No unit is left: pending, with the task woken.
///
/// Out of line, so that leaves that look for a unit are small enough to be inlined.
#[cold]
#[inline(never)]
fn spent(cx: &mut Context<'_>) -> Poll<()> {
    counters::here(|here| Counters::add(&here.budget_yields));
    super::current::wake_later(cx.waker());
    Poll::Pending
}

/// Consumes a unit, if one is left.
#[inline]
fn take_one() {
    let left = with(|state| state.budget.get());
    if left != UNLIMITED && left != 0 {
        with(|state| state.budget.set(left - 1));
    }
}

/// Polls `future` without a budget, so no leaf in it is pending for lack of units. The code inside
/// must let other tasks run by itself, and a limit around it may end it late.
///
/// ```
/// # heirloom::block_on(async {
/// use heirloom::task::budget::{remaining, unconstrained};
///
/// unconstrained(async { assert_eq!(remaining(), None) }).await;
/// # });
/// ```
pub fn unconstrained<F: Future>(future: F) -> Unconstrained<F> {
    Unconstrained { future }
}

pin_project_lite::pin_project! {
    /// A future without a budget; made by [`unconstrained`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct Unconstrained<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Unconstrained<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _restore = unlimited();
        self.project().future.poll(cx)
    }
}

/// Lets other runnable tasks run.
///
/// The task is queued behind those of its worker. Under the [eager flag](crate::is_eager)
/// the operating system may run another thread instead, and a unit of the budget is consumed.
/// Cancel-safe.
///
/// ```
/// # heirloom::block_on(async {
/// heirloom::yield_now().await;
/// # });
/// ```
#[doc(alias = "checkpoint")]
#[doc(alias = "Gosched")]
#[inline]
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// Pending once; made by [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        if raw::execution().eager() {
            // Without a unit it is pending, so that a limit around a loop of these can end it.
            self.yielded = false;
            ready!(consume(cx));
            self.yielded = true;
            thread::yield_now();
            return Poll::Ready(());
        }
        super::current::wake_later(cx.waker());
        Poll::Pending
    }
}
