//! The end of a program that runs under the attribute `main`.
#![forbid(unsafe_code)]

use std::future::Future;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::runtime::{Handle, Runtime, ShutdownReport, started_default};
use crate::task::TaskMeta;
use crate::util::report::complain;
use crate::util::threads::Threads;

/// How long the end of a program waits for polls and destructors that are in progress. A thread
/// cannot be ended from outside; a program can.
const LONGEST_POLL: Duration = Duration::from_secs(5);

/// What `#[heirloom::main]` expands to: `block_on`, then the end of the runtime and, with
/// `ends_default`, of the default one, also if the future panics. Without a `runtime`, the default
/// one is used. Not for other callers.
#[doc(hidden)]
#[track_caller]
pub fn block_on_main<F: Future>(
    runtime: Option<Runtime>,
    ends_default: bool,
    shutdown: Option<Duration>,
    future: F,
) -> F::Output {
    let end = MainEnd { runtime, ends_default, shutdown };
    match &end.runtime {
        Some(runtime) => runtime.block_on(future),
        None => crate::block_on(future),
    }
}

/// Shuts the runtimes down when it is dropped.
struct MainEnd {
    runtime: Option<Runtime>,
    /// Threads of no runtime may have started the default one, also where `main` has its own.
    ends_default: bool,
    /// How long tasks may run on, if the program says so.
    shutdown: Option<Duration>,
}

impl Drop for MainEnd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take()
            && !end_within(runtime.handle(), self.shutdown)
        {
            // Its drop would wait for the poll that is given up.
            mem::forget(runtime);
        }
        if let Some(default) = started_default().filter(|_| self.ends_default) {
            end_within(default, self.shutdown);
        }
    }
}

/// Ends the runtime, and says what it has not ended by itself. False if a poll takes too long: then
/// the program ends in the middle of it.
fn end_within(runtime: &Handle, shutdown: Option<Duration>) -> bool {
    let limit = shutdown.unwrap_or_default();
    let end = Arc::new((Mutex::new(None), Condvar::new()));
    // On a thread of its own, since the shutdown waits for each poll that is in progress.
    let (ending, ended) = (runtime.clone(), end.clone());
    let body = move || {
        let report = ending.shutdown(limit);
        *ended.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        ended.1.notify_one();
    };
    let threads =
        Threads { name: "heirloom".to_owned(), stack_size: None, on_start: None, on_stop: None, guest: None };
    let report = match threads.start("shutdown", body) {
        Ok(_) => {
            let report = end.0.lock().unwrap_or_else(PoisonError::into_inner);
            let limit = limit.saturating_add(LONGEST_POLL);
            let reported = end.1.wait_timeout_while(report, limit, |report| report.is_none());
            reported.unwrap_or_else(PoisonError::into_inner).0.take()
        }
        // Better late than without destructors.
        Err(_) => Some(runtime.shutdown(limit)),
    };
    match &report {
        Some(report) => say(report, shutdown.is_some()),
        None => {
            let tasks: Vec<_> = runtime.shared().tasks().into_iter().map(TaskMeta::new).collect();
            say(&ShutdownReport { cancelled: Vec::new(), still_running: tasks }, true);
        }
    }
    report.is_some()
}

/// Tasks are named that have used up the time they were given, if they were given any, and tasks
/// whose destructors do not run.
fn say(report: &ShutdownReport, had_time: bool) {
    let mut report = report.clone();
    if !had_time {
        report.cancelled.clear();
    }
    if !report.is_clean() {
        complain(format_args!("tasks that had not ended at the end of `main`: {report}"));
    }
}
