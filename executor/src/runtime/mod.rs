//! Runtimes: threads, and what is done with all of them at once.

pub(crate) mod block_on;
pub(crate) mod builder;
pub(crate) mod eager_call;
pub(crate) mod handle;
pub(crate) mod local;
pub(crate) mod spawn;
pub(crate) mod task_builder;

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

use crate::clock::Clock;
use crate::eager;
use crate::instrument::hooks::{HooksAndAmbients, HooksSlot, RuntimeHooks};
use crate::io::driver::LazyDriver;
use crate::runtime::builder::{Builder, processors};
use crate::runtime::handle::Handle;
use crate::scheduler::blocking::Pool;
use crate::scheduler::current;
use crate::scheduler::parker::Parker;
use crate::scheduler::shared::{Remote, SHARED_HEAPS, Shared, ShutdownLock, Workers, launch};
use crate::scheduler::sleepers::Sleepers;
use crate::scheduler::throttle::Throttle;
use crate::scheduler::worker::Worker;
use crate::slab::Heap;
use crate::task::cell::{Parts, Runnable, TaskRef};
use crate::task::join_handle::{AbortHandle, CancelReason, JoinHandle};
use crate::time::Timers;
use crate::util::idle_condvar::IdleCondvar;
use crate::util::report::complain;
use crate::util::threads::Threads;

/// Worker threads and everything they run.
///
/// Most programs need none of their own: [`block_on`](crate::block_on) and [`spawn`](crate::spawn()) use a process-wide
/// one that starts at first use.
///
/// Dropping a runtime cancels all its tasks. Every future that is not being polled is dropped before the drop
/// returns, in its own context; polls in progress are waited for, unless the runtime is dropped by a task, of whatever
/// runtime: a worker waits for no other.
/// Blocking closures that have begun run on by themselves. It is safe anywhere.
///
/// # Memory
///
/// Tasks stand in pages of 32 KiB, each with tasks of one size: 31 of a kibibyte, some 250 small
/// ones. (A task of more than 8 KiB has an allocation of its own.) The memory of tasks that are
/// over serves later tasks of that size. What is not needed goes back to the allocator when workers
/// rest: a fraction of a second after the last task of a burst has ended and its last handle or
/// waker is gone, a runtime has no more than a few empty pages per worker, and a few more for tasks
/// spawned by other threads. A worker that is busy
/// without a pause keeps up to 2 MiB of empty pages, and the pages of tasks it has spawned and
/// others have ended, until it spawns again or has a pause; a poll that takes long is no pause.
///
/// A page goes back when all its tasks are over. So **a few tasks that outlive their burst can hold
/// the memory of many**: of a burst of tasks of a kibibyte of which one in thirty lives on, nearly
/// every page has one of those, and nearly nothing goes back before they end. It is at most one
/// page per task alive, and later tasks of this size are put there first. Where that matters, spawn
/// `Box::pin(future)`: the task is small then, 250 share a page, and what is large is the
/// allocator's.
///
/// On Linux the process becomes smaller as well: seven eighths of each page go to the system
/// before the allocator has the page again. (glibc's allocator gives back only what lies above all
/// that is in use. Of 200,000 tasks of two kibibytes the process kept 440 MiB without that, and
/// keeps 62 MiB with it.) Elsewhere that is the allocator's affair.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = heirloom::Runtime::new()?;
/// let handle = runtime.spawn(async { 6 * 7 });
/// assert_eq!(runtime.block_on(handle).unwrap(), 42);
/// # Ok(()) }
/// ```
pub struct Runtime {
    handle: Handle,
}

// As for its handle.
impl std::panic::UnwindSafe for Runtime {}
impl std::panic::RefUnwindSafe for Runtime {}

impl Runtime {
    /// One with all defaults.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    /// Options for one.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn start(builder: Builder) -> io::Result<Runtime> {
        let count = builder.worker_count()?;
        let threads = Threads {
            name: builder.thread_name.clone(),
            stack_size: builder.stack_size,
            on_start: builder.on_thread_start.clone(),
            on_stop: builder.on_thread_stop.clone(),
        };
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
        Ok(runtime)
    }

    /// A handle, to be cloned and sent about.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a future on the calling thread; see [`block_on`](crate::block_on). What it spawns runs on this runtime.
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
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Spawns a task on this runtime in an explicit context; see [`spawn_in`](crate::spawn_in).
    #[track_caller]
    pub fn spawn_in<F>(&self, context: Context, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn_in(context, future)
    }

    /// Spawns a task on this runtime that belongs to nobody; see [`spawn_background`](crate::spawn_background).
    #[track_caller]
    pub fn spawn_background<F>(&self, future: F) -> AbortHandle
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn_background(future)
    }

    /// Runs a blocking closure on this runtime's pool; see [`spawn_blocking`](crate::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.handle.spawn_blocking(f)
    }

    /// What the runtime is doing.
    pub fn stats(&self) -> crate::Stats {
        self.handle.stats()
    }

    /// All its tasks.
    pub fn dump(&self) -> Vec<crate::TaskDump> {
        self.handle.dump()
    }

    /// Waits until nothing is runnable: every task waits for something outside, or for a timer.
    ///
    /// # Panics
    /// On a worker thread, which would wait for itself.
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
    pub fn shutdown(self, limit: Duration) -> ShutdownReport {
        self.handle.shutdown(limit)
    }
}

/// What [`Handle::shutdown`] does.
pub(crate) fn shut_down(shared: &Arc<Shared>, limit: Duration) -> ShutdownReport {
    // S1.
    shared.closing.store(true, SeqCst);
    let deadline = Instant::now().checked_add(limit);
    let mut rested = false;
    // A task or closure that waits for the rest waits for itself.
    let inside = current::is_inside(shared);
    if !inside {
        rested = shared.idle_condvar.wait_until(deadline, || shared.task_count() == 0);
    }
    let alive = if rested { Vec::new() } else { shared.tasks() };
    end(shared);
    shared.blocking.close(if inside { None } else { deadline });
    let (cancelled, still_running): (Vec<_>, Vec<_>) =
        alive.into_iter().partition(|task| task.header().state.is_done());
    ShutdownReport { cancelled: names(&cancelled), still_running: names(&still_running) }
}

/// S1 to S4. Again, it does nothing but wait for whoever was first, and for the workers.
fn end(shared: &Arc<Shared>) {
    shared.closing.store(true, SeqCst);
    let own = current::is_worker();
    // Who comes second finds tasks that the first is just dropping. A worker waits for nobody; nor does a destructor that ends
    // the runtime by which it is dropped.
    let guard = (!own).then(|| shared.shutdown_lock.lock());
    // What destructors spawn is refused, like everything that is spawned from now on.
    let entered = current::enter(shared);
    // S2. Pairs with the fence in `launch`, by threads outside.
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
    // A task that ends its own runtime must not wait for itself, nor for others who may wait for it.
    if !own {
        // Under the lock, so that of several who end it all wait.
        for thread in threads_of(shared).drain(..) {
            // A worker catches everything; a panic would be a bug that was reported by the panic hook.
            let _ = thread.join();
        }
    }
    // What workers that had polls in progress have woken meanwhile.
    shared.drain();
    drop(entered);
    for heap in &shared.heaps[shared.remotes.len()..] {
        // SAFETY: nobody owns it but whoever has its lock, and `shared` keeps it.
        unsafe { heap.end(None) }
    }
    // What is the user's goes, though handles, wakers and tasks that are over keep the rest. Its
    // destructors run in nobody's turn.
    drop(guard);
    drop(shared.given.take());
}

fn threads_of(shared: &Shared) -> MutexGuard<'_, Vec<Thread<()>>> {
    shared.threads.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn share(builder: &Builder, threads: Threads, parts: &[(Queue<Runnable>, Parker)]) -> Arc<Shared> {
    let remotes = parts.iter().map(|(queue, parker)| Remote {
        stealer: queue.stealer(),
        unparker: parker.unparker(),
        counters: CachePadded::default(),
    });
    Arc::new_cyclic(|weak: &std::sync::Weak<Shared>| {
        let weak = weak.clone();
        let unpark = Box::new(move || {
            if let Some(shared) = weak.upgrade() {
                shared.wake_keeper();
            }
        });
        Shared {
            injector: Injector::new(),
            remotes: remotes.collect(),
            sleepers: CachePadded::new(Sleepers::new(parts.len())),
            throttle: Throttle::new(parts.len()),
            heaps: (0..parts.len() + SHARED_HEAPS).map(|_| CachePadded::new(Heap::new())).collect(),
            non_workers: CachePadded::default(),
            timers: Arc::new(Timers::new(parts.len() + 1, Clock::real(), unpark)),
            io: LazyDriver::new(),
            blocking: Arc::new(Pool::new(threads, builder.max_blocking_threads, builder.blocking_keep_alive)),
            given: HooksSlot::new(HooksAndAmbients {
                root: builder.root.clone(),
                ambients: builder.ambients.clone(),
                background: builder.background.clone(),
                hooks: builder.hooks.clone().map(|hooks| Arc::new(RuntimeHooks::new(hooks))),
            }),
            adopt: parts.is_empty().then_some(adopt as fn(Runnable)),
            on_panic: builder.on_panic,
            search: builder.search,
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            threads: Mutex::default(),
            shutdown_lock: ShutdownLock::default(),
            idle_condvar: IdleCondvar::default(),
        }
    })
}

fn names(tasks: &[TaskRef]) -> Vec<String> {
    let name = |task: &TaskRef| match task.header().about.name() {
        Some(name) => name.to_string(),
        None => format!("task {} spawned at {}", task.header().about.id(), task.header().about.spawned_at()),
    };
    tasks.iter().map(name).collect()
}

impl Drop for Runtime {
    fn drop(&mut self) {
        end(self.handle.shared());
    }
}

/// For generic code, as its [handle](Handle) does it.
impl Spawn for Runtime {
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

/// Who was still alive when a runtime was [shut down](Runtime::shutdown): by name, or by where it was spawned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    cancelled: Vec<String>,
    still_running: Vec<String>,
}

impl ShutdownReport {
    /// Tasks that had not finished when the time was up, and were cancelled.
    pub fn cancelled(&self) -> &[String] {
        &self.cancelled
    }

    /// Those that could not be cancelled: blocking closures that run on, and polls in progress if the runtime was
    /// shut down by one of its own tasks.
    pub fn still_running(&self) -> &[String] {
        &self.still_running
    }

    /// Whether everything had finished in time.
    pub fn is_clean(&self) -> bool {
        self.cancelled.is_empty() && self.still_running.is_empty()
    }
}

/// The process-wide runtime.
static DEFAULT: OnceLock<Default> = OnceLock::new();

struct Default {
    runtime: Runtime,
    /// Whether the program has said how it is to be.
    configured: bool,
}

/// The process-wide runtime, started at first use. It lives as long as the process.
pub(crate) fn default_runtime() -> &'static Handle {
    let start = || {
        // Fewer workers are better than none, and one that is closed from the start is better than a panic: what is
        // spawned on it resolves as cancelled.
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
    DEFAULT.get_or_init(|| Default { runtime: start(), configured: false }).runtime.handle()
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
    // One that was started meanwhile stays; then this one ends here.
    DEFAULT.set(Default { runtime, configured: true }).map_err(|_| late())?;
    Ok(handle)
}

/// The default runtime, if the program has said how it is to be.
pub(crate) fn configured_default() -> Option<&'static Handle> {
    DEFAULT.get().filter(|default| default.configured).map(|default| default.runtime.handle())
}

/// The runtime of what is spawned outside of any: the default one. Under the eager flag nothing
/// needs threads, so none is started.
pub(crate) fn runtime_outside() -> &'static Handle {
    if !eager::is_eager() {
        return default_runtime();
    }
    configured_default().unwrap_or_else(threadless)
}

static THREADLESS: OnceLock<Runtime> = OnceLock::new();

/// Where tasks live that are run eagerly outside of any runtime. It has no threads; what cannot be ended there goes to the
/// default runtime.
fn threadless() -> &'static Handle {
    THREADLESS.get_or_init(Runtime::without_threads).handle()
}

/// A task of the runtime without threads has not ended where it was spawned: the default runtime polls it on.
#[cold]
fn adopt(task: Runnable) {
    default_runtime().shared().inject(task);
}

/// The outermost eager call of this thread is over.
pub(crate) fn end_of_eager_call() {
    // If it is not there, nothing was ever spawned in it.
    if let Some(runtime) = THREADLESS.get() {
        runtime.handle.shared().rest_shared_heap();
    }
}

/// The timers of the default runtime, for futures outside of any.
pub(crate) fn default_timers() -> Arc<Timers> {
    Arc::clone(&default_runtime().shared().timers)
}

impl Runtime {
    /// One that refuses everything.
    fn without_workers() -> Runtime {
        let runtime = Runtime::without_threads();
        end(runtime.handle.shared());
        runtime
    }

    fn without_threads() -> Runtime {
        let threads = Threads { name: String::new(), stack_size: None, on_start: None, on_stop: None };
        Runtime { handle: Handle::new(share(&Builder::new(), threads, &[])) }
    }
}

/// Spawns a task on the runtime this thread belongs to, else on the default one.
#[inline]
pub(crate) fn launch_here<F>(future: F, parts: impl FnOnce() -> Parts) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    // SAFETY: current until this function has returned, by whoever called what called it.
    let shared = unsafe { current::runtime().as_ref() };
    let shared = shared.unwrap_or_else(|| runtime_outside().shared());
    launch::<F, Workers>(shared, future, parts)
}
