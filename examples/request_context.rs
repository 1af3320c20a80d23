//! Shows a thousand requests that are open at the same time, each with its own id and security
//! token in the context, and checks at every place where work may go (deep calls, timers, tasks,
//! groups, the blocking pool, destructors) that none of them ever sees another's.
//!
//! Every function that looks at the context is also told, as an argument, what it should find
//! there. The argument is used for nothing but the comparison.

use std::collections::HashSet;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;
use heirloom::{Runtime, TaskGroup, context_var, sleep, spawn, spawn_blocking, yield_now};

const REQUESTS: usize = 1000;
const WORKERS: usize = 4;

struct Request {
    id: usize,
    path: String,
}

/// What must never show up in a stranger's request.
struct SecurityToken {
    owner: usize,
}

context_var! {
    static REQUEST: Arc<Request>;
    static TOKEN: Arc<SecurityToken>;
    /// A live transaction belongs to the task that opened it: it is not inherited.
    static TRANSACTION: usize, inherit = Never;
    /// How many spawns lie between the request's own task and this one.
    static DEPTH: usize, inherit = Derive(|depth| Some(depth + 1));
}

static TOKENS_MADE: AtomicUsize = AtomicUsize::new(0);
static TOKENS_ALIVE: AtomicUsize = AtomicUsize::new(0);

impl SecurityToken {
    fn new(owner: usize) -> Self {
        TOKENS_MADE.fetch_add(1, Relaxed);
        TOKENS_ALIVE.fetch_add(1, Relaxed);
        SecurityToken { owner }
    }
}

impl Drop for SecurityToken {
    fn drop(&mut self) {
        TOKENS_ALIVE.fetch_sub(1, Relaxed);
    }
}

/// A place in the program, and what was seen there.
struct Place {
    name: &'static str,
    /// How many spawns away from the request's own task.
    depth: usize,
    looks: AtomicUsize,
    mistakes: AtomicUsize,
}

impl Place {
    const fn new(name: &'static str, depth: usize) -> Self {
        Place { name, depth, looks: AtomicUsize::new(0), mistakes: AtomicUsize::new(0) }
    }

    /// Looks at the context and compares it with what it should be.
    fn look(&self, expected: usize) {
        let id = REQUEST.with(|request| request.map(|request| request.id));
        let owner = TOKEN.with(|token| token.map(|token| token.owner));
        let transaction = if self.depth == 0 { Some(expected) } else { None };
        let right = id == Some(expected)
            && owner == Some(expected)
            && TRANSACTION.get() == transaction
            && DEPTH.get() == Some(self.depth);
        self.looks.fetch_add(1, Relaxed);
        self.mistakes.fetch_add(usize::from(!right), Relaxed);
    }
}

static DEEP: Place = Place::new("four calls deep", 0);
static TIMER: Place = Place::new("after a timer", 0);
static TASK: Place = Place::new("in a spawned task", 1);
static NESTED: Place = Place::new("in a task of that task", 2);
static GROUP: Place = Place::new("in the tasks of a group", 1);
static BLOCKING: Place = Place::new("in the blocking pool", 1);
static DROPPED: Place = Place::new("in a cancelled task's destructor", 1);
static BACK: Place = Place::new("back in the request, at its end", 0);
static PLACES: [&Place; 8] = [&DEEP, &TIMER, &TASK, &NESTED, &GROUP, &BLOCKING, &DROPPED, &BACK];

/// Looks when it is dropped.
struct LooksWhenDropped {
    expected: usize,
}

impl Drop for LooksWhenDropped {
    fn drop(&mut self) {
        DROPPED.look(self.expected);
    }
}

/// Opens when the last request has begun, so that all of them are open at once.
struct Gate {
    missing: AtomicUsize,
    key: Mutex<Option<oneshot::Sender<()>>>,
    opened: Shared<oneshot::Receiver<()>>,
}

impl Gate {
    fn new() -> Self {
        let (key, opened) = oneshot::channel();
        Gate { missing: AtomicUsize::new(REQUESTS), key: Mutex::new(Some(key)), opened: opened.shared() }
    }

    async fn pass(&self) {
        if self.missing.fetch_sub(1, Relaxed) == 1 {
            let key = self.key.lock().unwrap().take().expect("one request is the last");
            key.send(()).expect("the gate keeps the other end");
        }
        self.opened.clone().await.expect("the key is used before it is dropped");
    }
}

/// What a handler finds out about itself.
struct Served {
    path_read_deep_inside: String,
    threads: HashSet<thread::ThreadId>,
}

/// Awaited, hence a part of its caller's call: what it sets stays.
async fn authenticate(id: usize) {
    yield_now().await;
    TOKEN.set(Arc::new(SecurityToken::new(id)));
    TRANSACTION.set(id);
}

async fn route(id: usize) -> String {
    yield_now().await;
    load_profile(id).await
}

async fn load_profile(id: usize) -> String {
    yield_now().await;
    query(id).await
}

async fn query(id: usize) -> String {
    yield_now().await;
    send_query(id)
}

fn send_query(id: usize) -> String {
    DEEP.look(id);
    REQUEST.with(|request| request.expect("set at the beginning").path.clone())
}

async fn handle(id: usize, gate: Arc<Gate>) -> Served {
    let mut threads = HashSet::from([thread::current().id()]);
    DEPTH.set(0);
    REQUEST.set(Arc::new(Request { id, path: format!("/orders/{id}") }));
    authenticate(id).await;
    gate.pass().await;
    threads.insert(thread::current().id());

    let path_read_deep_inside = route(id).await;
    threads.insert(thread::current().id());

    sleep(Duration::from_millis(1 + id as u64 % 5)).await;
    TIMER.look(id);
    threads.insert(thread::current().id());

    let task = spawn(async move {
        yield_now().await;
        TASK.look(id);
        spawn(async move { NESTED.look(id) }).await.expect("no panic");
    });
    let hash = spawn_blocking(move || BLOCKING.look(id));
    let looks = LooksWhenDropped { expected: id };
    let abandoned = spawn(async move {
        pending::<()>().await;
        drop(looks);
    });
    TaskGroup::<()>::scope(async |group| {
        for milliseconds in 1..=3 {
            group.spawn(async move {
                sleep(Duration::from_millis(milliseconds)).await;
                GROUP.look(id);
                Ok(())
            });
        }
        Ok(())
    })
    .await
    .expect("no task of the group fails");
    threads.insert(thread::current().id());

    task.await.expect("no panic");
    hash.await.expect("no panic");
    abandoned.abort();
    assert!(abandoned.await.expect_err("it never ends by itself").is_cancelled());
    threads.insert(thread::current().id());

    BACK.look(id);
    Served { path_read_deep_inside, threads }
}

/// Starts all requests, and waits for them.
async fn serve() -> Vec<Served> {
    let gate = Arc::new(Gate::new());
    let handles: Vec<_> = (0..REQUESTS).map(|id| spawn(handle(id, Arc::clone(&gate)))).collect();
    let mut served = Vec::new();
    for handle in handles {
        served.push(handle.await.expect("no request panics"));
    }
    assert!(!REQUEST.is_set() && !TOKEN.is_set(), "nothing leaks to the code that started the requests");
    served
}

pub(crate) fn main() -> std::io::Result<()> {
    let runtime = Runtime::builder().workers(WORKERS).build()?;
    let begun = Instant::now();
    let served = runtime.block_on(serve());
    let took = begun.elapsed();
    let report = runtime.shutdown(Duration::from_secs(1));

    println!(
        "{REQUESTS} requests, all open at the same time, on {WORKERS} workers: {} ms\n",
        took.as_millis()
    );
    println!("{:<36}{:>8}{:>10}", "who am I?", "asked", "mistakes");
    for place in PLACES {
        let (looks, mistakes) = (place.looks.load(Relaxed), place.mistakes.load(Relaxed));
        println!("{:<36}{looks:>8}{mistakes:>10}", place.name);
    }
    let moved = served.iter().filter(|served| served.threads.len() > 1).count();
    println!("\nrequests whose task moved between workers: {moved}");
    println!(
        "security tokens: {} made, {} alive after the requests",
        TOKENS_MADE.load(Relaxed),
        TOKENS_ALIVE.load(Relaxed)
    );

    for (id, served) in served.iter().enumerate() {
        assert_eq!(served.path_read_deep_inside, format!("/orders/{id}"));
    }
    for place in PLACES {
        let per_request = if std::ptr::eq(place, &GROUP) { 3 } else { 1 };
        assert_eq!(place.looks.load(Relaxed), per_request * REQUESTS, "looks {}", place.name);
        assert_eq!(place.mistakes.load(Relaxed), 0, "mistakes {}", place.name);
    }
    assert_eq!(TOKENS_MADE.load(Relaxed), REQUESTS);
    assert_eq!(TOKENS_ALIVE.load(Relaxed), 0, "a token lives as long as its request");
    assert!(report.is_clean(), "nothing is left running: {report:?}");
    Ok(())
}
