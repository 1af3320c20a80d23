//! The application: what the jobs do. No function takes a request, a tenant or a job's number.

use std::time::Duration;

use heirloom::sleep;
use rusqlite::{Transaction, params};

use crate::Result;
use crate::log::{ATTEMPT, JOB, REQUEST, TENANT, log};
use crate::store::{Effect, Job, NewJob, enqueue, now};

/// The application's own table, in the same file as the queue. It has no `UNIQUE`, which a service
/// would add for safety: here the check that each effect is there once must be able to fail.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE ledger (
        job     INTEGER NOT NULL REFERENCES jobs,
        entry   TEXT NOT NULL,
        request TEXT NOT NULL,
        tenant  TEXT NOT NULL
    ) STRICT;
";

/// Runs a job, and returns what is to be written when it is completed. What takes time is done
/// here, in async code and outside of any transaction.
pub(crate) async fn run(job: Job) -> Result<Effect> {
    match job.kind.as_str() {
        "order" => order(job.payload).await,
        "mail" => mail(job.payload).await,
        kind => Err(format!("there are no jobs of the kind {kind:?}").into()),
    }
}

/// Packs an item, and enqueues a mail about it.
async fn order(item: String) -> Result<Effect> {
    sleep(Duration::from_millis(fastrand::u64(2..20))).await;
    trouble(&item).await?;
    Ok(Box::new(move |transaction| {
        enter(transaction, &format!("packed {item}"))?;
        // Part of the same transaction, and of the same request.
        let mail = NewJob { kind: "mail".to_string(), payload: item, ..NewJob::default() };
        enqueue(transaction, now(), &mail).map(drop)
    }))
}

async fn mail(item: String) -> Result<Effect> {
    log("mailing", &[("item", &item)]);
    sleep(Duration::from_millis(fastrand::u64(1..5))).await;
    Ok(Box::new(move |transaction| enter(transaction, &format!("mailed about {item}"))))
}

/// Writes into the ledger, on the blocking pool, for the request and the job that the context
/// names.
fn enter(transaction: &Transaction<'_>, entry: &str) -> rusqlite::Result<()> {
    let (request, tenant) = (REQUEST.get().unwrap_or_default(), TENANT.get().unwrap_or_default());
    transaction
        .prepare_cached("INSERT INTO ledger (job, entry, request, tenant) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![JOB.require(), entry, request, tenant])
        .map(drop)
}

/// What can go wrong with a job. Some items do so once, one always.
async fn trouble(item: &str) -> Result<()> {
    match item {
        "a vase" if ATTEMPT.require() == 1 => Err("it broke".into()),
        "a bomb" if ATTEMPT.require() == 1 => panic!("it went off"),
        "a piano" if ATTEMPT.require() == 1 => {
            sleep(Duration::from_secs(3600)).await;
            Ok(())
        }
        "a ghost" => Err("it cannot be packed".into()),
        _ => Ok(()),
    }
}
