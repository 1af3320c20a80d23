//! Cancel tokens: requests to stop, with a reason, for a tree of work.
//!
//! | for | see |
//! | --- | --- |
//! | asking for an end, and why | [`CancelToken`], its [`cancel`](CancelToken::cancel) and [`child`](CancelToken::child) |
//! | ending a wait when it is asked for | [`CancelToken::run_until_cancelled`] |
//! | noticing it elsewhere, also in code that computes | [`Cancelled`], [`CancelToken::is_cancelled`] |
//! | asking for it when a scope ends, by `?` too | [`CancelToken::drop_guard`] |
//!
//! A token asks, and the work decides. To end a task without asking, there is
//! [`abort`](crate::task::AbortHandle::abort).
//!
//! ```
//! use heirloom::{CancelToken, sleep, spawn};
//!
//! # heirloom::block_on(async {
//! let stop = CancelToken::new();
//! let working = spawn({
//!     let stop = stop.clone();
//!     async move {
//!         match stop.run_until_cancelled(sleep(std::time::Duration::MAX)).await {
//!             Some(()) => "finished".to_owned(),
//!             None => format!("stopped: {}", stop.reason().unwrap()), // and clean up
//!         }
//!     }
//! });
//! stop.cancel("the service ends");
//! assert_eq!(working.await.unwrap(), "stopped: the service ends");
//! # });
//! ```
#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};

use slab::Slab;

use crate::eager;
use crate::task::budget::Claim;
use crate::task::{CancelReason, Leaf, record};
use crate::util::sync::{Mutex, MutexGuard, lock};
use crate::util::waker_set::{KEPT_ROOM, WakerSet, wake_all};

/// A request to stop that can be passed on, waited for, and given to parts of the work. A token is
/// a handle: clones are the same token.
///
/// Tokens form a tree: cancelling a token cancels its [children](Self::child) and their children,
/// not its parent. The first reason that reaches a token stays.
///
/// Cancelling a token stops nothing by itself. The code that is to stop looks at the token: with
/// [`is_cancelled`](Self::is_cancelled) between two steps, by awaiting
/// [`cancelled`](Self::cancelled) beside something else, or with
/// [`run_until_cancelled`](Self::run_until_cancelled), which does both. To end a task that does not
/// look, use its [`AbortHandle`](crate::task::AbortHandle).
///
/// # Examples
///
/// ```
/// use heirloom::task::CancelReason;
/// use heirloom::{CancelToken, spawn};
///
/// # heirloom::block_on(async {
/// let server = CancelToken::new();
/// let connection = server.child();
/// let task = spawn(async move { connection.cancelled().await });
///
/// server.cancel("maintenance");
/// assert_eq!(task.await.unwrap(), CancelReason::from("maintenance"));
/// # });
/// ```
///
/// As the value of a context variable, a token reaches all code that is called or spawned, without
/// being passed on:
///
/// ```
/// use heirloom::{CancelToken, context_var, spawn};
///
/// context_var! { static STOP: CancelToken, inherit = Derive(|token| Some(token.child())); }
///
/// # heirloom::block_on(async {
/// let token = CancelToken::new();
/// STOP.set(token.clone());
/// let worker = spawn(async {
///     let stop = STOP.require(); // a child of the spawner's token
///     stop.run_until_cancelled(std::future::pending::<()>()).await
/// });
/// token.cancel("enough");
/// assert_eq!(worker.await.unwrap(), None);
/// # });
/// ```
#[doc(alias = "CancellationToken")]
#[doc(alias = "CancelScope")]
#[doc(alias = "AbortController")]
#[doc(alias = "StopSource")]
#[derive(Clone)]
pub struct CancelToken {
    node: Arc<Node>,
}

struct Node {
    /// Set once, under the lock of `state`; read without it.
    reason: OnceLock<CancelReason>,
    /// `None` for a root, and for a node that was made cancelled.
    link: Option<ParentLink>,
    state: Mutex<NodeState>,
}

struct ParentLink {
    parent: Arc<Node>,
    /// The child's key in `children` of the parent, while the parent is open.
    key: usize,
}

/// Empty for good once the reason is set, except for the keys of waiters that have not been
/// dropped.
#[derive(Default)]
struct NodeState {
    children: Slab<Weak<Node>>,
    waiters: WakerSet,
}

impl CancelToken {
    /// A token without parent.
    pub fn new() -> Self {
        CancelToken { node: Arc::new(Node::new(None)) }
    }

    /// A token that is cancelled when this one is, and may be cancelled alone. The child of a
    /// cancelled token is cancelled from the start, for the same reason.
    ///
    /// A child is independent of the parent's handles: when they are all dropped, the child is
    /// still cancelled with the tokens above the parent. A dropped child leaves nothing in its
    /// parent.
    ///
    /// ```
    /// use heirloom::CancelToken;
    ///
    /// let parent = CancelToken::new();
    /// let (one, other) = (parent.child(), parent.child());
    /// one.cancel("no longer needed");
    /// assert!(!parent.is_cancelled());
    /// parent.cancel("shutting down");
    /// assert_eq!(one.reason().unwrap(), "no longer needed".into());
    /// assert_eq!(other.reason().unwrap(), "shutting down".into());
    /// ```
    #[doc(alias = "child_token")]
    pub fn child(&self) -> Self {
        let mut state = self.node.lock();
        if let Some(reason) = self.reason() {
            drop(state);
            let node = Node::new(None);
            node.reason.set(reason).expect("new");
            return CancelToken { node: Arc::new(node) };
        }
        let entry = state.children.vacant_entry();
        let link = ParentLink { parent: Arc::clone(&self.node), key: entry.key() };
        let node = Arc::new(Node::new(Some(link)));
        entry.insert(Arc::downgrade(&node));
        CancelToken { node }
    }

    /// Cancels this token and all tokens below it, and wakes the futures that wait for any of them.
    /// Tokens that were cancelled before keep their reason. If this token is one of them, nothing
    /// happens.
    ///
    /// When this returns, all tokens below are cancelled. It takes time in proportion to their
    /// number, and no stack.
    ///
    /// ```
    /// use heirloom::task::CancelReason;
    /// use heirloom::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// token.cancel(CancelReason::Shutdown);
    /// token.cancel("too late");
    /// assert_eq!(token.reason(), Some(CancelReason::Shutdown));
    /// ```
    pub fn cancel(&self, reason: impl Into<CancelReason>) {
        let reason = reason.into();
        let mut wakers = Vec::new();
        let mut nodes = vec![Arc::clone(&self.node)];
        while let Some(node) = nodes.pop() {
            let mut state = node.lock();
            if node.reason.set(reason.clone()).is_err() {
                // The canceller that marked the node goes on with its children.
                continue;
            }
            wakers.append(&mut state.waiters.take());
            let children = mem::take(&mut state.children);
            drop(state);
            // A child without a count is being dropped (CA5).
            nodes.extend(children.into_iter().filter_map(|(_, child)| child.upgrade()));
        }
        wake_all(wakers);
    }

    /// Whether the token is cancelled. Takes no lock.
    pub fn is_cancelled(&self) -> bool {
        self.node.reason.get().is_some()
    }

    /// Why the token is cancelled, if it is.
    pub fn reason(&self) -> Option<CancelReason> {
        self.node.reason.get().cloned()
    }

    /// Waits until the token is cancelled, and returns the reason. The future owns a handle, so it
    /// may outlive `self`.
    ///
    /// Cancel-safe: a dropped future leaves nothing in the token.
    ///
    /// ```
    /// # use heirloom::task::CancelReason;
    /// # use heirloom::CancelToken;
    /// # heirloom::block_on(async {
    /// let token = CancelToken::new();
    /// let waiting = token.cancelled();
    /// token.cancel("done");
    /// assert_eq!(waiting.await, CancelReason::from("done"));
    /// # });
    /// ```
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { token: self.clone(), key: None, claim: Claim::default() }
    }

    /// Runs `future` until it is done or the token is cancelled. In the second case `future` is
    /// dropped and the result is `None`; [`reason`](Self::reason) says why.
    ///
    /// If the token is cancelled already, `future` is not polled. Later, each poll polls `future`
    /// first and then looks at the token, so a future that is done in that poll counts. It runs in
    /// the calling task and shares the task's context.
    ///
    /// Cancel-safe if `future` is.
    ///
    /// ```
    /// # use heirloom::CancelToken;
    /// # heirloom::block_on(async {
    /// let token = CancelToken::new();
    /// assert_eq!(token.run_until_cancelled(async { 7 }).await, Some(7));
    /// token.cancel("enough");
    /// assert_eq!(token.run_until_cancelled(async { 7 }).await, None);
    /// # });
    /// ```
    pub async fn run_until_cancelled<F: IntoFuture>(&self, future: F) -> Option<F::Output> {
        if self.is_cancelled() {
            return None;
        }
        let mut cancelled = self.cancelled();
        let mut future = pin!(future.into_future());
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            Pin::new(&mut cancelled).poll(cx).map(|_| None)
        })
        .await
    }

    /// Cancels the token, for [`CancelReason::HandleDropped`], when the guard is dropped: at the
    /// end of a block, by `?`, a panic or an abort.
    ///
    /// ```
    /// use heirloom::task::CancelReason;
    /// use heirloom::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// {
    ///     let _guard = token.drop_guard();
    /// }
    /// assert_eq!(token.reason(), Some(CancelReason::HandleDropped));
    /// ```
    pub fn drop_guard(&self) -> DropGuard {
        DropGuard { token: Some(self.clone()) }
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("reason", &self.node.reason.get()).finish_non_exhaustive()
    }
}

impl Node {
    fn new(link: Option<ParentLink>) -> Self {
        Node { reason: OnceLock::new(), link, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, NodeState> {
        lock(&self.state)
    }

    /// CA5. Takes a child that is being dropped off the list.
    fn remove_child(&self, key: usize) {
        let mut state = self.lock();
        // A cancelled node has no list, so the key means nothing.
        if self.reason.get().is_none() {
            state.children.remove(key);
            if state.children.is_empty() && state.children.capacity() > KEPT_ROOM {
                state.children = Slab::new();
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A chain of nodes is dropped in this loop, not by nested drops.
        let mut link = self.link.take();
        while let Some(ParentLink { parent, key }) = link {
            parent.remove_child(key);
            link = Arc::into_inner(parent).and_then(|mut parent| parent.link.take());
        }
    }
}

/// Waits for a [`CancelToken`] to be cancelled; made by [`CancelToken::cancelled`].
///
/// A future that is awaited by `&mut` again after its end returns the reason again.
#[must_use = "futures do nothing unless they are polled"]
pub struct Cancelled {
    token: CancelToken,
    key: Option<usize>,
    claim: Claim,
}

impl Cancelled {
    fn poll_reason(&mut self, cx: &mut Context<'_>) -> Poll<CancelReason> {
        let Cancelled { token: CancelToken { node }, key, .. } = self;
        if let Some(reason) = node.reason.get() {
            return Poll::Ready(reason.clone());
        }
        // The lock is released between the comparison and the registration: only this future and a
        // canceller change what is under its key, and the reason is read again.
        let known = node.lock().waiters.has(*key, cx.waker());
        let mut former = None;
        if !known {
            // Cloning a waker runs foreign code, so it is done outside the lock.
            let waker = cx.waker().clone();
            let mut state = node.lock();
            former = match node.reason.get() {
                None => state.waiters.register(key, waker),
                Some(_) => Some(waker),
            };
        }
        drop(former);
        // A canceller that marks the node after the registration wakes this future.
        let reason = node.reason.get().cloned();
        if reason.is_none() {
            eager::suspends("CancelToken::cancelled");
            record::waits_for(|| Leaf::Cancellation);
        }
        reason.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Future for Cancelled {
    type Output = CancelReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CancelReason> {
        let mut claim = self.claim;
        let polled = claim.spend(cx, |cx| self.poll_reason(cx));
        self.claim = claim;
        polled
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.token.node.lock().waiters.remove(key);
            drop(waker);
        }
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Cancels a [`CancelToken`] when it is dropped; made by [`CancelToken::drop_guard`].
#[must_use = "the token is cancelled when the guard is dropped"]
#[derive(Debug)]
pub struct DropGuard {
    token: Option<CancelToken>,
}

impl DropGuard {
    /// Drops the guard without cancelling the token.
    pub fn disarm(mut self) {
        self.token = None;
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            token.cancel(CancelReason::HandleDropped);
        }
    }
}

mod protocol;
#[cfg(all(test, not(loom)))]
mod tests;
