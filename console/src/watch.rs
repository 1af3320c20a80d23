//! What has changed since the last look at a runtime, in the messages of the protocol.
//!
//! A task is sent as new when it is first seen, and again when its context has changed: the fields
//! of a task never change in the protocol, and the tool replaces a task that it is sent again. A
//! task that is in no dump any more has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use console_api::async_ops::AsyncOpUpdate;
use console_api::field::{Name, Value};
use console_api::instrument::Update;
use console_api::metadata::{Kind, Level};
use console_api::register_metadata::NewMetadata;
use console_api::resources::ResourceUpdate;
use console_api::tasks::{Stats, Task, TaskUpdate, task};
use console_api::{Field, Id, MetaId, Metadata, PollStats, RegisterMetadata};
use heirloom::Handle;
use heirloom::runtime::{Recorded, TaskDump, VariableText};
use heirloom::task::TaskState;

/// All tasks are of one kind of span, in the words of the tool.
const METADATA: MetaId = MetaId { id: 1 };

/// The looks of one tool.
pub(crate) struct Watch {
    observed: Handle,
    /// How many looks there were.
    look: u64,
    seen: HashMap<u64, Seen>,
}

/// A task as it was sent last.
struct Seen {
    /// The last look that has found it.
    look: u64,
    context: Arc<[VariableText]>,
    stats: Stats,
}

impl Watch {
    pub(crate) fn new(observed: Handle) -> Watch {
        Watch { observed, look: 0, seen: HashMap::new() }
    }

    /// What is to be sent now; no message is too large for the tool.
    pub(crate) fn look(&mut self) -> Vec<Update> {
        let now = SystemTime::now();
        let dump = self.observed.dump();
        let mut batches = Batches::default();
        self.look += 1;
        for task in &dump {
            let Some(recorded) = task.recorded.as_ref().filter(|_| task.state != TaskState::Done) else {
                continue;
            };
            let id = task.id.number();
            let stats = stats(task.state, recorded, now);
            let seen = self.seen.get(&id);
            if seen.is_none_or(|seen| seen.context != recorded.context) {
                batches.add(id, stats, Some(message(task, recorded)));
            } else if seen.is_none_or(|seen| has_changed(&seen.stats, &stats)) {
                batches.add(id, stats, None);
            }
            let seen = Seen { look: self.look, context: Arc::clone(&recorded.context), stats };
            self.seen.insert(id, seen);
        }
        self.seen.retain(|id, seen| {
            if seen.look != self.look {
                batches.add(*id, ended(seen.stats, now), None);
            }
            seen.look == self.look
        });
        let update = |(at, tasks)| Update {
            now: Some(now.into()),
            new_metadata: (self.look == 1 && at == 0).then(metadata),
            task_update: Some(tasks),
            resource_update: Some(ResourceUpdate::default()),
            async_op_update: Some(AsyncOpUpdate::default()),
        };
        batches.full.into_iter().chain([batches.open]).enumerate().map(update).collect()
    }
}

/// Updates of less than [`Batches::LARGEST`] bytes each, or little more. A task and its numbers
/// stand in the same one, or the tool would ignore the task.
#[derive(Default)]
struct Batches {
    full: Vec<TaskUpdate>,
    open: TaskUpdate,
    /// About how many bytes the open one has.
    size: usize,
}

impl Batches {
    /// The tool takes no message of four megabytes.
    const LARGEST: usize = 1 << 20;

    fn add(&mut self, id: u64, stats: Stats, task: Option<Task>) {
        // The numbers have a hundred bytes, and a field has some besides its texts.
        let text = |field: &Field| match &field.value {
            Some(Value::DebugVal(text) | Value::StrVal(text)) => 64 + text.len(),
            _ => 64,
        };
        self.size += 256 + task.iter().flat_map(|task| &task.fields).map(text).sum::<usize>();
        self.open.stats_update.insert(id, stats);
        self.open.new_tasks.extend(task);
        if self.size > Batches::LARGEST {
            self.full.push(std::mem::take(&mut self.open));
            self.size = 0;
        }
    }
}

fn metadata() -> RegisterMetadata {
    let metadata = Metadata {
        name: "task".to_owned(),
        target: "heirloom".to_owned(),
        kind: Kind::Span.into(),
        level: Level::Info.into(),
        ..Metadata::default()
    };
    RegisterMetadata { metadata: vec![NewMetadata { id: Some(METADATA), metadata: Some(metadata) }] }
}

fn message(task: &TaskDump, recorded: &Recorded) -> Task {
    let id = task.id.number();
    let kind = if recorded.blocking { task::Kind::Blocking } else { task::Kind::Spawn };
    // The first ones have columns of their own in the tool.
    let mut fields = vec![
        field("task.id", Value::U64Val(id)),
        field("kind", Value::StrVal(if recorded.blocking { "blocking" } else { "task" }.to_owned())),
    ];
    fields.extend(task.name.clone().map(|name| field("task.name", Value::StrVal(name))));
    fields.extend(recorded.parent.map(|parent| field("parent", Value::U64Val(parent.number()))));
    fields.extend(recorded.group.map(|group| field("group", Value::DebugVal(format!("{group:#x}")))));
    if recorded.background {
        fields.push(field("background", Value::BoolVal(true)));
    }
    let variable = |VariableText { name, text, .. }: &VariableText| {
        field(name, Value::DebugVal(text.clone().unwrap_or_else(|| "(no text)".to_owned())))
    };
    fields.extend(recorded.context.iter().map(variable));
    Task {
        id: Some(Id { id }),
        metadata: Some(METADATA),
        kind: kind.into(),
        fields,
        parents: Vec::new(),
        location: Some(task.spawned_at.into()),
    }
}

fn field(name: &str, value: Value) -> Field {
    Field { metadata_id: Some(METADATA), name: Some(Name::StrName(name.to_owned())), value: Some(value) }
}

/// The tool concludes a task's state from the order of three times: it is running if its last poll
/// has begun after the end of the one before, and waits for a worker if its last wake-up came after
/// the begin of its last poll.
fn stats(state: TaskState, recorded: &Recorded, now: SystemTime) -> Stats {
    let ago = |time: Duration| now.checked_sub(time).map(Into::into);
    let since = ago(recorded.in_state);
    let (last_wake, last_poll_started, last_poll_ended) = match state {
        TaskState::Running => (None, since, None),
        TaskState::Scheduled => (since, None, None),
        _ => (None, since, since),
    };
    let poll_stats = PollStats {
        polls: recorded.polls,
        first_poll: None,
        last_poll_started,
        last_poll_ended,
        busy_time: recorded.busy.try_into().ok(),
    };
    Stats {
        created_at: ago(recorded.age),
        dropped_at: None,
        wakes: recorded.wake_ups,
        waker_clones: recorded.wakers as u64,
        waker_drops: 0,
        last_wake,
        poll_stats: Some(poll_stats),
        self_wakes: 0,
        scheduled_time: recorded.waited.try_into().ok(),
    }
}

/// A task has ended since the last look; when, is not known better.
fn ended(last: Stats, now: SystemTime) -> Stats {
    let poll_stats = last.poll_stats.map(|polls| PollStats {
        last_poll_ended: polls.last_poll_ended.or(polls.last_poll_started),
        ..polls
    });
    Stats { dropped_at: Some(now.into()), poll_stats, waker_clones: 0, last_wake: None, ..last }
}

/// Whether the tool would show anything else. The instants are computed from durations, and differ
/// by some nanoseconds each time.
fn has_changed(last: &Stats, stats: &Stats) -> bool {
    let polls = |stats: &Stats| {
        let polls = stats.poll_stats.as_ref();
        polls.map(|it| (it.polls, it.busy_time, it.last_poll_started.is_some(), it.last_poll_ended.is_some()))
    };
    (last.wakes, last.waker_clones, polls(last)) != (stats.wakes, stats.waker_clones, polls(stats))
}
