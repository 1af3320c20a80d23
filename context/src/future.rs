//! Futures that have a context of their own, and branches that do not see each other's writes.
//!
//! | for | see |
//! | --- | --- |
//! | one variable, bound while a future runs | [`ContextFutureExt::with_var`] |
//! | keeping what a future sets inside it | [`ContextFutureExt::isolated`] |
//! | a future in a given context, whichever task polls it | [`ContextFutureExt::in_context`] |
//! | waiting for several, isolated from each other | [`join!`](crate::join!), [`join()`], [`join_all`] |
//! | the first of two, isolated | [`select`] |
//!
//! ```
//! # use heirloom_context::internal::heirloom;
//! use heirloom::context::{ContextFutureExt, future};
//! use heirloom::context_var;
//!
//! context_var! { static STEP: u32 = 0; }
//!
//! # futures::executor::block_on(async {
//! let one = async {
//!     STEP.set(1);
//!     STEP.get()
//! };
//! let two = async { STEP.get() };
//! assert_eq!(future::join(one, two).await, (1, 0));
//! assert_eq!(async { STEP.get() }.with_var(&STEP, 7).await, 7);
//! assert_eq!(STEP.get(), 0);
//! # });
//! ```
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

use crate::cell::ContextCell;
use crate::context::Context;
use crate::var::ContextVar;
use crate::with_context::{WithContext, modes};

pub use crate::join::{Either, join, select};
#[doc(hidden)]
pub use crate::join::{join3, join4, join5, join6, join7, join8};
pub use crate::join_all::{JoinAll, join_all};

/// Three ways for a future to have a context of its own. Without any it shares its caller's: a call
/// is a call.
///
/// | mode | own writes | sees the outside |
/// | --- | --- | --- |
/// | plain | shared with the polling task | yes |
/// | [`isolated`](Self::isolated) | invisible outside, kept between polls | yes, live |
/// | [`in_context`](Self::in_context) | in a copy of a context, kept between polls | no |
/// | [`in_current_context`](Self::in_current_context) | the same, of the one current now | no |
///
/// The foreign `join!` and `select!` macros poll all branches in one task, hence in one context:
/// what one branch sets, its siblings see. [`join`], [`join_all`] and [`select`] isolate each
/// branch; with the foreign ones, isolate by hand.
///
/// # A future that several tasks poll
///
/// A plain future has no context of its own: each poll uses that of the polling task. If one task
/// begins the future and another one finishes it, the future sees the first task's values, then the
/// second's. What it sets lands in both. A [guard](crate::Binding) that it makes in the first task
/// and drops in the second stays bound in the first. That is so for `futures::future::Shared`, and
/// for all that a library lets a later caller finish. The inner future needs a context of its own:
///
/// | inner future | reads | writes and guards |
/// | --- | --- | --- |
/// | plain | the polling task's values | land in the polling task; a guard may stay bound there |
/// | `.isolated()` | its own, else the polling task's | its own, and end with it |
/// | `.in_current_context()` | its own copy of where it was made | its own, and end with it |
///
/// See [`Binding`](crate::Binding) for an example.
///
/// # Executors inside a task
///
/// `tokio::task::LocalSet` and `futures::executor::LocalPool` run tasks of their own inside the
/// task, or on the thread, that polls them. Those tasks know no context of their own, share the
/// poller's, and overwrite each other's values. What is spawned there is wrapped:
/// `task.in_context(Context::inherited())`.
#[doc(alias = "Instrument")]
#[doc(alias = "WithContext")]
#[doc(alias = "FutureExt")]
pub trait ContextFutureExt: Future + Sized {
    modes! {
        /// Puts a layer of its own around the future. What it binds is invisible outside and kept
        /// between polls; what it has not bound itself is what the current poller has bound *now*.
        ///
        /// Whether it has bound one variable never changes what it sees of another. A lookup costs
        /// one step per nested layer.
        ///
        /// ```
        /// # use heirloom_context::internal::heirloom;
        /// use heirloom::context::ContextFutureExt;
        /// use heirloom::context_var;
        /// context_var! { static TENANT: u32; }
        /// # futures::executor::block_on(async {
        /// async { TENANT.set(2) }.isolated().await;
        /// assert_eq!(TENANT.get(), None);
        ///
        /// async { TENANT.set(2) }.await;
        /// assert_eq!(TENANT.get(), Some(2));
        /// # });
        /// ```
        isolated;

        /// Pins the future to a copy of `context`, in whichever task it is polled. What it writes
        /// stays in that copy.
        ///
        /// ```
        /// # use heirloom_context::internal::heirloom;
        /// use heirloom::context::ContextFutureExt;
        /// use heirloom::{Context, context_var};
        /// context_var! { static TENANT: u32; }
        /// # futures::executor::block_on(async {
        /// let read = async { TENANT.get() };
        /// assert_eq!(read.in_context(Context::empty().with_var(&TENANT, 7)).await, Some(7));
        /// # });
        /// ```
        in_context;

        /// Pins the future to a copy of the context that is current now, rather than when it is
        /// polled.
        ///
        /// ```
        /// # use heirloom_context::internal::heirloom;
        /// use heirloom::context::ContextFutureExt;
        /// use heirloom::context_var;
        /// context_var! { static TENANT: u32; }
        /// # futures::executor::block_on(async {
        /// let created_first = TENANT.scope(1, || async { TENANT.get() }.in_current_context());
        /// let awaited_second = created_first.with_var(&TENANT, 2).await;
        /// assert_eq!(awaited_second, Some(1));
        /// # });
        /// ```
        in_current_context;

        /// Binds one variable during each poll of the future, and while it is dropped. What is
        /// written to it inside is kept between polls and gone outside; other variables stay
        /// shared.
        ///
        /// ```
        /// # use heirloom_context::internal::heirloom;
        /// use heirloom::context::ContextFutureExt;
        /// use heirloom::context_var;
        /// context_var! { static TENANT: u32; static COUNT: u32; }
        /// # futures::executor::block_on(async {
        /// async {
        ///     assert_eq!(TENANT.get(), Some(7));
        ///     COUNT.set(1);
        /// }
        /// .with_var(&TENANT, 7)
        /// .await;
        /// assert_eq!((TENANT.get(), COUNT.get()), (None, Some(1)));
        /// # });
        /// ```
        #[doc(alias = "scope")]
        #[doc(alias = "with_value")]
        with_var;
    }

    /// Runs the future in a live, shared context. Each poll enters the cell; while the cell is
    /// entered elsewhere, the task waits, without spinning.
    ///
    /// If the future is dropped while the cell is entered elsewhere, it is dropped in a copy of
    /// what was entered there. A future in a cell must not await another one in the same cell: that
    /// one would wait for the first to leave, for ever.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::{ContextCell, ContextFutureExt};
    /// use heirloom::{Context, context_var};
    /// context_var! { static COUNT: u32; }
    /// # futures::executor::block_on(async {
    /// let cell = ContextCell::new(Context::empty());
    /// async { COUNT.set(1) }.in_cell(cell.clone()).await;
    /// assert_eq!(async { COUNT.get() }.in_cell(cell).await, Some(1));
    /// # });
    /// ```
    fn in_cell(self, cell: ContextCell) -> InCell<Self> {
        InCell { inner: Some(self), cell }
    }
}

impl<F: Future> ContextFutureExt for F {}

pin_project_lite::pin_project! {
    /// A future in a [`ContextCell`]; made by [`ContextFutureExt::in_cell`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct InCell<F> {
        // `None` only while it is being dropped.
        #[pin]
        inner: Option<F>,
        cell: ContextCell,
    }

    impl<F> PinnedDrop for InCell<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.cell.run(|| this.inner.set(None)).is_err() {
                this.cell.snapshot().run(|| this.inner.set(None));
            }
        }
    }
}

impl<F: Future> Future for InCell<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let inner = this.inner.as_pin_mut().expect("taken by the drop only");
        let waker = cx.waker().clone();
        match this.cell.poll_run(&waker, || inner.poll(cx)) {
            Poll::Ready(result) => result,
            Poll::Pending => Poll::Pending,
        }
    }
}
