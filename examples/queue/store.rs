//! The queue as a table: what states a job has, and one transaction for each step between them.
//!
//! | state | means | goes to |
//! | --- | --- | --- |
//! | ready | waits for a worker, not before `run_after` | running |
//! | running | belongs to one worker until `lease_until` | done, ready, dead |
//! | done | its effect is in the file | – |
//! | dead | has failed as often as it may | ready, by hand |
//!
//! **Nothing is lost**, because a lease ends: what a killed process was running is ready again when
//! its time is up. So a job runs *at least* once. **Its effect is there exactly once**, because
//! [`Store::complete`] writes the effect and the state in one transaction, and only for the present
//! lease: each claim counts `claims` up, and a worker that was thought dead has a number that is no
//! longer the row's. (An effect elsewhere, such as a mail, cannot be part of the transaction: the
//! job passes its number to the other side, as an idempotency key.)
//!
//! Times are milliseconds of the system's clock, since they outlive the process. Where that clock
//! jumps, a lease may end early; the effect is there once all the same.
//!
//! Rows of jobs that are done stay, because they hold the keys of what was enqueued. A service
//! deletes those that are older than any repetition of a request.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Result, Row, Transaction, TransactionBehavior, params,
};

use crate::log::{REQUEST, TENANT};
use crate::policy::Policy;

/// How long to wait for other processes' turns.
const PATIENCE: Duration = Duration::from_secs(10);
const VERSION: i32 = 1;
const SCHEMA: &str = "
    CREATE TABLE jobs (
        id          INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again
        kind        TEXT NOT NULL,
        payload     TEXT NOT NULL,
        key         TEXT,                              -- idempotency, within a tenant
        request     TEXT NOT NULL,                     -- of the enqueuer; empty where it has none
        tenant      TEXT NOT NULL,
        state       TEXT NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'running', 'done', 'dead')),
        attempts    INTEGER NOT NULL DEFAULT 0,        -- begun, less those that were given back
        claims      INTEGER NOT NULL DEFAULT 0,        -- only ever grows: it names the lease
        run_after   INTEGER NOT NULL,
        lease_until INTEGER,
        last_error  TEXT,                              -- of the last attempt that failed
        UNIQUE (tenant, key),
        CHECK ((state = 'running') = (lease_until IS NOT NULL))
    ) STRICT;
    CREATE INDEX jobs_ready ON jobs (run_after, id) WHERE state = 'ready';
    CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 'running';
";

/// What a job leaves in the file, written in the transaction that completes the job.
pub(crate) type Effect = Box<dyn FnOnce(&Transaction<'_>) -> Result<()> + Send>;

/// A job that is to be enqueued.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewJob {
    pub(crate) kind: String,
    pub(crate) payload: String,
    /// A job with the key of an earlier one of the same tenant is that job.
    pub(crate) key: Option<String>,
    pub(crate) delay: Duration,
}

/// The right to say how an attempt has ended. Worth nothing once another worker has the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) job: i64,
    claim: i64,
}

/// A job that was claimed.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) lease: Lease,
    pub(crate) kind: String,
    pub(crate) payload: String,
    pub(crate) request: String,
    pub(crate) tenant: String,
    pub(crate) attempt: u32,
}

/// What a worker gets when it asks for jobs.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) jobs: Vec<Job>,
    /// How long until a job becomes ready, or a lease ends.
    pub(crate) next: Option<Duration>,
}

/// What becomes of a job whose attempt has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    Again,
    Dead,
    /// Another worker has the job: its attempt counts.
    LeaseLost,
}

/// How many jobs are in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ready: i64,
    pub(crate) running: i64,
    pub(crate) done: i64,
    pub(crate) dead: i64,
}

/// The file. Every call blocks: `Database` makes them on the pool for that.
pub(crate) struct Store {
    connection: Connection,
    policy: Policy,
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, milliseconds)
}

fn milliseconds(time: Duration) -> i64 {
    time.as_millis().try_into().unwrap_or(i64::MAX)
}

/// Enqueues a job of the request that the context names, and tells its number. Inside the
/// transaction of an effect it is there if and only if the effect is.
pub(crate) fn enqueue(connection: &Connection, now: i64, job: &NewJob) -> Result<i64> {
    let (request, tenant) = (REQUEST.get().unwrap_or_default(), TENANT.get().unwrap_or_default());
    let after = now.saturating_add(milliseconds(job.delay));
    let new = connection
        .prepare_cached(
            "INSERT INTO jobs (kind, payload, key, request, tenant, run_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (tenant, key) DO NOTHING RETURNING id",
        )?
        .query_row(params![job.kind, job.payload, job.key, request, tenant, after], |row| row.get(0))
        .optional()?;
    match new {
        Some(id) => Ok(id),
        None => connection
            .prepare_cached("SELECT id FROM jobs WHERE tenant = ?1 AND key = ?2")?
            .query_row(params![tenant, job.key], |row| row.get(0)),
    }
}

impl Store {
    /// Opens the file, or makes it, with the tables of the application beside those of the queue.
    pub(crate) fn open(path: &Path, application: &str, policy: Policy) -> crate::Result<Store> {
        let mut connection = Connection::open(path)?;
        // Workers of several processes take turns. First, since what follows may have to wait.
        connection.busy_timeout(PATIENCE)?;
        // With a write-ahead log readers do not wait for the writer, and a commit is one write to
        // the end of one file. The change to it, when the file is new, is refused where another
        // process opens the file at that moment, and does not take turns by itself.
        let limit = Instant::now() + PATIENCE;
        while let Err(error) = connection.pragma_update(None, "journal_mode", "wal") {
            if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || Instant::now() > limit {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        // A commit waits until the disk has it. `NORMAL` would do against kill -9, because the
        // system keeps what a dead process has written. Where the power goes it may forget the last
        // commits, and with them jobs that the enqueuer was told are there.
        connection.pragma_update(None, "synchronous", "full")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                transaction.execute_batch(SCHEMA)?;
                transaction.execute_batch(application)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            VERSION => {}
            other => return Err(format!("the file has version {other}, this program {VERSION}").into()),
        }
        transaction.commit()?;
        Ok(Store { connection, policy })
    }

    /// For the application's own reads.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A transaction that takes its turn to write at the beginning: one that begins by reading is
    /// refused, instead of waiting, where another process has written meanwhile.
    fn begin(&mut self) -> Result<Transaction<'_>> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Claims up to so many jobs whose time has come, the longest due first. Jobs whose lease is
    /// over are among them.
    pub(crate) fn claim(&mut self, now: i64, most: usize) -> Result<Claimed> {
        let (lease, attempts) = (milliseconds(self.policy.lease), self.policy.attempts);
        let transaction = self.begin()?;
        transaction
            .prepare_cached(
                "UPDATE jobs SET state = CASE WHEN attempts < ?2 THEN 'ready' ELSE 'dead' END,
                     lease_until = NULL, run_after = ?1, last_error = 'the worker was gone in attempt ' || attempts
                 WHERE state = 'running' AND lease_until <= ?1",
            )?
            .execute(params![now, attempts])?;
        let jobs = transaction
            .prepare_cached(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, claims = claims + 1, lease_until = ?2
                 WHERE id IN (SELECT id FROM jobs WHERE state = 'ready' AND run_after <= ?1
                              ORDER BY run_after, id LIMIT ?3)
                 RETURNING id, claims, kind, payload, request, tenant, attempts",
            )?
            .query_map(params![now, now.saturating_add(lease), most as i64], job)?
            .collect::<Result<_>>()?;
        let next: Option<i64> = transaction
            .prepare_cached(
                "SELECT min(due) FROM (SELECT min(run_after) AS due FROM jobs WHERE state = 'ready' UNION ALL
                                       SELECT min(lease_until) FROM jobs WHERE state = 'running')",
            )?
            .query_row([], |row| row.get(0))?;
        transaction.commit()?;
        Ok(Claimed { jobs, next: next.map(|at| Duration::from_millis(at.saturating_sub(now).max(0) as u64)) })
    }

    /// Completes a job: its effect and its state, or neither. False if the lease is lost; the
    /// effect is not there then.
    pub(crate) fn complete(&mut self, lease: Lease, effect: Effect) -> Result<bool> {
        let transaction = self.begin()?;
        let held = transaction
            .prepare_cached(
                "UPDATE jobs SET state = 'done', lease_until = NULL
                 WHERE id = ?1 AND claims = ?2 AND state = 'running'",
            )?
            .execute([lease.job, lease.claim])?;
        if held == 0 {
            return Ok(false); // a transaction that is dropped is rolled back
        }
        effect(&transaction)?;
        transaction.commit()?;
        Ok(true)
    }

    /// Ends an attempt that has failed: the job is ready again after the pause, or dead.
    pub(crate) fn fail(&mut self, lease: Lease, now: i64, error: &str, pause: Duration) -> Result<Failed> {
        let again = now.saturating_add(milliseconds(pause));
        let state: Option<String> = self
            .connection
            .prepare_cached(
                "UPDATE jobs SET state = CASE WHEN attempts < ?5 THEN 'ready' ELSE 'dead' END,
                     lease_until = NULL, run_after = ?3, last_error = ?4
                 WHERE id = ?1 AND claims = ?2 AND state = 'running' RETURNING state",
            )?
            .query_row(params![lease.job, lease.claim, again, error, self.policy.attempts], |row| row.get(0))
            .optional()?;
        Ok(match state.as_deref() {
            None => Failed::LeaseLost,
            Some("dead") => Failed::Dead,
            Some(_) => Failed::Again,
        })
    }

    /// Gives a job back whose attempt was cut through no fault of its own: the attempt does not
    /// count.
    pub(crate) fn give_back(&mut self, lease: Lease, now: i64) -> Result<bool> {
        let mut update = self.connection.prepare_cached(
            "UPDATE jobs SET state = 'ready', attempts = attempts - 1, lease_until = NULL, run_after = ?3
             WHERE id = ?1 AND claims = ?2 AND state = 'running'",
        )?;
        Ok(update.execute([lease.job, lease.claim, now])? == 1)
    }

    pub(crate) fn counts(&self) -> Result<Counts> {
        let mut select = self.connection.prepare_cached(
            "SELECT count(*) FILTER (WHERE state = 'ready'), count(*) FILTER (WHERE state = 'running'),
                 count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'dead') FROM jobs",
        )?;
        select.query_row([], |row| {
            Ok(Counts { ready: row.get(0)?, running: row.get(1)?, done: row.get(2)?, dead: row.get(3)? })
        })
    }
}

fn job(row: &Row<'_>) -> Result<Job> {
    Ok(Job {
        lease: Lease { job: row.get(0)?, claim: row.get(1)? },
        kind: row.get(2)?,
        payload: row.get(3)?,
        request: row.get(4)?,
        tenant: row.get(5)?,
        attempt: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: i64 = Policy::QUICK.lease.as_millis() as i64;

    fn store() -> Store {
        let policy = Policy { attempts: 3, ..Policy::QUICK };
        Store::open(Path::new(":memory:"), "CREATE TABLE notes (text TEXT NOT NULL) STRICT", policy).unwrap()
    }

    fn put(store: &Store, now: i64, key: Option<&str>) -> i64 {
        let job = NewJob { kind: "note".to_string(), key: key.map(str::to_string), ..NewJob::default() };
        enqueue(&store.connection, now, &job).unwrap()
    }

    /// The only job that can be claimed.
    fn claim_one(store: &mut Store, now: i64) -> Job {
        let mut jobs = store.claim(now, 10).unwrap().jobs;
        assert_eq!(jobs.len(), 1);
        jobs.remove(0)
    }

    fn note(text: &'static str) -> Effect {
        Box::new(move |tx| tx.execute("INSERT INTO notes VALUES (?1)", [text]).map(drop))
    }

    fn notes(store: &Store) -> i64 {
        store.connection.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_job_is_claimed_by_one_worker() {
        let mut store = store();
        let ids: Vec<_> = (0..5).map(|number| put(&store, number, None)).collect();
        let first = store.claim(9, 2).unwrap();
        let second = store.claim(9, 9).unwrap();
        let mut claimed: Vec<_> = first.jobs.iter().chain(&second.jobs).map(|job| job.lease.job).collect();
        claimed.sort_unstable();
        assert_eq!(claimed, ids);
        let mut oldest: Vec<_> = first.jobs.iter().map(|job| job.lease.job).collect();
        oldest.sort_unstable();
        assert_eq!(oldest, ids[..2], "the longest due first");
        assert!(store.claim(9, 9).unwrap().jobs.is_empty());
    }

    #[test]
    fn a_job_carries_the_context_of_its_enqueuer() {
        let mut store = store();
        REQUEST.scope("r-1".to_string(), || TENANT.scope("acme".to_string(), || put(&store, 0, None)));
        let job = claim_one(&mut store, 0);
        assert_eq!((&*job.request, &*job.tenant), ("r-1", "acme"));
    }

    #[test]
    fn a_key_enqueues_once_for_each_tenant() {
        let store = store();
        let first = put(&store, 0, Some("k"));
        assert_eq!(put(&store, 5, Some("k")), first);
        assert_ne!(TENANT.scope("acme".to_string(), || put(&store, 5, Some("k"))), first);
        assert_ne!(put(&store, 5, None), put(&store, 5, None));
        assert_eq!(store.counts().unwrap().ready, 4);
    }

    #[test]
    fn a_delayed_job_is_not_due_before_its_time() {
        let mut store = store();
        let job = NewJob { delay: Duration::from_millis(70), ..NewJob::default() };
        enqueue(&store.connection, 1_000, &job).unwrap();
        let claimed = store.claim(1_069, 1).unwrap();
        assert!(claimed.jobs.is_empty());
        assert_eq!(claimed.next, Some(Duration::from_millis(1)));
        claim_one(&mut store, 1_070);
    }

    #[test]
    fn a_lease_that_ends_frees_the_job_and_the_late_worker_does_no_harm() {
        let mut store = store();
        put(&store, 0, None);
        let late = claim_one(&mut store, 0);
        let waiting = store.claim(LEASE - 1, 1).unwrap();
        assert!(waiting.jobs.is_empty());
        assert_eq!(waiting.next, Some(Duration::from_millis(1)), "a worker wakes for the end of the lease");
        let second = claim_one(&mut store, LEASE);
        assert_eq!(second.attempt, 2);

        assert!(!store.complete(late.lease, note("late")).unwrap());
        assert_eq!(store.fail(late.lease, 0, "late", Duration::ZERO).unwrap(), Failed::LeaseLost);
        assert!(!store.give_back(late.lease, 0).unwrap());
        assert_eq!(notes(&store), 0);
        assert!(store.complete(second.lease, note("second")).unwrap());
        assert!(!store.complete(second.lease, note("twice")).unwrap());
        assert_eq!(notes(&store), 1);
    }

    #[test]
    fn effect_and_completion_are_there_together_or_not_at_all() {
        let mut store = store();
        put(&store, 0, None);
        let job = claim_one(&mut store, 0);
        let broken: Effect = Box::new(|tx| {
            tx.execute("INSERT INTO notes VALUES ('half')", [])?;
            tx.execute("INSERT INTO notes VALUES (NULL)", []).map(drop)
        });
        store.complete(job.lease, broken).unwrap_err();
        assert_eq!((notes(&store), store.counts().unwrap().running), (0, 1));
        assert!(store.complete(job.lease, note("whole")).unwrap());
    }

    #[test]
    fn a_job_fails_until_its_attempts_are_used_up() {
        let mut store = store();
        put(&store, 0, None);
        let pause = Duration::from_millis(10);
        for (now, then) in [(0, Failed::Again), (10, Failed::Again), (20, Failed::Dead)] {
            assert!(store.claim(now - 1, 1).unwrap().jobs.is_empty(), "not before the pause is over");
            let job = claim_one(&mut store, now);
            assert_eq!(store.fail(job.lease, now, "no luck", pause).unwrap(), then);
        }
        assert!(store.claim(i64::MAX, 1).unwrap().jobs.is_empty());
        assert_eq!(store.counts().unwrap().dead, 1);
    }

    #[test]
    fn a_job_that_kills_its_workers_dies_too() {
        let mut store = store();
        put(&store, 0, None);
        for attempt in 0..3 {
            claim_one(&mut store, attempt * LEASE);
        }
        assert!(store.claim(3 * LEASE, 1).unwrap().jobs.is_empty());
        assert_eq!(store.counts().unwrap().dead, 1);
    }

    #[test]
    fn what_is_given_back_has_lost_no_attempt() {
        let mut store = store();
        put(&store, 0, None);
        let cut = claim_one(&mut store, 0);
        assert!(store.give_back(cut.lease, 0).unwrap());
        let again = claim_one(&mut store, 0);
        assert_eq!(again.attempt, 1);
        assert_ne!(again.lease, cut.lease, "the lease is another, though the attempt is the same");
        assert!(!store.complete(cut.lease, note("late")).unwrap());
    }
}
