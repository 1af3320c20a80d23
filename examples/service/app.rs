//! The application: an axum router whose handlers take nothing along. Who is being served is read
//! five calls deep, in spawned tasks, on the blocking pool, in a background job and by the auditor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use heirloom::context::channel::{self, Receiver, Sender};
use heirloom::{TaskGroup, remaining, sleep, spawn, spawn_background, spawn_blocking, yield_now};
use http_body_util::BodyExt;

use super::log::log;
use super::request::{REQUEST, RequestLayer, TENANT};

/// Shared by all requests.
#[derive(Clone)]
pub(crate) struct App {
    audit: Sender<String>,
    pub(crate) counts: Arc<Counts>,
}

/// What the background work has seen.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) jobs: AtomicUsize,
    pub(crate) audited: AtomicUsize,
    pub(crate) violations: AtomicUsize,
}

impl App {
    pub(crate) fn new() -> App {
        let (audit, events) = channel::unbounded();
        let counts = Arc::new(Counts::default());
        spawn_background(auditor(events, Arc::clone(&counts)));
        App { audit, counts }
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/orders/{id}", get(order))
            .route("/slow/{milliseconds}", get(slow))
            .route("/upload", post(upload))
            .layer(RequestLayer)
            .with_state(self)
    }
}

/// Who is being served. Takes no argument.
fn who() -> String {
    format!("{} {}", REQUEST.get().unwrap_or_default(), TENANT.get().unwrap_or_default())
}

/// Who this place thinks is being served, and how many milliseconds it has.
fn look(place: &str) -> String {
    let left = remaining().map_or("any".to_string(), |left| left.as_millis().to_string());
    format!("{place} {} {left}\n", who())
}

/// Answers with a line per place that was asked: the client checks that each names it and no other
/// client.
async fn order(State(app): State<App>, Path(id): Path<u64>) -> String {
    let seen = who();
    app.audit.send(seen.clone()).await.expect("the auditor lives as long as the application");
    let counts = Arc::clone(&app.counts);
    let job = async move {
        sleep(Duration::from_millis(id % 5)).await;
        counts.violations.fetch_add(usize::from(who() != seen), Relaxed);
        counts.jobs.fetch_add(1, Relaxed);
    };
    spawn(job).detach(); // runs on after the answer
    authorize(id).await
}

async fn authorize(id: u64) -> String {
    yield_now().await;
    load(id).await
}

async fn load(id: u64) -> String {
    let mut seen = query().await;
    let parts = TaskGroup::<()>::scope(async |group| {
        let results = (0..3).map(|shard| ask_shard(id, shard)).map(|part| {
            let (send, receive) = futures::channel::oneshot::channel();
            group.spawn(async move {
                let _ = send.send(part.await);
                Ok(())
            });
            receive
        });
        Ok(futures::future::join_all(results).await)
    });
    for part in parts.await.expect("no shard fails") {
        seen += &part.expect("every shard answers");
    }
    seen += &spawn_blocking(move || checksum(id)).await.expect("no panic");
    seen
}

async fn query() -> String {
    yield_now().await;
    run_statement().await
}

async fn run_statement() -> String {
    look("five-calls-deep")
}

async fn ask_shard(id: u64, shard: u64) -> String {
    sleep(Duration::from_micros((id * 7 + shard * 131) % 1_000)).await;
    spawn(async { look("task-of-a-task") }).await.expect("no panic")
}

fn checksum(id: u64) -> String {
    let sum = (0..2_000).fold(id, |sum, step| sum.rotate_left(5) ^ step);
    std::hint::black_box(sum);
    look("blocking-pool")
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
