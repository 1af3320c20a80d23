//! How a runtime is made.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use heirloom_context::{Ambient, Ambients, Context};

use crate::instrument::hooks::Hooks;
use crate::runtime::handle::Handle;
use crate::runtime::{Runtime, start_default};
use crate::scheduler::shared::PanicPolicy;
use crate::util::threads::ThreadHook;

/// Options of a runtime; made by [`Runtime::builder`].
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
    /// Those of them that go with background tasks.
    pub(crate) background: Ambients,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    pub(crate) on_thread_start: Option<ThreadHook>,
    pub(crate) on_thread_stop: Option<ThreadHook>,
    pub(crate) search: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

impl Builder {
    /// All defaults.
    pub fn new() -> Builder {
        Builder {
            workers: None,
            thread_name: "heirloom".to_owned(),
            stack_size: None,
            // As tokio's: blocking calls mostly wait, and a service that needs more should know.
            max_blocking_threads: 512,
            blocking_keep_alive: Duration::from_secs(10),
            root: Context::empty(),
            on_panic: PanicPolicy::default(),
            ambients: Ambients::new(),
            background: Ambients::new(),
            hooks: None,
            on_thread_start: None,
            on_thread_stop: None,
            search: Duration::ZERO,
        }
    }

    /// How many worker threads. Without it: `HEIRLOOM_WORKERS`, else as many as the process may use processors (its
    /// affinity and cgroup quota respected).
    ///
    /// Where other threads or programs keep the processors busy, workers that had to wait for one in more than a quarter of the time
    /// stand back for a while, all but one: they help again when a sibling is in a long poll or does not come to an end, within
    /// 10 ms, or when processors are free. (On Linux, where a thread can be asked how long it has waited.)
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// What threads are called; they get a suffix each. Without it: `heirloom`.
    #[must_use]
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// The stack of each thread, in bytes. Without it: what the standard library takes.
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How many threads may run blocking closures at a time; the others wait in a queue. Without it: 512.
    ///
    /// Closures that wait for other closures need a thread each: if all threads are taken by such, they
    /// wait for ever, since what they wait for stands in the queue. With `max_blocking_threads(1)` a
    /// single closure that waits for another one does.
    #[must_use]
    pub fn max_blocking_threads(mut self, threads: usize) -> Self {
        self.max_blocking_threads = threads;
        self
    }

    /// The context in which [background tasks](crate::spawn_background) start. Without it: the empty one.
    #[must_use]
    pub fn root_context(mut self, context: Context) -> Self {
        self.root = context;
        self
    }

    /// What happens when a task panics.
    #[must_use]
    pub fn on_panic(mut self, policy: PanicPolicy) -> Self {
        self.on_panic = policy;
        self
    }

    /// A foreign ambient state that follows tasks: captured at each spawn, put around each poll and
    /// around the drop. It goes with [background tasks](crate::spawn_background) if it [says
    /// so](Ambient::in_background).
    #[must_use]
    pub fn ambient(mut self, ambient: Arc<dyn Ambient>) -> Self {
        if ambient.in_background() {
            self.background.push(Arc::clone(&ambient));
        }
        self.ambients.push(ambient);
        self
    }

    /// Watches all tasks: their spawns, polls and ends.
    #[must_use]
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// Called by each worker and blocking thread when it starts. A panic in it is reported and ignored.
    #[must_use]
    pub fn on_thread_start(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_thread_start = Some(Arc::new(f));
        self
    }

    /// Called by each worker and blocking thread when it ends. A panic in it is reported and ignored.
    #[must_use]
    pub fn on_thread_stop(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_thread_stop = Some(Arc::new(f));
        self
    }

    /// How long an idle worker goes on searching before it parks. Longer means that work from outside is seen sooner,
    /// and costs processor time. Without it: not at all; more than a millisecond is taken for one.
    #[must_use]
    pub fn search(mut self, search: Duration) -> Self {
        self.search = search.min(Duration::from_millis(1));
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// If there are to be no workers, or more than 32,768, or if the operating system refuses a thread. Threads that
    /// were started are stopped then.
    pub fn build(self) -> io::Result<Runtime> {
        Runtime::start(self)
    }

    /// As [`build`](Self::build), but the runtime is the default one, which otherwise starts at first
    /// use with all defaults: that of [`block_on`](crate::block_on), [`spawn`](crate::spawn()) and all
    /// else outside of any runtime. It lives as long as the process, unless the handle [shuts it
    /// down](crate::Handle::shutdown). `#[heirloom::main(builder = …)]` calls this.
    ///
    /// Libraries leave it to the program.
    ///
    /// # Errors
    /// As `build`; and with [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the default runtime has
    /// started, be it by this function or by a first use.
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
    pub fn build_default(self) -> io::Result<Handle> {
        start_default(self)
    }

    pub(crate) fn worker_count(&self) -> io::Result<usize> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => default_workers()?,
        };
        let wrong = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        match workers {
            0 => wrong("a runtime needs at least one worker; leave `workers` out for one per processor"),
            1..=MOST_WORKERS => Ok(workers),
            _ => wrong("a runtime has at most 32,768 workers"),
        }
    }
}

fn default_workers() -> io::Result<usize> {
    workers_by(&std::env::var("HEIRLOOM_WORKERS").unwrap_or_default())
}

/// As `HEIRLOOM_WORKERS` says; empty, it says nothing.
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
    fn an_environment_that_says_nothing_or_nonsense_is_told_apart() {
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
