//! The submitter: jobs of many requests, and the report of how they ended.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use futures::StreamExt;
use heirloom::group::{GroupError, GroupScope};
use heirloom::time::{Elapsed, now};
use heirloom::{TaskGroup, sleep, wait_for, wait_until};

use crate::context;
use crate::job::{Job, Kind};
use crate::queue::{Failure, Queue, Result};
use crate::report::Report;

/// Requests at the same time.
const REQUESTS: usize = 256;
/// A run of which nothing is heard for so long has lost a job.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before what has failed is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Submits jobs of all kinds, or plain ones alone.
pub(crate) async fn submit(queue: &Queue, run: &str, jobs: u64, kind: fn(u64) -> Kind) -> Result<()> {
    let requests = TaskGroup::scope(async |group: GroupScope<Failure>| {
        for number in 0..jobs {
            while group.len() >= REQUESTS {
                group.next().await;
            }
            let (queue, job) = (queue.clone(), Job::new(run, number, kind(number)));
            let until = now() + job.kind.limit();
            context::as_request(&job.clone(), || {
                group.spawn(async move {
                    serve(&job, until, |headers| queue.submit(&job, headers)).await;
                    Ok(())
                });
            });
        }
        Ok(())
    });
    Ok(requests.await.map_err(GroupError::into_error)?)
}

/// What a server does for a request: its time limit is the job's deadline. The answer of the broker
/// is waited for all the same, since a request that has been given up may have submitted the job.
///
/// A broker that restarts has lost the answer, the job, or neither. So the job is submitted until
/// there is an answer, with the time that is left then: none, when the deadline has passed. The id
/// says that it is the same job.
async fn serve<F>(job: &Job, until: Instant, submit: impl Fn(HeaderMap) -> F)
where
    F: Future<Output = Result<()>>,
{
    loop {
        let headers = wait_until(async { context::headers() }, until).await.expect("it does not wait");
        let Err(error) = submit(headers).await else { return };
        eprintln!("submitter: job {} once more: {error}", job.id());
        sleep(PAUSE).await;
    }
}

/// Reads how the jobs of a run have ended, until all have or nothing has been heard for long.
pub(crate) async fn report(queue: &Queue, run: &str, jobs: u64) -> Report {
    let mut report = Report::new(jobs);
    loop {
        let before = report.last();
        match read(queue, run, &mut report).await {
            Ok(()) => return report,
            // The broker restarts, or has been away for long.
            Err(error) if report.last() == before && error.is::<Elapsed>() => return report,
            Err(error) => eprintln!("submitter: {error}"),
        }
        sleep(PAUSE).await;
    }
}

/// Reads on, and says each tenth of the way.
async fn read(queue: &Queue, run: &str, report: &mut Report) -> Result<()> {
    let mut endings = pin!(wait_for(queue.ended(run, report.last()), PATIENCE).await??);
    while !report.is_complete() {
        let before = report.tenths();
        let stored = wait_for(endings.next(), PATIENCE).await?;
        report.add(stored.ok_or("the broker says no more")??);
        if report.tenths() > before {
            println!("{} have ended", report.len());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[heirloom::test(virtual_time)]
    async fn a_job_that_is_submitted_again_has_no_later_deadline() {
        let job = Job::new("1-1", 0, Kind::Plain);
        let until = now() + Duration::from_secs(90);
        let sent = Mutex::new(Vec::new());
        let submit = |headers: HeaderMap| {
            let left = context::read(&headers).remaining().unwrap().unwrap();
            let late = (now() + left).saturating_duration_since(until);
            let attempts = {
                let mut sent = sent.lock().unwrap();
                sent.push((left.as_secs(), late));
                sent.len()
            };
            async move {
                // The broker is away for a minute.
                sleep(Duration::from_secs(60)).await;
                if attempts < 3 { Err("no answer".into()) } else { Ok(()) }
            }
        };
        serve(&job, until, submit).await;
        let sent = sent.into_inner().unwrap();
        let [(90, first), (29, second), (0, third)] = sent[..] else { panic!("{sent:?}") };
        assert!(first.max(second) <= Duration::from_millis(1), "{sent:?}");
        // A deadline that has passed is no time at all.
        assert!(third >= Duration::from_secs(30), "{sent:?}");
    }
}
