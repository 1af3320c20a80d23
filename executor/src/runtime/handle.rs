//! Handles of runtimes.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_task::{FutureObj, Spawn, SpawnError};
use heirloom_context::Context;
use heirloom_context::raw::Live;

use crate::instrument::stats::{Stats, TaskDump, WorkerStats};
use crate::runtime::block_on;
use crate::runtime::{ShutdownReport, configured_default, runtime_outside, shut_down};
use crate::scheduler::blocking::{Blocking, BlockingCall};
use crate::scheduler::current;
use crate::scheduler::shared::{Shared, Workers, launch};
use crate::task::cell::{Begin, Parts};
use crate::task::join_handle::{AbortHandle, JoinHandle};

/// A handle of a [`Runtime`](crate::Runtime): cheap to clone, to be sent about, and to be kept after the runtime is
/// gone. What is spawned through it then resolves as cancelled.
///
/// ```
/// # heirloom::block_on(async {
/// let handle = heirloom::spawn(async { heirloom::Handle::current().unwrap() }).await.unwrap();
/// assert_eq!(handle.spawn(async { 1 }).await.unwrap(), 1);
/// # });
/// ```
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

// Whatever panics inside a runtime is caught there; a handle sees no half-done state.
impl std::panic::UnwindSafe for Handle {}
impl std::panic::RefUnwindSafe for Handle {}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The runtime this thread belongs to: in a task, a blocking closure, or a runtime's `block_on`.
    pub fn current() -> Option<Handle> {
        current::with_runtime(|shared| shared.cloned()).map(Handle::new)
    }

    /// The current runtime, else the default one.
    pub(crate) fn current_or_default() -> Handle {
        with_current(|shared| Handle::new(Arc::clone(shared)))
    }

    /// Runs a future on the calling thread; see [`block_on`](crate::block_on). What it spawns runs on this runtime.
    ///
    /// # Panics
    /// On a worker thread.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on::refuse_workers();
        let _entered = current::enter(&self.shared);
        block_on::run(future)
    }

    /// Spawns a task on this runtime; see [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let place = Location::caller();
        launch::<F, Workers>(&self.shared, future, || parts(place, Context::inherited()))
    }

    /// Spawns a task on this runtime in an explicit context; see [`spawn_in`](crate::spawn_in).
    #[track_caller]
    pub fn spawn_in<F>(&self, context: Context, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let place = Location::caller();
        launch::<F, Workers>(&self.shared, future, || parts(place, context))
    }

    /// Spawns a task on this runtime that belongs to nobody; see [`spawn_background`](crate::spawn_background).
    #[track_caller]
    pub fn spawn_background<F>(&self, future: F) -> AbortHandle
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let live = Live::new(self.shared.root());
        let place = Location::caller();
        let parts = Parts { live, place, name: None, background: true, begin: Begin::Queued };
        let handle = launch::<F, Workers>(&self.shared, future, || parts);
        let abort = handle.abort_handle();
        handle.detach();
        abort
    }

    /// Runs a blocking closure on this runtime's pool; see [`spawn_blocking`](crate::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        launch_blocking(&self.shared, f, parts(Location::caller(), Context::inherited()))
    }

    /// Ends the runtime: nothing further is accepted; for as long as `limit` the tasks that there are may finish; what is
    /// still alive then is cancelled, and reported. Of a runtime that has ended, nothing is.
    ///
    /// The limit bounds the waiting for tasks to finish and for blocking closures. It does not bound a poll: one that is
    /// in progress when everything is cancelled is waited for, however long it takes, since no thread can be ended from
    /// outside. So a task that blocks its worker holds the shutdown up, and so does a destructor that blocks. Whoever
    /// must not wait for that calls this on a thread of its own, or puts what blocks where it belongs, into
    /// [`spawn_blocking`](crate::spawn_blocking()).
    ///
    /// Called by a task, of whatever runtime, or by a blocking closure of this one, it gives nobody time to finish, for it
    /// would wait for itself, or for others who may wait for it; called by a task it does not wait for polls either.
    ///
    /// ```
    /// use std::time::Duration;
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = heirloom::Runtime::new()?;
    /// let handle = runtime.handle().clone();
    /// assert!(handle.shutdown(Duration::from_secs(1)).is_clean());
    /// assert!(runtime.block_on(handle.spawn(async {})).unwrap_err().is_cancelled());
    /// # Ok(()) }
    /// ```
    pub fn shutdown(&self, limit: Duration) -> ShutdownReport {
        shut_down(&self.shared, limit)
    }

    /// What the runtime is doing.
    ///
    /// ```
    /// # heirloom::block_on(async {
    /// # heirloom::spawn(async {}).await.unwrap();
    /// # let handle = heirloom::spawn(async { heirloom::Handle::current().unwrap() }).await.unwrap();
    /// assert!(handle.stats().workers.iter().map(|worker| worker.polls).sum::<u64>() >= 1);
    /// # });
    /// ```
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let worker = |remote: &crate::scheduler::shared::Remote| WorkerStats {
            polls: remote.counters.polls.load(Relaxed),
            steals: remote.counters.steals.load(Relaxed),
            parks: remote.counters.parks.load(Relaxed),
            queued: remote.stealer.len(),
        };
        let (blocking_threads, blocking_queued) = shared.blocking.load();
        Stats {
            tasks: shared.task_count(),
            timers: shared.timers.len(),
            injected: shared.injector.len(),
            blocking_threads,
            max_blocking_threads: shared.blocking.cap(),
            blocking_queued,
            workers: shared.remotes.iter().map(worker).collect(),
        }
    }

    /// All tasks that are not over.
    pub fn dump(&self) -> Vec<TaskDump> {
        self.shared.tasks().iter().map(|task| TaskDump::of(task.header())).collect()
    }

    /// Waits until nothing is runnable: every task waits for something outside, or for a timer.
    ///
    /// Returns at once if the runtime has ended.
    ///
    /// # Panics
    /// On a worker thread, or in a blocking closure of this runtime: they would wait for themselves.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        assert!(
            !current::is_inside(&self.shared),
            "a task or blocking closure that waits until its runtime is idle waits for itself"
        );
        self.shared.idle_condvar.wait_until(None, || self.shared.is_idle());
    }
}

/// Calls `f` with the current runtime, else the default one.
#[inline]
pub(crate) fn with_current<R>(f: impl FnOnce(&Arc<Shared>) -> R) -> R {
    current::with_runtime(|shared| f(shared.unwrap_or_else(|| runtime_outside().shared())))
}

/// Calls `f` with the runtime whose ambient states, hooks and panic policy hold for tasks that are
/// no runtime's: the current one, else the default one if the program has configured it. None is
/// started.
pub(crate) fn with_ruling<R>(f: impl FnOnce(Option<&Arc<Shared>>) -> R) -> R {
    current::with_runtime(|shared| f(shared.or_else(|| configured_default().map(Handle::shared))))
}

/// Spawns a blocking closure on a runtime.
pub(crate) fn launch_blocking<F, R>(shared: &Arc<Shared>, f: F, parts: Parts) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    // One that is run here and now is not on a thread of the pool.
    let pool = (parts.begin == Begin::Queued).then(|| Arc::clone(shared));
    launch::<_, Blocking>(shared, BlockingCall::new(f, pool), || parts)
}

/// A task's parts in `context`, with the spawner's deadline. A spawner that runs async code synchronously drives it.
#[inline]
pub(crate) fn parts(place: &'static Location<'static>, context: Context) -> Parts {
    let mut live = Live::new(context);
    let execution = crate::clock::execution();
    live.set_execution(execution);
    let begin = if execution.eager() { Begin::Driven } else { Begin::Queued };
    Parts { live, place, name: None, background: false, begin }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("workers", &self.shared.remotes.len()).finish_non_exhaustive()
    }
}

/// For generic code. Tasks are detached.
impl Spawn for Handle {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        self.spawn(future).detach();
        Ok(())
    }

    fn status(&self) -> Result<(), SpawnError> {
        if self.shared.closing.load(Relaxed) { Err(SpawnError::shutdown()) } else { Ok(()) }
    }
}
