//! A dump of a runtime: its tasks with what they wait for and their contexts, as data, as a tree
//! and as JSON.
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Write};
use std::mem;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

#[cfg(all(feature = "stacks", not(loom)))]
use super::stacks::Traced;
use crate::task::{Id, Leaf, TaskState};

/// The most bytes that stand before a line of a tree. What is deeper stands there too, so that the
/// text of a long chain of spawns grows no faster than the chain.
const DEEPEST: usize = 256;

/// The tasks of a runtime that have not ended, in the order of their identities; made by
/// [`Handle::dump`](crate::Handle::dump).
///
/// As text it is a tree, in which a task stands below the one that has spawned it, and the children
/// of a [`TaskGroup`](crate::TaskGroup) stand together. [`json`](Self::json) is for programs.
///
/// Values of context variables are in it as text, where the variable has one (`debug = Debug`). The
/// text of a variable with `secret = true` is `[secret]`.
///
/// ```
/// use heirloom::{Runtime, context_var, task};
/// context_var! {
///     static REQUEST: u32, debug = Debug;
///     static TOKEN: &'static str, debug = Debug, secret = true;
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = Runtime::builder().workers(1).inspect(true).build()?;
/// let waiting = async {
///     (REQUEST.set(7), TOKEN.set("xyzzy"));
///     heirloom::sleep(std::time::Duration::from_secs(60)).await;
/// };
/// task::Builder::new().name("audit").on(runtime.handle()).spawn(waiting).detach();
/// runtime.wait_until_idle();
///
/// let text = runtime.dump().to_string();
/// assert!(text.contains("`audit`") && text.contains("waits for sleep until "), "{text}");
/// assert!(text.contains("REQUEST = 7, TOKEN = [secret]"), "{text}");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Dump {
    tasks: Vec<TaskDump>,
}

/// One task that has not ended; in a [`Dump`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskDump {
    /// The task's identity.
    pub id: Id,
    /// The name given by [`task::Builder::name`](crate::task::Builder::name).
    pub name: Option<String>,
    /// Where the task was spawned.
    pub spawned_at: &'static Location<'static>,
    /// What the task was doing.
    pub state: TaskState,
    /// What else is known, if the runtime is [inspected](crate::runtime::Builder::inspect).
    pub recorded: Option<Recorded>,
    /// Through which functions the task waits, or why that is not known; `None` in a dump that was
    /// not made by [`dump_stacks`](crate::Handle::dump_stacks).
    #[cfg(all(feature = "stacks", not(loom)))]
    #[cfg_attr(docsrs, doc(cfg(feature = "stacks")))]
    pub traced: Option<Traced>,
}

/// What an [inspected](crate::runtime::Builder::inspect) runtime knows of a task; in a
/// [`TaskDump`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// The task that has spawned this one; `None` if no task has.
    pub parent: Option<Id>,
    /// The [`TaskGroup`](crate::TaskGroup) that the task is a child of: a number that no other
    /// group has while this one lives.
    pub group: Option<u64>,
    /// It is a blocking closure.
    pub blocking: bool,
    /// It was spawned by [`spawn_background`](crate::spawn_background).
    pub background: bool,
    /// The time since the spawn.
    pub age: Duration,
    /// How often the task was polled, a poll in progress included.
    pub polls: u64,
    /// How long the polls have taken, without a poll in progress.
    pub busy: Duration,
    /// How long the task has waited for a worker, before all its polls together, without a wait in
    /// progress.
    pub waited: Duration,
    /// How often the task was woken while it was idle.
    pub wake_ups: u64,
    /// How many wakers of the task exist, and abort handles. An idle task that has none waits for
    /// ever, unless its join handle is dropped.
    pub wakers: usize,
    /// The time since it became idle or runnable, or since its poll has begun.
    pub in_state: Duration,
    /// What it waits for: the leaves of this crate at which its last poll has ended, the first
    /// three of them. Empty while it is not idle, if it waits for leaves of other crates, and if
    /// the last poll has polled none of several (a join polls what was woken).
    pub waits_for: Vec<Leaf>,
    /// How many leaves the last poll has ended at.
    pub leaves: u64,
    /// The context at the first of these leaves, else the task's own: on whose behalf it waits. Of
    /// a task that is running, that of the poll before.
    pub context: Arc<[VariableText]>,
}

/// One variable of a task's context; in [`Recorded`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VariableText {
    /// The variable's name.
    pub name: &'static str,
    /// The value's text, if the variable has one; of a secret, that it is one. Long texts are cut
    /// to [`VariableText::LONGEST`] bytes, and control characters are replaced.
    pub text: Option<String>,
}

impl VariableText {
    /// The most bytes of a value's text in a dump.
    pub const LONGEST: usize = 256;

    pub(crate) fn new(name: &'static str, text: Option<String>) -> VariableText {
        let text = text.map(|mut text| {
            if text.len() > VariableText::LONGEST {
                let end = (0..=VariableText::LONGEST - 3).rev().find(|end| text.is_char_boundary(*end));
                text.truncate(end.unwrap_or(0));
                text.push('…');
            }
            text.shrink_to_fit();
            // A line stays a line.
            if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}") } else { text }
        });
        VariableText { name, text }
    }
}

impl Dump {
    pub(crate) fn new(mut tasks: Vec<TaskDump>) -> Dump {
        tasks.sort_unstable_by_key(|task| task.id);
        Dump { tasks }
    }

    /// The dump as a JSON object: `tasks` is a list, with times in nanoseconds, and what is not
    /// known is missing. Fields may be added in later versions.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = heirloom::Runtime::builder().workers(1).inspect(true).build()?;
    /// runtime.spawn(std::future::pending::<()>()).detach();
    /// runtime.wait_until_idle();
    /// let json = runtime.dump().json().to_string();
    /// assert!(json.starts_with(r#"{"tasks":[{"id":"#) && json.contains(r#""state":"idle""#));
    /// # Ok(()) }
    /// ```
    pub fn json(&self) -> impl Display + '_ {
        Json(self)
    }
}

/// The tasks, as a slice.
impl Deref for Dump {
    type Target = [TaskDump];

    fn deref(&self) -> &[TaskDump] {
        &self.tasks
    }
}

impl IntoIterator for Dump {
    type Item = TaskDump;
    type IntoIter = std::vec::IntoIter<TaskDump>;

    fn into_iter(self) -> Self::IntoIter {
        self.tasks.into_iter()
    }
}

impl<'a> IntoIterator for &'a Dump {
    type Item = &'a TaskDump;
    type IntoIter = std::slice::Iter<'a, TaskDump>;

    fn into_iter(self) -> Self::IntoIter {
        self.tasks.iter()
    }
}

/// The task in one line, and its context in a second one if it has one.
impl Display for TaskDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_head(f)?;
        if let Some(recorded) = self.recorded.as_ref().filter(|recorded| !recorded.context.is_empty()) {
            f.write_str("\n    ")?;
            write_context(f, &recorded.context)?;
        }
        if self.has_stacks() {
            let mut stacks = String::new();
            self.write_stacks(&mut stacks, "    ")?;
            write!(f, "\n{}", stacks.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(all(feature = "stacks", not(loom)))]
impl TaskDump {
    fn has_stacks(&self) -> bool {
        self.traced.is_some()
    }

    /// In whole lines.
    fn write_stacks(&self, f: &mut dyn Write, indent: &str) -> fmt::Result {
        match &self.traced {
            None => Ok(()),
            Some(Ok(stacks)) => stacks.write(f, indent),
            Some(Err(why)) => writeln!(f, "{indent}stack unknown: {why}"),
        }
    }

    fn write_json_stacks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.traced {
            None => Ok(()),
            Some(Err(why)) => write!(f, ",\"untraced\":{}", Quoted(&why.to_string())),
            Some(Ok(traced)) => {
                write!(f, ",\"traced_leaves\":{},\"stacks\":[", traced.leaves)?;
                write_list(f, &traced.stacks, |f, stack| {
                    let leaf = stack.leaf.to_string();
                    write!(f, "{{\"leaf\":{},\"cut\":{},\"frames\":[", Quoted(&leaf), stack.cut)?;
                    write_list(f, &stack.frames, |f, frame| {
                        write!(f, "{{\"function\":{}", Quoted(&frame.function))?;
                        if let Some(file) = &frame.file {
                            write!(f, ",\"file\":{}", Quoted(&file.to_string_lossy()))?;
                        }
                        frame.line.map_or(Ok(()), |line| write!(f, ",\"line\":{line}"))?;
                        f.write_char('}')
                    })?;
                    f.write_str("]}")
                })?;
                f.write_char(']')
            }
        }
    }
}

#[cfg(not(all(feature = "stacks", not(loom))))]
impl TaskDump {
    fn has_stacks(&self) -> bool {
        false
    }

    fn write_stacks(&self, _: &mut dyn Write, _: &str) -> fmt::Result {
        Ok(())
    }

    fn write_json_stacks(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl TaskDump {
    fn write_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = self.recorded.as_ref();
        let is = |flag: fn(&Recorded) -> bool| recorded.is_some_and(flag);
        f.write_str(if is(|it| it.blocking) { "blocking closure" } else { "task" })?;
        write!(f, " {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " `{name}`")?;
        }
        if is(|it| it.background) {
            f.write_str(" (background)")?;
        }
        write!(f, " {}", self.state)?;
        if let Some(Recorded { in_state, waits_for, leaves, .. }) = recorded {
            write!(f, " for {}", Rounded(*in_state))?;
            let mut separator = ", waits for ";
            for leaf in waits_for {
                write!(f, "{separator}{leaf}")?;
                separator = " or ";
            }
            if let more @ 1.. = leaves.saturating_sub(waits_for.len() as u64) {
                write!(f, " or {more} more")?;
            }
        }
        if let Some(Recorded { age, polls, busy, .. }) = recorded {
            let unit = if *polls == 1 { "poll" } else { "polls" };
            write!(f, "; age {}, {polls} {unit}, busy {}", Rounded(*age), Rounded(*busy))?;
        }
        write!(f, "; spawned at {}", self.spawned_at)
    }
}

pub(super) fn write_context(f: &mut fmt::Formatter<'_>, context: &[VariableText]) -> fmt::Result {
    let mut separator = "";
    for VariableText { name, text } in context {
        write!(f, "{separator}{name}")?;
        if let Some(text) = text {
            write!(f, " = {text}")?;
        }
        separator = ", ";
    }
    Ok(())
}

/// A duration with three digits or so.
struct Rounded(Duration);

impl Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0..60 => write!(f, "{:.1?}", self.0),
            seconds @ 60..3600 => write!(f, "{}m {}s", seconds / 60, seconds % 60),
            seconds => write!(f, "{}h {}m", seconds / 3600, seconds / 60 % 60),
        }
    }
}

/// What stands below a line of the tree: another task, or the heading of a group.
enum Line {
    Task(usize),
    Group(Vec<usize>),
}

/// A tree, in which each task stands below the one that has spawned it.
impl Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The tasks are sorted by identity.
        let parent = |task: &TaskDump| {
            let parent = task.recorded.as_ref()?.parent?;
            self.tasks.binary_search_by_key(&parent, |task| task.id).ok()
        };
        let mut children = vec![Vec::new(); self.tasks.len()];
        let mut roots = Vec::new();
        for (at, task) in self.tasks.iter().enumerate() {
            match parent(task) {
                Some(parent) => children[parent].push(at),
                None => roots.push(at),
            }
        }
        // A stack instead of a recursion: tasks may spawn each other in a chain of any length. Of
        // each line: what is before it, and whether it is the last below its parent.
        let mut stack = Vec::new();
        let below =
            |lines: Vec<usize>, indent: &str, root: bool, stack: &mut Vec<(Line, String, bool, bool)>| {
                let lines = self.grouped(lines);
                let last = lines.len().saturating_sub(1);
                let of = |(at, line)| (line, indent.to_owned(), at == last, root);
                let mut lines: Vec<_> = lines.into_iter().enumerate().map(of).collect();
                lines.reverse();
                stack.append(&mut lines);
            };
        below(roots, "", true, &mut stack);
        let count = self.tasks.len();
        writeln!(f, "{count} task{}", if count == 1 { "" } else { "s" })?;
        while let Some((line, indent, last, root)) = stack.pop() {
            let (branch, trunk) = match (root, last) {
                (true, _) => ("", ""),
                (false, true) => ("└─ ", "   "),
                (false, false) => ("├─ ", "│  "),
            };
            let inner = if indent.len() < DEEPEST { format!("{indent}{trunk}") } else { indent.clone() };
            match line {
                Line::Group(members) => {
                    writeln!(f, "{indent}{branch}group of {}", members.len())?;
                    let last = members.len() - 1;
                    let of = |(at, member)| (Line::Task(member), inner.clone(), at == last, false);
                    let mut lines: Vec<_> = members.into_iter().enumerate().map(of).collect();
                    lines.reverse();
                    stack.append(&mut lines);
                }
                Line::Task(at) => {
                    let task = &self.tasks[at];
                    write!(f, "{indent}{branch}")?;
                    task.write_head(f)?;
                    f.write_char('\n')?;
                    let below_it = mem::take(&mut children[at]);
                    let rail = if below_it.is_empty() { "   " } else { "│  " };
                    if let Some(recorded) = task.recorded.as_ref().filter(|it| !it.context.is_empty()) {
                        write!(f, "{inner}{rail} ")?;
                        write_context(f, &recorded.context)?;
                        f.write_char('\n')?;
                    }
                    if task.has_stacks() {
                        task.write_stacks(f, &format!("{inner}{rail} "))?;
                    }
                    below(below_it, &inner, false, &mut stack);
                }
            }
        }
        Ok(())
    }
}

impl Dump {
    /// The children of one parent, with those of a group together, where its first one stands.
    fn grouped(&self, tasks: Vec<usize>) -> Vec<Line> {
        let mut lines = Vec::new();
        // Of each group its place among the lines, sorted by group.
        let mut groups: Vec<(u64, usize)> = Vec::new();
        for at in tasks {
            let Some(group) = self.tasks[at].recorded.as_ref().and_then(|recorded| recorded.group) else {
                lines.push(Line::Task(at));
                continue;
            };
            let at_group = groups.binary_search_by_key(&group, |(group, _)| *group).unwrap_or_else(|at| {
                groups.insert(at, (group, lines.len()));
                lines.push(Line::Group(Vec::new()));
                at
            });
            if let Line::Group(members) = &mut lines[groups[at_group].1] {
                members.push(at);
            }
        }
        lines
    }
}

struct Json<'a>(&'a Dump);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{\"tasks\":[")?;
        let mut separator = "";
        for task in self.0 {
            f.write_str(separator)?;
            write_json(f, task)?;
            separator = ",";
        }
        f.write_str("]}")
    }
}

fn write_json(f: &mut fmt::Formatter<'_>, task: &TaskDump) -> fmt::Result {
    let TaskDump { id, name, spawned_at, state, recorded, .. } = task;
    write!(f, "{{\"id\":{id}")?;
    if let Some(name) = name {
        write!(f, ",\"name\":{}", Quoted(name))?;
    }
    write!(f, ",\"spawned_at\":{},\"state\":\"{state}\"", Quoted(&spawned_at.to_string()))?;
    if let Some(recorded) = recorded {
        if let Some(parent) = recorded.parent {
            write!(f, ",\"parent\":{parent}")?;
        }
        if let Some(group) = recorded.group {
            write!(f, ",\"group\":{group}")?;
        }
        let Recorded { blocking, background, polls, wake_ups, wakers, leaves, .. } = recorded;
        write!(f, ",\"blocking\":{blocking},\"background\":{background}")?;
        let times = [
            ("age", recorded.age),
            ("busy", recorded.busy),
            ("waited", recorded.waited),
            ("in_state", recorded.in_state),
        ];
        times.iter().try_for_each(|(name, time)| write!(f, ",\"{name}_ns\":{}", time.as_nanos()))?;
        write!(
            f,
            ",\"polls\":{polls},\"wake_ups\":{wake_ups},\"wakers\":{wakers},\"leaves\":{leaves},\"waits_for\":["
        )?;
        write_list(f, &recorded.waits_for, |f, leaf| Quoted(&leaf.to_string()).fmt(f))?;
        f.write_str("],\"context\":[")?;
        write_list(f, &recorded.context, |f, VariableText { name, text }| {
            write!(f, "{{\"name\":{}", Quoted(name))?;
            text.as_ref().map_or(Ok(()), |text| write!(f, ",\"text\":{}", Quoted(text)))?;
            f.write_char('}')
        })?;
        f.write_char(']')?;
    }
    task.write_json_stacks(f)?;
    f.write_char('}')
}

fn write_list<'f, T>(
    f: &mut fmt::Formatter<'f>,
    items: &[T],
    write: impl Fn(&mut fmt::Formatter<'f>, &T) -> fmt::Result,
) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(at, item)| {
        if at != 0 {
            f.write_char(',')?;
        }
        write(f, item)
    })
}

/// A string of JSON.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(f, "\\{letter}")?,
                '\n' => f.write_str("\\n")?,
                control if control < ' ' => write!(f, "\\u{:04x}", control as u32)?,
                other => f.write_char(other)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_string_of_json_has_what_json_allows() {
        assert_eq!(Quoted("a\"b\\c\nd\u{1}ü").to_string(), r#""a\"b\\c\nd\u0001ü""#);
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        let text = VariableText::new("NAME", Some("ü".repeat(VariableText::LONGEST))).text.unwrap();
        assert!(text.len() <= VariableText::LONGEST && text.ends_with("ü…"), "{text}");
    }

    #[test]
    fn times_are_rounded() {
        let text = |seconds| Rounded(Duration::from_secs_f64(seconds)).to_string();
        assert_eq!([text(0.001_26), text(61.5), text(7_261.0)], ["1.3ms", "1m 1s", "2h 1m"]);
    }
}
