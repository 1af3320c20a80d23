//! What the page gets each second: a runtime's numbers and the tree of its tasks, small however
//! many tasks there are.
//!
//! All of it comes from [`Handle::stats`] and [`Handle::dump`].
//!
//! # The tree
//!
//! A line of the tree stands for all tasks that were spawned at one place of the source below one
//! line. So ten thousand connections are one line, and the tree is as large as the program's text,
//! not as its load. A task below a task of its own place, at any depth, belongs to that one's line:
//! recursion makes the tree no deeper. The first [`LINES`] lines are sent, those with the most
//! tasks; the page says how many tasks stand in none.
//!
//! Of each line the [`SAMPLES`] tasks that have been longest in their state are sent one by one.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use heirloom::Handle;
use heirloom::runtime::{Dump, Histogram, Recorded, Stats, TaskDump, VariableText, WorkerStats};
use heirloom::task::{Leaf, SocketKind, SocketOperation, TaskState};
use serde_json::{Value, json};

/// The most lines of a tree.
const LINES: usize = 200;
/// The most tasks of a line that are sent one by one.
const SAMPLES: usize = 5;
/// Different values of a variable that are counted in a line.
const VALUES: usize = 1_000;

/// From which the times of snapshots count.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The numbers and the tree as JSON.
pub(crate) fn snapshot(runtime: &Handle) -> Value {
    let epoch = *EPOCH;
    let begun = Instant::now();
    let (stats, dump) = (runtime.stats(), runtime.dump());
    let mut snapshot = numbers(&stats);
    let Tree { lines, in_none } = Tree::new(&dump);
    snapshot["tree"] = lines.iter().map(|line| line.json(begun)).collect();
    snapshot["tasks_in_no_line"] = json!(in_none);
    snapshot["at"] = json!(nanoseconds(begun.duration_since(epoch)));
    snapshot["took"] = json!(nanoseconds(begun.elapsed()));
    snapshot
}

fn numbers(stats: &Stats) -> Value {
    let Stats { totals, states, times, .. } = stats;
    let worker = |WorkerStats { polls, steals, parks, queued, busy, .. }: &WorkerStats| json!({ "polls": polls, "steals": steals, "parks": parks, "queued": queued, "busy": busy.map(nanoseconds) });
    let times = times.as_ref().map(|times| {
        json!({
            "schedule_latency": histogram(&times.schedule_latency),
            "poll": histogram(&times.poll),
            "blocking_wait": histogram(&times.blocking_wait),
        })
    });
    json!({
        "tasks": stats.tasks,
        "idle": states.idle, "scheduled": states.scheduled, "running": states.running,
        "spawned": totals.spawned,
        "returned": totals.finished.returned,
        "panicked": totals.finished.panicked,
        "cancelled": totals.finished.cancelled,
        "polls": totals.polls, "wake_ups": totals.wake_ups, "timers": stats.timers,
        "io_events": totals.io_events,
        "blocking_threads": stats.blocking_threads, "blocking_queued": stats.blocking_queued,
        "injected": stats.injected,
        "workers": stats.workers.iter().map(worker).collect::<Value>(),
        "times": times,
    })
}

/// Pairs of a power of two and how many times were no longer, but longer than half of it. Their
/// difference to those of an earlier snapshot is the histogram of the time between.
fn histogram(histogram: &Histogram) -> Value {
    let mut buckets: Vec<(u64, u64)> = Vec::new();
    for (upper, count) in histogram.buckets() {
        let power = (nanoseconds(upper) + 1).next_power_of_two();
        match buckets.last_mut() {
            Some((last, sum)) if *last == power => *sum += count,
            _ => buckets.push((power, count)),
        }
    }
    json!(buckets)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

struct Tree<'a> {
    /// Each line is behind the one that it stands below.
    lines: Vec<Line<'a>>,
    /// Tasks of lines that are left out.
    in_none: usize,
}

/// Tasks that were spawned at one place, below one line.
struct Line<'a> {
    below: Option<usize>,
    spawned_at: &'static Location<'static>,
    tasks: Vec<&'a TaskDump>,
}

impl<'a> Tree<'a> {
    fn new(dump: &'a Dump) -> Tree<'a> {
        let index: HashMap<_, _> = dump.iter().enumerate().map(|(at, task)| (task.id, at)).collect();
        let parent = |at: usize| index.get(&dump[at].recorded.as_ref()?.parent?).copied();
        let mut lines: Vec<Line<'a>> = Vec::new();
        let mut by_place: HashMap<(Option<usize>, &Location<'_>), usize> = HashMap::new();
        let mut line_of: Vec<Option<usize>> = vec![None; dump.len()];
        // From a task to the ancestor that has a line already, then back. (A parent is older than
        // its child, so there is no circle.)
        let mut path = Vec::new();
        for start in 0..dump.len() {
            let mut next = Some(start);
            while let Some(at) = next.filter(|at| line_of[*at].is_none()) {
                path.push(at);
                next = parent(at);
            }
            let mut below = next.and_then(|at| line_of[at]);
            while let Some(at) = path.pop() {
                let task = &dump[at];
                let place = task.spawned_at;
                let mut above = std::iter::successors(below, |line: &usize| lines[*line].below);
                let line = above.find(|line| lines[*line].spawned_at == place).unwrap_or_else(|| {
                    *by_place.entry((below, place)).or_insert_with(|| {
                        lines.push(Line { below, spawned_at: place, tasks: Vec::new() });
                        lines.len() - 1
                    })
                });
                lines[line].tasks.push(task);
                line_of[at] = Some(line);
                below = Some(line);
            }
        }
        Tree { lines, in_none: 0 }.cut()
    }

    /// Leaves out the lines with the fewest tasks in and below them.
    fn cut(mut self) -> Tree<'a> {
        if self.lines.len() <= LINES {
            return self;
        }
        let mut sizes: Vec<usize> = self.lines.iter().map(|line| line.tasks.len()).collect();
        for (at, line) in self.lines.iter().enumerate().rev() {
            line.below.into_iter().for_each(|below| sizes[below] += sizes[at]);
        }
        // A line is no larger than the one that it stands below, and behind it.
        let mut by_size: Vec<usize> = (0..sizes.len()).collect();
        by_size.sort_by_key(|line| Reverse(sizes[*line]));
        let large: HashSet<usize> = by_size.into_iter().take(LINES).collect();
        // The new number of each line that stays.
        let mut stays: HashMap<usize, usize> = HashMap::new();
        let mut lines = Vec::new();
        for (at, mut line) in self.lines.into_iter().enumerate() {
            if large.contains(&at) {
                line.below = line.below.map(|below| stays[&below]);
                stays.insert(at, lines.len());
                lines.push(line);
            } else {
                self.in_none += line.tasks.len();
            }
        }
        Tree { lines, in_none: self.in_none }
    }
}

impl Line<'_> {
    fn json(&self, now: Instant) -> Value {
        let recorded = || self.tasks.iter().filter_map(|task| task.recorded.as_ref());
        let in_state = |state| self.tasks.iter().filter(|task| task.state == state).count();
        let mut samples: Vec<&TaskDump> = self.tasks.clone();
        samples.sort_by_key(|task| Reverse(task.recorded.as_ref().map(|it| it.in_state)));
        samples.truncate(SAMPLES);

        let mut names: Vec<&str> = self.tasks.iter().filter_map(|task| task.name.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        let mut waits: HashMap<&str, usize> = HashMap::new();
        for leaf in recorded().flat_map(|it| &it.waits_for) {
            *waits.entry(kind(leaf)).or_default() += 1;
        }
        let mut waits: Vec<_> = waits.into_iter().collect();
        waits.sort_by_key(|(kind, count)| (Reverse(*count), *kind));
        json!({
            "below": self.below,
            "name": names.first(), "names": names.len(),
            "spawned_at": self.spawned_at.to_string(),
            "tasks": self.tasks.len(),
            "idle": in_state(TaskState::Idle),
            "scheduled": in_state(TaskState::Scheduled),
            "running": in_state(TaskState::Running),
            "blocking": recorded().any(|it| it.blocking),
            "background": recorded().any(|it| it.background),
            "in_group": recorded().any(|it| it.group.is_some()),
            "polls": recorded().map(|it| it.polls).sum::<u64>(),
            "busy": recorded().map(|it| nanoseconds(it.busy)).sum::<u64>(),
            "waits_for": waits,
            "context": variables(recorded()),
            "samples": samples.into_iter().map(|task| sample(task, now)).collect::<Value>(),
        })
    }
}

/// Of each variable: its name, its text if all tasks have the same, and how many different ones
/// there are.
fn variables<'a>(recorded: impl Iterator<Item = &'a Recorded>) -> Value {
    let mut variables: Vec<(&str, Option<&str>, HashSet<&str>)> = Vec::new();
    for variable in recorded.flat_map(|it| it.context.iter()) {
        let text = variable.text.as_deref();
        let at = variables.iter().position(|(name, ..)| *name == variable.name).unwrap_or_else(|| {
            variables.push((variable.name, text, HashSet::new()));
            variables.len() - 1
        });
        let (_, _, values) = &mut variables[at];
        if values.len() < VALUES {
            values.extend(text);
        }
    }
    variables.sort_unstable_by_key(|(name, ..)| *name);
    let json = |(name, text, values): (&str, Option<&str>, HashSet<&str>)| {
        json!({
            "name": name,
            "text": text.filter(|_| values.len() == 1),
            "values": values.len(),
            "more": values.len() == VALUES,
        })
    };
    variables.into_iter().map(json).collect()
}

fn sample(task: &TaskDump, now: Instant) -> Value {
    let mut sample = json!({ "id": task.id.to_string(), "name": task.name, "state": task.state.to_string() });
    if let Some(recorded) = &task.recorded {
        sample["in_state"] = json!(nanoseconds(recorded.in_state));
        sample["age"] = json!(nanoseconds(recorded.age));
        sample["polls"] = json!(recorded.polls);
        sample["busy"] = json!(nanoseconds(recorded.busy));
        sample["waits_for"] = recorded.waits_for.iter().map(|leaf| leaf_text(leaf, now)).collect();
        let variable = |it: &VariableText| json!({ "name": it.name, "text": it.text, "values": 1 });
        sample["context"] = recorded.context.iter().map(variable).collect();
    }
    sample
}

fn leaf_text(leaf: &Leaf, now: Instant) -> String {
    match leaf {
        // The time left is that at the dump, not at the time when the text is made.
        Leaf::Sleep { until } => format!("sleep, {:.1?} left", until.saturating_duration_since(now)),
        _ => leaf.to_string(),
    }
}

/// What a leaf is, without what tells it from others of its kind.
fn kind(leaf: &Leaf) -> &'static str {
    match leaf {
        Leaf::Sleep { .. } => "sleep",
        Leaf::Join { blocking: true, .. } => "blocking closure",
        Leaf::Join { .. } => "join of a task",
        Leaf::Socket { kind: SocketKind::Listener, .. } => "accept",
        Leaf::Socket { operation: SocketOperation::Write, .. } => "write on a socket",
        Leaf::Socket { .. } => "read on a socket",
        Leaf::Signal => "a signal",
        Leaf::Receive => "a message of a channel",
        Leaf::Send => "room in a channel",
        Leaf::Group => "a task of a group",
        Leaf::Cancellation => "a cancel token",
        Leaf::Turn => "its next turn",
        _ => "something new",
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, pending};
    use std::pin::Pin;

    use heirloom::{Runtime, context_var, spawn, spawn_background};

    use super::*;

    context_var! {
        static REQUEST: u32, debug = Debug;
        static PASSWORD: &'static str, debug = Debug, secret = true;
    }

    fn inspected() -> Runtime {
        Runtime::builder().workers(1).inspect(true).build().unwrap()
    }

    fn tree(runtime: &Runtime) -> Vec<Value> {
        runtime.wait_until_idle();
        snapshot(runtime.handle())["tree"].as_array().unwrap().clone()
    }

    #[test]
    fn ten_thousand_tasks_of_one_place_are_one_line() {
        let runtime = inspected();
        for request in 0..10_000 {
            let future = async move {
                REQUEST.set(request);
                PASSWORD.set("xyzzy");
                pending::<()>().await;
            };
            runtime.spawn(future).detach();
        }
        let lines = tree(&runtime);
        let [line] = &lines[..] else { panic!("{} lines", lines.len()) };
        assert_eq!((&line["tasks"], &line["idle"]), (&json!(10_000), &json!(10_000)));
        assert_eq!(line["samples"].as_array().unwrap().len(), SAMPLES);
        let variables = json!([
            { "name": "PASSWORD", "text": "[secret]", "values": 1, "more": false },
            { "name": "REQUEST", "text": null, "values": VALUES, "more": true },
        ]);
        assert_eq!(line["context"], variables);
        let text = snapshot(runtime.handle()).to_string();
        assert!(text.len() < 10_000, "{} bytes", text.len());
        assert!(!text.contains("xyzzy"));
    }

    #[test]
    fn a_line_stands_below_the_line_of_the_spawner() {
        let runtime = inspected();
        let parent = async || {
            spawn(pending::<()>()).detach();
            spawn_background(pending::<()>());
            pending::<()>().await;
        };
        (0..3).for_each(|_| runtime.spawn(parent()).detach());
        let lines = tree(&runtime);
        let seen: Vec<_> = lines.iter().map(|it| (&it["below"], &it["tasks"], &it["background"])).collect();
        let [roots, child, background] = &seen[..] else { panic!("{lines:?}") };
        assert_eq!(*roots, (&Value::Null, &json!(3), &json!(false)));
        assert_eq!(*child, (&json!(0), &json!(3), &json!(false)));
        assert_eq!(*background, (&json!(0), &json!(3), &json!(true)));
    }

    #[test]
    fn recursion_makes_the_tree_no_deeper() {
        fn link(left: u32) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                if left > 0 {
                    spawn(link(left - 1)).await.unwrap();
                }
                pending::<()>().await;
            })
        }
        let runtime = inspected();
        runtime.spawn(link(1_000)).detach();
        let lines = tree(&runtime);
        let tasks: Vec<_> = lines.iter().map(|line| &line["tasks"]).collect();
        assert_eq!(tasks, [&json!(1), &json!(1_000)]);
        assert_eq!(lines[1]["waits_for"], json!([["join of a task", 999]]));
    }

    #[test]
    fn of_many_lines_the_ones_with_the_most_tasks_in_and_below_them_are_sent() {
        let runtime = inspected();
        runtime.spawn(pending::<()>()).detach();
        let dump = runtime.dump();
        let [task] = &dump[..] else { panic!("{dump}") };
        let line = |below, tasks| Line { below, spawned_at: task.spawned_at, tasks: vec![task; tasks] };
        let mut lines: Vec<_> = (0..LINES + 98).map(|_| line(None, 2)).collect();
        lines.push(line(None, 1));
        lines.push(line(Some(LINES + 98), 50));
        let Tree { lines, in_none } = Tree { lines, in_none: 0 }.cut();
        assert_eq!((lines.len(), in_none), (LINES, 2 * 100));
        let [.., root, last] = &lines[..] else { panic!() };
        assert_eq!((root.tasks.len(), last.tasks.len(), last.below), (1, 50, Some(LINES - 2)));
    }

    #[test]
    fn a_histogram_has_a_bucket_for_each_power_of_two() {
        let runtime = inspected();
        runtime.block_on(runtime.spawn(async {})).unwrap();
        runtime.wait_until_idle();
        let times = &snapshot(runtime.handle())["times"];
        let polls = times["poll"].as_array().unwrap();
        assert_eq!(polls.len(), 1);
        assert!(polls[0][0].as_u64().unwrap().is_power_of_two() && polls[0][1] == 1, "{polls:?}");
    }
}
