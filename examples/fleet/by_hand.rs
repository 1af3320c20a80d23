//! The worker as it is written by hand on tokio: the same queue, the same policy, the same
//! protocol, and no context. `.ci/fleet` compares the throughput.

#![allow(dead_code, reason = "the files are shared with the fleet")]

mod job;
mod policy;
mod queue;

use std::env;
use std::pin::pin;
use std::time::Duration;

use job::{Job, Kind, milliseconds};
use policy::{ATTEMPTS, DRAIN, EXTEND, FREE_SLOTS, LIMIT, SLOTS, pause};
use queue::{CUT, Delivery, Ending, Queue, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

#[tokio::main]
async fn main() -> Result<()> {
    let url = env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let queue = Queue::open(&url).await?;
    let mut stop = signal(SignalKind::terminate())?;
    let mut jobs = JoinSet::new();
    tokio::select! {
        pulled = pull(&queue, &mut jobs) => pulled?,
        _ = stop.recv() => {}
    }
    let _ = timeout(DRAIN, async { while jobs.join_next().await.is_some() {} }).await;
    queue.flush().await
}

async fn pull(queue: &Queue, jobs: &mut JoinSet<()>) -> Result<()> {
    loop {
        while jobs.len() > SLOTS - FREE_SLOTS {
            jobs.join_next().await;
        }
        let mut deliveries = queue.pull(SLOTS - jobs.len()).await?;
        while let Some(delivery) = deliveries.next().await {
            match delivery {
                Ok(delivery) => {
                    let queue = queue.clone();
                    jobs.spawn(async move {
                        let id = delivery.job.id();
                        if let Err(error) = attempt(&queue, delivery).await {
                            eprintln!("worker: job {id} will be delivered again: {error}");
                        }
                    });
                }
                Err(error) => eprintln!("worker: {error}"),
            }
        }
    }
}

async fn attempt(queue: &Queue, delivery: Delivery) -> Result<()> {
    // The deadline by hand: from the body, since the headers are for contexts.
    let left = Duration::from_millis(delivery.job.until.saturating_sub(milliseconds()));
    if left.is_zero() {
        return delivery
            .end(queue, Ending::Expired, "the deadline has passed in the queue", &[])
            .await
            .map(drop);
    }
    if delivery.attempt > ATTEMPTS {
        return delivery
            .end(queue, Ending::Dead, "its workers have ended in the middle of it", &[])
            .await
            .map(drop);
    }
    let limit = left.min(LIMIT);
    let (job, attempt) = (delivery.job.clone(), delivery.attempt);
    let mut job = pin!(timeout(limit, run(job, attempt)));
    let ended = loop {
        tokio::select! {
            ended = &mut job => break ended,
            () = sleep(EXTEND) => delivery.extend().await?,
        }
    };
    let reason = match ended {
        Ok(Ok(())) => return delivery.end(queue, Ending::Done, "", &[]).await.map(drop),
        Ok(Err(failed)) => failed.to_string(),
        Err(_elapsed) if limit < LIMIT => {
            return delivery.end(queue, Ending::Expired, CUT, &[]).await.map(drop);
        }
        Err(_elapsed) => format!("it took longer than {limit:?}"),
    };
    if delivery.attempt >= ATTEMPTS {
        return delivery.end(queue, Ending::Dead, &reason, &[]).await.map(drop);
    }
    delivery.retry(pause(delivery.attempt, fastrand::f64())).await
}

async fn run(job: Job, attempt: i64) -> Result<()> {
    sleep(job.kind.takes()).await;
    match job.kind {
        Kind::Flaky | Kind::Panicking if attempt == 1 => return Err("the first attempt fails".into()),
        Kind::Hopeless => return Err("it cannot be done".into()),
        _ => {}
    }
    tokio::spawn(async move { drop(job) }).await?;
    Ok(())
}
