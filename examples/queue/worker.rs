//! The worker: claims jobs, runs each in a task of its own, and writes down how it ended.
//!
//! All that the worker itself does is in one task, which waits for what comes first: a job that has
//! ended, a new job, a job that is due, the request to stop.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::pending;
use std::time::Instant;

use heirloom::context::ContextFutureExt;
use heirloom::context::future::{Either, select};
use heirloom::group::{GroupError, GroupScope};
use heirloom::task::{self, Id, JoinError};
use heirloom::time::wait_until;
use heirloom::{CancelToken, Context, TaskGroup, wait_for};

use crate::database::Database;
use crate::log::{ATTEMPT, JOB, REQUEST, TENANT, log};
use crate::policy::Policy;
use crate::store::{Effect, Failed, Job};
use crate::{Failure, Result};

/// What an attempt comes to. It says which task it is of, as a [`JoinError`] does.
type Outcome = (Id, Result<Effect>);
/// The jobs that run. One that panics or is cut ends no other.
type Group = GroupScope<Failure, std::result::Result<Outcome, JoinError>>;

/// How the attempts of a worker have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) done: u32,
    pub(crate) failed: u32,
    pub(crate) given_back: u32,
    pub(crate) leases_lost: u32,
}

/// Runs jobs until it is asked to stop, and then lets those that run end. Jobs see the context that
/// the worker has, besides their own: spawn a worker where no request is being served.
///
/// # Errors
/// The file cannot be read or written. The jobs that run are cancelled then; their leases end by
/// themselves.
pub(crate) async fn work<H, F>(database: Database, run: H, policy: Policy, stop: CancelToken) -> Result<Tally>
where
    H: Fn(Job) -> F,
    F: Future<Output = Result<Effect>> + Send + 'static,
{
    let worker = Worker { database, run, policy, stop, running: HashMap::new(), tally: Tally::default() };
    Ok(TaskGroup::scope(async |group| worker.work(group).await).await.map_err(GroupError::into_error)?)
}

struct Worker<H> {
    database: Database,
    run: H,
    policy: Policy,
    stop: CancelToken,
    running: HashMap<Id, Job>,
    tally: Tally,
}

impl<H, F> Worker<H>
where
    H: Fn(Job) -> F,
    F: Future<Output = Result<Effect>> + Send + 'static,
{
    async fn work(mut self, group: Group) -> Result<Tally> {
        while !self.stop.is_cancelled() {
            // First listen, then look: a job that comes in between is noticed.
            let enqueued = self.database.enqueued();
            let mut pause = self.policy.poll;
            let free = self.policy.concurrency - self.running.len();
            if free > 0 {
                let claimed = self.database.claim(free).await?;
                pause = claimed.next.map_or(pause, |next| next.min(pause));
                for job in claimed.jobs {
                    self.start(&group, job);
                }
            }
            // A group without children has no next result, and says so at once.
            let ended = async {
                match group.next().await {
                    Some(ended) => ended,
                    None => pending().await,
                }
            };
            let events = select(ended, select(enqueued, self.stop.cancelled()));
            if let Ok(Either::Left(ended)) = wait_for(events, pause).await {
                self.settle(ended).await?;
            }
        }
        self.drain(group).await?;
        Ok(self.tally)
    }

    /// Lets the jobs that run end, then cuts the others.
    async fn drain(&mut self, group: Group) -> Result<()> {
        let reason = self.stop.reason().map_or_else(String::new, |reason| reason.to_string());
        log("draining", &[("reason", &reason), ("running", &self.running.len())]);
        let end = Instant::now() + self.policy.drain;
        while let Ok(Some(ended)) = wait_until(group.next(), end).await {
            self.settle(ended).await?;
        }
        group.abort_all();
        while let Some(cut) = group.next().await {
            self.settle(cut).await?;
        }
        Ok(())
    }

    /// Begins an attempt. Its task inherits the context of the job: the request that has enqueued
    /// the job, perhaps in another process, is that of each line that it logs and of each job that
    /// it enqueues.
    fn start(&mut self, group: &Group, job: Job) {
        let limit = self.policy.limit;
        let child = context_of(&job).run(|| {
            let work = (self.run)(job.clone());
            group.spawn_caught(async move {
                let id = task::current().expect("a child is a task").id();
                log("begun", &[]);
                let outcome = match wait_for(work, limit).await {
                    Ok(outcome) => outcome,
                    Err(_elapsed) => Err(format!("took longer than {limit:?}").into()),
                };
                (id, outcome)
            })
        });
        self.running.insert(child.id(), job);
    }

    async fn settle(&mut self, ended: std::result::Result<Outcome, JoinError>) -> Result<()> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let job = self.running.remove(&id).expect("it was noted at its start");
        let context = context_of(&job);
        self.write_down(&job, ended.map(|(_, outcome)| outcome)).in_context(context).await
    }

    /// Writes down how an attempt has ended.
    async fn write_down(
        &mut self,
        job: &Job,
        ended: std::result::Result<Result<Effect>, JoinError>,
    ) -> Result<()> {
        let error: Failure = match ended {
            Ok(Ok(effect)) => match self.database.complete(job.lease, effect).await {
                Ok(true) => {
                    self.tally.done += 1;
                    log("done", &[]);
                    return Ok(());
                }
                Ok(false) => {
                    self.lease_lost();
                    return Ok(());
                }
                // The effect could not be written, so that nothing was.
                Err(error) => error,
            },
            Ok(Err(error)) => error,
            Err(cut) if cut.is_cancelled() => {
                self.tally.given_back += 1;
                self.database.give_back(job.lease).await?;
                log("given back", &[]);
                return Ok(());
            }
            // The message alone: the number of a task says nothing once its process has ended.
            Err(panic) => format!("panicked: {}", panic.panic_message().unwrap_or("no text")).into(),
        };
        let error = error.to_string();
        let pause = self.policy.pause(job.attempt, fastrand::f64());
        let milliseconds = pause.as_millis();
        let more: &[(&str, &dyn Display)] = match self.database.fail(job.lease, error.clone(), pause).await? {
            Failed::Again => &[("error", &error), ("again_in_ms", &milliseconds)],
            Failed::Dead => &[("error", &error), ("again", &"no")],
            Failed::LeaseLost => {
                self.lease_lost();
                return Ok(());
            }
        };
        self.tally.failed += 1;
        log("failed", more);
        Ok(())
    }

    fn lease_lost(&mut self) {
        self.tally.leases_lost += 1;
        log("lease lost", &[]);
    }
}

/// The worker's context, with what is known of the job.
fn context_of(job: &Job) -> Context {
    let mut context = Context::current();
    for (variable, value) in [(&REQUEST, &job.request), (&TENANT, &job.tenant)] {
        if !value.is_empty() {
            context = context.with_var(variable, value.clone());
        }
    }
    context.with_var(&JOB, job.lease.job).with_var(&ATTEMPT, job.attempt)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::time::Duration;

    use heirloom::context::channel;
    use heirloom::{JoinHandle, sleep, spawn};

    use super::*;
    use crate::log::OUTPUT;
    use crate::store::{Counts, NewJob, enqueue, now};

    const HOUR: Duration = Duration::from_secs(3600);
    /// Nothing is found by looking now and then.
    const PATIENT: Policy = Policy { poll: HOUR, lease: HOUR, limit: HOUR, drain: HOUR, ..Policy::QUICK };

    async fn memory(policy: Policy) -> Database {
        // The log is not looked at.
        OUTPUT.set(Arc::new(File::options().write(true).open("/dev/null").unwrap()));
        let notes = "CREATE TABLE notes (text TEXT NOT NULL) STRICT";
        Database::open(PathBuf::from(":memory:"), notes, policy).await.unwrap()
    }

    fn named(payload: &str) -> NewJob {
        NewJob { payload: payload.to_string(), ..NewJob::default() }
    }

    fn nothing() -> Result<Effect> {
        Ok(Box::new(|_| Ok(())))
    }

    fn start<F>(
        database: &Database,
        policy: Policy,
        run: impl Fn(Job) -> F + Send + Sync + 'static,
    ) -> (JoinHandle<Result<Tally>>, CancelToken)
    where
        F: Future<Output = Result<Effect>> + Send + 'static,
    {
        let stop = CancelToken::new();
        (spawn(work(database.clone(), run, policy, stop.clone())), stop)
    }

    #[heirloom::test(timeout = "60s")]
    async fn a_job_sees_the_request_that_enqueued_it() {
        let database = memory(PATIENT).await;
        let (tell, seen) = channel::unbounded();
        let (working, stop) = start(&database, PATIENT, move |job| {
            let tell = tell.clone();
            async move {
                let follows = job.payload == "first";
                tell.send((job.payload, REQUEST.get(), TENANT.get(), JOB.get())).await.unwrap();
                Ok(Box::new(move |tx: &rusqlite::Transaction<'_>| {
                    // On the blocking pool, and still of the same request.
                    if follows { enqueue(tx, now(), &named("next")).map(drop) } else { Ok(()) }
                }) as Effect)
            }
        });
        for (request, tenant) in [("r-1", "acme"), ("r-2", "globex")] {
            let context = Context::current().with_var(&REQUEST, request.to_string());
            let context = context.with_var(&TENANT, tenant.to_string());
            let id = database.enqueue(named("first")).in_context(context).await.unwrap();
            for payload in ["first", "next"] {
                // The message alone: its context is that of the sender, which is the job.
                let (seen, _) = seen.recv().await.unwrap();
                let job = if payload == "first" { id } else { id + 1 };
                let expected =
                    (payload.to_string(), Some(request.to_string()), Some(tenant.to_string()), Some(job));
                assert_eq!(seen, expected);
            }
        }
        let bare = database.enqueue(named("bare")).await.unwrap();
        assert_eq!(seen.recv().await.unwrap().0, ("bare".to_string(), None, None, Some(bare)));
        stop.cancel("enough");
        assert_eq!(working.await.unwrap().unwrap(), Tally { done: 5, ..Tally::default() });
    }

    #[heirloom::test(timeout = "60s")]
    async fn new_jobs_and_delayed_ones_are_noticed_without_a_poll() {
        let database = memory(PATIENT).await;
        let (tell, ran) = channel::unbounded();
        let (working, stop) = start(&database, PATIENT, move |job| {
            let tell = tell.clone();
            async move {
                tell.send(job.payload).await.unwrap();
                nothing()
            }
        });
        for payload in ["one", "two"] {
            database.enqueue(named(payload)).await.unwrap();
            assert_eq!(ran.recv().await.unwrap().0, payload);
        }
        let delayed = NewJob { delay: Duration::from_millis(30), ..named("later") };
        let begun = Instant::now();
        database.enqueue(delayed).await.unwrap();
        assert_eq!(ran.recv().await.unwrap().0, "later");
        assert!(begun.elapsed() >= Duration::from_millis(29), "a millisecond is lost to rounding");
        stop.cancel("enough");
        assert_eq!(working.await.unwrap().unwrap().done, 3);
    }

    #[heirloom::test(timeout = "60s")]
    async fn a_panic_an_error_and_a_limit_are_failed_attempts() {
        let policy = Policy { limit: Duration::from_millis(20), attempts: 2, ..PATIENT };
        let database = memory(policy).await;
        for payload in ["panic", "error", "slow", "broken effect", "good"] {
            database.enqueue(named(payload)).await.unwrap();
        }
        let (working, stop) = start(&database, policy, |job| async move {
            match job.payload.as_str() {
                "panic" => panic!("as planned"),
                "error" => Err("as planned".into()),
                "slow" => {
                    sleep(HOUR).await;
                    nothing()
                }
                "broken effect" => Ok(Box::new(|tx: &rusqlite::Transaction<'_>| {
                    tx.execute("INSERT INTO notes VALUES (NULL)", []).map(drop)
                }) as Effect),
                _ => nothing(),
            }
        });
        let ended = Counts { ready: 0, running: 0, done: 1, dead: 4 };
        while database.counts().await.unwrap() != ended {
            sleep(Duration::from_millis(1)).await;
        }
        stop.cancel("enough");
        assert_eq!(working.await.unwrap().unwrap(), Tally { done: 1, failed: 8, ..Tally::default() });
        let errors = database.call(|store| {
            let mut select =
                store.connection().prepare("SELECT last_error FROM jobs WHERE state = 'dead' ORDER BY id")?;
            select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        });
        let errors = errors.await.unwrap();
        assert_eq!(errors[..3], ["panicked: as planned", "as planned", "took longer than 20ms"]);
        assert!(errors[3].starts_with("NOT NULL constraint failed"), "{errors:?}");
    }

    #[heirloom::test(timeout = "60s")]
    async fn a_drain_lets_jobs_end_and_gives_back_what_it_cuts() {
        let policy = Policy { drain: Duration::from_secs(1), ..PATIENT };
        let database = memory(policy).await;
        for payload in ["endless", "ends in the drain"] {
            database.enqueue(named(payload)).await.unwrap();
        }
        let (tell, begun) = channel::unbounded();
        let asked = CancelToken::new();
        let seen = asked.clone();
        let (working, stop) = start(&database, policy, move |job| {
            let (tell, asked) = (tell.clone(), asked.clone());
            async move {
                tell.send(()).await.unwrap();
                if job.payload == "endless" {
                    pending::<()>().await;
                }
                asked.cancelled().await;
                nothing()
            }
        });
        for _ in 0..2 {
            begun.recv().await.unwrap();
        }
        stop.cancel("enough");
        // Too late to be claimed.
        database.enqueue(named("late")).await.unwrap();
        seen.cancel("the drain has begun");
        let tally = working.await.unwrap().unwrap();
        assert_eq!(tally, Tally { done: 1, given_back: 1, ..Tally::default() });
        assert_eq!(database.counts().await.unwrap(), Counts { ready: 2, running: 0, done: 1, dead: 0 });
        let attempts = database.number("SELECT sum(attempts) FROM jobs WHERE state = 'ready'");
        assert_eq!(attempts.await.unwrap(), 0, "what is cut has lost no attempt");
    }

    #[heirloom::test(timeout = "60s")]
    async fn no_more_jobs_run_at_once_than_may() {
        static RUNNING: AtomicU32 = AtomicU32::new(0);
        static MOST: AtomicU32 = AtomicU32::new(0);
        let policy = Policy { concurrency: 3, ..PATIENT };
        let database = memory(policy).await;
        for _ in 0..20 {
            database.enqueue(NewJob::default()).await.unwrap();
        }
        let (working, stop) = start(&database, policy, |_job| async {
            MOST.fetch_max(RUNNING.fetch_add(1, Relaxed) + 1, Relaxed);
            sleep(Duration::from_millis(2)).await;
            RUNNING.fetch_sub(1, Relaxed);
            nothing()
        });
        while database.counts().await.unwrap().done < 20 {
            sleep(Duration::from_millis(1)).await;
        }
        stop.cancel("enough");
        assert_eq!(working.await.unwrap().unwrap().done, 20);
        assert_eq!(MOST.load(Relaxed), 3);
    }

    #[heirloom::test(timeout = "60s")]
    async fn a_worker_that_lost_its_lease_has_no_effect() {
        let policy = Policy { lease: Duration::from_millis(1), concurrency: 1, ..PATIENT };
        let database = memory(policy).await;
        database.enqueue(NewJob::default()).await.unwrap();
        let (tell, begun) = channel::unbounded();
        let go_on = CancelToken::new();
        let wait = go_on.clone();
        let (working, stop) = start(&database, policy, move |_job| {
            let (tell, wait) = (tell.clone(), wait.clone());
            async move {
                tell.send(()).await.unwrap();
                wait.cancelled().await;
                Ok(Box::new(|tx: &rusqlite::Transaction<'_>| {
                    tx.execute("INSERT INTO notes VALUES ('late')", []).map(drop)
                }) as Effect)
            }
        });
        begun.recv().await.unwrap();
        // Another worker takes the job over, as soon as the lease is over.
        let taken = loop {
            if let Some(job) = database.claim(1).await.unwrap().jobs.pop() {
                break job;
            }
        };
        stop.cancel("enough");
        go_on.cancel("too late");
        let tally = working.await.unwrap().unwrap();
        assert_eq!(tally, Tally { leases_lost: 1, ..Tally::default() });
        let notes = database.number("SELECT count(*) FROM notes");
        assert_eq!(notes.await.unwrap(), 0);
        assert_eq!(taken.attempt, 2);
    }
}
