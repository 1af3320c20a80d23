//! The worker: pulls jobs, runs each in a task of its own, and tells the broker how it ended.

use std::convert::Infallible;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use heirloom::context::future::{Either, select};
use heirloom::group::{GroupError, GroupScope};
use heirloom::wire::InvalidTimeout;
use heirloom::{CancelToken, Context, TaskGroup, sleep, wait_for};

use crate::policy::{ATTEMPTS, DRAIN, EXTEND, FAILED_PULL, FREE_SLOTS, LIMIT, SLOTS, pause};
use crate::queue::{CUT, Delivery, Ending, Failure, Queue, Result, one_line};
use crate::{application, context};

/// The tasks of the jobs that run.
type Group = GroupScope<Failure>;

/// What this worker has done, for its last line.
static DONE: AtomicU64 = AtomicU64::new(0);
static OTHERS: AtomicU64 = AtomicU64::new(0);

/// Runs jobs until it is asked to stop, and then lets those that run end.
///
/// # Errors
/// The broker has refused a request for jobs. One that is away for a while is waited for.
pub(crate) async fn work(queue: Queue, stop: CancelToken) -> Result<()> {
    // A panic is one line of the log, which says the request.
    panic::set_hook(Box::new(|panic| log(panic)));
    let working = TaskGroup::scope(async |group: Group| {
        while !stop.is_cancelled() {
            let fill = async {
                while group.len() > SLOTS - FREE_SLOTS {
                    group.next().await;
                }
                pull(&queue, &group).await
            };
            let Some(filled) = stop.run_until_cancelled(fill).await else { break };
            filled?;
        }
        // What is left after that, or is not acknowledged, is delivered again.
        let _ = wait_for(async { while group.next().await.is_some() {} }, DRAIN).await;
        group.abort_all();
        Ok(())
    });
    working.await.map_err(GroupError::into_error)?;
    let _ = wait_for(queue.flush(), DRAIN).await;
    println!("worker {}: {} done, {} others", std::process::id(), DONE.load(Relaxed), OTHERS.load(Relaxed));
    Ok(())
}

/// Starts as many jobs as there are free slots, if there are as many.
async fn pull(queue: &Queue, group: &Group) -> Result<()> {
    let mut deliveries = queue.pull(SLOTS - group.len()).await?;
    while let Some(delivery) = deliveries.next().await {
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(error) => {
                // What is no job, or the end of the request: the broker restarts.
                log(&error);
                sleep(FAILED_PULL).await;
                continue;
            }
        };
        let received = context::read(delivery.headers());
        let (queue, left) = (queue.clone(), received.remaining());
        // The task inherits what the request that has submitted the job has bound, and no more.
        received.bind(&Context::empty()).run(|| {
            group.spawn(async move {
                let id = delivery.job.id();
                if let Err(error) = attempt(&queue, delivery, left).await {
                    log(&format_args!("job {id} will be delivered again: {error}"));
                }
                Ok(())
            });
        });
    }
    Ok(())
}

/// Runs a job, and tells the broker how it has ended.
async fn attempt(
    queue: &Queue,
    delivery: Delivery,
    sent_with: std::result::Result<Option<Duration>, InvalidTimeout>,
) -> Result<()> {
    let left = match context::remaining(sent_with, &delivery) {
        Ok(left) => left,
        // Not a job without a deadline.
        Err(invalid) => return end(queue, delivery, Ending::Dead, &invalid.to_string(), &[]).await,
    };
    if left.is_some_and(|left| left.is_zero()) {
        return end(queue, delivery, Ending::Expired, "the deadline has passed in the queue", &[]).await;
    }
    if delivery.attempt > ATTEMPTS {
        return end(queue, delivery, Ending::Dead, "its workers have ended in the middle of it", &[]).await;
    }
    let limit = left.map_or(LIMIT, |left| left.min(LIMIT));
    // What has been found is told however the job ends.
    let mut wrong = application::check(left, &delivery.job);
    let job = application::run(delivery.job.clone(), delivery.attempt, &mut wrong);
    let job = AssertUnwindSafe(wait_for(job, limit)).catch_unwind();
    let ended = match select(pin!(job), pin!(extend(&delivery))).await {
        Either::Left(ended) => ended,
        Either::Right(never) => match never? {},
    };
    let reason = match ended {
        Ok(Ok(Ok(()))) => return end(queue, delivery, Ending::Done, "", &wrong).await,
        Ok(Ok(Err(failed))) => failed.to_string(),
        Ok(Err(_elapsed)) if limit < LIMIT => {
            return end(queue, delivery, Ending::Expired, CUT, &wrong).await;
        }
        Ok(Err(_elapsed)) => format!("it took longer than {limit:?}"),
        Err(panic) => format!("it has panicked: {}", message_of(&*panic)),
    };
    // A job in the context of another is not tried again.
    if delivery.attempt >= ATTEMPTS || !wrong.is_empty() {
        return end(queue, delivery, Ending::Dead, &reason, &wrong).await;
    }
    OTHERS.fetch_add(1, Relaxed);
    delivery.retry(pause(delivery.attempt, fastrand::f64())).await
}

async fn end(
    queue: &Queue,
    delivery: Delivery,
    ending: Ending,
    reason: &str,
    wrong: &[String],
) -> Result<()> {
    let id = delivery.job.id();
    let is_first = delivery.end(queue, ending, reason, wrong).await?;
    let counter = if is_first && ending == Ending::Done { &DONE } else { &OTHERS };
    counter.fetch_add(1, Relaxed);
    match ending {
        Ending::Done if !is_first => log(&format_args!("job {id} has run to its end once more")),
        Ending::Dead => log(&format_args!("job {id} is given up: {reason}")),
        _ => {}
    }
    Ok(())
}

/// Extends the lease of a job as long as the future is polled.
async fn extend(delivery: &Delivery) -> Result<Infallible> {
    loop {
        sleep(EXTEND).await;
        delivery.extend().await?;
    }
}

/// A line of the log.
fn log(event: &dyn fmt::Display) {
    eprintln!("{}", line(event));
}

/// The context says which request it is of. Its peer has chosen that text, and the job the other
/// one: neither can begin a line of its own.
fn line(event: &dyn fmt::Display) -> String {
    let of = context::REQUEST.get().map(|request| format!(" of request {}", request.escape_debug()));
    format!("worker {}{}: {}", std::process::id(), of.unwrap_or_default(), one_line(&event.to_string()))
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_a_reason_cannot_forge_a_line_of_the_log() {
        let context = Context::empty().with_var(&context::REQUEST, "r-1\r\nworker 2\u{2028}: b\0".to_owned());
        let line = context.run(|| line(&"it has failed\nworker 2: c"));
        assert!(
            line.ends_with(r" of request r-1\r\nworker 2\u{2028}: b\0: it has failed worker 2: c"),
            "{line}"
        );
    }
}
