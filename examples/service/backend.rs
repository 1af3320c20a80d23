//! A backend as the API calls it: over kept connections, so many calls at a time, each try within a
//! limit, with retries while the request has time.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use async_lock::Semaphore;
use axum::http::{Request, StatusCode, request};
use heirloom::hyper::{HyperConnector, HyperExecutor, HyperTimer};
use heirloom::tower::RetryPolicy;
use heirloom::wait_for;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy;
use tower::retry::Retry;
use tower::{ServiceExt, service_fn};

use super::log::log;
use super::metrics::Metrics;
use super::request::carry_on;

/// Tells the backend how often the call was tried, this time included.
pub(crate) const ATTEMPT_HEADER: &str = "x-attempt";

const MOST_RETRIES: u32 = 2;
/// The pause before the first retry is at most this long; before each later one, twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MOST_AT_A_TIME: usize = 16;
/// No answer of a backend is longer.
const MOST_BYTES: usize = 1 << 20;
/// For one try, from the connection to the end of the answer.
const TRY_LIMIT: Duration = Duration::from_millis(500);

pub(crate) struct Backend {
    pub(crate) name: &'static str,
    /// The API answers without it.
    pub(crate) optional: bool,
    address: SocketAddr,
    permits: Semaphore,
    again: RetryPolicy<fn(&(), &Answer) -> bool>,
    client: Client,
    metrics: Arc<Metrics>,
}

impl Backend {
    pub(crate) fn new(
        name: &'static str,
        address: SocketAddr,
        optional: bool,
        metrics: Arc<Metrics>,
    ) -> Backend {
        Backend {
            name,
            optional,
            address,
            permits: Semaphore::new(MOST_AT_A_TIME),
            again: RetryPolicy::new(may_pass as fn(&(), &Answer) -> bool)
                .retries(MOST_RETRIES)
                .backoff(FIRST_PAUSE, TRY_LIMIT),
            client: client(false),
            metrics,
        }
    }

    /// Asks for a path. Reading may be repeated, so a failure that may pass is tried again: while
    /// the request has time, and while retries are few among the calls of this backend. The pause
    /// is without a permit.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let attempts = &AtomicU32::new(0);
        let tries = service_fn(move |()| async move {
            let attempt = attempts.fetch_add(1, Relaxed) + 1;
            if attempt > 1 {
                self.metrics.retried(self.name);
                log("retry", &[("backend", &self.name), ("attempt", &attempt)]);
            }
            let failed = |error: &CallError| log("failed try", &[("backend", &self.name), ("error", error)]);
            self.attempt(path, attempt).await.inspect_err(failed)
        });
        Retry::new(self.again.clone(), tries).oneshot(()).await
    }

    /// One try. Its limit begins when it has a permit; if the request's time is up first, the
    /// request's limit drops the try.
    async fn attempt(&self, path: &str, attempt: u32) -> Answer {
        let _permit = self.permits.acquire().await;
        wait_for(self.exchange(path, attempt), TRY_LIMIT).await.unwrap_or(Err(CallError::Slow))
    }

    async fn exchange(&self, path: &str, attempt: u32) -> Answer {
        let request = Request::get(format!("http://{}{path}", self.address)).header(ATTEMPT_HEADER, attempt);
        match ask(&self.client, carry_on(request)).await? {
            (status, answer) if status.is_success() => Ok(answer),
            (status, _) => Err(CallError::Status(status)),
        }
    }
}

/// A pool of connections. Each serves later requests too, so it inherits nothing from the request
/// that opens it.
pub(crate) type Client = legacy::Client<HyperConnector, Empty<Bytes>>;

pub(crate) fn client(http2: bool) -> Client {
    let mut builder = legacy::Client::builder(HyperExecutor);
    builder.timer(HyperTimer).pool_timer(HyperTimer).http2_only(http2).build(HyperConnector::new())
}

/// Sends a request without a body, and waits for the whole answer.
pub(crate) async fn ask(
    client: &Client,
    request: request::Builder,
) -> Result<(StatusCode, String), CallError> {
    let request = request.body(Empty::new()).expect("a valid request");
    let response = client.request(request).await.map_err(CallError::Http)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.map_err(CallError::Body)?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

type Answer = Result<String, CallError>;

/// Why a call has failed.
#[derive(Debug)]
pub(crate) enum CallError {
    Slow,
    Status(StatusCode),
    Http(legacy::Error),
    Body(Box<dyn Error + Send + Sync>),
}

fn may_pass((): &(), answer: &Answer) -> bool {
    match answer {
        Ok(_) => false,
        Err(CallError::Status(status)) => status.is_server_error(),
        Err(_) => true,
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Slow => f.write_str("no answer in time"),
            CallError::Status(status) => write!(f, "answered {status}"),
            CallError::Http(error) => match error.source() {
                Some(cause) => write!(f, "{cause}"),
                None => error.fmt(f),
            },
            CallError::Body(error) => error.fmt(f),
        }
    }
}

impl Error for CallError {}
