//! A backend as the API calls it: over kept connections, so many calls at a time, each try within a
//! limit, with retries while the request has time.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_lock::Semaphore;
use axum::http::{Request, StatusCode, request};
use heirloom::hyper::{HyperConnector, HyperExecutor, HyperTimer};
use heirloom::{remaining, sleep, wait_for};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy;

use super::log::log;
use super::metrics::Metrics;
use super::request::carry_on;
use super::retry::{RetryBudget, pause_after};

/// Tells the backend how often the call was tried, this time included.
pub(crate) const ATTEMPT_HEADER: &str = "x-attempt";

const MOST_ATTEMPTS: u32 = 3;
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
    budget: RetryBudget,
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
            budget: RetryBudget::new(),
            client: client(false),
            metrics,
        }
    }

    /// Asks for a path. Reading may be repeated, so a failure that may pass is tried again.
    pub(crate) async fn get(&self, path: &str) -> Result<String, CallError> {
        self.budget.earn();
        let mut attempt = 1;
        loop {
            let error = match self.attempt(path, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = pause_after(attempt);
            let in_time = remaining().is_none_or(|left| pause < left);
            if !(error.may_pass() && attempt < MOST_ATTEMPTS && in_time && self.budget.spend()) {
                return Err(error);
            }
            self.metrics.retried(self.name);
            log("retry", &[("backend", &self.name), ("error", &error)]);
            sleep(pause).await; // without a permit
            attempt += 1;
        }
    }

    /// One try. Its limit begins when it has a permit; if the request's time is up first, the
    /// request's limit drops the try.
    async fn attempt(&self, path: &str, attempt: u32) -> Result<String, CallError> {
        let _permit = self.permits.acquire().await;
        wait_for(self.exchange(path, attempt), TRY_LIMIT).await.unwrap_or(Err(CallError::Slow))
    }

    async fn exchange(&self, path: &str, attempt: u32) -> Result<String, CallError> {
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

/// Why a call has failed.
#[derive(Debug)]
pub(crate) enum CallError {
    Slow,
    Status(StatusCode),
    Http(legacy::Error),
    Body(Box<dyn Error + Send + Sync>),
}

impl CallError {
    fn may_pass(&self) -> bool {
        match self {
            CallError::Status(status) => status.is_server_error(),
            _ => true,
        }
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
