//! The application: an axum router whose handlers take nothing along. Who is being served is known
//! in spawned tasks, on the blocking pool, in a background job, by the auditor behind a channel,
//! and to the backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use futures::StreamExt;
use heirloom::context::channel::{self, Receiver, Sender};
use heirloom::group::GroupError;
use heirloom::{TaskGroup, remaining, sleep, spawn, spawn_background, spawn_blocking, wait_for};
use http_body_util::BodyExt;

use super::backend::{Backend, CallError};
use super::log::log;
use super::metrics::{Metrics, measure, runtime_page};
use super::request::{REQUEST, identify, look, who};
use super::upstream::Upstreams;

/// Shared by all requests.
#[derive(Clone)]
pub(crate) struct App {
    backends: Arc<[Arc<Backend>]>,
    audit: Sender<String>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What the background work has seen.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) jobs: AtomicUsize,
    pub(crate) audited: AtomicUsize,
    pub(crate) violations: AtomicUsize,
}

impl App {
    pub(crate) fn new(upstreams: Upstreams) -> App {
        let (audit, events) = channel::bounded(256);
        let counts = Arc::new(Counts::default());
        spawn_background(auditor(events, Arc::clone(&counts)));
        let metrics = Arc::new(Metrics::default());
        let backend =
            |name, address, optional| Arc::new(Backend::new(name, address, optional, Arc::clone(&metrics)));
        let backends = Arc::new([
            backend("catalog", upstreams.catalog, false),
            backend("prices", upstreams.prices, false),
            backend("reviews", upstreams.reviews, true),
        ]);
        App { backends, audit, counts, metrics }
    }

    pub(crate) fn router(self) -> Router {
        let metrics = Arc::clone(&self.metrics);
        let measured = Router::new()
            .route("/orders/{id}", get(order))
            .route("/slow/{milliseconds}", get(slow))
            .route("/upload", post(upload))
            .layer(from_fn(identify))
            .layer(from_fn_with_state(Arc::clone(&metrics), measure)) // outermost: counts what runs out of time
            .with_state(self);
        Router::new()
            .route("/health", get(async || "ok\n"))
            .route("/metrics", get(async move || metrics.page() + &runtime_page()))
            .merge(measured)
    }
}

/// Answers with a line per place that was asked. The client checks that each names it and no other
/// client.
async fn order(State(app): State<App>, Path(id): Path<u64>) -> Result<String, StatusCode> {
    let seen = who();
    app.audit.send(seen.clone()).await.expect("the auditor lives as long as the application");
    let counts = Arc::clone(&app.counts);
    let job = async move {
        sleep(Duration::from_millis(id % 5)).await;
        counts.violations.fetch_add(usize::from(who() != seen), Relaxed);
        counts.jobs.fetch_add(1, Relaxed);
    };
    spawn(job).detach(); // runs on after the answer
    match collect(&app, id).await {
        Ok(parts) => Ok(parts),
        Err(error) => {
            log("failed", &[("error", &error)]);
            Err(StatusCode::BAD_GATEWAY)
        }
    }
}

/// Asks all backends at the same time. If one that is needed fails, the group ends the other calls.
async fn collect(app: &App, id: u64) -> Result<String, GroupError<CallError>> {
    let mut parts: Vec<String> = TaskGroup::scope(async |group| {
        for backend in app.backends.iter() {
            group.spawn(part(Arc::clone(backend), id));
        }
        Ok(group.results().collect().await)
    })
    .await?;
    parts.sort();
    parts.push(spawn_blocking(move || checksum(id)).await.expect("no panic"));
    Ok(parts.concat())
}

/// What one backend says. One that is not needed has half of the time, and may fail.
async fn part(backend: Arc<Backend>, id: u64) -> Result<String, CallError> {
    let path = format!("/items/{id}");
    let answer = backend.get(&path);
    if !backend.optional {
        return answer.await;
    }
    let limit = remaining().map_or(Duration::MAX, |left| left / 2);
    match wait_for(answer, limit).await.unwrap_or(Err(CallError::Slow)) {
        Ok(answer) => Ok(answer),
        Err(error) => {
            log("left out", &[("backend", &backend.name), ("error", &error)]);
            Ok(format!("{} left out\n", backend.name))
        }
    }
}

fn checksum(id: u64) -> String {
    let sum = (0..2_000).fold(id, |sum, step| sum.rotate_left(5) ^ step);
    std::hint::black_box(sum);
    look("sum")
}

/// Takes its time. Ends early if the request has less.
async fn slow(Path(milliseconds): Path<u64>) -> String {
    sleep(Duration::from_millis(milliseconds)).await;
    look("slow")
}

/// Counts what is sent, as it comes.
async fn upload(mut body: Body) -> (StatusCode, String) {
    let mut length = 0;
    loop {
        match body.frame().await {
            None => return (StatusCode::OK, format!("{length}\n")),
            Some(Ok(frame)) => length += frame.data_ref().map_or(0, |data| data.len()),
            Some(Err(error)) => {
                log("upload broke off", &[("after", &length), ("error", &error)]);
                return (StatusCode::BAD_REQUEST, String::new());
            }
        }
    }
}

/// Outlives all requests. It links to them, that is, reads who they are and lets go of the rest.
async fn auditor(events: Receiver<String>, counts: Arc<Counts>) {
    while let Ok((said, context)) = events.recv().await {
        let known = context.run(who);
        drop(context);
        counts.audited.fetch_add(1, Relaxed);
        counts.violations.fetch_add(usize::from(known != said || REQUEST.is_set()), Relaxed);
    }
}
