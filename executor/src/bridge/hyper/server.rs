//! The tasks of a server's connection, which inherit from the connection and end with it.
//!
//! The handles of the tasks are in a set. The executor, its clones inside of the tasks, and the
//! tasks' seats share the set, so the set outlives a task that it holds. The circle is cut by
//! [`Closing`], which belongs to the future of the scope alone: it takes the handles out, and a
//! handle that is dropped cancels its task.
//!
//! A task may end before its handle is in the set. So a seat is taken before the spawn, and both
//! the spawner and the task say when they are done with it. All steps are under one lock; nothing
//! is spawned, cancelled or dropped under it.
//!
//! | seat | the spawner has the handle | the task's future is gone | the scope ends |
//! | --- | --- | --- | --- |
//! | `Taken` | `Filled` | `Left` | gone |
//! | `Filled` | – | free; the handle is dropped | gone; the handle is dropped |
//! | `Left` | free; the handle is dropped | – | gone |
//! | gone | the handle is dropped | nothing | – |
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
/// A stream's task starts from what it [inherits](Context::inherited) of the connection's context,
/// and with the connection's [deadline](crate::deadline). Both are taken when the stream begins,
/// after the service's `call`. The task polls the future that `call` has returned, and then the
/// response's body. What it sets is its own: neither the connection nor another stream sees it.
///
/// [`scope`](Self::scope) hands the executor out. When the future of `scope` ends or is dropped,
/// whatever the cause, the tasks that are left are cancelled.
///
/// A stream's task also ends when the client resets the stream, and when its handler panics: the
/// client sees the stream reset, and the connection goes on. A panic in `call` itself ends the
/// connection.
///
/// It is for servers. A client's connections are to outlive the request that opens them: see
/// [`HyperExecutor`](super::HyperExecutor).
#[derive(Clone)]
pub struct ServerExecutor {
    tasks: Arc<Tasks<JoinHandle<()>>>,
}

impl ServerExecutor {
    /// Calls `body` with an executor for one connection. The future returned runs the connection's
    /// future, which `body` has returned, and returns its output.
    ///
    /// The connection is awaited here, so it shares the caller's context. When it has ended, tasks
    /// that are left are cancelled: each is dropped soon after, in its own context. An executor
    /// that is kept longer drops what it is given.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the tasks, without waiting for them, and drops the connection.
    /// No handler is polled again after that.
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
    ///     let peer = PEER.get().unwrap(); // the connection's
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
    ///     // When time is up, the handlers that are at work end with the connection.
    ///     wait_for(connection, Duration::from_secs(3_600)).await.unwrap_or(Ok(()))
    /// }
    /// ```
    pub fn scope<F: Future>(body: impl FnOnce(ServerExecutor) -> F) -> ServerScope<F> {
        let tasks = Arc::new(Tasks::new());
        let executor = ServerExecutor { tasks: Arc::clone(&tasks) };
        let closing = Some(Closing(tasks));
        ServerScope { closing, body: body(executor) }
    }
}

pin_project_lite::pin_project! {
    /// A connection, and the tasks that end with it; made by [`ServerExecutor::scope`].
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ServerScope<F> {
        // Dropped before the body: no handler is polled again when its connection is gone.
        closing: Option<Closing>,
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
        drop(this.closing.take());
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
        // First, for a variable's `Derive` function may panic.
        let context = Context::inherited();
        let Some(key) = self.tasks.take_seat() else { return };
        let seat = Seat { tasks: Arc::clone(&self.tasks), key };
        let handle = crate::spawn_in(context, Seated { future, _seat: seat });
        drop(self.tasks.fill(key, handle));
    }
}

impl fmt::Debug for ServerExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = self.tasks.lock().as_ref().map(Slab::len);
        f.debug_struct("ServerExecutor").field("tasks", &tasks).finish_non_exhaustive()
    }
}

/// The handles of a connection's tasks.
struct Tasks<H> {
    /// `None` when the scope has ended.
    seats: Mutex<Option<Slab<Place<H>>>>,
}

/// What the set knows of a task; see the [table](self).
enum Place<H> {
    Taken,
    Filled(H),
    Left,
}

impl<H> Tasks<H> {
    fn new() -> Self {
        Tasks { seats: Mutex::new(Some(Slab::new())) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Slab<Place<H>>>> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for a task that is about to be spawned; none if the scope has ended.
    fn take_seat(&self) -> Option<usize> {
        self.lock().as_mut().map(|seats| seats.insert(Place::Taken))
    }

    /// The spawner has the handle. Returns it if the task has ended, or the scope.
    #[must_use = "a handle is dropped under no lock"]
    fn fill(&self, key: usize, handle: H) -> Option<H> {
        let mut seats = self.lock();
        let Some(seats) = seats.as_mut() else { return Some(handle) };
        match &mut seats[key] {
            place @ Place::Taken => {
                *place = Place::Filled(handle);
                None
            }
            _ => {
                seats.remove(key);
                Some(handle)
            }
        }
    }

    /// The task's future is gone.
    #[must_use = "a handle is dropped under no lock"]
    fn leave(&self, key: usize) -> Option<H> {
        let mut seats = self.lock();
        let seats = seats.as_mut()?;
        if let place @ Place::Taken = &mut seats[key] {
            *place = Place::Left;
            return None;
        }
        match seats.remove(key) {
            Place::Filled(handle) => Some(handle),
            Place::Taken | Place::Left => unreachable!("a task leaves once"),
        }
    }

    /// The scope ends.
    #[must_use = "handles are dropped under no lock"]
    fn close(&self) -> Option<Slab<Place<H>>> {
        self.lock().take()
    }
}

/// Belongs to the future of a scope, and ends the tasks with it.
struct Closing(Arc<Tasks<JoinHandle<()>>>);

impl Drop for Closing {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

/// Belongs to a task's future, and gives the seat back with it.
struct Seat {
    tasks: Arc<Tasks<JoinHandle<()>>>,
    key: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.tasks.leave(self.key));
    }
}

pin_project_lite::pin_project! {
    /// What is spawned.
    struct Seated<F> {
        #[pin]
        future: F,
        // Dropped after the future.
        _seat: Seat,
    }
}

impl<F: Future> Future for Seated<F> {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<()> {
        self.project().future.poll(cx).map(drop)
    }
}

#[cfg(test)]
mod tests {
    //! All orders in which a spawner, its task and the end of the scope can come: each step is
    //! under the lock, so there are no others.
    use std::rc::Rc;

    use super::Tasks;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Step {
        Fill,
        Leave,
        Close,
    }

    #[test]
    fn in_every_order_the_handle_goes_and_no_seat_is_left() {
        use Step::{Close, Fill, Leave};
        let orders: [&[Step]; 8] = [
            &[Fill, Leave],
            &[Leave, Fill],
            &[Fill, Leave, Close],
            &[Fill, Close, Leave],
            &[Leave, Fill, Close],
            &[Leave, Close, Fill],
            &[Close, Fill, Leave],
            &[Close, Leave, Fill],
        ];
        for order in orders {
            let (tasks, handle) = (Tasks::new(), Rc::new(()));
            // A neighbour, whose seat is freed and taken again, is left alone.
            let neighbour = tasks.take_seat().unwrap();
            let key = tasks.take_seat().unwrap();
            assert!(tasks.fill(neighbour, handle.clone()).is_none());
            let mut given = Some(handle.clone());
            for step in order {
                match step {
                    Fill => drop(tasks.fill(key, given.take().unwrap())),
                    Leave => drop(tasks.leave(key)),
                    Close => drop(tasks.close()),
                }
            }
            let closed = order.contains(&Close);
            assert_eq!(Rc::strong_count(&handle), if closed { 1 } else { 2 }, "{order:?}");
            assert_eq!(tasks.lock().as_ref().map(|seats| seats.len()), (!closed).then_some(1), "{order:?}");
            assert_eq!(tasks.take_seat().is_none(), closed);
        }
    }
}
