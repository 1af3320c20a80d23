//! Looking at a runtime from outside: its numbers.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::instrument::stats::{Finished, Histogram, States, Stats, Times, Totals, WorkerStats};
use crate::scheduler::blocking::Load;
use crate::scheduler::shared::{Remote, Shared};
use crate::task::cell::TaskRef;
use crate::util::counters::{self, Counters, PollTimes};

/// What [`Handle::stats`](crate::Handle::stats) does.
pub(crate) fn stats(shared: &Shared) -> Stats {
    let Load { threads, queued, taken, held_up } = shared.blocking.load();
    // The ended tasks first: a task whose end is seen is seen as spawned.
    let [returned, panicked, cancelled] = shared.ended();
    let finished = Finished { returned, panicked, cancelled };
    let sum = |counter: fn(&Counters) -> &_| counters::sum(shared.counters(), counter);
    let totals = Totals {
        spawned: sum(|counters| &counters.spawned),
        finished,
        polls: sum(|counters| &counters.polls),
        steals: sum(|counters| &counters.steals),
        parks: sum(|counters| &counters.parks),
        wake_ups: sum(|counters| &counters.wake_ups),
        budget_yields: sum(|counters| &counters.budget_yields),
        timers_fired: sum(|counters| &counters.timers_fired),
        io_events: sum(|counters| &counters.io_wake_ups),
        blocking_taken: taken,
        blocking_held_up: held_up,
    };
    let mut states = States::default();
    shared.heaps.iter().for_each(|heap| TaskRef::each_state(heap, |state| states.count(state)));
    Stats {
        totals,
        tasks: totals.spawned.saturating_sub(finished.all()) as usize,
        states,
        timers: shared.timers.len(),
        injected: shared.injector.len(),
        blocking_threads: threads,
        max_blocking_threads: shared.blocking.cap(),
        blocking_queued: queued,
        workers: shared.remotes.iter().map(worker).collect(),
        times: times(shared),
    }
}

fn worker(remote: &Remote) -> WorkerStats {
    let counters = &remote.counters;
    let busy = |times: &PollTimes| Duration::from_nanos(times.poll.sum());
    WorkerStats {
        polls: counters.polls.load(Relaxed),
        steals: counters.steals.load(Relaxed),
        parks: counters.parks.load(Relaxed),
        queued: remote.stealer.len(),
        busy: counters.times.as_deref().map(busy),
    }
}

fn times(shared: &Shared) -> Option<Times> {
    let waits = shared.blocking.waits()?;
    let polls = || shared.counters().filter_map(|counters| counters.times.as_deref());
    Some(Times {
        schedule_latency: Histogram::of(polls().map(|times| &times.latency)),
        poll: Histogram::of(polls().map(|times| &times.poll)),
        blocking_wait: Histogram::of([waits]),
    })
}
