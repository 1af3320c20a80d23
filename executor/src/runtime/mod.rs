//! Runtimes: making one, looking into it, and ending it.
//!
//! A program with [`#[heirloom::main]`](macro@crate::main), or one that calls
//! [`block_on`](crate::block_on) and [`spawn`](crate::spawn()), needs nothing of this page: it has
//! the default runtime, with a worker per processor.
//!
//! | for | see |
//! | --- | --- |
//! | making one | [`Runtime`], its options: [`Builder`], [`PanicPolicy`] |
//! | reaching one from elsewhere | [`Handle`], which [enters](Handle::enter) it too: [`EnterGuard`] |
//! | what it does just now | [`Stats`], [`Totals`], [`WorkerStats`], [`Histogram`] |
//! | a poll that takes too long | [`Stall`], by [`Builder::watchdog`] |
//! | its tasks, what they wait for, and in which context | [`Dump`], [`TaskDump`], [`Recorded`], [`TaskState`](crate::task::TaskState), [`Leaf`](crate::task::Leaf) |
//! | being told of each task | [`Hooks`] |
//! | the end | [`Runtime::shutdown`], [`ShutdownReport`] |
//!
//! ```
//! use std::time::Duration;
//! use heirloom::Runtime;
//!
//! # fn main() -> std::io::Result<()> {
//! let runtime = Runtime::builder().workers(2).thread_name("mill").build()?;
//! let task = runtime.spawn(async { 6 * 7 });
//! assert_eq!(runtime.block_on(task).unwrap(), 42);
//!
//! let forgotten = runtime.spawn(std::future::pending::<()>());
//! assert_eq!(runtime.handle().stats().tasks, 1);
//! let report = runtime.shutdown(Duration::from_millis(5)); // time to end by themselves
//! assert!(!report.is_clean());
//! # drop(forgotten);
//! # Ok(()) }
//! ```
//!
//! The guide has chapters on [deployment](crate::guide::deployment) and
//! [observability](crate::guide::observability).

pub(crate) mod block_on;
pub(crate) mod builder;
#[cfg(all(unix, feature = "net"))]
pub(crate) mod dump_on_signal;
pub(crate) mod eager_call;
pub(crate) mod handle;
mod inspect;
pub(crate) mod local;
mod main_end;
pub(crate) mod spawn;
pub(crate) mod task_builder;
#[cfg(all(feature = "stacks", not(loom)))]
mod trace;
mod watchdog;

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle as Thread;
use std::time::{Duration, Instant};

use crossbeam_deque::{Injector, Worker as Queue};
use crossbeam_utils::CachePadded;
use futures_task::{FutureObj, Spawn, SpawnError};
use heirloom_context::Context;

use crate::clock::{Clock, ManualClock};
use crate::eager;
use crate::instrument::hooks::{HooksAndRoot, HooksSlot, RuntimeHooks};
use crate::io::driver::LazyDriver;
use crate::runtime::builder::processors;
#[cfg(all(unix, feature = "net"))]
use crate::runtime::dump_on_signal::DumpOnSignal;
use crate::scheduler::blocking::Pool;
use crate::scheduler::current;
use crate::scheduler::parker::Parker;
use crate::scheduler::shared::{Helper, Remote, SHARED_HEAPS, Shared, ShutdownLock, Workers, launch};
use crate::scheduler::sleepers::Sleepers;
use crate::scheduler::throttle::Throttle;
use crate::scheduler::watch::PollWatch;
use crate::scheduler::worker::Worker;
use crate::slab::Heap;
use crate::task::TaskMeta;
use crate::task::cell::{Parts, Runnable, TaskRef};
use crate::task::current::describe_current;
use crate::task::join_handle::{AbortHandle, CancelReason, JoinHandle};
use crate::time::Timers;
use crate::util::counters::Counters;
use crate::util::idle_condvar::IdleCondvar;
use crate::util::report::complain;
use crate::util::threads::{Threads, inside};

pub use crate::instrument::dump::{Dump, Recorded, TaskDump, VariableText};
pub use crate::instrument::hooks::Hooks;
#[cfg(all(feature = "stacks", not(loom)))]
#[cfg_attr(docsrs, doc(cfg(feature = "stacks")))]
pub use crate::instrument::stacks::{AwaitStack, AwaitStacks, StackFrame, Traced, Untraced};
pub use crate::instrument::stall::Stall;
pub use crate::instrument::stats::{Finished, Histogram, States, Stats, Times, Totals, WorkerStats};
pub use crate::runtime::builder::Builder;
pub use crate::runtime::handle::{EnterGuard, Handle};
#[doc(hidden)]
pub use crate::runtime::main_end::block_on_main;
pub use crate::scheduler::shared::PanicPolicy;

/// Worker threads and everything they run.
///
/// Most programs make none: [`block_on`](crate::block_on) and [`spawn`](crate::spawn()) use the
/// default runtime, one per process, which starts at first use.
///
/// Dropping a runtime cancels all its tasks, and is safe on any thread. Every future that is not
/// being polled is dropped, in its own context, before the drop returns. Polls in progress are
/// waited for, unless a task drops the runtime (a task of this runtime or of another: a worker
/// waits for no worker). Blocking closures that have started run to their end.
///
/// # Memory
///
/// Tasks stand in pages of 32 KiB, each with tasks of one size: 31 of a kibibyte, some 250 small
/// ones. (A task of more than 8 KiB has an allocation of its own.) The memory of tasks that have
/// ended serves later tasks of that size. Memory that is not needed goes back to the allocator when
/// workers are idle: a fraction of a second after the last task of a burst has ended and its last
/// handle or waker is gone, a runtime has no more than a few empty pages per worker, and a few more
/// for tasks spawned by other threads. A worker that is busy without a pause keeps up to 16 MiB of
/// empty pages, and the pages of tasks that it has spawned and other workers have ended, until it
/// spawns again or has a pause. A long poll is no pause.
///
/// A page goes back when all its tasks have ended. So **a few tasks that outlive their burst can
/// hold the memory of many**: of a burst of tasks of a kibibyte of which one in thirty lives on,
/// nearly every page has one of those, and nearly nothing goes back before they end. It is at most
/// one page per living task, and later tasks of this size are put there first. Where that matters,
/// spawn `Box::pin(future)`: the task is small then, 250 share a page, and the allocator has the
/// large part.
///
/// On Linux the process becomes smaller as well: seven eighths of each page go to the system before
/// the allocator has the page again. (glibc's allocator gives back only memory above everything
/// that is in use. Of 200,000 tasks of two kibibytes the process kept 440 MiB without that, and
/// keeps 62 MiB with it.) On other systems the allocator decides.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = heirloom::Runtime::new()?;
/// let handle = runtime.spawn(async { 6 * 7 });
/// assert_eq!(runtime.block_on(handle).unwrap(), 42);
/// # Ok(()) }
/// ```
#[doc(alias = "Executor")]
#[doc(alias = "ThreadPool")]
#[doc(alias = "Dispatcher")]
#[doc(alias = "EventLoop")]
pub struct Runtime {
    handle: Handle,
}

// For the reason that stands at `Handle`.
impl std::panic::UnwindSafe for Runtime {}
impl std::panic::RefUnwindSafe for Runtime {}

impl Runtime {
    /// Starts a runtime with the default options.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    /// The options of a runtime, to be changed and [built](Builder::build).
    #[doc(alias = "new_multi_thread")]
    #[doc(alias = "new_current_thread")]
    #[doc(alias = "enable_all")]
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn start(builder: Builder) -> io::Result<Runtime> {
        let count = builder.worker_count()?;
        let mut threads = Threads {
            name: builder.thread_name.clone(),
            stack_size: builder.stack_size,
            on_start: builder.on_thread_start.clone(),
            on_stop: builder.on_thread_stop.clone(),
            guest: None,
        };
        threads.guest = builder.guest.as_ref().map(|start| start(&threads)).transpose()?;
        let parts: Vec<_> = (0..count).map(|_| (Queue::new_fifo(), Parker::new())).collect();
        let shared = share(&builder, threads.clone(), &parts);
        let runtime = Runtime { handle: Handle::new(Arc::clone(&shared)) };
        for (index, (queue, parker)) in parts.into_iter().enumerate() {
            let worker_shared = Arc::clone(&shared);
            // An error drops `runtime`, which stops the threads that were started.
            let body = move || Worker::new(index, worker_shared, queue, parker).run();
            let thread = threads.start(&format!("worker-{index}"), body)?;
            threads_of(&shared).push(thread);
        }
        #[cfg(all(unix, feature = "net"))]
        if builder.dump_on_usr1 {
            let (ends, body) = DumpOnSignal::new(Arc::downgrade(&shared))?;
            let thread = threads.start("dump", body)?;
            helpers_of(&shared).push(Helper { ends: Box::new(ends), thread });
        }
        if let Some(limit) = builder.watchdog {
            let (ends, body) = watchdog::watch(Arc::downgrade(&shared), limit, builder.on_stall);
            let thread = threads.start("watchdog", body)?;
            helpers_of(&shared).push(Helper { ends: Box::new(ends), thread });
        }
        Ok(runtime)
    }

    /// Makes this runtime the current one of this thread until the guard is dropped; see
    /// [`Handle::enter`].
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// The runtime's handle, to be cloned and sent to other threads and tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a future on the calling thread; see [`block_on`](crate::block_on). Tasks that the
    /// future spawns run on this runtime.
    ///
    /// # Panics
    /// On a worker thread.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// Spawns a task on this runtime; see [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Spawns a task on this runtime in an explicit context; see [`spawn_in`](crate::spawn_in).
    #[track_caller]
    pub fn spawn_in<F>(&self, context: Context, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        F::Output: Send + 'static,
    {
        self.handle.spawn_in(context, future)
    }

    /// Spawns a task on this runtime that has no owner; see
    /// [`spawn_background`](crate::spawn_background).
    #[track_caller]
    pub fn spawn_background<F>(&self, future: F) -> AbortHandle
    where
        F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        F::Output: Send + 'static,
    {
        self.handle.spawn_background(future)
    }

    /// Runs a blocking closure on this runtime's pool; see
    /// [`spawn_blocking`](crate::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.handle.spawn_blocking(f)
    }

    /// What the runtime is doing, in numbers; see [`Handle::stats`].
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// All tasks of the runtime that have not ended; see [`Handle::dump`].
    pub fn dump(&self) -> Dump {
        self.handle.dump()
    }

    /// The same with the functions through which each task waits; see [`Handle::dump_stacks`].
    #[cfg(all(feature = "stacks", not(loom)))]
    #[cfg_attr(docsrs, doc(cfg(feature = "stacks")))]
    pub fn dump_stacks(&self, limit: Duration) -> Dump {
        self.handle.dump_stacks(limit)
    }

    /// Waits until no task is runnable: each waits for an event from outside, or for a timer.
    ///
    /// # Panics
    /// On a worker thread, and in a blocking closure of this runtime: they would wait for
    /// themselves.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        self.handle.wait_until_idle();
    }

    /// Ends the runtime; see [`Handle::shutdown`].
    ///
    /// ```
    /// use std::time::Duration;
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = heirloom::Runtime::new()?;
    /// runtime.spawn(std::future::pending::<()>()).detach();
    /// let report = runtime.shutdown(Duration::from_millis(10));
    /// assert_eq!(report.cancelled().len(), 1);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "shutdown_timeout")]
    #[doc(alias = "shutdown_background")]
    pub fn shutdown(self, limit: Duration) -> ShutdownReport {
        self.handle.shutdown(limit)
    }
}

/// What [`Handle::shutdown`] does.
pub(crate) fn shut_down(shared: &Arc<Shared>, limit: Duration) -> ShutdownReport {
    // S1.
    shared.closing.store(true, SeqCst);
    let deadline = Instant::now().checked_add(limit);
    let mut drained = false;
    // A task or closure that waits until no task is left waits for itself.
    let inside = current::is_inside(shared);
    if !inside {
        drained = shared.idle_condvar.wait_until(deadline, || shared.task_count() == 0);
    }
    let alive = if drained { Vec::new() } else { shared.tasks() };
    end(shared);
    shared.blocking.close(if inside { None } else { deadline });
    let (cancelled, still_running): (Vec<TaskRef>, Vec<TaskRef>) =
        alive.into_iter().partition(|task| task.header().state.is_done());
    let metas = |tasks: Vec<TaskRef>| tasks.into_iter().map(TaskMeta::new).collect();
    ShutdownReport { cancelled: metas(cancelled), still_running: metas(still_running) }
}

/// S1 to S4. A second call waits for the first one and for the workers, and does nothing else.
fn end(shared: &Arc<Shared>) {
    shared.closing.store(true, SeqCst);
    let own = current::is_worker();
    inside(shared.guest.as_deref(), || drop_tasks(shared, own));
    // After the tasks, which may hold what stands on it.
    if let Some(guest) = &shared.guest {
        guest.end(!own);
    }
}

/// S2 to S4. `own` says whether this thread is a worker.
fn drop_tasks(shared: &Arc<Shared>, own: bool) {
    // Without this lock a second caller would return while the first is still dropping tasks. A
    // worker does not wait for it, nor does a destructor that ends the runtime that is dropping it.
    let shutdown = (!own).then(|| shared.shutdown_lock.lock());
    // Every spawn from now on is refused, those of the tasks' destructors too.
    let entered = current::enter(shared);
    // S2. Pairs with the fence in `launch`, on threads that are no workers.
    fence(SeqCst);
    for task in shared.tasks() {
        task.shut_down(CancelReason::Shutdown);
    }
    // S3, S4.
    shared.closed.store(true, SeqCst);
    shared.drain();
    for worker in 0..shared.remotes.len() {
        shared.unpark(worker);
    }
    shared.timers.close();
    // Pairs with the fence in `Shared::driver`.
    fence(SeqCst);
    if let Some(driver) = shared.io.get() {
        driver.end();
    }
    shared.blocking.close(None);
    // A task that ends a runtime must not wait for itself, nor for workers that may wait for it.
    if !own {
        // Under the lock, so that of several threads that end the runtime all wait.
        for thread in threads_of(shared).drain(..) {
            // A worker catches every panic; one that came here would be a bug, and the panic hook
            // has reported it.
            let _ = thread.join();
        }
    }
    // Tasks that were woken by the last polls of the workers.
    shared.drain();
    drop(entered);
    for heap in &shared.heaps[shared.remotes.len()..] {
        // SAFETY: the heap has no owning worker, `end` takes its lock, and `shared` keeps it.
        unsafe { heap.end(None) }
    }
    // The user's values go, though handles, wakers and tasks that have ended keep the rest. Their
    // destructors run without the lock.
    let waits = shutdown.as_ref().is_some_and(|shutdown| !shutdown.is_nested());
    drop(shutdown);
    // After the workers: a poll that delays the end is reported, too. Without the lock, since a
    // report may end the runtime.
    let helpers = std::mem::take(&mut *helpers_of(shared));
    for Helper { ends, thread } in helpers {
        drop(ends);
        if waits && thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
    drop(shared.given.take());
}

fn helpers_of(shared: &Shared) -> MutexGuard<'_, Vec<Helper>> {
    shared.helpers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn threads_of(shared: &Shared) -> MutexGuard<'_, Vec<Thread<()>>> {
    shared.threads.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn share(builder: &Builder, threads: Threads, parts: &[(Queue<Runnable>, Parker)]) -> Arc<Shared> {
    heirloom_context::internal::describe_tasks(describe_current);
    let guest = threads.guest.clone();
    let remotes = parts.iter().map(|(queue, parker)| Remote {
        stealer: queue.stealer(),
        unparker: parker.unparker(),
        counters: CachePadded::new(Counters::new(builder.inspect)),
        watch: builder.watchdog.map(|_| Box::new(CachePadded::new(PollWatch::new()))),
    });
    Arc::new_cyclic(|weak: &std::sync::Weak<Shared>| {
        let unpark = || {
            let weak = weak.clone();
            Box::new(move || {
                if let Some(shared) = weak.upgrade() {
                    shared.wake_keeper();
                }
            })
        };
        let clock = builder.virtual_time.then(|| ManualClock::with_worker(unpark()));
        Shared {
            injector: Injector::new(),
            remotes: remotes.collect(),
            sleepers: CachePadded::new(Sleepers::new(parts.len())),
            throttle: Throttle::new(parts.len()),
            heaps: (0..parts.len() + SHARED_HEAPS).map(|_| CachePadded::new(Heap::new())).collect(),
            listed: Mutex::default(),
            non_workers: CachePadded::default(),
            timers: Arc::new(Timers::new(
                parts.len() + 1,
                clock.as_ref().map_or_else(Clock::real, Clock::exact),
                unpark(),
            )),
            io: LazyDriver::new(),
            blocking: Arc::new(Pool::new(
                threads,
                builder.max_blocking_threads,
                builder.blocking_keep_alive,
                builder.inspect,
                clock,
            )),
            given: HooksSlot::new(
                HooksAndRoot {
                    root: builder.root.clone(),
                    hooks: builder.hooks.clone().map(|hooks| Arc::new(RuntimeHooks::new(hooks))),
                },
                builder.ambients.clone(),
                builder.inspect,
            ),
            adopt: parts.is_empty().then_some(adopt as fn(Runnable)),
            on_panic: builder.on_panic,
            guest,
            #[cfg(debug_assertions)]
            report_mistakes: builder.report_mistakes,
            #[cfg(debug_assertions)]
            watched: builder.watchdog.is_some(),
            search: builder.search,
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            threads: Mutex::default(),
            helpers: Mutex::default(),
            shutdown_lock: ShutdownLock::default(),
            idle_condvar: IdleCondvar::default(),
        }
    })
}

impl Drop for Runtime {
    fn drop(&mut self) {
        end(self.handle.shared());
    }
}

/// For generic code; the same as for its [handle](Handle).
impl Spawn for Runtime {
    #[inline]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.handle.spawn_obj(future)
    }

    fn status(&self) -> Result<(), SpawnError> {
        self.handle.status()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("workers", &self.handle.shared().remotes.len())
            .finish_non_exhaustive()
    }
}

/// Which tasks had not ended when the limit of a [shutdown](Runtime::shutdown) was over.
///
/// As text it names them: a task by its name, else by its identity and where it was spawned. The
/// report keeps the memory of these tasks, not their futures or outputs, until it is dropped.
///
/// ```
/// use std::time::Duration;
/// use heirloom::task;
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = heirloom::Runtime::new()?;
/// let forever = std::future::pending::<()>();
/// task::Builder::new().name("listener").on(runtime.handle()).spawn(forever).detach();
///
/// let report = runtime.shutdown(Duration::from_millis(10));
/// assert_eq!(report.cancelled()[0].name(), Some("listener"));
/// assert!(report.still_running().is_empty());
/// assert_eq!(report.to_string(), "cancelled: listener");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownReport {
    cancelled: Vec<TaskMeta>,
    still_running: Vec<TaskMeta>,
}

impl ShutdownReport {
    /// Tasks that had not ended when the limit was over, and were cancelled.
    pub fn cancelled(&self) -> &[TaskMeta] {
        &self.cancelled
    }

    /// Tasks that could not be cancelled: blocking closures that had started, and polls in progress
    /// if a task has shut the runtime down.
    pub fn still_running(&self) -> &[TaskMeta] {
        &self.still_running
    }

    /// Whether all tasks had ended in time.
    pub fn is_clean(&self) -> bool {
        self.cancelled.is_empty() && self.still_running.is_empty()
    }
}

/// For a log: `cancelled: a, b; still running: c`, or `clean`.
impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("cancelled", &self.cancelled), ("still running", &self.still_running)];
        let mut separator = "";
        for (title, tasks) in lists.into_iter().filter(|(_, tasks)| !tasks.is_empty()) {
            write!(f, "{separator}{title}")?;
            let mut before = ": ";
            for task in tasks {
                write!(f, "{before}{task}")?;
                before = ", ";
            }
            separator = "; ";
        }
        if self.is_clean() { f.write_str("clean") } else { Ok(()) }
    }
}

/// The default runtime.
static DEFAULT: OnceLock<DefaultRuntime> = OnceLock::new();

struct DefaultRuntime {
    runtime: Runtime,
    /// Whether it was made by [`Builder::build_default`].
    configured: bool,
}

/// The default runtime, started at first use. It lives as long as the process, or until `main` ends
/// it.
pub(crate) fn default_runtime() -> &'static Handle {
    let start = || {
        // Fewer workers are better than none, and a runtime that is closed from the start is better
        // than a panic: tasks spawned on it resolve as cancelled.
        let mut builder = Builder::new();
        loop {
            let workers = builder.worker_count().unwrap_or_else(|error| {
                complain(format_args!("the default runtime has a worker per processor: {error}"));
                processors()
            });
            match builder.clone().workers(workers).build() {
                Ok(runtime) => return runtime,
                Err(_) if workers > 1 => builder = builder.workers(workers / 2),
                Err(error) => {
                    complain(format_args!(
                        "the default runtime has no threads, so nothing can run on it: {error}"
                    ));
                    return Runtime::without_workers();
                }
            }
        }
    };
    DEFAULT.get_or_init(|| DefaultRuntime { runtime: start(), configured: false }).runtime.handle()
}

/// The default runtime, if it has started.
fn started_default() -> Option<&'static Handle> {
    DEFAULT.get().map(|default| default.runtime.handle())
}

/// What `Builder::build_default` does.
pub(crate) fn start_default(builder: Builder) -> io::Result<Handle> {
    let late = || {
        let message = "the default runtime has started already: build it before anything is spawned";
        io::Error::new(io::ErrorKind::AlreadyExists, message)
    };
    if DEFAULT.get().is_some() {
        return Err(late());
    }
    let runtime = builder.build()?;
    let handle = runtime.handle().clone();
    // If another was started meanwhile, that one stays, and this one ends here.
    DEFAULT.set(DefaultRuntime { runtime, configured: true }).map_err(|_| late())?;
    Ok(handle)
}

/// The default runtime, if it was made by [`Builder::build_default`].
pub(crate) fn configured_default() -> Option<&'static Handle> {
    DEFAULT.get().filter(|default| default.configured).map(|default| default.runtime.handle())
}

/// The runtime of tasks that are spawned on a thread without a current runtime: the default one.
/// Eager tasks need no threads, so under the eager flag none are started.
pub(crate) fn runtime_outside() -> &'static Handle {
    if !eager::is_eager() {
        return default_runtime();
    }
    configured_default().unwrap_or_else(threadless)
}

static THREADLESS: OnceLock<Runtime> = OnceLock::new();

/// The runtime of tasks that are run eagerly on a thread without a current runtime. It has no
/// threads; a task that has not ended when its eager call returns goes to the default runtime.
fn threadless() -> &'static Handle {
    THREADLESS.get_or_init(Runtime::without_threads).handle()
}

/// A task of the runtime without threads has not ended where it was spawned: the default runtime
/// polls it on.
#[cold]
fn adopt(task: Runnable) {
    default_runtime().shared().inject(task);
}

/// The outermost eager call of this thread is over.
pub(crate) fn end_of_eager_call() {
    // If it was never made, it has no tasks.
    if let Some(runtime) = THREADLESS.get() {
        runtime.handle.shared().rest_shared_heap();
    }
}

/// The timers of the default runtime, for futures that are polled without a current runtime.
pub(crate) fn default_timers() -> Arc<Timers> {
    Arc::clone(&default_runtime().shared().timers)
}

impl Runtime {
    /// A runtime that has ended: every task is refused.
    fn without_workers() -> Runtime {
        let runtime = Runtime::without_threads();
        end(runtime.handle.shared());
        runtime
    }

    fn without_threads() -> Runtime {
        let threads =
            Threads { name: String::new(), stack_size: None, on_start: None, on_stop: None, guest: None };
        Runtime { handle: Handle::new(share(&Builder::new(), threads, &[])) }
    }
}

/// Spawns a task on the runtime this thread belongs to, else on the default one.
#[inline]
pub(crate) fn launch_here<F>(future: F, parts: impl FnOnce() -> Parts) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    // SAFETY: dropped when this function returns, which what has entered the runtime called.
    let current = unsafe { current::runtime() };
    let shared = current.as_deref().unwrap_or_else(|| runtime_outside().shared());
    launch::<F, Workers>(shared, future, parts)
}
