//! Tasks that are waited for together and fail together.
//!
//! | for | see |
//! | --- | --- |
//! | starting children and waiting for all: the first failure cancels the others | [`TaskGroup::scope`], or [`TaskGroup`] with [`join`](TaskGroup::join) |
//! | a result for each child, panics included, as tokio's `JoinSet` has | [`TaskGroup::spawn_caught`] |
//! | taking the outputs as they come | [`TaskGroup::next`], [`Results`]; in a scope [`GroupScope::next`], [`ScopeResults`] |
//! | starting children from inside a child | [`GroupHandle`] |
//! | the first failure | [`GroupError`]; in the error type of the caller: [`GroupFailure`] |
//! | asking children to stop by themselves | [`CancelToken`](crate::CancelToken) |
//!
//! ```
//! use heirloom::TaskGroup;
//! use heirloom::group::GroupError;
//!
//! async fn fetch(page: u32) -> Result<u32, String> {
//!     if page < 7 { Ok(page * 10) } else { Err(format!("no page {page}")) }
//! }
//!
//! # heirloom::block_on(async {
//! let sum = TaskGroup::scope(async |group| {
//!     for page in 1..=3 {
//!         group.spawn(fetch(page)); // a task each
//!     }
//!     let mut sum = 0;
//!     while let Some(size) = group.next().await {
//!         sum += size;
//!     }
//!     Ok(sum)
//! });
//! assert_eq!(sum.await.unwrap(), 60);
//!
//! let failed = TaskGroup::<String, u32>::new();
//! failed.spawn(fetch(7));
//! failed.spawn(std::future::pending()); // cancelled when the other has failed
//! let error = failed.join().await.unwrap_err();
//! assert!(matches!(error, GroupError::Failed(why) if why == "no page 7"));
//! # });
//! ```
#![forbid(unsafe_code)]

mod error;
#[cfg(all(test, loom))]
mod models;
mod protocol;
mod ready_list;
mod results;
mod scope;
mod shared;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures_core::Stream;

use self::shared::{Child, GroupShared, Phase};
use crate::task::budget::Claim;
use crate::task::record::InGroup;
use crate::task::{AbortHandle, CancelReason, JoinError};

pub use self::error::{GroupError, GroupFailure};
pub use self::results::{Results, ScopeResults};
pub use self::scope::GroupScope;

/// Tasks that are waited for together and fail together: no child outlives [`scope`](Self::scope)
/// or [`join`](Self::join).
///
/// A child is a future of `Result<T, E>`, or a closure that returns one. **The first error or panic
/// cancels the other children**, for [`CancelReason::SiblingFailed`]. The group returns this first
/// failure when all children have ended, once; later failures are dropped. A child that is
/// [aborted](AbortHandle) has no result, and is no failure. A child that its runtime cancels,
/// because the runtime shuts down or cannot run it, is a failure. Where a child's failure is to end
/// neither its siblings nor the group, spawn it by [`spawn_caught`](Self::spawn_caught).
///
/// Children are spawned as by [`spawn`](crate::spawn()), at the same price: they inherit context
/// and deadline at the call of [`TaskGroup::spawn`], and run in parallel. A child that is spawned
/// when the group has failed is cancelled at once, without having been polled. Closures that block
/// are children too: see [`spawn_blocking`](Self::spawn_blocking).
///
/// # Dropped groups
///
/// Dropping a group, or the future of `scope` or `join`, cancels the children **without waiting for
/// them**, since a drop cannot wait: they end soon after, each in its own context. A limit around a
/// group does the same when its time is up. Where the children's end matters, let the group return:
/// abort what takes too long, or fail.
///
/// # Examples
///
/// ```
/// use heirloom::group::GroupError;
/// use heirloom::TaskGroup;
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
/// use heirloom::group::GroupError;
/// use heirloom::TaskGroup;
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
#[doc(alias = "JoinSet")]
#[doc(alias = "TaskTracker")]
#[doc(alias = "nursery")]
#[doc(alias = "open_nursery")]
#[doc(alias = "coroutineScope")]
#[doc(alias = "supervisorScope")]
#[doc(alias = "WaitGroup")]
#[doc(alias = "errgroup")]
#[doc(alias = "gather")]
#[doc(alias = "FuturesUnordered")]
#[must_use = "dropping a group cancels its tasks"]
pub struct TaskGroup<E, T = ()> {
    handle: GroupHandle<E, T>,
    /// The group of a `GroupScope`: `scope` closes it, and returns its failure.
    in_scope: bool,
}

impl<E, T> TaskGroup<E, T> {
    /// An empty group.
    pub fn new() -> Self {
        TaskGroup { handle: GroupHandle { shared: GroupShared::new() }, in_scope: false }
    }

    /// Runs `body` with a new group, waits for all children, and returns what the body returned.
    /// Results that the body did not take with [`next`](Self::next) are dropped.
    ///
    /// The body is polled in the calling task and shares the task's context. It counts as a member
    /// of the group: its error cancels the children, and a child's error or panic drops the body at
    /// its `.await`. So `?` in the body ends the whole group. If the body panics, or a destructor
    /// that `scope` runs, the children are cancelled and waited for before the panic continues.
    ///
    /// # Errors
    /// The first failure, of the body or of a child.
    ///
    /// # Cancel safety
    /// Dropping the future drops the body and cancels the children, without waiting for them.
    ///
    /// ```
    /// use heirloom::group::GroupError;
    /// use heirloom::TaskGroup;
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
        let shared = &*group.handle.shared;
        let scope = GroupScope { group: TaskGroup { handle: group.handle(), in_scope: true } };
        let mut waiter = shared.waiter();
        let mut panicked = None;
        let ended = {
            let mut body = pin!(Some(body(scope)));
            let ended = poll_fn(|cx| {
                shared.poll_ready_children(&mut waiter, cx);
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
            // The body is dropped before its children are waited for.
            let dropped = catch_unwind(AssertUnwindSafe(|| body.set(None)));
            panicked = panicked.or(dropped.err());
            ended
        };
        // A panic, of the body or of a destructor, continues when all children have ended.
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
            // Results that the body has not taken.
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

    /// Spawns a child, which inherits context and deadline at this call.
    ///
    /// The handle may be dropped: the group keeps the task. Aborting the child through the handle
    /// is no failure.
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
        F: Future<Output = Result<T, E>> + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        E: Send + 'static,
        T: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Runs a closure that blocks as a child of the group, on the pool of
    /// [`spawn_blocking`](crate::spawn_blocking).
    ///
    /// The rules are those of [`spawn`](Self::spawn): the closure inherits context and deadline at
    /// this call, its error or panic cancels its siblings, and `scope` and `join` return after it
    /// has ended. A closure that has started runs to completion: an abort, or a failure of the
    /// group, has no effect on it, and the group waits for it. A closure that has not started is
    /// never called after the group has failed; its handle is ready when a thread of the pool
    /// reaches it in the queue.
    ///
    /// Under the [eager flag](crate::run_eagerly) the closure runs on this thread, before this
    /// returns.
    ///
    /// ```
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let group = TaskGroup::<std::io::Error, usize>::new();
    /// for path in ["Cargo.toml", "src/lib.rs"] {
    ///     group.spawn_blocking(move || Ok(std::fs::read(path)?.len()));
    /// }
    /// let sizes = group.join().await.unwrap();
    /// assert!(sizes.iter().all(|size| *size > 0));
    /// # });
    /// ```
    #[track_caller]
    pub fn spawn_blocking<F>(&self, f: F) -> AbortHandle
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        E: Send + 'static,
        T: Send + 'static,
    {
        self.handle.spawn_blocking(f)
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
        self.handle.clone()
    }

    /// The next result, in the order in which the children ended; `None` when there are neither
    /// results nor children.
    ///
    /// **A failure of the group is the last result**, an error: it comes when all children have
    /// ended and their results were taken. The group has ended then: what is spawned now is
    /// cancelled at once, this function returns `None`, and [`join`](Self::join) no further error.
    /// Children that failed or were aborted have no result of their own; those of
    /// [`spawn_caught`](Self::spawn_caught) have.
    ///
    /// A group without failure does not end by `None`: when children are spawned again, there are
    /// results again. So in a loop that waits for other events as well, leave the loop at `None`,
    /// or have the branch of the group wait on: `match group.next().await { Some(result) => result,
    /// None => pending().await }`.
    ///
    /// In the body of a [scope](Self::scope) call [`GroupScope::next`], which returns the output
    /// itself. (Through a `&TaskGroup` of the scope this function returns no error: the body is
    /// dropped where it awaits.)
    ///
    /// # Errors
    /// The first failure of the group.
    ///
    /// # Cancel safety
    /// Dropping the future takes no result.
    ///
    /// ```
    /// use heirloom::group::GroupError;
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let group = TaskGroup::<&str, u64>::new();
    /// for page in 0..100 {
    ///     if group.len() == 10 {
    ///         // No more than ten at once.
    ///         group.next().await.unwrap().unwrap();
    ///     }
    ///     group.spawn(async move { if page < 99 { Ok(page) } else { Err("no page 99") } });
    /// }
    /// let mut failed = None;
    /// while let Some(result) = group.next().await {
    ///     match result {
    ///         Ok(page) => assert!(page < 99),
    ///         Err(failure) => failed = Some(failure),
    ///     }
    /// }
    /// assert!(matches!(failed, Some(GroupError::Failed("no page 99"))));
    /// # });
    /// ```
    #[doc(alias = "join_next")]
    pub async fn next(&self) -> Option<Result<T, GroupError<E>>> {
        let mut results = self.results();
        poll_fn(|cx| Pin::new(&mut results).poll_next(cx)).await
    }

    /// The results as a stream, each as [`next`](Self::next) returns it. The results of children
    /// that are spawned later are part of it: a stream that has ended continues when there are
    /// children again.
    ///
    /// ```
    /// use futures::TryStreamExt;
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let group = TaskGroup::<String, u64>::new();
    /// for number in 1..=4 {
    ///     group.spawn(async move { Ok(number) });
    /// }
    /// let multiply = async |product, number| Ok(product * number);
    /// let product = group.results().try_fold(1, multiply).await;
    /// assert_eq!(product.unwrap(), 24);
    /// # });
    /// ```
    pub fn results(&self) -> Results<'_, E, T> {
        Results { group: self, waiter: self.handle.shared.waiter(), claim: Claim::default() }
    }

    /// Waits for all children and returns the results that were not taken before, in the order in
    /// which the children ended.
    ///
    /// # Errors
    /// The first failure, unless [`next`](Self::next) has returned it; the results are dropped
    /// then.
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
    #[doc(alias = "join_all")]
    pub async fn join(self) -> Result<Vec<T>, GroupError<E>> {
        let mut waiter = self.handle.shared.waiter();
        let failure = poll_fn(|cx| self.handle.shared.poll_ended(&mut waiter, cx)).await;
        match failure {
            Some(error) => Err(error),
            None => Ok(self.handle.shared.take_outputs().into()),
        }
    }

    /// Aborts the present children. This is no failure: the children that are aborted have no
    /// result, except those of [`spawn_caught`](Self::spawn_caught). One use is to take the first
    /// of several answers.
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
    #[doc(alias = "shutdown")]
    pub fn abort_all(&self) {
        self.handle.shared.abort_all();
    }

    /// How many children have not been joined yet. A child that has ended counts until a future
    /// that awaits the group is polled and finds its result.
    pub fn len(&self) -> usize {
        self.handle.shared.len()
    }

    /// Whether the group has no children.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<E, U> TaskGroup<E, Result<U, JoinError>> {
    /// Spawns a child whose panic or cancellation is a result, a [`JoinError`], and no failure of
    /// the group: its siblings go on.
    ///
    /// Each such child has one result, that of an aborted one included. (A child that is spawned
    /// when the group has failed or ended may have none.) Else as [`spawn`](Self::spawn). A group
    /// may have children of both kinds.
    ///
    /// This is the manner of tokio's `JoinSet`, and of Kotlin's `supervisorScope`. Where the
    /// children have errors of their own, let `U` be a `Result`. Which child a result is of, an
    /// error says by [`JoinError::id`]; of an output let the child say it: it returns
    /// `(heirloom::task::current().unwrap().id(), output)`, and the handle that this call returns
    /// has the same [`id`](AbortHandle::id).
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let ended = TaskGroup::<Infallible, _>::scope(async |group| {
    ///     for number in 0..3 {
    ///         group.spawn_caught(async move { 6 / number });
    ///     }
    ///     let (mut good, mut bad) = (0, 0);
    ///     while let Some(result) = group.next().await {
    ///         match result {
    ///             Ok(quotient) => good += quotient,
    ///             Err(error) => {
    ///                 assert!(error.is_panic());
    ///                 bad += 1;
    ///             }
    ///         }
    ///     }
    ///     Ok((good, bad))
    /// });
    /// assert_eq!(ended.await.unwrap(), (6 + 3, 1));
    /// # });
    /// ```
    #[doc(alias = "JoinSet")]
    #[doc(alias = "supervisorScope")]
    #[track_caller]
    pub fn spawn_caught<F>(&self, future: F) -> AbortHandle
    where
        F: Future<Output = U> + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        E: Send + 'static,
        U: Send + 'static,
    {
        self.handle.spawn_caught(future)
    }
}

impl<E, T> Default for TaskGroup<E, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E, T> Drop for TaskGroup<E, T> {
    fn drop(&mut self) {
        if !self.in_scope {
            self.handle.shared.close();
        }
    }
}

impl<E, T> fmt::Debug for TaskGroup<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.shared.debug("TaskGroup", f)
    }
}

/// Spawns into a [`TaskGroup`] from elsewhere, for instance from one of its children; a handle, to
/// be cloned.
///
/// A handle does not keep the group alive. When the group was joined or dropped, what is spawned is
/// cancelled at once.
pub struct GroupHandle<E, T = ()> {
    shared: Arc<GroupShared<E, T>>,
}

impl<E, T> GroupHandle<E, T> {
    /// Spawns a child, as [`TaskGroup::spawn`] does.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> AbortHandle
    where
        F: Future<Output = Result<T, E>> + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        E: Send + 'static,
        T: Send + 'static,
    {
        let slot = self.shared.reserve_slot(None);
        let child = Child { key: slot.key, started: false, shared: Arc::clone(&self.shared), future };
        let _group = InGroup::new(Arc::as_ptr(&self.shared));
        slot.fill(crate::spawn(child))
    }

    /// Runs a closure that blocks as a child, as [`TaskGroup::spawn_blocking`] does.
    #[track_caller]
    pub fn spawn_blocking<F>(&self, f: F) -> AbortHandle
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        E: Send + 'static,
        T: Send + 'static,
    {
        let slot = self.shared.reserve_slot(None);
        let child = shared::blocking_child(slot.key, Arc::clone(&self.shared), f);
        let _group = InGroup::new(Arc::as_ptr(&self.shared));
        slot.fill(crate::spawn_blocking(child))
    }
}

impl<E, U> GroupHandle<E, Result<U, JoinError>> {
    /// Spawns a child whose panic or cancellation is a result, as [`TaskGroup::spawn_caught`] does.
    #[track_caller]
    pub fn spawn_caught<F>(&self, future: F) -> AbortHandle
    where
        F: Future<Output = U> + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        E: Send + 'static,
        U: Send + 'static,
    {
        let slot = self.shared.reserve_slot(Some(Err));
        let future = async { Ok(Ok(future.await)) };
        // Without a key: a panic of the child does not fail the group.
        let child = Child { key: None, started: false, shared: Arc::clone(&self.shared), future };
        let _group = InGroup::new(Arc::as_ptr(&self.shared));
        slot.fill(crate::spawn(child))
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
