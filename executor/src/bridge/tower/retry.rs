//! A policy for tower's `Retry`, on this executor's clock.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::tower::retry::Policy;
use ::tower::retry::budget::Budget;

use crate::clock::now;
use crate::time::Sleep;
use crate::{remaining, sleep};

/// A policy for tower's `Retry`: exponential backoff with jitter, a budget, and no retry for which
/// the caller has no time.
///
/// tower's `Retry` runs on this executor as it is, and calls a clone of the service again and again
/// in the caller's task, so in the caller's context and deadline. What needs tokio's clock is its
/// `ExponentialBackoff`; this policy is in its place.
///
/// A call is tried again if the closure says so, and
///
/// * it was tried again at most [`retries`](Self::retries) times before, by default 3;
/// * the caller's [`deadline`](crate::deadline()) lies beyond the pause before the retry;
/// * the [`budget`](Self::budget) allows it.
///
/// Otherwise the caller gets the result of the last try, as it is. A call that did not fail is a
/// deposit into the budget. The request is cloned for each try; the response of a try that failed
/// is dropped before the pause.
///
/// The policy does not end a try: that is for a limit around the whole, or around each try inside
/// of `Retry` ([`TimeoutLayer`](super::TimeoutLayer)).
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
/// use std::time::Duration;
/// use heirloom::tower::RetryPolicy;
/// use tower::retry::RetryLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # heirloom::block_on(async {
/// let tries = Arc::new(AtomicU32::new(0));
/// let flaky = service_fn(move |_: &'static str| {
///     let number = tries.fetch_add(1, Relaxed);
///     async move { if number < 2 { Err("unavailable") } else { Ok(number) } }
/// });
/// type Answer = Result<u32, &'static str>;
/// let policy = RetryPolicy::new(|_: &&'static str, answer: &Answer| answer.is_err())
///     .backoff(Duration::from_millis(1), Duration::from_secs(1));
/// let service = ServiceBuilder::new().layer(RetryLayer::new(policy)).service(flaky);
/// assert_eq!(service.oneshot("a request").await, Ok(2));
/// # });
/// ```
#[doc(alias = "ExponentialBackoff")]
#[derive(Clone)]
pub struct RetryPolicy<P> {
    has_failed: P,
    budget: Arc<dyn Budget + Send + Sync>,
    first_pause: Duration,
    longest_pause: Duration,
    most: u32,
    /// How often this call was tried again.
    done: u32,
}

impl<P> RetryPolicy<P> {
    /// A policy that tries again what `has_failed` says has failed: a closure that is given the
    /// request and the result. Only what can be done twice without harm should be tried twice.
    pub fn new(has_failed: P) -> Self {
        RetryPolicy {
            has_failed,
            budget: Arc::new(RetryBudget::default()),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            most: 3,
            done: 0,
        }
    }

    /// Tries a call again at most so often.
    pub fn retries(mut self, most: u32) -> Self {
        self.most = most;
        self
    }

    /// The pause before the first retry, which doubles with each further one up to `longest`. Of
    /// each pause a random part is left out, at most the half, so that callers that fail together
    /// do not come again together. By default 50 milliseconds and 2 seconds.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.first_pause, self.longest_pause) = (first, longest);
        self
    }

    /// Takes retries from this budget, which clones of the policy share. By default the policy has
    /// a [`RetryBudget`] of its own, as that type's `default` makes it.
    pub fn budget(mut self, budget: impl Budget + Send + Sync + 'static) -> Self {
        self.budget = Arc::new(budget);
        self
    }

    fn next_pause(&self) -> Duration {
        let doubled = self.first_pause.saturating_mul(2_u32.saturating_pow(self.done));
        let longest = doubled.min(self.longest_pause);
        // The keys of a `RandomState` are random enough to spread callers.
        let random = RandomState::new().hash_one(self.done) as u32;
        longest - longest.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }
}

impl<P, R, T, E> Policy<R, T, E> for RetryPolicy<P>
where
    P: FnMut(&R, &Result<T, E>) -> bool,
    R: Clone,
{
    type Future = Sleep;

    fn retry(&mut self, request: &mut R, result: &mut Result<T, E>) -> Option<Sleep> {
        if !(self.has_failed)(request, result) {
            self.budget.deposit();
            return None;
        }
        let pause = self.next_pause();
        let too_late = || remaining().is_some_and(|left| left <= pause);
        if self.done >= self.most || too_late() || !self.budget.withdraw() {
            return None;
        }
        self.done += 1;
        Some(sleep(pause))
    }

    fn clone_request(&mut self, request: &R) -> Option<R> {
        Some(request.clone())
    }
}

impl<P> fmt::Debug for RetryPolicy<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("first_pause", &self.first_pause)
            .field("longest_pause", &self.longest_pause)
            .field("most", &self.most)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

/// How many retries all calls together may have: a share of the calls that did not fail, and some
/// per second. So a service that is down gets little more load by retries, not a multiple.
///
/// It is the idea of tower's `TpsBudget`, on this executor's clock. Deposits and withdrawals are
/// remembered for 10 seconds; the default allows a retry for each 5 calls, and 10 a second.
#[doc(alias = "TpsBudget")]
#[derive(Debug)]
pub struct RetryBudget {
    per_call: u64,
    reserve: u64,
    window: Mutex<VecDeque<Movement>>,
}

/// What was deposited and withdrawn in a tenth of the window, in thousandths of a retry.
#[derive(Debug)]
struct Movement {
    begun: Instant,
    deposited: u64,
    withdrawn: u64,
}

impl RetryBudget {
    const WINDOW: Duration = Duration::from_secs(10);
    const RETRY: u64 = 1_000;

    /// Allows `per_call` retries for each call that did not fail, for example 0.2, and `per_second`
    /// besides. Both are averages over 10 seconds.
    ///
    /// # Panics
    /// If `per_call` is negative, or no number.
    #[track_caller]
    pub fn new(per_call: f64, per_second: u32) -> Self {
        assert!(per_call >= 0.0, "a budget of {per_call} retries per call: it takes 0 or more");
        RetryBudget {
            per_call: (per_call * Self::RETRY as f64) as u64,
            reserve: u64::from(per_second) * Self::WINDOW.as_secs() * Self::RETRY,
            window: Mutex::default(),
        }
    }

    /// Calls `f` with the movements of the window, the current one last.
    fn with_window<R>(&self, f: impl FnOnce(&mut VecDeque<Movement>) -> R) -> R {
        // No user code runs under this lock, so a poisoned window is whole.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        let is_over = |begun: Instant, length| now.saturating_duration_since(begun) >= length;
        while window.front().is_some_and(|oldest| is_over(oldest.begun, Self::WINDOW)) {
            window.pop_front();
        }
        if window.back().is_none_or(|latest| is_over(latest.begun, Self::WINDOW / 10)) {
            window.push_back(Movement { begun: now, deposited: 0, withdrawn: 0 });
        }
        f(&mut window)
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget::new(0.2, 10)
    }
}

impl Budget for RetryBudget {
    fn deposit(&self) {
        self.with_window(|window| {
            let latest = window.back_mut().expect("the current one");
            latest.deposited = latest.deposited.saturating_add(self.per_call);
        });
    }

    fn withdraw(&self) -> bool {
        self.with_window(|window| {
            let deposited = window.iter().fold(self.reserve, |sum, part| sum.saturating_add(part.deposited));
            let withdrawn: u64 = window.iter().map(|part| part.withdrawn).sum();
            let allowed = deposited >= withdrawn + Self::RETRY;
            if allowed {
                window.back_mut().expect("the current one").withdrawn += Self::RETRY;
            }
            allowed
        })
    }
}
