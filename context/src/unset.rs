//! What the panic of [`ContextVar::require`](crate::ContextVar::require) says.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::sync::OnceLock;

use crate::current;
use crate::value::Inherit;

/// Names the task that runs on this thread; `None` outside of tasks.
type NameTask = fn() -> Option<String>;

/// Only an executor knows of tasks.
static NAME_TASK: OnceLock<NameTask> = OnceLock::new();

/// For the executor of this project: says how the running task is named in texts. The first call
/// counts.
pub fn name_tasks(name: NameTask) {
    // There is one executor of this project in a process, so a second call says the same.
    let _ = NAME_TASK.set(name);
}

/// Where the calling code runs: the task, or the thread.
fn here() -> String {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    if current::is_closed() {
        return format!("on the thread `{thread}`, which is ending");
    }
    match NAME_TASK.get().map(|name| name()) {
        Some(Some(task)) => format!("in {task}"),
        Some(None) => format!("outside any task, on the thread `{thread}`"),
        None => format!("on the thread `{thread}`"),
    }
}

/// The variable has no value where one is required. `was_bound` tells whether any context of the
/// program ever had one.
#[cold]
#[track_caller]
pub(crate) fn panic<T>(name: &str, was_bound: bool, inherit: &Inherit<T>) -> ! {
    panic!("{}", text(name, was_bound, inherit, &here()))
}

fn text<T>(name: &str, was_bound: bool, inherit: &Inherit<T>, here: &str) -> String {
    let mut text = format!("the context variable `{name}` is unset {here}: ");
    if !was_bound {
        text.push_str("no code of this program has set it so far");
    } else {
        text.push_str("it was set in another context, or its value has ended");
    }
    let mut check =
        |place: &str, what: &str| write!(text, "\n  {place}: {what}").expect("a string takes all");
    if !was_bound {
        check(
            "where it is set",
            "does that code run, and before this? `set`, `bind`, `scope` and `with_var` set it",
        );
        check("where it is read", "may it be unset? Then `get` returns an `Option`, or declare a default");
        return text;
    }
    check(
        "where it is set",
        "a task starts with what its spawner had at the spawn: set it there, before the spawn",
    );
    check(
        "where it is read",
        "a value ends with its guard (`bind`), its scope (`scope`, `with_var`) or its task; no destructor of a value \
         sees another value",
    );
    check(
        "where work is handed over",
        "background tasks, foreign spawns, threads, pools and channels carry no context by themselves: wrap what they \
         get, `future.in_context(Context::inherited())` or `Context::current().wrap(closure)`",
    );
    match inherit {
        Inherit::Always => {}
        Inherit::Never => {
            check(
                "its policy is `Never`",
                "no spawned task inherits it: read it before the spawn, and move it in",
            );
        }
        Inherit::Derive(_) => {
            check("its policy is `Derive`", "the function may have returned `None` at the spawn")
        }
    }
    text
}
