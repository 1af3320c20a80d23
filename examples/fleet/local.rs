//! Worker processes on this machine, which are started again when they end.

use std::process::Stdio;
use std::time::Duration;

use heirloom::context::future::{Either, select};
use heirloom::{CancelToken, sleep, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::policy::{END, RESTART};
use crate::queue::Result;

/// Has a worker process of this number, until it is asked to stop.
pub(crate) async fn keep(number: usize, program: &str, stop: CancelToken) -> Result<()> {
    loop {
        let mut worker = start(program)?;
        println!("worker {number}: process {}", worker.id().unwrap_or_default());
        match select(worker.wait(), stop.cancelled()).await {
            Either::Left(status) => println!("worker {number} has ended: {}", status?),
            Either::Right(_reason) => return end(worker, END).await,
        }
        // It may end at once each time: the broker is away.
        if stop.run_until_cancelled(sleep(RESTART)).await.is_none() {
            return Ok(());
        }
    }
}

/// A process of this program; or of another one that is called in the same way.
fn start(program: &str) -> Result<Child> {
    let mut command = Command::new(program);
    Ok(command.arg("work").stdin(Stdio::null()).kill_on_drop(true).spawn()?)
}

/// Lets a worker end what it has begun, and kills it if it takes longer than the limit.
async fn end(mut worker: Child, limit: Duration) -> Result<()> {
    if let Some(pid) = worker.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        kill_process(pid, Signal::TERM)?;
    }
    match wait_for(worker.wait(), limit).await {
        Ok(status) => drop(status?),
        Err(_elapsed) => worker.kill().await?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[heirloom::test(tokio)]
    async fn a_worker_that_does_not_end_is_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]).stdout(Stdio::piped());
        let mut worker = command.kill_on_drop(true).spawn().unwrap();
        worker.stdout.as_mut().unwrap().read_u8().await.unwrap();
        let pid = Pid::from_raw(worker.id().unwrap().cast_signed()).unwrap();
        let ended = wait_for(end(worker, Duration::from_millis(100)), Duration::from_secs(60)).await;
        ended.expect("it was not killed").unwrap();
        assert!(kill_process(pid, Signal::TERM).is_err(), "the process is there");
    }
}
