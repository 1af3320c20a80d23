//! Why a variable has no value: [`Unset`], and the detector of values that were lost.
#![forbid(unsafe_code)]

use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::current;
use crate::util::panic::swallow;
use crate::value::{Inherit, reaper};

type Place = &'static Location<'static>;

/// A running task, as an executor describes it.
#[derive(Debug)]
pub struct RunningTask {
    /// How a text names the task, with the place of its spawn.
    pub description: String,
    /// Whether the task began in the runtime's root context, with nothing of its spawner's.
    pub background: bool,
}

/// Describes the task that runs on this thread; `None` outside of tasks.
type DescribeTask = fn() -> Option<RunningTask>;

/// Only an executor knows of tasks.
static DESCRIBE_TASK: OnceLock<DescribeTask> = OnceLock::new();

/// For the executor of this project: says what the running task is. The first call counts.
pub fn describe_tasks(describe: DescribeTask) {
    // There is one executor of this project in a process, so a second call says the same.
    let _ = DESCRIBE_TASK.set(describe);
}

/// A variable has no value: which one, where, and why. Made by
/// [`ContextVar::try_get`](crate::ContextVar::try_get).
///
/// The text is for people: the first line says what is known, the others where the variable was
/// first bound, and the way out.
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::UnsetCause;
/// use heirloom::context_var;
/// context_var! { static TENANT: u32; }
///
/// let unset = TENANT.try_get().unwrap_err();
/// assert_eq!(unset.name(), "TENANT");
/// assert_eq!(unset.cause(), UnsetCause::NeverBound);
/// assert!(unset.to_string().starts_with("the context variable `TENANT` is unset "));
/// ```
#[doc(alias = "LookupError")]
#[doc(alias = "AccessError")]
pub struct Unset(Box<Facts>);

struct Facts {
    name: &'static str,
    read_at: Place,
    first_bound_at: Option<Place>,
    here: String,
    cause: UnsetCause,
    /// The context was written to, so a value may have ended in it.
    written: bool,
    derives: bool,
}

/// Why a variable has no value; see [`Unset::cause`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnsetCause {
    /// No code of the program has bound the variable so far.
    NeverBound,
    /// The code runs in a task, whose spawner's value was cut by the variable's
    /// [policy](crate::Inherit), if the spawner had one.
    Policy,
    /// The code runs in a background task, which begins in the root context of its runtime.
    Background,
    /// The code runs in a task, and the context has had no value from the start: the spawner had
    /// none at the spawn, or a context without one was given to `in_context` or `run`.
    SpawnerHadNone,
    /// The code runs in a task whose context was written to since: the value has ended with its
    /// guard, its scope, a `reset` or an `unset`; or the spawner had none.
    Ended,
    /// The code runs outside any task, in the context of a thread, which has no value.
    NoTask,
    /// The code runs in the destructor of a value, which sees an empty context.
    Destructor,
    /// The thread is ending, and has no context any more.
    ThreadEnds,
}

impl Unset {
    #[cold]
    pub(crate) fn new<T>(
        name: &'static str,
        read_at: Place,
        first_bound_at: Option<Place>,
        inherit: &Inherit<T>,
    ) -> Unset {
        let task = DESCRIBE_TASK.get().and_then(|describe| describe());
        let derives = matches!(inherit, Inherit::Derive(_));
        let cut = derives || matches!(inherit, Inherit::Never);
        let written = current::was_written();
        let cause = match &task {
            _ if first_bound_at.is_none() => UnsetCause::NeverBound,
            _ if current::is_closed() => UnsetCause::ThreadEnds,
            _ if reaper::is_destroying() => UnsetCause::Destructor,
            None => UnsetCause::NoTask,
            Some(_) if cut => UnsetCause::Policy,
            Some(task) if task.background => UnsetCause::Background,
            Some(_) if written => UnsetCause::Ended,
            Some(_) => UnsetCause::SpawnerHadNone,
        };
        let here = task.map_or_else(
            || {
                let thread = std::thread::current();
                format!("outside any task, on the thread `{}`", thread.name().unwrap_or("without a name"))
            },
            |task| format!("in {}", task.description),
        );
        Unset(Box::new(Facts { name, read_at, first_bound_at, here, cause, written, derives }))
    }

    /// The variable's name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Where it was read.
    pub fn read_at(&self) -> &'static Location<'static> {
        self.0.read_at
    }

    /// Where code of this program has bound it first, in whatever context. `None` if no code has.
    pub fn first_bound_at(&self) -> Option<&'static Location<'static>> {
        self.0.first_bound_at
    }

    /// Why there is no value.
    pub fn cause(&self) -> UnsetCause {
        self.0.cause
    }
}

impl std::error::Error for Unset {}

impl fmt::Debug for Unset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unset")
            .field("name", &self.name())
            .field("cause", &self.cause())
            .field("read_at", &format_args!("{}", self.read_at()))
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Unset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { name, first_bound_at, here, cause, written, derives, .. } = &*self.0;
        let (why, way_out) = match cause {
            UnsetCause::NeverBound => (
                "no code of this program has bound it so far",
                "does the code that binds it (`set`, `bind`, `scope`, `with_var`) run, and before this? If the \
                 variable may be unset, `get` returns an `Option`, or declare a default",
            ),
            UnsetCause::Policy if *derives => (
                "its policy is `Derive`, whose function returned `None` at the spawn, or the spawner had no value",
                "let the function return a value, or read the variable before the spawn, and move the value in",
            ),
            UnsetCause::Policy => (
                "its policy is `Never`, so that the spawn handed nothing down",
                "read it before the spawn, and move the value in",
            ),
            UnsetCause::Background => (
                "the task is a background task, which begins without its spawner's context",
                "hand the context over, `future.in_context(Context::inherited())`, or `spawn` it and `detach` it",
            ),
            UnsetCause::SpawnerHadNone => (
                "the spawner had none at the spawn, or this code was given a context without it",
                "bind it before the spawn; what comes to a task later, as a message or a call, brings no context along: \
                 `Context::current().wrap(closure)` and `future.in_context(Context::inherited())` do",
            ),
            UnsetCause::Ended => (
                "its value has ended, or the spawner had none at the spawn",
                "a value ends with its guard (`bind`), its scope (`scope`, `with_var`), a `reset`, an `unset`, or its task",
            ),
            UnsetCause::NoTask => (
                "the context of this thread has none",
                "threads, callbacks and tasks of other executors begin without the context of the code that started \
                 them: give them `Context::current().wrap(closure)` or `future.in_context(Context::inherited())`",
            ),
            UnsetCause::Destructor => (
                "the destructor of a value sees an empty context",
                "what a destructor needs belongs into the value",
            ),
            UnsetCause::ThreadEnds => ("the thread is ending", "read it earlier"),
        };
        write!(f, "the context variable `{name}` is unset {here}: {why}")?;
        if *written && matches!(cause, UnsetCause::Policy | UnsetCause::Background) {
            f.write_str("; or a value that was bound in the task has ended")?;
        }
        if let Some(place) = first_bound_at {
            write!(f, "\n  first bound at: {place}")?;
        }
        write!(f, "\n  way out: {way_out}")
    }
}

type Report = Arc<dyn Fn(&Unset) + Send + Sync>;

struct Detector {
    report: Option<Report>,
    /// Where a loss was reported.
    reported: Vec<Place>,
}

static DETECTOR: Mutex<Detector> = Mutex::new(Detector { report: None, reported: Vec::new() });

/// From now on, reports a read of a [required](crate::VarOptions::required) variable where no value
/// is bound: the context was lost on the way, or the code runs before it is bound.
///
/// Reads are [`get`](crate::ContextVar::get), [`with`](crate::ContextVar::with),
/// [`try_get`](crate::ContextVar::try_get) and [`require`](crate::ContextVar::require); also of a
/// variable with a default. Each place in the code is reported once. The report is called by the
/// code that reads, in its context; a panic in it is caught, and the panic hook has reported it. A
/// further call of this function replaces the report, and forgets which places were reported.
///
/// It costs nothing but where there is no value: a look at the variable, and, if the variable is
/// required, a lock.
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// # use std::sync::{Arc, Mutex};
/// use heirloom::context::detect_losses;
/// use heirloom::context_var;
///
/// context_var! { static REQUEST_ID: u64, required = true; }
///
/// # let lost = Arc::new(Mutex::new(Vec::new()));
/// # let keep = lost.clone();
/// detect_losses(|unset| eprintln!("{unset}"));
/// # detect_losses(move |unset| keep.lock().unwrap().push(unset.read_at().line()));
///
/// REQUEST_ID.set(7);
/// std::thread::spawn(|| {
///     for _ in 0..2 {
///         REQUEST_ID.get(); // a thread starts without a context: reported, once
///     }
/// })
/// .join()
/// .unwrap();
/// # assert_eq!(lost.lock().unwrap().len(), 1);
/// ```
pub fn detect_losses(report: impl Fn(&Unset) + Send + Sync + 'static) {
    let detector = Detector { report: Some(Arc::new(report)), reported: Vec::new() };
    let former = std::mem::replace(&mut *DETECTOR.lock().unwrap_or_else(PoisonError::into_inner), detector);
    // Drops what the user gave, outside the lock.
    drop(former);
}

/// A required variable was read where it has no value.
#[cold]
pub(crate) fn lost(read_at: Place, unset: impl FnOnce() -> Unset) {
    let report = {
        let mut detector = DETECTOR.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = detector.report.clone() else { return };
        if detector.reported.contains(&read_at) {
            return;
        }
        detector.reported.push(read_at);
        report
    };
    swallow(|| report(&unset()));
}
