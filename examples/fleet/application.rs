//! The application: what a job does, and the context it does it in. No function takes a tenant, a
//! request or a deadline.

use std::fmt::Debug;
use std::time::Duration;

use heirloom::wire::TRACE;
use heirloom::{remaining, sleep, spawn};

use crate::context::{REQUEST, TENANT, TOKEN, USER};
use crate::job::{Job, Kind, milliseconds};
use crate::queue::Result;

/// What may lie between two looks at two clocks, of which one may have been set meanwhile.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Runs a job, in the context and within the deadline of the request that has submitted it. Returns
/// what was wrong with them.
pub(crate) async fn run(job: Job, attempt: i64) -> Result<Vec<String>> {
    let mut wrong = look("at the beginning", &job);
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
    Ok(wrong)
}

/// Compares what is seen here with what the job's body says: a sentence for each difference.
fn look(place: &str, job: &Job) -> Vec<String> {
    let mut wrong = Vec::new();
    compare(&mut wrong, place, "tenant", TENANT.get().as_ref(), Some(&job.tenant));
    compare(&mut wrong, place, "request", REQUEST.get().as_ref(), Some(&job.request));
    compare(&mut wrong, place, "user", USER.get(), Some(job.user));
    compare(&mut wrong, place, "trace", TRACE.get().map(|trace| trace.trace_id()), Some(job.trace.into()));
    compare(&mut wrong, place, "token", TOKEN.is_set(), false);
    let until = remaining().map(|left| milliseconds() + left.as_millis() as u64);
    match until {
        None => wrong.push(format!("{place}: there is no deadline")),
        Some(until) if until > job.until + TOLERANCE.as_millis() as u64 => {
            wrong.push(format!("{place}: the deadline is {} ms late", until - job.until));
        }
        Some(_) => {}
    }
    wrong
}

fn compare<T: PartialEq + Debug>(wrong: &mut Vec<String>, place: &str, name: &str, seen: T, right: T) {
    if seen != right {
        wrong.push(format!("{place}: {name} is {seen:?}, not {right:?}"));
    }
}

#[cfg(test)]
mod tests;
