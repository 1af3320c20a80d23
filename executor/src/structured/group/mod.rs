//! Tasks that end together.
//!
//! The group owns its children's join handles, in slots, and whoever awaits it polls them. Nobody polls all of them:
//! a child's handle is given a waker of its own, a bell; a rung bell puts the child's key on a list and wakes whoever
//! awaits the group, and who is woken polls those on the list.
//!
//! ```text
//! child returns ──1──► Child: an error is put in `phase`, the siblings are aborted
//!       │
//!   runtime drops the future, sets the output
//!       2
//!       ▼
//!     bell ──3──► list of the rung ──4──► waker of `scope`, `join`, `next`
//!                      ▲                        │
//!                      └──────── 5: drive ◄─────┘   polls the handles on the list; outputs go to `outputs`,
//!                                                   slots go
//! ```
//!
//! Why no ring is lost: the list and the wakers are under one lock, and a driver registers its waker and takes the
//! list in one go. Whoever rings before is on the list it takes; whoever rings later finds the waker.
//!
//! Step 1 happens in the child's own poll, so that siblings are cancelled when a child fails and not when somebody next
//! looks at the group. The error of step 1 is final: the first one to find the phase open wins.
//!
//! A slot is reserved before its child is spawned and filled afterwards. In between, the child may already run, end and
//! fail, on another worker or inline; what is to be done to it meanwhile is written in the slot (`doom`). While any slot
//! is there, reserved or filled, the group is not over.
#![forbid(unsafe_code)]

mod bells;
#[cfg(all(test, loom))]
mod models;
mod shared;
#[cfg(all(test, not(loom)))]
mod tests;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use self::bells::Waiter;
use self::shared::{Phase, Shared};
use crate::task::budget::Claim;
use crate::{AbortHandle, CancelReason, JoinError};

/// Tasks that are waited for together and fail together: no child outlives [`scope`](Self::scope) or
/// [`join`](Self::join).
///
/// A child is a future of `Result<T, E>`. **The first error or panic cancels the rest**, for
/// [`CancelReason::SiblingFailed`], and is what the group returns when all have ended; what fails after it is dropped.
/// A child that somebody [aborts](AbortHandle) by hand is no error: it just has no result. A child that the runtime
/// cancels, because it shuts down or cannot run it, is one.
///
/// Children are spawned as by [`spawn`](crate::spawn()), at the same price: they inherit context and deadline at the call
/// of [`TaskGroup::spawn`], and run in parallel. A child that is spawned when the group has failed is cancelled at once,
/// without having been polled.
///
/// # Dropped groups
///
/// Dropping a group, or the future of `scope` or `join`, cancels the children **without waiting for them**, since a drop
/// cannot wait: they end soon after, each in its own context. So does a limit around a group, when its time is up. Where
/// the end matters, let the group return: abort what takes too long, or fail.
///
/// # Examples
///
/// ```
/// use heirloom::{GroupError, TaskGroup};
///
/// # heirloom::block_on(async {
/// let sum: Result<u64, GroupError<std::num::ParseIntError>> = TaskGroup::scope(async |group| {
///     for text in ["1", "2", "39"] {
///         group.spawn(async move { text.parse::<u64>() });
///     }
///     let mut sum = 0;
///     while let Some(number) = group.next().await {
///         sum += number;
///     }
///     Ok(sum)
/// })
/// .await;
/// assert_eq!(sum.unwrap(), 42);
/// # });
/// ```
///
/// Without a scope, where the tasks come from several places:
///
/// ```
/// use heirloom::{GroupError, TaskGroup};
///
/// # heirloom::block_on(async {
/// let group = TaskGroup::<String>::new();
/// group.spawn(async { Err("no such host".to_owned()) });
/// group.spawn(std::future::pending());
/// match group.join().await {
///     Err(GroupError::Failed(error)) => assert_eq!(error, "no such host"),
///     other => panic!("{other:?}"),
/// }
/// # });
/// ```
#[must_use = "dropping a group cancels its tasks"]
pub struct TaskGroup<E, T = ()> {
    shared: Arc<Shared<E, T>>,
    /// Else somebody else does, in whose scope this is.
    ends_it: bool,
}

impl<E, T> TaskGroup<E, T> {
    /// An empty group.
    pub fn new() -> Self {
        TaskGroup { shared: Shared::new(), ends_it: true }
    }

    /// Runs `body` with a new group, waits for all children, and returns what the body did. The body's results that it
    /// has not asked for with [`next`](Self::next) are dropped.
    ///
    /// The body is polled in the calling task and shares its context; it counts as one of the group: its error cancels
    /// the children, and a child's error or panic drops the body at its `.await`. So `?` does in it what it should.
    /// If the body panics, or the destructor of what is dropped here, the children are cancelled and waited for before
    /// the panic goes on.
    ///
    /// # Errors
    /// The first failure, of the body or of a child.
    ///
    /// # Cancel safety
    /// Dropping the future drops the body and cancels the children, without waiting for them.
    ///
    /// ```
    /// use heirloom::{GroupError, TaskGroup};
    ///
    /// # heirloom::block_on(async {
    /// let outcome = TaskGroup::scope(async |group| {
    ///     group.spawn(std::future::pending::<Result<(), String>>());
    ///     Err::<(), _>("changed my mind".to_owned())
    /// })
    /// .await;
    /// assert!(matches!(outcome, Err(GroupError::Failed(reason)) if reason == "changed my mind"));
    /// # });
    /// ```
    pub async fn scope<R, F>(body: impl FnOnce(GroupScope<E, T>) -> F) -> Result<R, GroupError<E>>
    where
        F: Future<Output = Result<R, E>>,
    {
        let group = TaskGroup::new();
        let shared = &*group.shared;
        let scope = GroupScope { group: TaskGroup { shared: Arc::clone(&group.shared), ends_it: false } };
        let mut waiter = shared.waiter();
        let mut panicked = None;
        let ended = {
            let mut body = pin!(Some(body(scope)));
            let ended = poll_fn(|cx| {
                shared.drive(&mut waiter, cx);
                if shared.has_stopped() {
                    return Poll::Ready(None);
                }
                let future = body.as_mut().as_pin_mut().expect("taken below");
                match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                    Ok(poll) => poll.map(Some),
                    Err(panic) => {
                        panicked = Some(panic);
                        Poll::Ready(None)
                    }
                }
            })
            .await;
            // The body goes before its children are waited for.
            let dropped = catch_unwind(AssertUnwindSafe(|| body.set(None)));
            panicked = panicked.or(dropped.err());
            ended
        };
        // A panic, of the body or a destructor, is passed on, when all children have ended.
        let cancel = || shared.fail(None, Phase::Failed(GroupError::Cancelled(CancelReason::SiblingFailed)));
        if panicked.is_some() {
            cancel();
        }
        let mut returned = None;
        match ended {
            Some(Ok(value)) => returned = Some(value),
            Some(Err(error)) => shared.fail(None, Phase::Failed(GroupError::Failed(error))),
            None => {}
        }
        let failure = poll_fn(|cx| {
            let ended = shared.poll_ended(&mut waiter, cx);
            // What the body has not asked for is of no use to anybody.
            for output in shared.take_outputs() {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(output))) {
                    panicked.get_or_insert(panic);
                    cancel();
                }
            }
            ended
        })
        .await;
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(returned.expect("a group without failure has a body that returned")),
        }
    }

    /// Spawns a child, which inherits context and deadline here and now.
    ///
    /// The handle may be dropped; the group keeps the task. Aborting through it is no error.
    ///
    /// ```
    /// use heirloom::{TaskGroup, context_var};
    /// context_var! { static TENANT: u32; }
    ///
    /// # heirloom::block_on(async {
    /// let group = TaskGroup::<std::convert::Infallible, _>::new();
    /// TENANT.set(7);
    /// group.spawn(async { Ok(TENANT.get()) });
    /// TENANT.set(8);
    /// assert_eq!(group.join().await.unwrap(), [Some(7)]);
    /// # });
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> AbortHandle
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: Send + 'static,
        T: Send + 'static,
    {
        self.shared.spawn(future)
    }

    /// A handle that children may hold, to spawn siblings.
    ///
    /// ```
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let group = TaskGroup::<(), u32>::new();
    /// let siblings = group.handle();
    /// group.spawn(async move {
    ///     siblings.spawn(async { Ok(2) });
    ///     Ok(1)
    /// });
    /// assert_eq!(group.join().await.unwrap().iter().sum::<u32>(), 3);
    /// # });
    /// ```
    pub fn handle(&self) -> GroupHandle<E, T> {
        GroupHandle { shared: Arc::clone(&self.shared) }
    }

    /// The next result, in the order in which the children ended; `None` when there are none left and no children
    /// either. Children that failed or were aborted have none: what went wrong is what [`join`](Self::join) or
    /// [`scope`](Self::scope) returns.
    ///
    /// Cancel-safe: dropping the future takes no result.
    ///
    /// ```
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let group = TaskGroup::<(), u64>::new();
    /// for page in 0..100 {
    ///     if group.len() == 10 {
    ///         // No more than ten at once.
    ///         group.next().await;
    ///     }
    ///     group.spawn(async move { Ok(page) });
    /// }
    /// # });
    /// ```
    pub async fn next(&self) -> Option<T> {
        let mut waiter = self.shared.waiter();
        let mut claim = Claim::default();
        poll_fn(|cx| claim.spend(cx, |cx| self.shared.poll_output(&mut waiter, cx))).await
    }

    /// The results as a stream, each as [`next`](Self::next) would give it. What is spawned later comes, too: a stream
    /// that has ended goes on if there are children again.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let group = TaskGroup::<(), u64>::new();
    /// for number in 1..=4 {
    ///     group.spawn(async move { Ok(number) });
    /// }
    /// let product = group.results().fold(1, async |product, number| product * number).await;
    /// assert_eq!(product, 24);
    /// # });
    /// ```
    pub fn results(&self) -> Results<'_, E, T> {
        Results { shared: &self.shared, waiter: self.shared.waiter(), claim: Claim::default() }
    }

    /// Waits for all children and returns the results that nobody has asked for, in the order in which they ended.
    ///
    /// # Errors
    /// The first failure; then results are dropped.
    ///
    /// # Cancel safety
    /// Dropping the future drops the group: that cancels the children, without waiting for them.
    ///
    /// ```
    /// # use heirloom::TaskGroup;
    /// # heirloom::block_on(async {
    /// let group = TaskGroup::<(), u32>::new();
    /// group.spawn(async { Ok(1) });
    /// assert_eq!(group.join().await.unwrap(), [1]);
    /// # });
    /// ```
    pub async fn join(self) -> Result<Vec<T>, GroupError<E>> {
        let mut waiter = self.shared.waiter();
        let failure = poll_fn(|cx| self.shared.poll_ended(&mut waiter, cx)).await;
        match failure {
            Some(error) => Err(error),
            None => Ok(self.shared.take_outputs().into()),
        }
    }

    /// Aborts the children there are. By hand, so it is no error: the results they would have had are missing, and that
    /// is all. For the first of several answers that suffices.
    ///
    /// ```
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let first = TaskGroup::<(), &str>::scope(async |group| {
    ///     group.spawn(std::future::pending());
    ///     group.spawn(async { Ok("here") });
    ///     let first = group.next().await;
    ///     group.abort_all();
    ///     Ok(first)
    /// })
    /// .await;
    /// assert_eq!(first.unwrap(), Some("here"));
    /// # });
    /// ```
    pub fn abort_all(&self) {
        self.shared.abort_all();
    }

    /// How many children have not been joined yet. One that has ended counts until its result was fetched by whoever
    /// awaits the group.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<E, T> Default for TaskGroup<E, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E, T> Drop for TaskGroup<E, T> {
    fn drop(&mut self) {
        if self.ends_it {
            self.shared.close();
        }
    }
}

impl<E, T> fmt::Debug for TaskGroup<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.debug("TaskGroup", f)
    }
}

/// The group of a [`TaskGroup::scope`], for its body: all that a group can do, but to be joined, which the scope does.
///
/// Its own, rather than borrowed: a closure that takes a reference of any lifetime is one of whose future the compiler cannot
/// tell that it is `Send` if there is a lifetime in the group's types ([rust-lang/rust#110338]), be it that of a
/// `Box<dyn Error>`.
///
/// Where it is kept longer than the scope, it is like a [`GroupHandle`]: what is spawned is cancelled at once.
///
/// [rust-lang/rust#110338]: https://github.com/rust-lang/rust/issues/110338
///
/// ```
/// use std::error::Error;
/// use heirloom::{GroupScope, TaskGroup, spawn};
///
/// type Anything = Box<dyn Error + Send + Sync>;
///
/// fn fan_out(group: &TaskGroup<Anything>) {
///     group.spawn(async { Ok("42".parse().map(|_: u32| ())?) });
/// }
///
/// # heirloom::block_on(async {
/// let task = spawn(TaskGroup::<Anything>::scope(async |group: GroupScope<_, _>| {
///     fan_out(&group);
///     Ok(())
/// }));
/// assert!(task.await.unwrap().is_ok());
/// # });
/// ```
pub struct GroupScope<E, T = ()> {
    group: TaskGroup<E, T>,
}

impl<E, T> Deref for GroupScope<E, T> {
    type Target = TaskGroup<E, T>;

    fn deref(&self) -> &TaskGroup<E, T> {
        &self.group
    }
}

impl<E, T> fmt::Debug for GroupScope<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.group.shared.debug("GroupScope", f)
    }
}

/// Spawns into a [`TaskGroup`] from elsewhere, for instance from one of its children; a handle, to be cloned.
///
/// It does not keep the group alive. When that is joined or dropped, what is spawned is cancelled at once.
pub struct GroupHandle<E, T = ()> {
    shared: Arc<Shared<E, T>>,
}

impl<E, T> GroupHandle<E, T> {
    /// Spawns a child, as [`TaskGroup::spawn`] does.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> AbortHandle
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: Send + 'static,
        T: Send + 'static,
    {
        self.shared.spawn(future)
    }
}

impl<E, T> Clone for GroupHandle<E, T> {
    fn clone(&self) -> Self {
        GroupHandle { shared: Arc::clone(&self.shared) }
    }
}

impl<E, T> fmt::Debug for GroupHandle<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.debug("GroupHandle", f)
    }
}

/// The results of a [`TaskGroup`] as a stream; made by [`TaskGroup::results`].
///
/// Dropping it leaves the group and its results as they are.
#[must_use = "streams do nothing unless they are polled"]
pub struct Results<'a, E, T> {
    shared: &'a Shared<E, T>,
    waiter: Waiter<'a>,
    claim: Claim,
}

impl<E, T> Stream for Results<'_, E, T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Results { shared, waiter, claim } = &mut *self;
        claim.spend(cx, |cx| shared.poll_output(waiter, cx))
    }
}

impl<E, T> fmt::Debug for Results<'_, E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.debug("Results", f)
    }
}

/// Why a [`TaskGroup`] has failed.
///
/// It shows as what it holds, so that it need not be unwrapped to be reported.
#[derive(Debug)]
pub enum GroupError<E> {
    /// A child, or the body of the scope, returned this error.
    Failed(E),
    /// A child panicked.
    Panicked(JoinError),
    /// The runtime has cancelled a child, or could not run it.
    Cancelled(CancelReason),
}

impl<E> GroupError<E> {
    /// As an error of any kind. For `?` where the group's own errors are of any kind, too, and so are none themselves
    /// (`Box<dyn Error>`, `String`).
    ///
    /// ```
    /// use std::error::Error;
    /// use heirloom::{GroupError, TaskGroup};
    ///
    /// type Anything = Box<dyn Error + Send + Sync>;
    ///
    /// async fn fetch_all() -> Result<(), Anything> {
    ///     TaskGroup::<Anything>::scope(async |group| {
    ///         group.spawn(async { Ok("x".parse().map(|_: u32| ())?) });
    ///         Ok(())
    ///     })
    ///     .await
    ///     .map_err(GroupError::into_error)
    /// }
    ///
    /// let error = heirloom::block_on(fetch_all()).unwrap_err();
    /// assert!(error.is::<std::num::ParseIntError>());
    /// ```
    #[must_use]
    pub fn into_error(self) -> Box<dyn Error + Send + Sync>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        match self {
            GroupError::Failed(error) => error.into(),
            GroupError::Panicked(error) => error.into(),
            GroupError::Cancelled(reason) => GroupError::<Infallible>::Cancelled(reason).into(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupError::Failed(error) => error.fmt(f),
            GroupError::Panicked(error) => error.fmt(f),
            GroupError::Cancelled(reason) => write!(f, "a task of the group was cancelled: {reason}"),
        }
    }
}

impl<E: Error> Error for GroupError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            GroupError::Failed(error) => error.source(),
            GroupError::Panicked(error) => error.source(),
            GroupError::Cancelled(_) => None,
        }
    }
}
