//! Asking for an end, from outside, with a reason.
//!
//! A token is a node of a tree. A node owns its parent, so that what is cancelled far above is seen below though nobody
//! holds the nodes between; a parent knows its children weakly and forgets each when it goes.
//!
//! Cancelling walks down with a list of its own instead of the stack, and in two rounds: first every node is marked,
//! then everyone is woken, so that whoever runs sees the whole subtree cancelled. A node's lock covers its mark, its
//! children and its waiters together: a child or waiter that comes before the mark is found by the one who marks, one
//! that comes later finds the mark. No two locks are held at once, and no stranger's code runs under one.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};

use slab::Slab;

use crate::CancelReason;
use crate::eager;
use crate::task::budget::Claim;
use crate::util::waker_set::{KEPT_ROOM, WakerSet, wake_all};

/// A request to stop that can be handed around, waited for, and given to parts of the work; a handle, to be cloned.
///
/// Tokens form a tree: cancelling one cancels its [children](Self::child) and theirs, not its parent. The first reason
/// that reaches a token stays.
///
/// Cancelling a token stops nothing by itself, it asks those who look: with [`is_cancelled`](Self::is_cancelled)
/// between two steps, by awaiting [`cancelled`](Self::cancelled) beside something else, or all at once with
/// [`run_until_cancelled`](Self::run_until_cancelled). To end a task whether it looks or not, there is
/// [`AbortHandle`](crate::AbortHandle).
///
/// # Examples
///
/// ```
/// use heirloom::{CancelReason, CancelToken, spawn};
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
/// As the value of a context variable it reaches everything that is called or spawned, without being passed on:
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
///     let stop = STOP.get().unwrap(); // a child of the spawner's
///     stop.run_until_cancelled(std::future::pending::<()>()).await
/// });
/// token.cancel("enough");
/// assert_eq!(worker.await.unwrap(), None);
/// # });
/// ```
#[derive(Clone)]
pub struct CancelToken {
    node: Arc<Node>,
}

struct Node {
    /// Set once, under the lock of `state`; read without it.
    reason: OnceLock<CancelReason>,
    /// Where it hangs; nowhere if it is a root or was born cancelled.
    link: Option<Link>,
    state: Mutex<State>,
}

struct Link {
    parent: Arc<Node>,
    /// Its place among the parent's children, as long as the parent is not cancelled.
    key: usize,
}

/// Empty for good once the reason is set, but for the keys of waiters that are still there.
#[derive(Default)]
struct State {
    children: Slab<Weak<Node>>,
    waiters: WakerSet,
}

impl CancelToken {
    /// A token without parent.
    pub fn new() -> Self {
        CancelToken { node: Arc::new(Node::new(None)) }
    }

    /// A token that is cancelled when this one is, and may be cancelled alone. Of a cancelled one it is cancelled from
    /// the start, for the same reason.
    ///
    /// It does not need its parent's handles: a parent that nobody can cancel any more still hands down what comes from
    /// further up. A dropped child leaves nothing behind.
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
    pub fn child(&self) -> Self {
        let mut state = self.node.lock();
        if let Some(reason) = self.reason() {
            drop(state);
            let node = Node::new(None);
            node.reason.set(reason).expect("new");
            return CancelToken { node: Arc::new(node) };
        }
        let place = state.children.vacant_entry();
        let link = Link { parent: Arc::clone(&self.node), key: place.key() };
        let node = Arc::new(Node::new(Some(link)));
        place.insert(Arc::downgrade(&node));
        CancelToken { node }
    }

    /// Cancels this token and all below it, and wakes who waits for any of them. Those that were cancelled before keep
    /// their reason; so does this one, and then nothing happens.
    ///
    /// When the call that cancelled a token returns, all below it are cancelled. Takes time in proportion to their
    /// number, but no stack.
    ///
    /// ```
    /// use heirloom::{CancelReason, CancelToken};
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
                // Whoever marked it has its children.
                continue;
            }
            wakers.append(&mut state.waiters.take());
            let children = mem::take(&mut state.children);
            drop(state);
            // A count that is gone belongs to a child that is being dropped.
            nodes.extend(children.into_iter().filter_map(|(_, child)| child.upgrade()));
        }
        wake_all(wakers);
    }

    /// Whether it is cancelled. Takes no lock.
    pub fn is_cancelled(&self) -> bool {
        self.node.reason.get().is_some()
    }

    /// Why it is cancelled, if it is.
    pub fn reason(&self) -> Option<CancelReason> {
        self.node.reason.get().cloned()
    }

    /// Waits until it is cancelled, and tells why. Owns a handle, so it may outlive `self`.
    ///
    /// Cancel-safe: a future that is dropped leaves nothing in the token.
    ///
    /// ```
    /// # use heirloom::{CancelReason, CancelToken};
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

    /// Runs `future` until it is done, or the token is cancelled: then it is dropped and this is `None`, for
    /// [`reason`](Self::reason).
    ///
    /// The future is not polled at all if the token is cancelled already. After that it goes first: what is done when
    /// the cancelling is noticed counts. It runs in the same task and shares its context, as everything awaited does.
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

    /// Cancels the token, for [`CancelReason::HandleDropped`], when the guard goes: by the end of a block, `?`, a panic
    /// or an abort.
    ///
    /// ```
    /// use heirloom::{CancelReason, CancelToken};
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
    fn new(link: Option<Link>) -> Self {
        Node { reason: OnceLock::new(), link, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a child that is being dropped off the list.
    fn forget(&self, key: usize) {
        let mut state = self.lock();
        // Once it is cancelled the list is gone, and the key means nothing.
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
        // Chains of tokens go link by link, not one inside the other.
        let mut link = self.link.take();
        while let Some(Link { parent, key }) = link {
            parent.forget(key);
            link = Arc::into_inner(parent).and_then(|mut parent| parent.link.take());
        }
    }
}

/// Waits for a [`CancelToken`] to be cancelled; made by [`CancelToken::cancelled`].
///
/// Awaited by `&mut` again afterwards, it gives the reason again.
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
        // The lock may be left between looking and registering: only this future changes the place under its key,
        // but for a cancelling, which is looked for again.
        let known = node.lock().waiters.has(*key, cx.waker());
        let mut former = None;
        if !known {
            // Cloned outside the lock: a waker is a stranger's code.
            let waker = cx.waker().clone();
            let mut state = node.lock();
            former = match node.reason.get() {
                None => state.waiters.register(key, waker),
                Some(_) => Some(waker),
            };
        }
        drop(former);
        // Whoever marks the node after the registration wakes.
        let reason = node.reason.get().cloned();
        if reason.is_none() {
            eager::suspends("CancelToken::cancelled");
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
    /// Gives up: the token is not cancelled.
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

#[cfg(all(test, not(loom)))]
mod tests;
