//! Handles of runtimes, and entering one.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use futures_task::{FutureObj, Spawn, SpawnError};
use heirloom_context::raw::Live;
use heirloom_context::{Context, CrossingKind};

use crate::instrument::dump::Dump;
use crate::instrument::stats::Stats;
use crate::runtime::block_on;
use crate::runtime::inspect;
#[cfg(all(feature = "stacks", not(loom)))]
use crate::runtime::trace;
use crate::runtime::{ShutdownReport, configured_default, runtime_outside, shut_down};
use crate::scheduler::blocking::{Blocking, BlockingCall};
use crate::scheduler::current::{self, OwnedEntry};
use crate::scheduler::shared::{Shared, Workers, launch};
use crate::task::cell::{Begin, Parts};
use crate::task::join_handle::{AbortHandle, JoinHandle};

/// A handle of a [`Runtime`](crate::Runtime): cheap to clone, and free to outlive the runtime. A
/// task that is spawned through a handle of a runtime that has ended resolves as cancelled.
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

// The panics of tasks are caught in their runtime; a handle sees no state that one left half done.
impl std::panic::UnwindSafe for Handle {}
impl std::panic::RefUnwindSafe for Handle {}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The current runtime of this thread: the one that runs the task, the blocking closure or the
    /// `block_on` in which this is called, or the one that was [entered](Self::enter) last. `None`
    /// on a thread of none.
    pub fn current() -> Option<Handle> {
        current::with_runtime(|shared| shared.cloned()).map(Handle::new)
    }

    /// Makes this runtime the current one of this thread until the guard is dropped:
    /// [`spawn`](crate::spawn()) and the other verbs use it, and so do timers and sockets.
    ///
    /// It is for code that calls those verbs on a thread that is no worker, such as a callback of
    /// another library. In a task, the task's runtime is current already, and in
    /// [`block_on`](Self::block_on) that of the handle. Entering makes the thread no worker, and
    /// changes no context.
    ///
    /// Guards nest. The runtime that was entered last is the current one, and dropping its guard
    /// makes the one before current again. So drop guards in the reverse order of their making. A
    /// guard is not `Send`. Do not keep one across an `.await`: what the thread polls meanwhile
    /// finds this runtime, too. A guard that is forgotten leaves its runtime current.
    ///
    /// # Panics
    /// The drop of the guard panics, and changes nothing, if a guard that was made later is still
    /// there, or if the `block_on` or blocking closure in which it was made has returned.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = heirloom::Runtime::builder().workers(1).thread_name("mill").build()?;
    /// let handle = runtime.handle().clone();
    ///
    /// let foreign = std::thread::spawn(move || {
    ///     let _entered = handle.enter();
    ///     heirloom::spawn(async { std::thread::current().name().map(str::to_owned) })
    /// });
    /// let name = runtime.block_on(foreign.join().unwrap()).unwrap();
    /// assert!(name.unwrap().starts_with("mill"));
    /// # Ok(()) }
    /// ```
    pub fn enter(&self) -> EnterGuard<'_> {
        EnterGuard { entry: Some(OwnedEntry::new(Arc::clone(&self.shared))), handle: PhantomData }
    }

    /// The current runtime, else the default one.
    pub(crate) fn current_or_default() -> Handle {
        with_current(|shared| Handle::new(Arc::clone(shared)))
    }

    /// Runs a future on the calling thread; see [`block_on`](crate::block_on). Tasks that the
    /// future spawns run on this runtime.
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
        F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        F::Output: Send + 'static,
    {
        let place = Location::caller();
        launch::<F, Workers>(&self.shared, future, || parts(place, Context::inherited()))
    }

    /// Spawns a task on this runtime in an explicit context; see [`spawn_in`](crate::spawn_in).
    #[track_caller]
    pub fn spawn_in<F>(&self, context: Context, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        F::Output: Send + 'static,
    {
        let place = Location::caller();
        launch::<F, Workers>(&self.shared, future, || parts(place, context))
    }

    /// Spawns a task on this runtime that has no owner; see
    /// [`spawn_background`](crate::spawn_background).
    #[track_caller]
    pub fn spawn_background<F>(&self, future: F) -> AbortHandle
    where
        F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        F::Output: Send + 'static,
    {
        let live = Live::new(self.shared.root());
        let place = Location::caller();
        let kind = CrossingKind::Background;
        let parts = Parts { live, place, name: None, kind, begin: Begin::Queued };
        let handle = launch::<F, Workers>(&self.shared, future, || parts);
        let abort = handle.abort_handle();
        handle.detach();
        abort
    }

    /// Runs a blocking closure on this runtime's pool; see
    /// [`spawn_blocking`](crate::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        launch_blocking(&self.shared, f, parts(Location::caller(), Context::inherited()))
    }

    /// Ends the runtime. New tasks are refused; those that exist may end within `limit`; those that
    /// have not ended then are cancelled, and reported. The report of a second shutdown is empty.
    ///
    /// The limit bounds the wait for tasks and for blocking closures. It does not bound a poll: a
    /// poll that is in progress when the tasks are cancelled is waited for, however long it takes,
    /// since a thread cannot be ended from outside. So a task that blocks its worker delays the
    /// shutdown, and so does a destructor that blocks. If that must not be waited for, call this on
    /// a thread of its own, or use [`spawn_blocking`](crate::spawn_blocking()) for what blocks.
    ///
    /// A task, of any runtime, and a blocking closure of this runtime would wait for themselves, or
    /// for tasks that wait for them. So when they call this, the limit is zero; and when a task
    /// calls it, polls in progress are not waited for either.
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

    /// What the runtime has done and is doing, in numbers.
    ///
    /// Threads are asked nothing, and none waits. Counting the tasks by state looks at each task,
    /// which takes about a millisecond for 100,000 tasks.
    ///
    /// ```
    /// # heirloom::block_on(async {
    /// # heirloom::spawn(async {}).await.unwrap();
    /// # use heirloom::{Handle, spawn};
    /// # let handle = spawn(async { Handle::current().unwrap() }).await.unwrap();
    /// let stats = handle.stats();
    /// assert!(stats.totals.polls >= 1);
    /// assert!(stats.totals.spawned >= stats.totals.finished.all());
    /// # });
    /// ```
    #[doc(alias = "metrics")]
    pub fn stats(&self) -> Stats {
        inspect::stats(&self.shared)
    }

    /// All tasks that have not ended: what each does and waits for, and in which context. A task
    /// that is spawned or ends meanwhile may be missing.
    ///
    /// If the runtime is not [inspected](crate::runtime::Builder::inspect), a dump has no more than
    /// the identity, the name, the place of the spawn and the state of each task. Those of a
    /// [`LocalSet`](crate::task::LocalSet) are listed if the runtime is inspected and was the
    /// first one inside of which the set has got a task.
    ///
    /// A dump stops no worker: the tasks run on, and each is seen at another moment. The texts of
    /// values are made by this call, on this thread.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = heirloom::Runtime::new()?;
    /// runtime.spawn(std::future::pending::<()>()).detach();
    /// for task in runtime.handle().dump() {
    ///     println!("{} {:?} {} {}", task.id, task.name, task.state, task.spawned_at);
    /// }
    /// # Ok(()) }
    /// ```
    #[doc(alias = "all_tasks")]
    #[doc(alias = "taskdump")]
    #[doc(alias = "DebugProbes")]
    pub fn dump(&self) -> Dump {
        inspect::dump(&self.shared)
    }

    /// A [dump](Self::dump) with [await stacks](crate::runtime::AwaitStacks): through which
    /// functions each task waits. Blocks this thread until all tasks have answered, and waits for
    /// them for at most `limit` of real time.
    ///
    /// The runtime must be [inspected](crate::runtime::Builder::inspect). Each idle task is woken
    /// and polled once by its runtime. In that poll each leaf of this crate (a sleep, a socket, a
    /// join handle, a channel, a group, a token) captures its stack when it reports pending, and
    /// waits on. In all else the poll is that of a spurious wake-up, which a future must bear at
    /// any time: timers run on, wakers stay, a leaf that is ready is ready and the task goes on,
    /// hooks are called, polls and wake-ups count one more, and the time in its state begins anew.
    /// The dump itself is taken before.
    ///
    /// [`TaskDump::traced`](crate::runtime::TaskDump::traced) says why a task has no stacks: it was
    /// running or runnable, it waits for leaves of other crates alone, it was not polled within
    /// the limit. Of a task that waits for leaves of both kinds, those of this crate are listed.
    /// A task of a [`LocalSet`](crate::task::LocalSet) answers while the set is run.
    ///
    /// A few tasks are asked at a time, so that others run in between. A capture takes some ten
    /// microseconds of a worker. Names and lines are looked up by this thread, once per place; the
    /// first look-up reads the debug information of the program, which may take a second. A program
    /// without symbols has addresses for names, and one without debug information no lines.
    ///
    /// A process makes one such dump at a time; a further call waits for its turn first, for at
    /// most `limit` more. In a task, make it in [`spawn_blocking`](crate::spawn_blocking()): on a
    /// worker the call keeps that worker from answering, and waits for 10 ms at most; so it does on
    /// a thread that runs a local set.
    ///
    /// ```
    /// use std::time::Duration;
    /// use heirloom::{Runtime, sleep};
    ///
    /// async fn pause() {
    ///     sleep(Duration::from_secs(60)).await;
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = Runtime::builder().workers(1).inspect(true).build()?;
    /// runtime.spawn(async { pause().await }).detach();
    /// runtime.wait_until_idle();
    /// let dump = runtime.dump_stacks(Duration::from_secs(10));
    /// let stacks = dump[0].traced.as_ref().unwrap().as_ref().expect("it waits");
    /// let innermost = stacks.stacks[0].frames.last().expect("a function");
    /// assert!(innermost.function.ends_with("pause"), "{dump}");
    /// # Ok(()) }
    /// ```
    #[cfg(all(feature = "stacks", not(loom)))]
    #[cfg_attr(docsrs, doc(cfg(feature = "stacks")))]
    #[doc(alias = "taskdump")]
    #[doc(alias = "backtrace")]
    pub fn dump_stacks(&self, limit: Duration) -> Dump {
        trace::dump_stacks(&self.shared, limit)
    }

    /// Waits until no task is runnable: each waits for an event from outside, or for a timer.
    ///
    /// Returns at once if the runtime has ended.
    ///
    /// # Panics
    /// On a worker thread, and in a blocking closure of this runtime: they would wait for
    /// themselves.
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

/// Calls `f` with the runtime whose ambient states, hooks and panic policy apply to the tasks of a
/// local set: the current one, else the default one if the program has configured it. None is
/// started.
pub(crate) fn with_current_or_configured<R>(f: impl FnOnce(Option<&Arc<Shared>>) -> R) -> R {
    current::with_runtime(|shared| f(shared.or_else(|| configured_default().map(Handle::shared))))
}

/// Spawns a blocking closure on a runtime.
pub(crate) fn launch_blocking<F, R>(shared: &Arc<Shared>, f: F, mut parts: Parts) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    // A closure that is run by this call is on no thread of the pool.
    let pool = (parts.begin == Begin::Queued).then(|| Arc::clone(shared));
    parts.kind = CrossingKind::Blocking;
    launch::<_, Blocking>(shared, BlockingCall::new(f, pool), || parts)
}

/// A task's parts in `context`, with the spawner's deadline. If the spawner runs async code
/// synchronously, the spawner polls the task to its end.
#[inline]
pub(crate) fn parts(place: &'static Location<'static>, context: Context) -> Parts {
    let mut live = Live::new(context);
    let execution = crate::clock::execution();
    live.set_execution(execution);
    let begin = if execution.eager() { Begin::Driven } else { Begin::Queued };
    Parts { live, place, name: None, kind: CrossingKind::Task, begin }
}

/// Makes a runtime the current one of a thread until it is dropped; made by [`Handle::enter`] and
/// [`Runtime::enter`](crate::Runtime::enter).
#[must_use = "dropping it leaves the runtime at once"]
pub struct EnterGuard<'a> {
    /// There until the drop. It belongs to its thread, so that a guard does.
    entry: Option<OwnedEntry>,
    handle: PhantomData<&'a Handle>,
}

impl Drop for EnterGuard<'_> {
    fn drop(&mut self) {
        let in_order = self.entry.take().is_some_and(OwnedEntry::leave);
        if !in_order && !thread::panicking() {
            panic!(
                "a guard of `enter` was dropped out of order: drop the guards of a thread in the reverse order of \
                 their making, inside the call in which they were made"
            );
        }
    }
}

impl fmt::Debug for EnterGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnterGuard").finish_non_exhaustive()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("workers", &self.shared.remotes.len()).finish_non_exhaustive()
    }
}

/// For generic code. The tasks are detached.
impl Spawn for Handle {
    #[inline]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        self.spawn(future).detach();
        Ok(())
    }

    fn status(&self) -> Result<(), SpawnError> {
        if self.shared.closing.load(Relaxed) { Err(SpawnError::shutdown()) } else { Ok(()) }
    }
}
