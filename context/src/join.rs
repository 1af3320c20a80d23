//! Waiting for several futures in one task, each branch with a layer of its own.
//!
//! The branches of a foreign `join!` are polled in one task and hence in one context: what one
//! sets, the others see after their next poll. That is what "awaiting shares" means, and rarely
//! what is meant by branches.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::future::maybe_done;
use futures_util::stream::FuturesUnordered;

use crate::current::{self, EnteredLayer, Owned};
use crate::with_context::WithContext;

/// One of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

impl<T> Either<T, T> {
    /// What either of the two holds.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::future::Either;
    /// assert_eq!(Either::<u32, u32>::Right(7).into_inner(), 7);
    /// ```
    pub fn into_inner(self) -> T {
        let (Either::Left(inner) | Either::Right(inner)) = self;
        inner
    }
}

macro_rules! join_functions {
    ($($(#[$meta:meta])* $name:ident($($branch:ident: $type:ident),+);)+) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "a branch each")]
        pub async fn $name<$($type: Future),+>($($branch: $type),+) -> ($($type::Output),+) {
            // A branch is dropped when it is done, and its output kept.
            $(let mut $branch = pin!(maybe_done(WithContext::isolated($branch)));)+
            poll_fn(|cx| {
                let mut done = true;
                $(done &= $branch.as_mut().poll(cx).is_ready();)+
                if done { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            ($($branch.take_output().expect("all are done")),+)
        }
    )+};
}

join_functions! {
    /// Waits for both, each [isolated](crate::ContextFutureExt::isolated), polled in the order
    /// written.
    ///
    /// For more than two there is [`join!`](crate::join!), and [`join_all`] for many of one type.
    ///
    /// Cancel-safe as its branches are: dropping it drops both, each in its context. A panic in a
    /// branch goes on to the caller.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::future;
    /// use heirloom::context_var;
    /// context_var! { static TENANT: u32; }
    /// # futures::executor::block_on(async {
    /// TENANT.set(1);
    /// let write = async { TENANT.set(2) };
    /// let read = async { TENANT.get() };
    /// assert_eq!(future::join(write, read).await.1, Some(1));
    /// assert_eq!(TENANT.get(), Some(1));
    /// # });
    /// ```
    join(a: A, b: B);
    #[doc(hidden)]
    join3(a: A, b: B, c: C);
    #[doc(hidden)]
    join4(a: A, b: B, c: C, d: D);
    #[doc(hidden)]
    join5(a: A, b: B, c: C, d: D, e: E);
    #[doc(hidden)]
    join6(a: A, b: B, c: C, d: D, e: E, f: F);
    #[doc(hidden)]
    join7(a: A, b: B, c: C, d: D, e: E, f: F, g: G);
    #[doc(hidden)]
    join8(a: A, b: B, c: C, d: D, e: E, f: F, g: G, h: H);
}

/// Awaits one to eight futures together, each [isolated](crate::ContextFutureExt::isolated), polled
/// in the order written; the value is the tuple of their outputs.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context_var;
/// context_var! { static TENANT: u32 = 0; }
/// # futures::executor::block_on(async {
/// let set = |tenant: u32| async move {
///     TENANT.set(tenant);
///     TENANT.get()
/// };
/// assert_eq!(heirloom::context::join!(set(1), set(2), async { TENANT.get() }), (1, 2, 0));
/// # });
/// ```
#[macro_export]
macro_rules! join {
    ($a:expr $(,)?) => {
        ($crate::ContextFutureExt::isolated($a).await,)
    };
    ($a:expr, $b:expr $(,)?) => {
        $crate::future::join($a, $b).await
    };
    ($a:expr, $b:expr, $c:expr $(,)?) => {
        $crate::future::join3($a, $b, $c).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr $(,)?) => {
        $crate::future::join4($a, $b, $c, $d).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr $(,)?) => {
        $crate::future::join5($a, $b, $c, $d, $e).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr $(,)?) => {
        $crate::future::join6($a, $b, $c, $d, $e, $f).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr $(,)?) => {
        $crate::future::join7($a, $b, $c, $d, $e, $f, $g).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr $(,)?) => {
        $crate::future::join8($a, $b, $c, $d, $e, $f, $g, $h).await
    };
}

/// Waits for the first of two, each [isolated](crate::ContextFutureExt::isolated), polled in the
/// order written. The loser is dropped, in its context, before this returns.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::future::{Either, select};
/// # futures::executor::block_on(async {
/// let never = std::future::pending::<u8>();
/// assert_eq!(select(never, async { 'b' }).await, Either::Right('b'));
/// # });
/// ```
#[doc(alias = "race")]
pub async fn select<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    // The order of the drops is that of the branches; both are over when this function is.
    let (mut a, mut b) = (pin!(WithContext::isolated(a)), pin!(WithContext::isolated(b)));
    poll_fn(|cx| {
        if let Poll::Ready(output) = a.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(output));
        }
        b.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

/// Waits for all, each [isolated](crate::ContextFutureExt::isolated); the outputs come in the order
/// of the futures.
///
/// The first polls go through them in order. Later ones poll the branches that were woken, in the
/// order of the wake-ups: a poll costs what was woken, however many wait. A branch is dropped as
/// soon as it is done. If some branches wake themselves again and again, the task yields between
/// two rounds of them.
///
/// Cancel-safe as its branches are: dropping it drops all that are left, each in its context.
///
/// # Panics
/// If a branch does, and at each further poll after that.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::future;
/// use heirloom::context_var;
/// context_var! { static TENANT: u32; }
/// # futures::executor::block_on(async {
/// let branches = (0..3).map(|tenant| async move {
///     TENANT.set(tenant);
///     TENANT.get()
/// });
/// assert_eq!(future::join_all(branches).await, [Some(0), Some(1), Some(2)]);
/// assert!(!TENANT.is_set());
/// # });
/// ```
pub fn join_all<I>(futures: I) -> JoinAll<I::Item>
where
    I: IntoIterator,
    I::Item: Future,
{
    // At the call, not at the first poll: an iterator that makes its futures may look at the
    // context.
    let branches: FuturesUnordered<_> = futures
        .into_iter()
        .enumerate()
        .map(|(index, future)| Branch { index, layer: Owned::EMPTY, future: Some(future) })
        .collect();
    JoinAll { outputs: (0..branches.len()).map(|_| None).collect(), branches, broken: false }
}

pin_project_lite::pin_project! {
    /// A branch of [`JoinAll`] in its layer. As `WithContext`, but smaller, and dropped within its
    /// last poll: of many branches, memory is what costs.
    struct Branch<F> {
        index: usize,
        // Empty until it is needed.
        layer: Owned,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Branch<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                let _inside = enter(this.layer);
                this.future.set(None);
            }
        }
    }
}

impl<F: Future> Future for Branch<F> {
    type Output = (usize, F::Output);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inside = enter(this.layer);
        let poll = this.future.as_mut().as_pin_mut().expect("not done yet").poll(cx);
        if poll.is_ready() {
            this.future.set(None);
        }
        drop(inside);
        if this.layer.is_blank_layer() {
            this.layer.clear();
        }
        poll.map(|output| (*this.index, output))
    }
}

/// Enters a branch's layer.
fn enter(layer: &mut Owned) -> EnteredLayer<'_> {
    if layer.is_empty() {
        *layer = Owned::layer();
    }
    current::enter_layer(layer)
}

/// Waits for many futures; made by [`join_all`]. It has a name of its own, without the iterator's
/// type in it, so that it may be awaited in a spawned task also if the iterator borrows.
#[must_use = "futures do nothing unless they are polled"]
pub struct JoinAll<F: Future> {
    /// The branches that are not done.
    branches: FuturesUnordered<Branch<F>>,
    /// One place for each.
    outputs: Vec<Option<F::Output>>,
    /// A poll has begun and not returned: a branch has panicked, and its output will never come.
    broken: bool,
}

// Branches are pinned where `FuturesUnordered` keeps them, and outputs are not pinned.
impl<F: Future> Unpin for JoinAll<F> {}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<F::Output>> {
        let JoinAll { branches, outputs, broken } = &mut *self;
        assert!(!std::mem::replace(broken, true), "`join_all` polled after a panic in a branch");
        while let Poll::Ready(next) = Pin::new(&mut *branches).poll_next(cx) {
            let Some((index, output)) = next else {
                *broken = false;
                let outputs = std::mem::take(outputs).into_iter();
                return Poll::Ready(outputs.map(|output| output.expect("all are done")).collect());
            };
            outputs[index] = Some(output);
        }
        *broken = false;
        Poll::Pending
    }
}

impl<F: Future> fmt::Debug for JoinAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAll").field("left", &self.branches.len()).finish_non_exhaustive()
    }
}
