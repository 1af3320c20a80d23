//! Worker processes on this machine, which are started again when they end.

use std::process::Stdio;

use heirloom::context::future::{Either, select};
use heirloom::{CancelToken, sleep};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::policy::RESTART;
use crate::queue::Result;

/// Has a worker process of this number, until it is asked to stop.
pub(crate) async fn keep(number: usize, program: &str, stop: CancelToken) -> Result<()> {
    loop {
        let mut worker = start(program)?;
        println!("worker {number}: process {}", worker.id().unwrap_or_default());
        match select(worker.wait(), stop.cancelled()).await {
            Either::Left(status) => println!("worker {number} has ended: {}", status?),
            Either::Right(_reason) => return end(worker).await,
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

/// Lets a worker end what it has begun.
async fn end(mut worker: Child) -> Result<()> {
    if let Some(pid) = worker.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        kill_process(pid, Signal::TERM)?;
    }
    worker.wait().await?;
    Ok(())
}
