//! A limit for a call.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

use super::BoxError;
use crate::clock::{after, now};
use crate::time::StartedLimit;

/// Limits the time of each call; makes [`Timeout`]s.
///
/// The limit counts from `call`, so the wait for the service to be ready is not part of it. It is
/// the inner service's [`deadline`](crate::deadline()), in `call` and in the future. When time is
/// up, the future is dropped and the error is [`Elapsed`](crate::time::Elapsed). Like
/// [`wait_for`](crate::wait_for()), a call that is ready at its first poll is never late.
///
/// **The limit ends with the response.** A body that is streamed after it has no limit from here:
/// around a server's service use [`RequestContextLayer::limit`](super::RequestContextLayer::limit);
/// in a client, `wait_for` around the call and the reading of the body.
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use heirloom::time::Elapsed;
/// use heirloom::tower::TimeoutLayer;
/// use heirloom::{remaining, sleep};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # heirloom::block_on(async {
/// let slow = service_fn(async |naps: u32| {
///     assert!(remaining().unwrap() <= Duration::from_millis(50));
///     sleep(Duration::from_millis(10) * naps).await;
///     Ok::<_, Infallible>("awake")
/// });
/// let limit = TimeoutLayer::new(Duration::from_millis(50));
/// let service = ServiceBuilder::new().layer(limit).service(slow);
/// assert_eq!(service.clone().oneshot(0).await.unwrap(), "awake");
/// assert!(service.oneshot(1_000).await.unwrap_err().is::<Elapsed>());
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    limit: Duration,
}

impl TimeoutLayer {
    /// A layer that gives each call so much time. With [`Duration::MAX`] there is no limit.
    pub const fn new(limit: Duration) -> Self {
        TimeoutLayer { limit }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { inner, limit: self.limit }
    }
}

/// A service whose calls have a limit; made by [`TimeoutLayer`].
///
/// # Errors
/// [`Elapsed`](crate::time::Elapsed) when time is up, else the inner service's.
///
/// # Cancel safety
/// Dropping the future drops the inner future and the timer.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    limit: Duration,
}

impl<S, R> Service<R> for Timeout<S>
where
    S: Service<R, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let limit = StartedLimit::new(after(now(), self.limit));
        let future = limit.run(|| self.inner.call(request));
        TimeoutFuture { future, limit }
    }
}

pin_project_lite::pin_project! {
    /// A call with a limit; made by [`Timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct TimeoutFuture<F> {
        #[pin]
        future: F,
        limit: StartedLimit,
    }
}

impl<F, T, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.limit.poll(cx, |cx| this.future.poll(cx)))?;
        Poll::Ready(answer.map_err(Into::into))
    }
}
