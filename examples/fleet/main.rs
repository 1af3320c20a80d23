//! Jobs on a broker: NATS JetStream keeps them, and any number of worker processes run them, each
//! in the context and within the deadline of the request that has submitted it.
//!
//! ```text
//! nats-server -js &                 the broker; Debian has it: apt install nats-server
//! cargo run --release               1,000 jobs, three worker processes; prints how they ended
//! cargo run --release -- --workers 8 --jobs 100000
//! ```
//!
//! On several machines:
//!
//! ```text
//! NATS_URL=nats://broker:4222 fleet work                   on each machine that is to work
//! NATS_URL=nats://broker:4222 fleet submit --jobs 100000   on one
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `context` | what a job carries: from the current context to the headers, and back |
//! | `submit` | requests that submit jobs; how their jobs ended |
//! | `worker` | pulls jobs, runs them within limits, extends, retries, gives up |
//! | `queue` | the broker: streams, leases, ids, and why nothing is lost |
//! | `policy` | the numbers |
//! | `application`, `job` | the application: what a job does; its body |
//! | `report` | what came of the jobs, compared with what was submitted |
//! | `local` | worker processes on this machine |
//! | `by_hand` | the same worker on tokio, for a comparison of the throughput |

mod application;
mod context;
mod job;
mod local;
mod policy;
mod queue;
mod report;
mod submit;
mod worker;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use heirloom::context::future::select;
use heirloom::group::{GroupError, GroupScope};
use heirloom::tokio::TokioGuest;
use heirloom::{CancelToken, Runtime, TaskGroup, signal, sleep, spawn};

use job::{Kind, milliseconds};
use queue::{Failure, Queue, Result};
use report::Report;

const USAGE: &str = "usage: fleet [work | submit] [--workers N] [--jobs N] [--measure] [--program PATH]";

/// What the program is called with.
struct Arguments {
    command: String,
    workers: usize,
    jobs: u64,
    /// Jobs that succeed at once, all submitted before the workers start: to measure the
    /// throughput.
    measure: bool,
    /// Of the worker processes, where that is another program than this.
    program: String,
}

impl Arguments {
    fn parse() -> Result<Arguments> {
        let program = env::current_exe()?.to_string_lossy().into_owned();
        let mut parsed =
            Arguments { command: String::new(), workers: 3, jobs: 1_000, measure: false, program };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(USAGE);
            match argument.as_str() {
                "work" | "submit" if parsed.command.is_empty() => parsed.command = argument,
                "--workers" => parsed.workers = value()?.parse()?,
                "--jobs" => parsed.jobs = value()?.parse()?,
                "--program" => parsed.program = value()?,
                "--measure" => parsed.measure = true,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(parsed)
    }

    fn kind(&self) -> fn(u64) -> Kind {
        if self.measure { |_| Kind::Plain } else { Kind::of }
    }
}

/// The name of what is submitted now.
fn new_run() -> String {
    format!("{:x}-{}", milliseconds(), std::process::id())
}

/// Submits the jobs, and waits until all have ended.
async fn submit(queue: &Queue, arguments: &Arguments) -> Result<Report> {
    let (run, jobs) = (new_run(), arguments.jobs);
    let submitting = submit::submit(queue, &run, jobs, arguments.kind());
    let (submitted, report) = futures::join!(submitting, submit::report(queue, &run, jobs));
    submitted?;
    Ok(report)
}

/// The whole fleet on this machine.
async fn all(queue: &Queue, arguments: &Arguments) -> Result<Report> {
    let stop = CancelToken::new();
    let run = new_run();
    if arguments.measure {
        submit::submit(queue, &run, arguments.jobs, arguments.kind()).await?;
    }
    let fleet = TaskGroup::scope(async |group: GroupScope<Failure>| {
        for number in 1..=arguments.workers {
            let (program, stop) = (arguments.program.clone(), stop.clone());
            group.spawn(async move { local::keep(number, &program, stop).await });
        }
        let report = if arguments.measure {
            while queue.len().await? > 0 {
                sleep(Duration::from_millis(100)).await;
            }
            Ok(submit::report(queue, &run, arguments.jobs).await)
        } else {
            submit(queue, arguments).await
        };
        stop.cancel("all jobs have ended");
        while group.next().await.is_some() {}
        report
    });
    Ok(fleet.await.map_err(GroupError::into_error)?)
}

/// Works until a signal says to stop.
async fn work(queue: Queue) -> Result<()> {
    let stop = CancelToken::new();
    let (signals, asked) = (select(signal::ctrl_c(), signal::terminate()), stop.clone());
    spawn(async move {
        let heard = signals.await.into_inner();
        asked.cancel(heard.map_or_else(|error| error.to_string(), |()| "a signal".to_owned()));
    })
    .detach();
    worker::work(queue, stop).await
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let url = env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let queue = match Queue::open(&url).await {
        Ok(queue) => queue,
        Err(error) => {
            eprintln!(
                "fleet: no NATS server with JetStream answers at {url} ({error}): start one by `nats-server -js` \
                 (Debian: `apt install nats-server`), or say where one is in NATS_URL"
            );
            return Ok(ExitCode::from(2));
        }
    };
    let report = match arguments.command.as_str() {
        "work" => return work(queue).await.map(|()| ExitCode::SUCCESS),
        "submit" => submit(&queue, &arguments).await?,
        _ => all(&queue, &arguments).await?,
    };
    for violation in report.violations().iter().take(20) {
        println!("{violation}");
    }
    println!("{report}");
    Ok(if report.violations().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse()?;
    // The libraries below async-nats need tokio's reactor.
    let runtime = Runtime::builder().tokio(TokioGuest::new()).build()?;
    let code = runtime.block_on(runtime.spawn(run(arguments)))?;
    runtime.shutdown(Duration::from_secs(1));
    code
}
