//! Waiting for several futures in one task, each branch with a layer of its own.
//!
//! The branches of a foreign `join!` are polled in one task and hence in one context: what one
//! sets, the others see after their next poll. That is what "awaiting shares" means, and rarely
//! what is meant by branches.
#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

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

pin_project_lite::pin_project! {
    /// A branch, which is dropped when it is done, and its output kept.
    #[project = BranchProjection]
    #[project_replace = Moved]
    enum Joined<F: Future> {
        Runs { #[pin] future: F },
        Done { output: F::Output },
        Taken,
    }
}

impl<F: Future> Joined<F> {
    fn is_done(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let BranchProjection::Runs { future } = self.as_mut().project() else { return true };
        let Poll::Ready(output) = future.poll(cx) else { return false };
        self.set(Joined::Done { output });
        true
    }

    fn output(self: Pin<&mut Self>) -> F::Output {
        match self.project_replace(Joined::Taken) {
            Moved::Done { output } => output,
            _ => unreachable!("taken once, when all are done"),
        }
    }
}

macro_rules! join_functions {
    ($($(#[$meta:meta])* $name:ident($($branch:ident: $type:ident),+);)+) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "a branch each")]
        pub async fn $name<$($type: Future),+>($($branch: $type),+) -> ($($type::Output),+) {
            $(let mut $branch = pin!(Joined::Runs { future: WithContext::isolated($branch) });)+
            poll_fn(|cx| {
                let mut done = true;
                $(done &= $branch.as_mut().is_done(cx);)+
                if done { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            ($($branch.output()),+)
        }
    )+};
}

join_functions! {
    /// Waits for both, each [isolated](crate::ContextFutureExt::isolated), polled in the order
    /// written.
    ///
    /// For more than two there is [`join!`](crate::join!), and
    /// [`join_all`](super::future::join_all) for many of one type.
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
