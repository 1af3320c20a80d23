//! A backend as the API calls it: over kept connections, so many calls at a time, each try within a
//! limit, with retries while the request has time.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_lock::Semaphore;
use axum::http::{Request, StatusCode, header};
use heirloom::net::TcpStream;
use heirloom::{remaining, sleep, spawn_background, wait_for};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};

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
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
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
            idle: Mutex::default(),
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
        let mut connection = self.connection().await?;
        let request = Request::get(path).header(header::HOST, self.name).header(ATTEMPT_HEADER, attempt);
        let request = carry_on(request).body(Empty::new()).expect("a valid request");
        let response = connection.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.map_err(CallError::Body)?;
        // A try that fails or is dropped before this line takes its connection with it.
        self.idle().push(connection);
        match status.is_success() {
            true => Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
            false => Err(CallError::Status(status)),
        }
    }

    async fn connection(&self) -> Result<SendRequest<Empty<Bytes>>, CallError> {
        loop {
            let Some(mut kept) = self.idle().pop() else { break };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(socket).await?;
        // It serves later requests too, so it inherits nothing from this one.
        spawn_background(connection);
        Ok(sender)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SendRequest<Empty<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a call has failed.
#[derive(Debug)]
pub(crate) enum CallError {
    Slow,
    Status(StatusCode),
    Unreachable(io::Error),
    Http(hyper::Error),
    Body(Box<dyn std::error::Error + Send + Sync>),
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
            CallError::Unreachable(error) => write!(f, "no connection: {error}"),
            CallError::Http(error) => error.fmt(f),
            CallError::Body(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CallError {}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> CallError {
        CallError::Unreachable(error)
    }
}

impl From<hyper::Error> for CallError {
    fn from(error: hyper::Error) -> CallError {
        CallError::Http(error)
    }
}
