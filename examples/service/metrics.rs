//! What is counted, and a page of it in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use heirloom::Handle;

/// The upper bounds of the histogram, in milliseconds.
const BOUNDS: [u64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 5_000];

#[derive(Default)]
pub(crate) struct Metrics {
    figures: Mutex<Figures>,
}

#[derive(Default)]
struct Figures {
    in_flight: u64,
    /// By status; `gone` where the client left before the answer.
    requests: BTreeMap<String, u64>,
    /// Requests no longer than each bound.
    within: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
    retries: BTreeMap<&'static str, u64>,
}

/// Middleware that counts a request, also one that is dropped.
pub(crate) async fn measure(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    metrics.figures().in_flight += 1;
    let mut request_measured = Measured { metrics, begun: Instant::now(), status: None };
    let response = next.run(request).await;
    request_measured.status = Some(response.status());
    response
}

/// The numbers of the runtime, its times included: how long tasks wait for a worker says whether
/// the service has too much to do.
pub(crate) fn runtime_page() -> String {
    Handle::current().map_or_else(String::new, |runtime| runtime.stats().prometheus().to_string())
}

struct Measured {
    metrics: Arc<Metrics>,
    begun: Instant,
    status: Option<StatusCode>,
}

impl Drop for Measured {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let status = self.status.map_or("gone".to_string(), |status| status.as_str().to_string());
        let mut figures = self.metrics.figures();
        figures.in_flight -= 1;
        *figures.requests.entry(status).or_default() += 1;
        for (within, bound) in figures.within.iter_mut().zip(BOUNDS) {
            *within += u64::from(took <= Duration::from_millis(bound));
        }
        figures.count += 1;
        figures.sum += took;
    }
}

impl Metrics {
    pub(crate) fn retried(&self, backend: &'static str) {
        *self.figures().retries.entry(backend).or_default() += 1;
    }

    /// Answers so far with this status.
    pub(crate) fn answers(&self, status: StatusCode) -> u64 {
        self.figures().requests.get(status.as_str()).copied().unwrap_or_default()
    }

    pub(crate) fn page(&self) -> String {
        self.figures().page().expect("a string takes all that is written")
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(page, "# HELP {name} {help}.\n# TYPE {name} {kind}")
}

impl Figures {
    fn page(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        head(&mut page, "http_requests_in_flight", "gauge", "Requests without an answer so far")?;
        writeln!(page, "http_requests_in_flight {}", self.in_flight)?;
        head(&mut page, "http_requests_total", "counter", "Requests that are over, by status")?;
        for (status, count) in &self.requests {
            writeln!(page, "http_requests_total{{status=\"{status}\"}} {count}")?;
        }
        head(&mut page, "http_request_duration_seconds", "histogram", "From a request to its answer")?;
        for (bound, within) in BOUNDS.iter().zip(self.within) {
            let bound = Duration::from_millis(*bound).as_secs_f64();
            writeln!(page, "http_request_duration_seconds_bucket{{le=\"{bound}\"}} {within}")?;
        }
        writeln!(page, "http_request_duration_seconds_bucket{{le=\"+Inf\"}} {}", self.count)?;
        writeln!(page, "http_request_duration_seconds_sum {}", self.sum.as_secs_f64())?;
        writeln!(page, "http_request_duration_seconds_count {}", self.count)?;
        head(&mut page, "backend_retries_total", "counter", "Calls that were tried again, by backend")?;
        for (backend, count) in &self.retries {
            writeln!(page, "backend_retries_total{{backend=\"{backend}\"}} {count}")?;
        }
        Ok(page)
    }
}
