//! The submitter: jobs of many requests, and the report of how they ended.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use heirloom::group::{GroupError, GroupScope};
use heirloom::time::Elapsed;
use heirloom::{TaskGroup, sleep, wait_for};

use crate::context;
use crate::job::{Job, Kind};
use crate::queue::{Failure, Queue, Result};
use crate::report::Report;

/// Requests at the same time.
const REQUESTS: usize = 256;
/// A run of which nothing is heard for so long has lost a job.
const PATIENCE: Duration = Duration::from_secs(60);

/// Submits jobs of all kinds, or plain ones alone.
pub(crate) async fn submit(queue: &Queue, run: &str, jobs: u64, kind: fn(u64) -> Kind) -> Result<()> {
    let requests = TaskGroup::scope(async |group: GroupScope<Failure>| {
        for number in 0..jobs {
            while group.len() >= REQUESTS {
                group.next().await;
            }
            let (queue, job) = (queue.clone(), Job::new(run, number, kind(number)));
            context::as_request(&job.clone(), || {
                group.spawn(async move {
                    serve(&queue, &job).await;
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
async fn serve(queue: &Queue, job: &Job) {
    let headers = wait_for(async { context::headers() }, job.kind.limit()).await;
    let headers = headers.expect("it does not wait");
    // A broker that restarts has lost the answer, the job, or neither. The id says that it is the
    // same job.
    while let Err(error) = queue.submit(job, headers.clone()).await {
        eprintln!("submitter: job {} once more: {error}", job.id());
        sleep(Duration::from_millis(200)).await;
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
        sleep(Duration::from_millis(200)).await;
    }
}

/// Reads on, and says each tenth of the way.
async fn read(queue: &Queue, run: &str, report: &mut Report) -> Result<()> {
    let mut endings = pin!(wait_for(queue.ended(run, report.last()), PATIENCE).await??);
    while !report.is_complete() {
        let before = report.tenths();
        let ended = wait_for(endings.next(), PATIENCE).await?;
        report.add(ended.ok_or("the broker says no more")??);
        if report.tenths() > before {
            println!("{} have ended", report.len());
        }
    }
    Ok(())
}
