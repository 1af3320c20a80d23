//! The options of a runtime.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use heirloom_context::{Ambient, Ambients, Context};

use crate::instrument::hooks::Hooks;
use crate::instrument::stall::{OnStall, Stall};
use crate::runtime::handle::Handle;
use crate::runtime::{Runtime, start_default};
use crate::scheduler::shared::PanicPolicy;
use crate::util::threads::{Guest, ThreadHook, Threads};

/// Options of a runtime; made by [`Runtime::builder`].
///
/// Options of a single task are in [`task::Builder`](crate::task::Builder).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = heirloom::Runtime::builder().workers(2).thread_name("mill").build()?;
/// assert_eq!(runtime.block_on(async { 1 + 1 }), 2);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Builder {
    pub(crate) workers: Option<usize>,
    pub(crate) thread_name: String,
    pub(crate) stack_size: Option<usize>,
    pub(crate) max_blocking_threads: usize,
    pub(crate) blocking_keep_alive: Duration,
    pub(crate) root: Context,
    pub(crate) on_panic: PanicPolicy,
    pub(crate) ambients: Ambients,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    pub(crate) on_thread_start: Option<ThreadHook>,
    pub(crate) on_thread_stop: Option<ThreadHook>,
    pub(crate) search: Duration,
    /// Read in debug builds alone.
    pub(crate) report_mistakes: bool,
    pub(crate) virtual_time: bool,
    pub(crate) inspect: bool,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) on_stall: Option<OnStall>,
    #[cfg(all(unix, feature = "net"))]
    pub(crate) dump_on_usr1: bool,
    pub(crate) guest: Option<StartGuest>,
}

/// Starts the guest of a runtime that has these threads.
pub(crate) type StartGuest = Arc<dyn Fn(&Threads) -> io::Result<Arc<dyn Guest>> + Send + Sync>;

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

impl Builder {
    /// The default options.
    pub fn new() -> Builder {
        Builder {
            workers: None,
            thread_name: "heirloom".to_owned(),
            stack_size: None,
            // As in tokio: blocking calls mostly wait, and a service that needs more should say so.
            max_blocking_threads: 512,
            blocking_keep_alive: Duration::from_secs(10),
            root: Context::empty(),
            on_panic: PanicPolicy::default(),
            ambients: Ambients::new(),
            hooks: None,
            on_thread_start: None,
            on_thread_stop: None,
            search: Duration::ZERO,
            report_mistakes: true,
            virtual_time: false,
            inspect: false,
            watchdog: None,
            on_stall: None,
            #[cfg(all(unix, feature = "net"))]
            dump_on_usr1: false,
            guest: None,
        }
    }

    /// The number of worker threads. Default: the environment variable `HEIRLOOM_WORKERS`, else the
    /// number of processors that the process may use, by its affinity and its cgroup quota.
    ///
    /// On Linux, a worker that spent a large part of its time waiting for a processor, because
    /// other threads or programs keep them busy, stops stealing for some milliseconds. At least one
    /// worker always steals.
    #[must_use]
    #[doc(alias = "worker_threads")]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The name of the threads; each gets a suffix. Default: `heirloom`.
    #[must_use]
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// The stack of each thread, in bytes. Default: that of [`std::thread`].
    #[must_use]
    #[doc(alias = "thread_stack_size")]
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How many threads may run blocking closures at a time; further closures wait in a queue.
    /// Default: 512.
    ///
    /// A closure that waits for another closure needs a thread of its own meanwhile. If such
    /// closures have all threads, they wait for ever, since the closures that they wait for stay in
    /// the queue. With `max_blocking_threads(1)` a single closure that waits for another one does
    /// so.
    #[must_use]
    pub fn max_blocking_threads(mut self, threads: usize) -> Self {
        self.max_blocking_threads = threads;
        self
    }

    /// The context in which [background tasks](crate::spawn_background) start. Default: the empty
    /// one.
    #[must_use]
    pub fn root_context(mut self, context: Context) -> Self {
        self.root = context;
        self
    }

    /// What happens when a task panics.
    #[must_use]
    #[doc(alias = "unhandled_panic")]
    pub fn on_panic(mut self, policy: PanicPolicy) -> Self {
        self.on_panic = policy;
        self
    }

    /// A thread-local state of another library that follows tasks: it is captured at each spawn,
    /// and in force in each poll and in the drop of the future. Of several, the first one is the
    /// outermost.
    ///
    /// Which [kinds](heirloom_context::CrossingKind) of tasks it follows, and whether it is put
    /// around the future of a [`block_on`](crate::block_on) and of an [eager
    /// call](crate::run_eagerly), it [says itself](Ambient::goes_with). For a call that is the
    /// business of the [current](crate::Handle::current) runtime of the thread, and of the default
    /// one if it is [configured](Self::build_default).
    ///
    /// Ready ones are in the modules `tracing` and `opentelemetry`, each behind the feature of its
    /// name.
    #[must_use]
    pub fn ambient<A: Ambient>(mut self, ambient: &'static A) -> Self {
        self.ambients.push(ambient);
        self
    }

    /// Hooks that are called when a task is spawned, polled, and has ended.
    #[must_use]
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// A function that each worker and each blocking thread calls when it starts. A panic in the
    /// function is reported and ignored.
    #[must_use]
    pub fn on_thread_start(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_thread_start = Some(Arc::new(f));
        self
    }

    /// A function that each worker and each blocking thread calls before it ends. A panic in the
    /// function is reported and ignored.
    #[must_use]
    pub fn on_thread_stop(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_thread_stop = Some(Arc::new(f));
        self
    }

    /// How long an idle worker searches for work before it parks; clamped to 1 ms. A longer search
    /// finds work from other threads sooner, and uses processor time. Default: zero, no search.
    #[must_use]
    pub fn search(mut self, search: Duration) -> Self {
        self.search = search.min(Duration::from_millis(1));
        self
    }

    /// Whether likely mistakes are reported on standard error, in debug builds: a task that is
    /// cancelled before its first poll because its handle was dropped; a poll that takes more than
    /// a second, when it has ended; a [`block_on`](crate::block_on) inside of another. Each is
    /// reported once for a place that spawns. Default: yes. Release builds report none of this, and
    /// spend nothing on it. Of long polls a [watchdog](Self::watchdog) reports more, in its place.
    ///
    /// The guide has a [page of mistakes](crate::guide::mistakes).
    #[must_use]
    pub fn report_mistakes(mut self, report: bool) -> Self {
        self.report_mistakes = report;
        self
    }

    /// Whether each task has a record, which says what it waits for, since when, and in which
    /// context. Default: no.
    ///
    /// Then [dumps](Handle::dump) have [all that is known](crate::runtime::Recorded) of a task, and
    /// [numbers](Handle::stats) have [times](crate::runtime::Times). Without it, dumps name the
    /// tasks and their states, and nothing else changes.
    ///
    /// A record takes some 300 bytes and two allocations for each task, and two looks at the clock
    /// for each wake-up and poll. It keeps the context of the task's last poll: a value that the
    /// task has replaced or unset goes at the end of the poll in which it did.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = heirloom::Runtime::builder().workers(1).inspect(true).build()?;
    /// runtime.spawn(heirloom::sleep(std::time::Duration::from_secs(60))).detach();
    /// runtime.wait_until_idle();
    /// let task = &runtime.dump()[0];
    /// let waits_for = task.recorded.as_ref().unwrap().waits_for[0];
    /// assert!(waits_for.to_string().starts_with("sleep until "));
    /// # Ok(()) }
    /// ```
    #[must_use]
    #[doc(alias = "enable_metrics_poll_time_histogram")]
    #[doc(alias = "install")]
    pub fn inspect(mut self, inspect: bool) -> Self {
        self.inspect = inspect;
        self
    }

    /// Reports each poll that takes longer than `limit`, while it goes on and again when it has
    /// ended: which task, where it was spawned, on which worker, how long, and, if the runtime is
    /// [inspected](Self::inspect), in which context. Default: no.
    ///
    /// A poll that takes long keeps its worker from all other tasks: it blocks, computes, or awaits
    /// leaves of other crates that are always ready. The report is a line on standard error, or
    /// what [`on_stall`](Self::on_stall) makes of it.
    ///
    /// The first report comes within one and a half of the limit, from a thread of the watchdog,
    /// which looks at the workers four times within the limit. A poll costs two atomic operations
    /// more, and no look at a clock. Blocking closures, and futures of
    /// [`block_on`](crate::block_on) and of a [`LocalSet`](crate::task::LocalSet), may take as long
    /// as they like.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (send, stalls) = mpsc::channel();
    /// let send = std::sync::Mutex::new(send);
    /// let runtime = heirloom::Runtime::builder()
    ///     .watchdog(Duration::from_millis(20))
    ///     .on_stall(move |stall| drop(send.lock().unwrap().send(stall.clone())))
    ///     .build()?;
    /// runtime.spawn(async { std::thread::sleep(Duration::from_millis(200)) }).detach();
    /// let (begun, ended) = (stalls.recv().unwrap(), stalls.recv().unwrap());
    /// assert!(!begun.ended && ended.ended && ended.took > begun.took);
    /// assert_eq!(begun.task.spawned_at.file(), file!());
    /// # Ok(()) }
    /// ```
    #[must_use]
    #[doc(alias = "stall_detector")]
    #[doc(alias = "blocked")]
    pub fn watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = Some(limit);
        self
    }

    /// What is done with a [report](Stall) of the [watchdog](Self::watchdog), instead of writing it
    /// to standard error. It is called on the thread of the watchdog, which watches nothing
    /// meanwhile. A panic in it is ignored. It may end the runtime; the end of the runtime waits
    /// for a report in progress.
    #[must_use]
    pub fn on_stall(mut self, f: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        self.on_stall = Some(Arc::new(f));
        self
    }

    /// Whether the signal `SIGUSR1` has the runtime write a [dump](Handle::dump) of its tasks to
    /// standard error, as a tree. Default: no. Unix only.
    ///
    /// A thread of its own waits for the signal, so that the dump comes also when all workers are
    /// blocked. Best together with [`inspect`](Self::inspect). The end of the runtime waits for a
    /// dump in progress, and so for the texts of variables.
    #[cfg(all(unix, feature = "net"))]
    #[must_use]
    pub fn dump_on_usr1(mut self, dump: bool) -> Self {
        self.dump_on_usr1 = dump;
        self
    }

    /// Virtual time, for tests: the clock of the runtime stands still while anything can run, and
    /// jumps to the next timer when nothing can. An hour of sleeps takes milliseconds. Each sleep
    /// takes exactly as long as it says, to the nanosecond, and what is due earlier runs earlier:
    /// instants are not rounded, as those of the [machine's clock](crate::time#precision) are.
    ///
    /// [`sleep`](crate::sleep()), [`interval`](crate::interval()), [`wait_for`](crate::wait_for())
    /// and the [deadline](crate::deadline()) follow this clock, and [`now`](crate::time::now) reads
    /// it; [`Instant::now`](std::time::Instant::now) is the machine's and does not. The limits of
    /// [`shutdown`](Runtime::shutdown) are real time.
    ///
    /// | what | in virtual time |
    /// | --- | --- |
    /// | workers | one |
    /// | time goes on | while a thread waits in `block_on` |
    /// | a blocking closure | holds the clock until it has ended, or waits in a `block_on` of its own |
    /// | sockets and signals | an error of the kind [`Unsupported`](io::ErrorKind::Unsupported) |
    /// | a sleep in an [eager call](crate::run_eagerly) | moves the clock itself, since its thread can do nothing else |
    /// | a timer more than 584 years after the start | is never due: the clock ends there |
    /// | no task can run, and no timer is set that will be due | nothing happens; the first time is reported on standard error |
    /// | a thread that the runtime has not started, a wake-up from another runtime | the clock does not wait for it |
    ///
    /// `#[heirloom::test(virtual_time)]` does this for a test.
    ///
    /// ```
    /// use std::time::Duration;
    /// use heirloom::{sleep, spawn, time};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = heirloom::Runtime::builder().virtual_time().build()?;
    /// runtime.block_on(async {
    ///     let begun = time::now();
    ///     let other = spawn(sleep(Duration::from_secs(1_800)));
    ///     sleep(Duration::from_secs(3_600)).await;
    ///     assert!(other.is_finished());
    ///     assert_eq!(time::now() - begun, Duration::from_secs(3_600));
    /// });
    /// # Ok(()) }
    /// ```
    #[must_use]
    #[doc(alias = "start_paused")]
    #[doc(alias = "pause")]
    #[doc(alias = "advance")]
    #[doc(alias = "runTest")]
    #[doc(alias = "autojump_clock")]
    pub fn virtual_time(mut self) -> Self {
        self.virtual_time = true;
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for no workers or more than 32,768, and for a
    /// `HEIRLOOM_WORKERS` that is no such number; and the error of the operating system if it
    /// refuses a thread. The threads that were started are stopped then.
    pub fn build(self) -> io::Result<Runtime> {
        Runtime::start(self)
    }

    /// Starts the default runtime: the one of [`block_on`](crate::block_on),
    /// [`spawn`](crate::spawn()) and everything else on threads of no runtime. Without this call,
    /// it starts at first use with the default options. It lives as long as the process, unless its
    /// handle [shuts it down](crate::Handle::shutdown), or the end of a `main` with
    /// [`#[heirloom::main]`](macro@crate::main). `#[heirloom::main(builder = …)]` calls this.
    ///
    /// This is for programs; a library should not decide it.
    ///
    /// # Errors
    /// As [`build`](Self::build); and [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the
    /// default runtime has started, by this function or by a first use.
    ///
    /// ```
    /// use heirloom::{Context, Runtime, context_var};
    /// context_var! { static SERVICE: &'static str; }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let root = Context::empty().with_var(&SERVICE, "mill");
    /// let default = Runtime::builder().workers(1).root_context(root).build_default()?;
    ///
    /// let (send, receive) = std::sync::mpsc::channel();
    /// heirloom::spawn_background(async move { send.send(SERVICE.get()) });
    /// assert_eq!(receive.recv(), Ok(Some("mill")));
    /// assert_eq!(default.stats().workers.len(), 1);
    /// assert!(Runtime::builder().build_default().is_err());
    /// # Ok(()) }
    /// ```
    #[doc(alias = "set_default")]
    #[doc(alias = "GlobalExecutorConfig")]
    pub fn build_default(self) -> io::Result<Handle> {
        start_default(self)
    }

    pub(crate) fn worker_count(&self) -> io::Result<usize> {
        let workers = match self.workers {
            Some(workers) => workers,
            None if self.virtual_time => 1,
            None => default_workers()?,
        };
        let wrong = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        if self.virtual_time && self.guest.is_some() {
            return wrong(
                "a guest has real time, which does not go with virtual time: leave one of them out",
            );
        }
        match workers {
            2.. if self.virtual_time => {
                wrong("in virtual time a runtime has one worker; leave `workers` out")
            }
            0 => wrong("a runtime needs at least one worker; leave `workers` out for one per processor"),
            1..=MOST_WORKERS => Ok(workers),
            _ => wrong("a runtime has at most 32,768 workers"),
        }
    }
}

fn default_workers() -> io::Result<usize> {
    workers_by(&std::env::var("HEIRLOOM_WORKERS").unwrap_or_default())
}

/// The number in the text of `HEIRLOOM_WORKERS`; that of the processors if the text is empty.
fn workers_by(text: &str) -> io::Result<usize> {
    if text.trim().is_empty() {
        return Ok(processors());
    }
    text.trim().parse().ok().filter(|workers| (1..=MOST_WORKERS).contains(workers)).ok_or_else(|| {
        let message =
            format!("HEIRLOOM_WORKERS must be a number of workers, 1 to {MOST_WORKERS}, not `{text}`");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

const MOST_WORKERS: usize = 32_768;

/// The processors that this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("workers", &self.workers)
            .field("thread_name", &self.thread_name)
            .field("stack_size", &self.stack_size)
            .field("max_blocking_threads", &self.max_blocking_threads)
            .field("on_panic", &self.on_panic)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_the_default_and_nonsense_is_an_error() {
        for nothing in ["", "  "] {
            assert_eq!(workers_by(nothing).unwrap(), processors());
        }
        assert_eq!(workers_by(" 3 ").unwrap(), 3);
        for nonsense in ["0", "-1", "abc", "1.5", "32769"] {
            let error = workers_by(nonsense).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with("HEIRLOOM_WORKERS must be a number of workers"), "{error}");
        }
    }
}
