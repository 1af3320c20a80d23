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

/// Runs jobs until it is asked to stop, and then lets those that run end.
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
        log("draining", &[("running", &self.running.len())]);
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
    async fn write_down(&mut self, job: &Job, ended: std::result::Result<Result<Effect>, JoinError>) -> Result<()> {
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
