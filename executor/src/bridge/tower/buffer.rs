//! A queue in front of a service: tower's buffer, with the caller's context.

use std::fmt;
use std::future::Future;
use std::task::{Context as Poller, Poll};
use std::time::Instant;

use heirloom_context::Context;
use tower_service::Service;

use super::BoxError;
use crate::spawn_background;
use crate::time::StartedLimit;

/// A queue in front of a service. It makes a service that is not `Clone` one that is, and limits
/// how many requests wait.
///
/// It is tower's `Buffer`, with two differences: a background task of this executor owns the inner
/// service, and **the inner `call` runs in the context and the deadline of the caller** of
/// [`call`](Service::call). What `call` sets there is its own; the future that it returns is the
/// caller's, who polls it. The inner `poll_ready` belongs to no caller: it runs in the background
/// task, in the root context and without a deadline.
///
/// A request whose caller has dropped its future before its turn is skipped: the inner service does
/// not see it, and it is dropped in the caller's context.
///
/// There is no layer of this name: `tower::layer::layer_fn(|service| Buffer::new(service, 64))` is
/// one.
///
/// # Readiness
/// `poll_ready` reserves a place in the queue. The place is given back when the buffer, or the
/// clone, is dropped without a `call`. A clone that is ready and is kept so keeps its place: let
/// the queue have as many places as there are callers at the same time.
///
/// # Errors
/// When the inner `poll_ready` fails, the service is given up: every request that waits or comes
/// later fails with `tower::buffer::error::ServiceError`, whose
/// [`source`](std::error::Error::source) is that failure. When the background task has ended for
/// another reason, with its runtime or by a panic of the inner `call`, the error is
/// `tower::buffer::error::Closed`. An error of the inner future is passed on.
///
/// # Cancel safety
/// Dropping the future before the request's turn takes the request out of the queue; later it drops
/// the inner future.
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
/// use heirloom::context_var;
/// use heirloom::tower::Buffer;
/// use tower::{ServiceExt, service_fn};
///
/// context_var! { static USER: &'static str; }
///
/// # heirloom::block_on(async {
/// let mut calls = 0; // so that the service is no `Clone`
/// let counted = service_fn(move |()| {
///     calls += 1;
///     let answer = format!("call {calls} by {}", USER.require());
///     async move { Ok::<_, Infallible>(answer) }
/// });
/// let service = Buffer::new(counted, 8);
/// USER.set("ada");
/// assert_eq!(service.clone().oneshot(()).await.unwrap(), "call 1 by ada");
/// USER.set("eve");
/// assert_eq!(service.oneshot(()).await.unwrap(), "call 2 by eve");
/// # });
/// ```
pub struct Buffer<R, F> {
    queue: ::tower::buffer::Buffer<FromCaller<R>, F>,
}

impl<R, F> Buffer<R, F>
where
    R: Send + 'static,
    F: Send + 'static,
{
    /// Puts a queue of so many places in front of `service`, and spawns the background task that
    /// owns `service` until the last clone of the buffer is dropped. The task belongs to the
    /// runtime that is current here, else to the default one.
    ///
    /// # Panics
    /// If `places` is 0.
    #[track_caller]
    pub fn new<S>(service: S, places: usize) -> Self
    where
        S: Service<R, Future = F, Error: Into<BoxError> + Send + Sync> + Send + 'static,
    {
        assert!(places > 0, "a queue without places takes no request: `Buffer::new` takes 1 or more");
        let (queue, worker) = ::tower::buffer::Buffer::pair(InCallersContext(service), places);
        spawn_background(worker);
        Buffer { queue }
    }
}

impl<R, F, T, E> Service<R> for Buffer<R, F>
where
    R: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    E: Into<BoxError>,
{
    type Response = T;
    type Error = BoxError;
    type Future = ::tower::buffer::future::ResponseFuture<F>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), BoxError>> {
        self.queue.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let context = Context::current();
        self.queue.call(FromCaller { request: Some(request), context, deadline: crate::deadline() })
    }
}

impl<R, F> Clone for Buffer<R, F>
where
    R: Send + 'static,
    F: Send + 'static,
{
    fn clone(&self) -> Self {
        Buffer { queue: self.queue.clone() }
    }
}

impl<R, F> fmt::Debug for Buffer<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").finish_non_exhaustive()
    }
}

/// A request, and what its caller's call ran in.
struct FromCaller<R> {
    /// `None` when the request was taken out.
    request: Option<R>,
    context: Context,
    deadline: Option<Instant>,
}

impl<R> Drop for FromCaller<R> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            self.context.run(|| drop(request));
        }
    }
}

/// The inner service, which the background task calls.
struct InCallersContext<S>(S);

impl<S, R> Service<FromCaller<R>> for InCallersContext<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut from: FromCaller<R>) -> S::Future {
        let request = from.request.take().expect("a request is called once");
        let call = || from.context.run(|| self.0.call(request));
        StartedLimit::new(from.deadline).run(call)
    }
}
