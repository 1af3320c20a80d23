//! Shows a pool of workers whose jobs arrive with their submitter's context: four ways to run a job
//! in it, and an auditor that only links to it, because it outlives the requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::channel::oneshot;
use futures::future::join_all;
use heirloom::context::ContextFutureExt;
use heirloom::context::channel::{self, Receiver, Sender};
use heirloom::{Context, context_var, spawn, spawn_background, spawn_in, yield_now};

context_var! {
    static REQUEST_ID: usize;
    /// Dropped when no job needs the request any more.
    static SESSION: Arc<Session>;
    /// Of the request itself: work that it hands out must not write into it.
    static TRANSACTION: usize, inherit = Never;
}

const REQUESTS: usize = 200;
const WORKERS: usize = 3;
const WAYS: [&str; 4] = ["a closure, run", "a future, awaited", "a task, given it", "a task, inheriting it"];

static SESSIONS: AtomicUsize = AtomicUsize::new(0);

struct Session;

impl Session {
    fn open() -> Arc<Session> {
        SESSIONS.fetch_add(1, Relaxed);
        Arc::new(Session)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        SESSIONS.fetch_sub(1, Relaxed);
    }
}

/// A job does not name its client: that comes with its context.
struct Job {
    way: usize,
    done: oneshot::Sender<Done>,
}

struct Done {
    request: Option<usize>,
    transaction: Option<usize>,
}

/// Deep inside a job. Takes no argument, and knows the request.
fn look() -> Done {
    Done { request: REQUEST_ID.get(), transaction: TRANSACTION.get() }
}

async fn look_later() -> Done {
    yield_now().await;
    look()
}

/// One of the pool. It runs in an empty context, and is back in it after each job.
async fn worker(queue: Receiver<Job>) -> usize {
    let mut jobs = 0;
    while let Ok((job, context)) = queue.recv().await {
        let done = match job.way {
            0 => context.run(look),
            1 => look_later().in_context(context).await,
            2 => spawn_in(context, look_later()).await.expect("no panic"),
            _ => context.run(|| spawn(look_later())).await.expect("no panic"),
        };
        assert!(Context::current().is_empty(), "nothing of the job stays with the worker");
        // The submitter may have gone.
        let _ = job.done.send(done);
        jobs += 1;
    }
    jobs
}

/// Writes down who did what, long after they did it. It takes the number that it needs, and lets go
/// of the rest.
async fn auditor(events: Receiver<&'static str>, requests_are_over: oneshot::Receiver<()>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Ok((event, context)) = events.recv().await {
        let cause = context.get(&REQUEST_ID).expect("set by the request");
        drop(context); // kept, it would keep the session open
        lines.push(format!("{event} by request {cause}"));
    }
    requests_are_over.await.expect("told before the end");
    assert_eq!(SESSIONS.load(Relaxed), 0, "what is linked is not kept");
    lines
}

async fn request(id: usize, jobs: Sender<Job>, events: Sender<&'static str>) -> [Done; WAYS.len()] {
    REQUEST_ID.set(id);
    SESSION.set(Session::open());
    TRANSACTION.set(id);
    events.send("jobs were submitted").await.expect("the auditor listens");
    let answers = std::array::from_fn::<_, { WAYS.len() }, _>(|way| {
        let jobs = &jobs;
        async move {
            let (done, answer) = oneshot::channel();
            jobs.send(Job { way, done }).await.expect("the pool is open");
            answer.await.expect("every job is done")
        }
    });
    let mut answers = join_all(answers).await.into_iter();
    std::array::from_fn(|_| answers.next().expect("one for each way"))
}

#[heirloom::main]
pub(crate) async fn main() {
    let (jobs, queue) = channel::bounded(16);
    let (events, audit) = channel::unbounded();
    let (tell, told) = oneshot::channel();
    // Started as if by the first request that needs it: a background task keeps nothing of that.
    REQUEST_ID.set(0);
    let (count, counted) = channel::unbounded();
    for _ in 0..WORKERS {
        let (queue, count) = (queue.clone(), count.clone());
        spawn_background(async move { count.send(worker(queue).await).await });
    }
    drop((queue, count));
    let auditing = spawn_in(Context::empty(), auditor(audit, told));

    let requests: Vec<_> = (0..REQUESTS).map(|id| spawn(request(id, jobs.clone(), events.clone()))).collect();
    drop((jobs, events));
    let (mut mistakes, mut transactions) = ([0; WAYS.len()], [0; WAYS.len()]);
    for (id, request) in requests.into_iter().enumerate() {
        for (way, done) in request.await.expect("no panic").into_iter().enumerate() {
            mistakes[way] += usize::from(done.request != Some(id));
            transactions[way] += usize::from(done.transaction.is_some());
        }
    }
    let done: Vec<_> = futures::StreamExt::collect::<Vec<_>>(counted).await;
    tell.send(()).expect("the auditor waits");
    let lines = auditing.await.expect("no panic");

    println!("{REQUESTS} requests, {WORKERS} workers\n");
    println!("{:<24}{:>6}{:>10}{:>20}", "the job is", "jobs", "mistakes", "transactions seen");
    for (way, name) in WAYS.iter().enumerate() {
        println!("{name:<24}{REQUESTS:>6}{:>10}{:>20}", mistakes[way], transactions[way]);
    }
    println!("\njobs by worker: {:?}", done.iter().map(|(jobs, _)| jobs).collect::<Vec<_>>());
    println!("audited: {} lines, the first: {}; sessions still open: 0", lines.len(), lines[0]);

    assert_eq!(mistakes, [0; WAYS.len()]);
    assert_eq!(transactions, [REQUESTS, REQUESTS, REQUESTS, 0], "only a spawn applies `inherit = Never`");
    assert_eq!(done.iter().map(|(jobs, _)| jobs).sum::<usize>(), REQUESTS * WAYS.len());
    assert_eq!(lines.len(), REQUESTS);
}
