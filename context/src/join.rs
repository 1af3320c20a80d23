//! Waiting for several futures in one task, each branch with a layer of its own.
//!
//! The branches of a foreign `join!` are polled in one task and hence in one context: what one sets, the others see
//! after their next poll. That is what "awaiting shares" means, and rarely what is meant by branches.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::future::ContextFutureExt;
use crate::with_context::WithContext;

/// One of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

pin_project_lite::pin_project! {
    /// A branch in its layer, and later its output. The branch is dropped when it is done.
    #[project = BranchPin]
    enum Branch<F: Future> {
        Running { #[pin] future: WithContext<F> },
        Done { output: Option<F::Output> },
    }
}

impl<F: Future> Branch<F> {
    fn new(future: F) -> Self {
        Branch::Running { future: future.isolated() }
    }

    /// Polls the branch unless it is done; `None` if it was before, else whether it is now. Looking for that through a
    /// `&self` would freeze what a running future borrows from itself.
    fn poll_running(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<bool> {
        let BranchPin::Running { future } = self.as_mut().project() else { return None };
        match future.poll(cx) {
            Poll::Pending => Some(false),
            Poll::Ready(output) => {
                self.set(Branch::Done { output: Some(output) });
                Some(true)
            }
        }
    }

    fn take(self: Pin<&mut Self>) -> F::Output {
        match self.project() {
            BranchPin::Done { output } => output.take().expect("taken once"),
            BranchPin::Running { .. } => unreachable!("taken when all are done"),
        }
    }
}

macro_rules! join_functions {
    ($($(#[$meta:meta])* $name:ident($($branch:ident: $type:ident),+);)+) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "a branch each")]
        pub async fn $name<$($type: Future),+>($($branch: $type),+) -> ($($type::Output),+) {
            $(let mut $branch = pin!(Branch::new($branch));)+
            poll_fn(|cx| {
                let mut done = true;
                $(done &= $branch.as_mut().poll_running(cx).unwrap_or(true);)+
                if done { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            ($($branch.take()),+)
        }
    )+};
}

join_functions! {
    /// Waits for both, each [isolated](crate::ContextFutureExt::isolated), polled in the order written.
    ///
    /// For more than two there is [`join!`](crate::join!), and [`join_all`] for many of one type.
    ///
    /// Cancel-safe as its branches are: dropping it drops both, each in its context. A panic in a branch goes on to
    /// the caller.
    ///
    /// ```
    /// use heirloom_context::{context_var, future};
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

/// Awaits one to eight futures together, each [isolated](crate::ContextFutureExt::isolated), polled in the order
/// written; the value is the tuple of their outputs.
///
/// ```
/// use heirloom_context::context_var;
/// context_var! { static TENANT: u32 = 0; }
/// # futures::executor::block_on(async {
/// let set = |tenant: u32| async move {
///     TENANT.set(tenant);
///     TENANT.get().unwrap()
/// };
/// assert_eq!(heirloom_context::join!(set(1), set(2), async { TENANT.get() }), (1, 2, Some(0)));
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

/// Waits for the first of two, each [isolated](crate::ContextFutureExt::isolated), polled in the order written. The
/// loser is dropped, in its context, before this returns.
///
/// ```
/// use heirloom_context::future::{Either, select};
/// # futures::executor::block_on(async {
/// let never = std::future::pending::<u8>();
/// assert_eq!(select(never, async { 'b' }).await, Either::Right('b'));
/// # });
/// ```
pub async fn select<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    // The order of the drops is that of the branches; both are over when this function is.
    let (mut a, mut b) = (pin!(a.isolated()), pin!(b.isolated()));
    poll_fn(|cx| {
        if let Poll::Ready(output) = a.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(output));
        }
        b.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

/// Waits for all, each [isolated](crate::ContextFutureExt::isolated); the outputs come in the order of the futures.
///
/// The first poll goes through them in order. Later ones poll, in order, those that were woken: a thousand branches
/// cost no more than a thousand wake-ups.
///
/// ```
/// use heirloom_context::{context_var, future};
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
    let caller = Arc::new(Caller::default());
    // At the call, not at the first poll: an iterator that makes its futures may look at the context.
    let branches: Vec<_> = futures
        .into_iter()
        .map(|future| {
            let bell = Arc::new(Bell { rung: AtomicBool::new(true), caller: Arc::clone(&caller) });
            (Waker::from(Arc::clone(&bell)), bell, Box::pin(Branch::new(future)))
        })
        .collect();
    JoinAll { left: branches.len(), branches, caller }
}

/// A branch, what it wakes, and whether it has.
type Belled<F> = (Waker, Arc<Bell>, Pin<Box<Branch<F>>>);

/// Waits for many futures; made by [`join_all`]. It has a name of its own, and not the iterator's type in it, so that it may
/// be awaited in a spawned task also if the iterator borrows.
#[must_use = "futures do nothing unless they are polled"]
pub struct JoinAll<F: Future> {
    caller: Arc<Caller>,
    branches: Vec<Belled<F>>,
    left: usize,
}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<F::Output>> {
        let JoinAll { caller, branches, left } = &mut *self;
        // First the new waker, then the bells: whoever rings after its bell was looked at finds the waker.
        caller.register(cx.waker());
        for (waker, bell, branch) in &mut *branches {
            // Pairs with the release in `ring`: what the waker did before is seen by the poll.
            if bell.rung.swap(false, Ordering::Acquire)
                && branch.as_mut().poll_running(&mut Context::from_waker(waker)) == Some(true)
            {
                *left -= 1;
            }
        }
        if *left != 0 {
            return Poll::Pending;
        }
        let mut branches = std::mem::take(branches);
        Poll::Ready(branches.iter_mut().map(|(_, _, branch)| branch.as_mut().take()).collect())
    }
}

impl<F: Future> fmt::Debug for JoinAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAll").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Whoever awaits a `join_all`.
#[derive(Default)]
struct Caller {
    waker: Mutex<Option<Waker>>,
}

impl Caller {
    fn register(&self, waker: &Waker) {
        // Cloned, and the former one dropped, outside the lock: wakers are strangers' code.
        let mut waker = Some(waker.clone());
        std::mem::swap(&mut waker, &mut self.waker.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One branch was woken.
struct Bell {
    rung: AtomicBool,
    caller: Arc<Caller>,
}

impl Bell {
    fn ring(&self) {
        // Pairs with the acquire swap in `join_all`.
        if !self.rung.swap(true, Ordering::Release) {
            self.caller.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
