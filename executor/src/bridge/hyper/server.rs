//! The tasks of a server's connection, which inherit from the connection and end with it.
//!
//! # Terms
//!
//! * The *scope* is the future that [`ServerExecutor::scope`] returns.
//! * A *stream task* runs one HTTP/2 stream. The *spawner* is the thread that spawns it.
//! * The *table* has an entry for each stream task. The executor, its clones and the stream tasks
//!   share the table, so it outlives a task whose handle it holds. `CloseOnDrop` cuts that cycle:
//!   it belongs to the scope alone, and takes the handles out. Dropping a handle cancels its task.
//!
//! # States of an entry
//!
//! * **reserved**: the task is about to be spawned, or is running; its handle is not in the table.
//! * **running**: the handle is in the table.
//! * **ended**: the task's future was dropped before the handle was in the table.
//! * **free**: no entry.
//!
//! A task may end before its handle is in the table. So the spawner reserves the entry before the
//! spawn, and both the spawner and the task report. Each step is under the table's lock; tasks are
//! spawned and cancelled, and handles dropped, under no lock.
//!
//! | state | `store_handle` (spawner) | `task_ended` (task's future) | `close` (scope) |
//! | --- | --- | --- | --- |
//! | **reserved** | running | ended | free |
//! | **running** | – | free; drop the handle | free; drop the handle |
//! | **ended** | free; drop the handle | – | free |
//! | **free** after `close` | drop the handle | nothing | – |
//!
//! **No handle stays in the table.** A handle enters it only in state reserved, and both steps that
//! can follow take it out.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Poller, Poll, ready};

use heirloom_context::Context;
use hyper::rt::Executor;
use slab::Slab;

use crate::JoinHandle;

/// Runs the streams of a server's HTTP/2 connection: each is a task that inherits from the
/// connection, and is cancelled when the connection ends.
///
/// A stream's task starts with the part of the connection's context that is
/// [inherited](Context::inherited), and with the connection's [deadline](crate::deadline). Both are
/// taken when the stream begins, after the service's `call`. The task polls the future that `call`
/// has returned, and then the response's body. Neither the connection nor another stream sees the
/// variables that the task sets.
///
/// [`scope`](Self::scope) makes the executor. When the future of `scope` ends or is dropped, for
/// any reason, tasks that still run are cancelled.
///
/// A stream's task also ends when the client resets the stream, and when its handler panics: then
/// the client sees the stream reset, and the connection goes on. A panic in `call` itself ends the
/// connection.
///
/// The executor is for servers. A client's connections must outlive the request that opens them:
/// see [`HyperExecutor`](super::HyperExecutor).
#[derive(Clone)]
pub struct ServerExecutor {
    tasks: Arc<StreamTasks<JoinHandle<()>>>,
}

impl ServerExecutor {
    /// Calls `body` with an executor for one connection. `body` returns the connection's future,
    /// which the returned future runs, and whose output it returns.
    ///
    /// The connection's future is awaited, so it shares the caller's context. When it has ended,
    /// tasks that still run are cancelled: each is dropped soon after, in its own context. A clone
    /// of the executor that is kept longer drops the futures that it is given.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the tasks, without waiting for them, and drops the connection.
    /// After that no handler is polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use heirloom::hyper::{HyperIo, HyperTimer, ServerExecutor};
    /// use heirloom::{context_var, wait_for};
    /// # use futures::io::{AsyncRead, AsyncWrite};
    /// use http_body_util::Full;
    /// use hyper::body::{Bytes, Incoming};
    /// use hyper::server::conn::http2;
    /// use hyper::service::service_fn;
    /// use hyper::{Request, Response};
    ///
    /// context_var! { static PEER: String; }
    ///
    /// async fn handle(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    ///     let peer = PEER.require(); // the connection's
    ///     Ok(Response::new(Full::from(format!("hello {peer}"))))
    /// }
    ///
    /// async fn serve<S>(socket: S, peer: String) -> hyper::Result<()>
    /// where
    ///     S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    /// {
    ///     let _peer = PEER.bind(peer);
    ///     let connection = ServerExecutor::scope(|executor| {
    ///         let mut http2 = http2::Builder::new(executor);
    ///         http2.timer(HyperTimer).serve_connection(HyperIo::new(socket), service_fn(handle))
    ///     });
    ///     // When time is up, the handlers that still run end with the connection.
    ///     wait_for(connection, Duration::from_secs(3_600)).await.unwrap_or(Ok(()))
    /// }
    /// ```
    pub fn scope<F: Future>(body: impl FnOnce(ServerExecutor) -> F) -> ServerScope<F> {
        let tasks = Arc::new(StreamTasks::new());
        let executor = ServerExecutor { tasks: Arc::clone(&tasks) };
        let close_on_drop = Some(CloseOnDrop(tasks));
        ServerScope { close_on_drop, body: body(executor) }
    }
}

pin_project_lite::pin_project! {
    /// A connection, and the tasks that end with it; made by [`ServerExecutor::scope`].
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ServerScope<F> {
        // Dropped before the body: no handler is polled when its connection has been dropped.
        close_on_drop: Option<CloseOnDrop>,
        #[pin]
        body: F,
    }
}

impl<F: Future> Future for ServerScope<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<F::Output> {
        let this = self.project();
        let output = ready!(this.body.poll(cx));
        drop(this.close_on_drop.take());
        Poll::Ready(output)
    }
}

impl<F> fmt::Debug for ServerScope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerScope").finish_non_exhaustive()
    }
}

impl<F> Executor<F> for ServerExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[track_caller]
    fn execute(&self, future: F) {
        // First, because a variable's `Derive` function may panic.
        let context = Context::inherited();
        let Some(key) = self.tasks.reserve() else { return };
        let entry = EntryGuard { tasks: Arc::clone(&self.tasks), key };
        let handle = crate::spawn_in(context, StreamTask { future, _entry: entry });
        drop(self.tasks.store_handle(key, handle));
    }
}

impl fmt::Debug for ServerExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = self.tasks.lock().as_ref().map(Slab::len);
        f.debug_struct("ServerExecutor").field("tasks", &tasks).finish_non_exhaustive()
    }
}

/// The table: the handles of a connection's stream tasks.
struct StreamTasks<H> {
    /// `None` when the scope has ended.
    entries: Mutex<Option<Slab<TaskEntry<H>>>>,
}

/// See the [states](self).
enum TaskEntry<H> {
    Reserved,
    Running(H),
    Ended,
}

impl<H> StreamTasks<H> {
    fn new() -> Self {
        StreamTasks { entries: Mutex::new(Some(Slab::new())) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Slab<TaskEntry<H>>>> {
        // No user code runs under this lock, so a poisoned table is whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry for a task that is about to be spawned; `None` if the scope has ended.
    fn reserve(&self) -> Option<usize> {
        self.lock().as_mut().map(|entries| entries.insert(TaskEntry::Reserved))
    }

    /// The spawner has the handle. Returns the handle if the task or the scope has ended.
    #[must_use = "a handle is dropped under no lock"]
    fn store_handle(&self, key: usize, handle: H) -> Option<H> {
        let mut entries = self.lock();
        let Some(entries) = entries.as_mut() else { return Some(handle) };
        match &mut entries[key] {
            entry @ TaskEntry::Reserved => {
                *entry = TaskEntry::Running(handle);
                None
            }
            _ => {
                entries.remove(key);
                Some(handle)
            }
        }
    }

    /// The task's future was dropped.
    #[must_use = "a handle is dropped under no lock"]
    fn task_ended(&self, key: usize) -> Option<H> {
        let mut entries = self.lock();
        let entries = entries.as_mut()?;
        if let entry @ TaskEntry::Reserved = &mut entries[key] {
            *entry = TaskEntry::Ended;
            return None;
        }
        match entries.remove(key) {
            TaskEntry::Running(handle) => Some(handle),
            TaskEntry::Reserved | TaskEntry::Ended => unreachable!("a task ends once"),
        }
    }

    /// The scope ends.
    #[must_use = "handles are dropped under no lock"]
    fn close(&self) -> Option<Slab<TaskEntry<H>>> {
        self.lock().take()
    }
}

/// Belongs to a scope. Dropping it cancels the scope's tasks.
struct CloseOnDrop(Arc<StreamTasks<JoinHandle<()>>>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

/// Belongs to a task's future. Dropping it reports that the task has ended.
struct EntryGuard {
    tasks: Arc<StreamTasks<JoinHandle<()>>>,
    key: usize,
}

impl Drop for EntryGuard {
    fn drop(&mut self) {
        drop(self.tasks.task_ended(self.key));
    }
}

pin_project_lite::pin_project! {
    /// The future of a stream task.
    struct StreamTask<F> {
        #[pin]
        future: F,
        // Dropped after the future.
        _entry: EntryGuard,
    }
}

impl<F: Future> Future for StreamTask<F> {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<()> {
        self.project().future.poll(cx).map(drop)
    }
}

#[cfg(test)]
mod tests {
    //! All orders in which the steps of a spawner, its task and its scope can come. Each step is
    //! under the lock, so there are no other interleavings.
    use std::rc::Rc;

    use super::StreamTasks;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Step {
        Store,
        End,
        Close,
    }

    #[test]
    fn in_every_order_the_handle_is_dropped_and_no_entry_is_left() {
        use Step::{Close, End, Store};
        let orders: [&[Step]; 8] = [
            &[Store, End],
            &[End, Store],
            &[Store, End, Close],
            &[Store, Close, End],
            &[End, Store, Close],
            &[End, Close, Store],
            &[Close, Store, End],
            &[Close, End, Store],
        ];
        for order in orders {
            let (tasks, handle) = (StreamTasks::new(), Rc::new(()));
            // The entry of another task stays as it is.
            let neighbour = tasks.reserve().unwrap();
            let key = tasks.reserve().unwrap();
            assert!(tasks.store_handle(neighbour, handle.clone()).is_none());
            let mut given = Some(handle.clone());
            for step in order {
                match step {
                    Store => drop(tasks.store_handle(key, given.take().unwrap())),
                    End => drop(tasks.task_ended(key)),
                    Close => drop(tasks.close()),
                }
            }
            let closed = order.contains(&Close);
            assert_eq!(Rc::strong_count(&handle), if closed { 1 } else { 2 }, "{order:?}");
            assert_eq!(
                tasks.lock().as_ref().map(|entries| entries.len()),
                (!closed).then_some(1),
                "{order:?}"
            );
            assert_eq!(tasks.reserve().is_none(), closed);
        }
    }
}
