//! A tower layer that gives each HTTP request a context of its own.
//!
//! An HTTP/1 server polls all requests of a connection in the connection's task. A variable that a
//! handler or a middleware sets there is seen by the next request of the connection, which may be
//! another user's. [`IsolateLayer`] prevents that for any service that answers with an
//! [`http::Response`], under any server: hyper by hand, axum, tonic, warp. `heirloom::hyper::serve`
//! (feature `serve`) does the same by itself.
//!
//! # Order
//!
//! The layer is the **outermost**: with axum's `Router::layer` the last call, with tower's
//! `ServiceBuilder` the first. A middleware outside of the layer runs in the connection's task, and
//! what the middleware sets is shared by the requests of the connection.
//!
//! # What is shared on purpose
//!
//! A variable for a whole connection, such as the client's address, is bound *around* the
//! connection: `PEER.scope(..)`, or `connection.with_var(&PEER, address)`. Every request sees it. A
//! value that requests change together is an `Arc` in such a variable.
//!
//! # Deadlines
//!
//! The deadline is no part of the context. A request sees the deadline around the connection, and
//! within a [`wait_for`](crate::wait_for()) the nearer of both. The body is polled when that
//! `wait_for` has ended, and sees the deadline around the connection.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};

use heirloom_context::{Context, ContextCell, ContextFutureExt, InCell};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tower_layer::Layer;
use tower_service::Service;

/// Gives each request a context of its own: see the [page of the module](self).
///
/// ```
/// use std::convert::Infallible;
/// use heirloom::context_var;
/// use heirloom::tower::IsolateLayer;
/// use http_body_util::Empty;
/// use hyper::body::Bytes;
/// use hyper::{Request, Response};
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// context_var! { static USER: u64; }
///
/// # heirloom::block_on(async {
/// let handler = service_fn(async |_: Request<()>| {
///     assert!(!USER.is_set(), "another request's user");
///     USER.set(7); // gone after this request
///     Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
/// });
/// let mut service = IsolateLayer.layer(handler);
/// for _ in 0..2 {
///     service.ready().await.unwrap().call(Request::new(())).await.unwrap();
/// }
/// # });
/// ```
#[doc(alias = "RequestContext")]
#[doc(alias = "request_context")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IsolateLayer;

impl<S> Layer<S> for IsolateLayer {
    type Service = Isolate<S>;

    fn layer(&self, inner: S) -> Isolate<S> {
        Isolate { inner }
    }
}

/// A service whose requests have a context each; made by [`IsolateLayer`].
///
/// The inner service's `call`, its future, the response's body and their drops run in the
/// request's context. The context starts from what the context current at `call` hands down
/// ([`Context::inherited`]), as that of a spawned task does. `poll_ready` belongs to no request: it
/// runs in a copy, and what it sets is gone when it returns.
#[derive(Clone, Debug)]
pub struct Isolate<S> {
    inner: S,
}

impl<S, R, B> Service<R> for Isolate<S>
where
    S: Service<R, Response = Response<B>>,
{
    type Response = Response<IsolatedBody<B>>;
    type Error = S::Error;
    type Future = IsolatedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        Context::inherited().run(|| self.inner.poll_ready(cx))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let cell = ContextCell::new(Context::inherited());
        let future = cell.run(|| self.inner.call(request)).expect("no other code knows the new cell");
        IsolatedFuture::new(future, cell)
    }
}

pin_project_lite::pin_project! {
    /// A request's future in the request's context; made by [`Isolate`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct IsolatedFuture<F> {
        #[pin]
        future: InCell<F>,
        cell: ContextCell,
    }
}

impl<F: Future> IsolatedFuture<F> {
    pub(super) fn new(future: F, cell: ContextCell) -> Self {
        IsolatedFuture { future: future.in_cell(cell.clone()), cell }
    }
}

impl<F, B, E> Future for IsolatedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<IsolatedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let cell = this.cell.clone();
        Poll::Ready(Ok(response.map(|body| IsolatedBody { body: Some(body), cell })))
    }
}

pin_project_lite::pin_project! {
    /// A response's body in the context of its request; made by [`Isolate`].
    ///
    /// The body sees what the handler has set, also when it is streamed long after the handler has
    /// returned, and is dropped in that context.
    pub struct IsolatedBody<B> {
        // `None` only while it is being dropped.
        #[pin]
        body: Option<B>,
        cell: ContextCell,
    }

    impl<B> PinnedDrop for IsolatedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            inside(this.cell, || this.body.set(None));
        }
    }
}

/// Runs a step of the body in the cell.
///
/// The response exists when the handler's future has returned it, so that the future is polled no
/// more. Only the drop of the future on another thread can have entered the cell: then the step
/// runs in a copy.
fn inside<R>(cell: &ContextCell, step: impl FnOnce() -> R) -> R {
    let mut step = Some(step);
    match cell.run(|| (step.take().expect("run once"))()) {
        Ok(result) => result,
        Err(_entered) => cell.snapshot().run(step.take().expect("not run")),
    }
}

impl<B: Body> Body for IsolatedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let body = this.body.as_pin_mut().expect("taken by the drop only");
        inside(this.cell, || body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B> fmt::Debug for IsolatedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolatedBody").finish_non_exhaustive()
    }
}
