//! The application: what a job does, and the context it does it in. No function takes a tenant, a
//! request or a deadline.

use std::fmt::Debug;
use std::time::Duration;

use heirloom::wire::TRACE;
use heirloom::{remaining, sleep, spawn};

use crate::context::{REQUEST, TENANT, TOKEN, USER};
use crate::job::{Job, Kind, milliseconds};
use crate::queue::Result;

/// What may lie between two looks at two clocks, of which one may have been set meanwhile; in
/// milliseconds.
const TOLERANCE: i128 = 1_000;

/// Compares what is left for a delivered job. While it runs, the limit of an attempt hides that.
pub(crate) fn check(left: Option<Duration>, job: &Job) -> Vec<String> {
    match left.map(|left| lateness(left, job)) {
        None => vec!["in the queue: there is no deadline".to_owned()],
        Some(late) if late.abs() > TOLERANCE => vec![format!("in the queue: the deadline is {late} ms late")],
        Some(_) => Vec::new(),
    }
}

/// Runs a job, in the context and within the deadline of the request that has submitted it. Adds
/// what is wrong with them to a list, which is there also when the job fails, panics or is cut.
pub(crate) async fn run(job: Job, attempt: i64, wrong: &mut Vec<String>) -> Result<()> {
    wrong.extend(look("at the beginning", &job));
    sleep(job.kind.takes()).await;
    wrong.extend(look("later", &job));
    match job.kind {
        Kind::Flaky if attempt == 1 => return Err("the first attempt fails".into()),
        Kind::Panicking if attempt == 1 => panic!("the first attempt panics"),
        Kind::Hopeless => return Err("it cannot be done".into()),
        _ => {}
    }
    let child = spawn(async move { look("in a task of its own", &job) });
    wrong.extend(child.await?);
    Ok(())
}

/// Compares what is seen here with what the job's body says: a sentence for each difference.
fn look(place: &str, job: &Job) -> Vec<String> {
    let mut wrong = Vec::new();
    compare(&mut wrong, place, "tenant", TENANT.get().as_ref(), Some(&job.tenant));
    compare(&mut wrong, place, "request", REQUEST.get().as_ref(), Some(&job.request));
    compare(&mut wrong, place, "user", USER.get(), Some(job.user));
    compare(&mut wrong, place, "trace", TRACE.get().map(|trace| trace.trace_id()), Some(job.trace.into()));
    compare(&mut wrong, place, "token", TOKEN.is_set(), false);
    // A job that runs after its deadline is seen too: at best no time is left.
    match remaining().map(|left| lateness(left, job)) {
        None => wrong.push(format!("{place}: there is no deadline")),
        Some(late) if late > TOLERANCE => wrong.push(format!("{place}: the deadline is {late} ms late")),
        Some(_) => {}
    }
    wrong
}

/// By how much a deadline after so much time is later than the one that the body says.
fn lateness(left: Duration, job: &Job) -> i128 {
    i128::from(milliseconds()) + left.as_millis() as i128 - i128::from(job.until)
}

fn compare<T: PartialEq + Debug>(wrong: &mut Vec<String>, place: &str, name: &str, seen: T, right: T) {
    if seen != right {
        wrong.push(format!("{place}: {name} is {seen:?}, not {right:?}"));
    }
}

#[cfg(test)]
mod tests;
