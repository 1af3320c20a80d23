//! Looking at a runtime from outside: its numbers, and its tasks.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use heirloom_context::{Context, raw};

use crate::instrument::dump::{Dump, Recorded, TaskDump, VariableText};
use crate::instrument::stats::{Finished, Histogram, States, Stats, Times, Totals, WorkerStats};
use crate::scheduler::blocking::Load;
use crate::scheduler::shared::{Remote, Shared};
use crate::task::cell::{Header, TaskRef};
use crate::task::record::{Record, Seen, now};
use crate::util::counters::{self, Counters, PollTimes};
use crate::util::panic;

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

/// What [`Handle::dump`](crate::Handle::dump) does.
pub(crate) fn dump(shared: &Shared) -> Dump {
    let now = now();
    let mut texts = ContextTexts::default();
    let mut tasks = Vec::new();
    shared.each_listed_heap(|heap| {
        // The references of one heap at a time: each keeps the memory of its task.
        let all = TaskRef::all(heap);
        tasks.reserve(all.len());
        tasks.extend(all.iter().map(|task| task_dump(task.header(), now, &mut texts)));
    });
    Dump::new(tasks)
}

/// One task, as in a dump.
pub(crate) fn task_dump(task: &Header, now: u64, texts: &mut ContextTexts) -> TaskDump {
    let (state, wakers) = task.state.phase_and_wakers();
    TaskDump {
        id: task.about.id(),
        name: task.about.name().map(|name| name.to_string()),
        spawned_at: task.about.spawned_at(),
        state,
        recorded: task.about.record().map(|record| recorded(record, wakers, now, texts)),
        #[cfg(all(feature = "stacks", not(loom)))]
        traced: None,
    }
}

fn recorded(record: &Record, wakers: usize, now: u64, texts: &mut ContextTexts) -> Recorded {
    let Seen { polls, wake_ups, busy, waited, since, leaves, leaf_count, context } = record.look();
    Recorded {
        parent: record.parent,
        group: record.group,
        blocking: record.blocking,
        background: record.background,
        age: Duration::from_nanos(now.saturating_sub(record.spawned)),
        polls,
        busy: Duration::from_nanos(busy),
        waited: Duration::from_nanos(waited),
        wake_ups,
        wakers,
        in_state: Duration::from_nanos(now.saturating_sub(since)),
        waits_for: leaves,
        leaves: leaf_count,
        context: texts.of(context),
    }
}

/// The texts of the last context: tasks that were spawned one after the other often share one.
#[derive(Default)]
pub(crate) struct ContextTexts(Option<(Context, Arc<[VariableText]>)>);

impl ContextTexts {
    fn of(&mut self, context: Option<Context>) -> Arc<[VariableText]> {
        let Some(context) = context else { return Arc::default() };
        let last = self.0.as_ref().filter(|(last, _)| raw::version_of(last) == raw::version_of(&context));
        if let Some((_, texts)) = last {
            return Arc::clone(texts);
        }
        // A text that binds a variable does not change the caller's context.
        let text = |entry: heirloom_context::ContextEntry<'_>| {
            let text =
                panic::catch(|| Context::empty().run(|| entry.debug_text())).unwrap_or_else(|payload| {
                    panic::discard(payload);
                    Some("(its text panics)".to_owned())
                });
            VariableText::new(entry.name(), text)
        };
        let texts: Arc<[_]> = context.iter().map(text).collect();
        let former = self.0.replace((context, Arc::clone(&texts)));
        // It may be the last owner of values of a task that has ended.
        panic::swallow(|| drop(former));
        texts
    }
}

impl Drop for ContextTexts {
    fn drop(&mut self) {
        let last = self.0.take();
        panic::swallow(|| drop(last));
    }
}
