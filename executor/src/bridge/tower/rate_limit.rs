//! So many calls in so much time.
//!
//! # Terms
//!
//! * A *permit* allows one call. There are as many as calls are allowed in a *period*.
//! * A permit is *free* in the semaphore, *reserved* by a service that is ready, or *spent* by a
//!   call until a period after it.
//! * The *returner* is a background task that returns spent permits to the semaphore when their
//!   period is over. It runs while there are spent permits.
//!
//! # No permit is lost
//!
//! A reserved permit returns to the semaphore when its service is dropped, and goes to the service
//! that has waited longest: that is the semaphore's. A spent permit stands in a queue in the order
//! of time. The queue and the flag that says whether there is a returner are under one lock: the
//! call that adds to the queue without a returner spawns one, and the returner clears the flag only
//! with the queue empty. A returner that is dropped with its runtime returns what is left at once,
//! since services may wait on other runtimes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Poller, Poll, ready};
use std::time::{Duration, Instant};

use ::tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;
use tower_layer::Layer;
use tower_service::Service;

use crate::clock::{after, now};
use crate::{sleep_until, spawn_background};

/// Limits how many calls begin in a period; makes [`RateLimit`]s.
///
/// In no span of the length of the period more calls begin than allowed: a call's permit returns a
/// period after the call. The clock is that of the runtime, in tests the virtual one.
///
/// The limit belongs to the layer: all services that the layer makes, and their clones, share it.
/// So axum's `Router::layer`, which makes a service for each route, has one limit for all routes.
///
/// ```
/// use std::convert::Infallible;
/// use std::time::{Duration, Instant};
/// use heirloom::tower::RateLimitLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # heirloom::block_on(async {
/// let service = ServiceBuilder::new()
///     .layer(RateLimitLayer::new(2, Duration::from_millis(20)))
///     .service(service_fn(async |()| Ok::<_, Infallible>(())));
/// let begun = Instant::now();
/// for _ in 0..3 {
///     service.clone().oneshot(()).await.unwrap();
/// }
/// assert!(begun.elapsed() >= Duration::from_millis(20), "the third call waits");
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    limiter: Arc<Limiter>,
}

impl RateLimitLayer {
    /// At most so many calls in each period.
    ///
    /// # Panics
    /// If `calls` is 0.
    #[track_caller]
    pub fn new(calls: usize, period: Duration) -> Self {
        assert!(calls > 0, "a limit of no calls is never ready: `RateLimitLayer::new` takes 1 or more");
        let permits = Arc::new(Semaphore::new(calls.min(Semaphore::MAX_PERMITS)));
        RateLimitLayer { limiter: Arc::new(Limiter { permits, period, spent: Mutex::default() }) }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit::new(inner, Arc::clone(&self.limiter))
    }
}

/// A service of which so many calls begin in a period; made by [`RateLimitLayer`].
///
/// `poll_ready` waits for a permit, in the order in which services have asked, and then for the
/// inner service. The permit is given back when the service is dropped without a `call`. A clone
/// starts without a permit. Errors are the inner service's.
///
/// # Panics
/// `call` panics without a `poll_ready` that was ready.
#[derive(Debug)]
pub struct RateLimit<S> {
    inner: S,
    limiter: Arc<Limiter>,
    /// The place in the queue for a permit.
    turn: PollSemaphore,
    permit: Option<OwnedSemaphorePermit>,
}

impl<S> RateLimit<S> {
    fn new(inner: S, limiter: Arc<Limiter>) -> Self {
        RateLimit { inner, turn: PollSemaphore::new(Arc::clone(&limiter.permits)), limiter, permit: None }
    }
}

impl<S: Clone> Clone for RateLimit<S> {
    fn clone(&self) -> Self {
        RateLimit::new(self.inner.clone(), Arc::clone(&self.limiter))
    }
}

impl<S, R> Service<R> for RateLimit<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        if self.permit.is_none() {
            let permit = ready!(self.turn.poll_acquire(cx));
            self.permit = Some(permit.expect("the semaphore is never closed"));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        let permit = self.permit.take().expect("`poll_ready` must have been ready before `call`");
        self.limiter.spend(permit);
        self.inner.call(request)
    }
}

#[derive(Debug)]
struct Limiter {
    permits: Arc<Semaphore>,
    period: Duration,
    spent: Mutex<Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    /// When spent permits return, the earliest first.
    returns: VecDeque<Instant>,
    has_returner: bool,
}

impl Limiter {
    fn lock(&self) -> MutexGuard<'_, Spent> {
        // No user code runs under this lock, so a poisoned queue is whole.
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(self: &Arc<Self>, permit: OwnedSemaphorePermit) {
        permit.forget();
        // A period that leads beyond the last instant never ends.
        let Some(end) = after(now(), self.period) else { return };
        let mut spent = self.lock();
        spent.returns.push_back(end);
        let drives = !std::mem::replace(&mut spent.has_returner, true);
        drop(spent);
        if drives {
            spawn_background(Returner(Some(Arc::clone(self))).run());
        }
    }

    /// Returns the permits whose period is over. `None` if no permit is spent: then the returner
    /// ends.
    fn return_due(&self) -> Option<Instant> {
        let mut spent = self.lock();
        let now = now();
        let due = spent.returns.iter().take_while(|end| **end <= now).count();
        spent.returns.drain(..due);
        let next = spent.returns.front().copied();
        spent.has_returner = next.is_some();
        drop(spent);
        self.permits.add_permits(due);
        next
    }
}

/// Returns spent permits; what is left when it is dropped. `None` when it has ended by itself.
struct Returner(Option<Arc<Limiter>>);

impl Returner {
    async fn run(mut self) {
        while let Some(next) = self.0.as_ref().and_then(|limiter| limiter.return_due()) {
            sleep_until(next).await;
        }
        self.0 = None;
    }
}

impl Drop for Returner {
    fn drop(&mut self) {
        if let Some(limiter) = self.0.take() {
            let left = std::mem::take(&mut *limiter.lock()).returns.len();
            limiter.permits.add_permits(left);
        }
    }
}
