//! Shows a job queue on SQLite that loses no job when its process is killed, and whose jobs know
//! the request they come from.
//!
//! ```text
//! cargo run --release -p example-queue       kills a process of its own, goes on, and checks
//! cargo run --release -p example-queue -- work FILE      runs jobs until Ctrl-C or SIGTERM
//! cargo run --release -p example-queue -- enqueue FILE order "a lamp" request=mine tenant=acme
//! cargo run --release -p example-queue -- list FILE
//! ```
//!
//! Several processes may work on one file, and enqueue into it, at the same time.
//!
//! What it teaches, by file:
//!
//! * `store` – a queue as a table: leases, attempts, idempotency keys, and why each effect is there
//!   exactly once.
//! * `database` – a synchronous library in async code: one connection, on the blocking pool, that
//!   no cancelled caller can leave half-way.
//! * `worker` – a loop that waits for what comes first; jobs in a group, each with a time limit,
//!   whose panics are failed attempts; a drain that gives back what it cuts.
//! * `policy` – the numbers, and the pause between attempts.
//! * `log` – a job is part of the request that enqueued it: the row carries request and tenant, the
//!   worker binds them, and each line of the log names them, with nothing passed.
//! * `jobs` – the application.
//! * `demo` – the demonstration; `tests/kill.rs` kills at random moments.

mod database;
mod demo;
mod jobs;
mod log;
mod policy;
mod store;
mod worker;

use std::error::Error;
use std::time::Duration;

use heirloom::context::future::select;
use heirloom::{CancelToken, signal, spawn};

use database::Database;
use log::{REQUEST, TENANT, log};
use policy::Policy;
use store::NewJob;

type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

const USAGE: &str = "usage: queue [work FILE [quick] | list FILE |
              enqueue FILE KIND PAYLOAD [request=ID] [tenant=NAME] [key=KEY] [delay_ms=N]]";

async fn open(file: &str, policy: Policy) -> Result<Database> {
    Database::open(file.into(), jobs::SCHEMA, policy).await
}

/// Runs jobs until a signal says to stop.
async fn work(file: &str, policy: Policy) -> Result<()> {
    // From here on the signals end the process no longer.
    let signals = select(signal::ctrl_c(), signal::terminate());
    let database = open(file, policy).await?;
    let stop = CancelToken::new();
    let asked = stop.clone();
    spawn(async move {
        let heard = signals.await.into_inner();
        asked.cancel(heard.map_or_else(|error| error.to_string(), |()| "a signal".to_string()));
    })
    .detach();
    let tally = worker::work(database, jobs::run, policy, stop).await?;
    log("stopped", &[("tally", &format!("{tally:?}"))]);
    Ok(())
}

async fn enqueue(file: &str, kind: &str, payload: &str, more: &[&str]) -> Result<()> {
    let mut job = NewJob { kind: kind.to_string(), payload: payload.to_string(), ..NewJob::default() };
    for argument in more {
        match argument.split_once('=').ok_or(USAGE)? {
            ("request", id) => drop(REQUEST.set(id.to_string())),
            ("tenant", name) => drop(TENANT.set(name.to_string())),
            ("key", key) => job.key = Some(key.to_string()),
            ("delay_ms", number) => job.delay = Duration::from_millis(number.parse()?),
            _ => return Err(USAGE.into()),
        }
    }
    let id = open(file, Policy::SERVICE).await?.enqueue(job).await?;
    log("enqueued", &[("job", &id)]);
    Ok(())
}

async fn list(file: &str) -> Result<()> {
    let database = open(file, Policy::SERVICE).await?;
    let rows = database.call(|store| {
        let mut select = store.connection().prepare(
            "SELECT format('%5d  %-8s%3d  %-10s %-12s %-8s %s%s', id, state, attempts, request, tenant, kind, payload,
                 coalesce(': ' || last_error, '')) FROM jobs ORDER BY id",
        )?;
        select.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
    });
    for row in rows.await? {
        println!("{row}");
    }
    Ok(())
}

#[heirloom::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demo::run().await,
        ["work", file] => work(file, Policy::SERVICE).await,
        ["work", file, "quick"] => work(file, Policy::QUICK).await,
        ["enqueue", file, kind, payload, ref more @ ..] => enqueue(file, kind, payload, more).await,
        ["list", file] => list(file).await,
        _ => Err(USAGE.into()),
    }
}
