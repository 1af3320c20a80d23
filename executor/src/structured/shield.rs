//! The shield: a wait that may be cancelled, for a task that must not be.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::task::{JoinError, JoinHandle};

/// Waits for a task without owning it: the waiting side may be cancelled, and the task continues.
///
/// Dropping a [`JoinHandle`] cancels its task; dropping a `Shield` [detaches](JoinHandle::detach)
/// it. A shield is for work that must be finished once it has started, even if its caller has
/// stopped waiting: a commit, a write of state, a release at a remote side.
///
/// A detached task has no deadline of its former owner, as with every `detach`. A [shutdown of its
/// runtime](crate::Runtime::shutdown) and an [`abort`](crate::task::AbortHandle::abort) still
/// cancel it: a shield only guards against the drop.
///
/// # Cancel safety
///
/// Dropping the shield leaves the task running; that is its purpose. The output of a detached task
/// is dropped in the task's context.
///
/// # Examples
///
/// ```
/// use futures::channel::oneshot;
/// use heirloom::{shield, spawn};
///
/// # heirloom::block_on(async {
/// let (go, gate) = oneshot::channel::<()>();
/// let (committed, done) = oneshot::channel();
/// let commit = spawn(async move {
///     gate.await.unwrap();
///     committed.send(7).unwrap();
/// });
///
/// drop(shield(commit)); // the task continues
/// go.send(()).unwrap();
/// assert_eq!(done.await, Ok(7));
/// # });
/// ```
///
/// With a limit on the wait, and none on the work:
///
/// ```
/// use std::time::Duration;
/// use heirloom::{shield, spawn, wait_for};
///
/// # async fn write_state() -> u32 { 1 }
/// # heirloom::block_on(async {
/// let written = wait_for(shield(spawn(write_state())), Duration::from_secs(5)).await;
/// # assert_eq!(written.unwrap().unwrap(), 1);
/// # });
/// ```
#[doc(alias = "NonCancellable")]
pub fn shield<T>(handle: JoinHandle<T>) -> Shield<T> {
    Shield { handle: Some(handle) }
}

/// A wait for a task that lets the task run on when the wait is dropped; made by [`shield`].
#[must_use = "a shield does nothing unless it is awaited; dropping it lets the task run on"]
pub struct Shield<T> {
    // `None` only while the shield is dropped.
    handle: Option<JoinHandle<T>>,
}

impl<T> Future for Shield<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(self.handle.as_mut().expect("taken by the drop only")).poll(cx)
    }
}

impl<T> Drop for Shield<T> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.detach();
        }
    }
}

impl<T> fmt::Debug for Shield<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shield").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use futures::channel::oneshot;
    use futures::future::poll_immediate;

    use super::shield;
    use crate::{Runtime, spawn};

    /// On a runtime of its own: Miri reports the threads of the default runtime, which stay, as a
    /// leak.
    fn block_on<F: Future>(future: F) -> F::Output {
        Runtime::builder().build().unwrap().block_on(future)
    }

    #[test]
    fn passes_the_output_on() {
        block_on(async {
            assert_eq!(shield(spawn(async { 7 })).await.unwrap(), 7);
            let error = shield(spawn(async { panic!("as planned") })).await.map(|()| 0).unwrap_err();
            assert_eq!(error.panic_message(), Some("as planned"));
        });
    }

    #[test]
    fn a_dropped_shield_lets_the_task_run_on() {
        block_on(async {
            let (go, gate) = oneshot::channel::<()>();
            let (committed, done) = oneshot::channel();
            let mut waiting = shield(spawn(async move {
                gate.await.unwrap();
                committed.send(7).unwrap();
            }));
            assert!(poll_immediate(&mut waiting).await.is_none());
            drop(waiting);
            go.send(()).unwrap();
            assert_eq!(done.await, Ok(7));
        });
    }

    #[test]
    fn an_abort_goes_through() {
        block_on(async {
            let task = spawn(std::future::pending::<()>());
            task.abort();
            assert!(shield(task).await.unwrap_err().is_cancelled());
        });
    }
}
