//! The cooperative budget: how many leaf operations a poll may complete before it should let others run.
//!
//! A task whose leaves are always ready never suspends by itself. The leaf futures of this crate therefore consume one
//! unit each time they complete; when nothing is left they report pending, once, with the task woken. The model is
//! tokio's.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;

use heirloom_context::raw;

/// Units per poll. As in tokio: high enough not to be felt, low enough that the others wait for microseconds only.
const UNITS: u32 = 128;

/// Marks a call that is not to be limited.
pub(super) const UNLIMITED: u32 = u32::MAX;

thread_local! {
    // Without drop glue, so that it answers during thread teardown. Outside of tasks nothing is limited.
    static LEFT: Cell<u32> = const { Cell::new(UNLIMITED) };
}

/// Puts the former budget back.
pub(crate) struct Restore(u32);

impl Drop for Restore {
    fn drop(&mut self) {
        LEFT.set(self.0);
    }
}

/// A full budget until [`restore`] is called with the answer.
#[inline]
pub(crate) fn refill() -> u32 {
    LEFT.replace(UNITS)
}

#[inline]
pub(crate) fn restore(former: u32) {
    LEFT.set(former);
}

/// No limit until [`restore`] is called with something else.
pub(crate) fn lift() {
    LEFT.set(UNLIMITED);
}

/// No limit until the answer is dropped.
pub(crate) fn unlimited() -> Restore {
    Restore(LEFT.replace(UNLIMITED))
}

/// The units left in this poll; `None` where nothing is limited: outside of tasks, and in [`unconstrained`].
///
/// ```
/// assert_eq!(heirloom::task::budget::remaining(), None);
/// ```
pub fn remaining() -> Option<u32> {
    Some(LEFT.get()).filter(|left| *left != UNLIMITED)
}

/// Consumes one unit, for leaf futures of your own. Pending, with the task woken, if none is left: pass that on.
///
/// Cancel-safe: nothing is kept.
///
/// ```
/// use std::task::Poll;
/// # heirloom::block_on(std::future::poll_fn(|cx| {
/// assert!(heirloom::task::budget::consume(cx).is_ready());
/// # Poll::Ready(()) }));
/// ```
pub fn consume(cx: &mut Context<'_>) -> Poll<()> {
    match LEFT.get() {
        UNLIMITED => Poll::Ready(()),
        0 => {
            super::current::wake_later(cx.waker());
            Poll::Pending
        }
        left => {
            LEFT.set(left - 1);
            Poll::Ready(())
        }
    }
}

/// Polls `future` without a budget: it never reports pending for that reason. Then somebody else must see to it that
/// other tasks get their turn.
///
/// ```
/// # heirloom::block_on(async {
/// heirloom::task::budget::unconstrained(async { assert_eq!(heirloom::task::budget::remaining(), None) }).await;
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

/// Lets the other runnable tasks have a turn.
///
/// The task goes behind those that are queued on its worker. Under the [eager flag](crate::is_eager) it is the operating
/// system that may let another thread run. Cancel-safe.
///
/// ```
/// # heirloom::block_on(async {
/// heirloom::yield_now().await;
/// # });
/// ```
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
            thread::yield_now();
            return Poll::Ready(());
        }
        super::current::wake_later(cx.waker());
        Poll::Pending
    }
}

/// Consumes a unit and then asks `ready`, for leaves whose answer costs nothing.
pub(crate) fn spend<T>(cx: &mut Context<'_>, ready: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    ready!(consume(cx));
    let result = ready(cx);
    if result.is_pending() && LEFT.get() != UNLIMITED {
        // What did not complete did not count.
        LEFT.set(LEFT.get() + 1);
    }
    result
}
