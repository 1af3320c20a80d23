//! A thread that reports polls that take too long.
//!
//! It looks at each worker four times within the limit. A poll that it sees twice is as old as the
//! time between the two looks, at least: so what is reported has taken longer than the limit, and
//! is reported within one and a half of the limit.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::instrument::stall::{OnStall, Stall};
use crate::runtime::inspect::{ContextTexts, task_dump};
use crate::scheduler::shared::{Remote, Shared};
use crate::scheduler::watch::PollWatch;
use crate::task::TaskState;
use crate::task::cell::TaskRef;
use crate::task::record::{Record, now};
use crate::util::panic::swallow;
use crate::util::report::complain;

/// Looks within the limit.
const LOOKS: u32 = 4;
/// The shortest time between two looks: the thread must not be a load.
const SHORTEST: Duration = Duration::from_millis(1);

/// Dropped, it ends the thread.
pub(crate) struct Watchdog(Arc<Stop>);

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_one();
    }
}

impl Stop {
    /// Waits that long. Whether the thread is to end.
    fn wait(&self, limit: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(stopped, limit, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A watchdog, and what its thread runs.
pub(crate) fn watch(
    shared: Weak<Shared>,
    limit: Duration,
    on_stall: Option<OnStall>,
) -> (Watchdog, impl FnOnce() + Send) {
    let stop = Arc::new(Stop::default());
    let watchdog = Watchdog(Arc::clone(&stop));
    let run = move || {
        let mut workers = Vec::new();
        while !stop.wait((limit / LOOKS).max(SHORTEST)) {
            let Some(shared) = shared.upgrade() else { return };
            workers.resize_with(shared.remotes.len(), WatchedWorker::default);
            for (index, worker) in workers.iter_mut().enumerate() {
                worker.look(index, &shared.remotes[index], limit, &on_stall);
            }
        }
        // A destructor of the user's.
        swallow(|| drop(on_stall));
    };
    (watchdog, run)
}

/// What the watchdog knows of a worker.
#[derive(Default)]
struct WatchedWorker {
    /// The poll in progress: its number, and when it was seen first.
    poll: Option<(u64, u64)>,
    /// The task whose poll was reported, and when that began.
    reported: Option<(TaskRef, u64)>,
}

impl WatchedWorker {
    fn look(&mut self, index: usize, remote: &Remote, limit: Duration, on_stall: &Option<OnStall>) {
        let Some(watch) = &remote.watch else { return };
        let now = now();
        let number = remote.counters.polls.load(Acquire);
        let goes_on = watch.is_polling() && self.poll.is_some_and(|(before, _)| before == number);
        if !goes_on {
            if let Some((task, began)) = self.reported.take() {
                // The worker has timed the end, unless the report came just before it.
                let ended = watch.take_end().unwrap_or(now);
                report(&task, index, remote, ended.saturating_sub(began), true, on_stall);
            }
            self.poll = watch.is_polling().then_some((number, now));
            return;
        }
        let Some((_, seen)) = self.poll else { return };
        if self.reported.is_some() || u128::from(now - seen) < limit.as_nanos() {
            return;
        }
        self.report_begin(index, remote, watch, (number, seen, now), on_stall);
    }

    fn report_begin(
        &mut self,
        index: usize,
        remote: &Remote,
        watch: &PollWatch,
        (number, seen, now): (u64, u64, u64),
        on_stall: &Option<OnStall>,
    ) {
        // If it is the task of another poll, that one has ended just now.
        let Some(task) = watch.task().filter(|_| remote.counters.polls.load(Acquire) == number) else {
            return;
        };
        watch.await_end();
        // A record says when the poll began, if it goes on.
        let recorded = task.header().about.record().map(Record::since);
        let running = task.header().state.phase() == TaskState::Running;
        let began = recorded.filter(|began| running && *began <= seen).unwrap_or(seen);
        report(&task, index, remote, now.saturating_sub(began), false, on_stall);
        self.reported = Some((task, began));
    }
}

fn report(
    task: &TaskRef,
    worker: usize,
    remote: &Remote,
    took: u64,
    ended: bool,
    on_stall: &Option<OnStall>,
) {
    let task = task_dump(task.header(), now(), &mut ContextTexts::default());
    let took = Duration::from_nanos(took);
    let stall = Stall { task, worker, took, ended, waiting: remote.stealer.len() };
    match on_stall {
        Some(on_stall) => swallow(|| on_stall(&stall)),
        None => complain(format_args!("{stall}")),
    }
}
