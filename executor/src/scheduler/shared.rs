//! State that the workers, handles and tasks of a runtime share.

use std::fmt;
use std::future::Future;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
use std::sync::{Arc, Weak};
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_deque::{Injector, Steal, Stealer};
use crossbeam_utils::CachePadded;
use heirloom_context::Context;

use super::current;
use super::parker::{UnparkAction, Unparker};
use super::sleepers::Sleepers;
use super::throttle::Throttle;
use super::watch::PollWatch;
use super::worker::Worker;
use crate::eager::inline;
use crate::instrument::hooks::{AmbientsOnly, HooksAndRoot, HooksSlot, RuntimeHooks, Wrapper};
use crate::io::driver::{Driver, LazyDriver};
use crate::scheduler::blocking::Pool;
use crate::slab::{self, Class, Heap, SPARE, SlotHead, Tidied};
use crate::task::cell::{self, Begin, Header, OnSpawn, Parts, Runnable, Spawned, TaskRef};
use crate::task::join_handle::JoinHandle;
use crate::task::{Schedule, TaskMeta};
use crate::time::Timers;
use crate::util::counters::{self, Counters, Ending};
use crate::util::idle_condvar::IdleCondvar;
use crate::util::threads::Guest;

/// What happens when a task panics, besides its joiner being told.
///
/// A panic that no joiner will see, because the task is detached or the process aborts, is reported
/// on standard error: the task's name, where it was spawned, the message, and the context variables
/// that opted in to a text (`debug = Debug`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// Nothing: a panicking task harms only its joiner.
    #[default]
    Isolate,
    /// The process aborts.
    Abort,
}

/// A thread that looks at the runtime from outside.
pub(crate) struct Helper {
    /// Dropped, it ends the thread.
    pub(crate) ends: Box<dyn Send>,
    pub(crate) thread: std::thread::JoinHandle<()>,
}

/// Tasks that belong to no runtime, and are listed by the dumps of one.
pub(crate) trait ListedTasks: Send + Sync {
    fn heap(&self) -> &Heap;
}

/// The part of a worker that other threads use.
pub(crate) struct Remote {
    pub(crate) stealer: Stealer<Runnable>,
    pub(crate) unparker: Unparker,
    pub(crate) counters: CachePadded<Counters>,
    /// There if a watchdog watches the polls.
    pub(crate) watch: Option<Box<CachePadded<PollWatch>>>,
}

/// Number of heaps for all other threads. Several, so that two such threads seldom use the same.
pub(crate) const SHARED_HEAPS: usize = 4;

pub(crate) struct Shared {
    pub(crate) injector: Injector<Runnable>,
    pub(crate) remotes: Box<[Remote]>,
    pub(crate) sleepers: CachePadded<Sleepers>,
    /// How many workers are throttled.
    pub(crate) throttle: Throttle,
    /// One per worker, then [`SHARED_HEAPS`] for all other threads.
    pub(crate) heaps: Box<[CachePadded<Heap>]>,
    /// Whose tasks dumps list besides those in `heaps`.
    pub(crate) listed: StdMutex<Vec<Weak<dyn ListedTasks>>>,
    /// What other threads than the workers have done.
    pub(crate) non_workers: CachePadded<Counters>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) io: LazyDriver,
    pub(crate) blocking: Arc<Pool>,
    pub(crate) given: HooksSlot,
    /// For the runtime without threads: hands a task that is still pending after its first poll to
    /// another runtime.
    pub(crate) adopt: Option<fn(Runnable)>,
    pub(crate) on_panic: PanicPolicy,
    pub(crate) guest: Option<Arc<dyn Guest>>,
    #[cfg(debug_assertions)]
    pub(crate) report_mistakes: bool,
    /// A watchdog reports long polls.
    #[cfg(debug_assertions)]
    pub(crate) watched: bool,
    /// How long an idle worker searches before it parks.
    pub(crate) search: Duration,
    /// S1: no further task is accepted.
    pub(crate) closing: AtomicBool,
    /// S3, S4: no further poll begins.
    pub(crate) closed: AtomicBool,
    /// The worker threads, for the thread that ends the runtime.
    pub(crate) threads: StdMutex<Vec<std::thread::JoinHandle<()>>>,
    /// Threads that are not workers, each with what ends it when it is dropped.
    pub(crate) helpers: StdMutex<Vec<Helper>>,
    pub(crate) shutdown_lock: ShutdownLock,
    /// Where `wait_until_idle` and `shutdown` wait.
    pub(crate) idle_condvar: IdleCondvar,
}

/// Admits one thread at a time to end the runtime. A thread that holds the lock may lock it again.
#[derive(Default)]
pub(crate) struct ShutdownLock {
    mutex: StdMutex<()>,
    /// The [number](current::thread_number) of the thread that holds the lock.
    holder: AtomicUsize,
}

/// The lock, until this is dropped.
pub(crate) struct ShutdownGuard<'a>(Option<(&'a ShutdownLock, MutexGuard<'a, ()>)>);

impl ShutdownLock {
    pub(crate) fn lock(&self) -> ShutdownGuard<'_> {
        // Only a thread itself stores its own number, so a thread that reads its own number holds
        // the lock.
        let me = current::thread_number();
        if self.holder.load(Relaxed) == me {
            return ShutdownGuard(None);
        }
        let guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        self.holder.store(me, Relaxed);
        ShutdownGuard(Some((self, guard)))
    }
}

impl ShutdownGuard<'_> {
    /// Whether this thread held the lock before.
    pub(crate) fn is_nested(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for ShutdownGuard<'_> {
    fn drop(&mut self) {
        if let Some((lock, _)) = &self.0 {
            lock.holder.store(0, Relaxed);
        }
    }
}

fn drop_all(steal: impl Fn() -> Steal<Runnable>) {
    loop {
        match steal() {
            Steal::Success(task) => drop(task),
            Steal::Retry => {}
            Steal::Empty => return,
        }
    }
}

impl Shared {
    /// P2 to P5: there may be work for one more worker.
    pub(crate) fn notify(&self) {
        if let Some(worker) = self.sleepers.notify() {
            self.unpark(worker);
        }
    }

    /// K4: has a sleeper become the keeper, if there is none.
    pub(crate) fn hand_over_time(&self) {
        if let Some(worker) = self.sleepers.hand_over_time() {
            self.unpark(worker);
        }
    }

    /// Unparks the keeper, because there is an earlier deadline.
    pub(crate) fn wake_keeper(&self) {
        if let Some(worker) = self.sleepers.keeper() {
            self.unpark(worker);
        }
    }

    /// P5: unparks a worker, on its parker or in the poll.
    pub(crate) fn unpark(&self, worker: usize) {
        match self.remotes[worker].unparker.unpark() {
            UnparkAction::Done | UnparkAction::Unpark => {}
            UnparkAction::WakePoll => {
                self.io.wake();
            }
        }
    }

    /// The I/O driver, if it has started and has not ended.
    #[inline]
    pub(crate) fn running_driver(&self) -> Option<&Arc<Driver>> {
        self.io.get().filter(|driver| !driver.has_ended())
    }

    #[inline]
    pub(crate) fn has_driver(&self) -> bool {
        self.running_driver().is_some()
    }

    /// The I/O driver; the first call starts it.
    #[cfg_attr(not(feature = "net"), allow(dead_code))]
    pub(crate) fn driver(&self) -> std::io::Result<Arc<Driver>> {
        if self.timers.clock().as_manual().is_some() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::Unsupported,
                "in virtual time there are no sockets and no signals, since the machine does not wait for the clock \
                 of the runtime: give the code under test something in memory, such as `futures::io::Cursor` or a \
                 channel, or run it in real time",
            ));
        }
        let driver = self.io.get_or_start(|| self.notify_keeper())?;
        // Pairs with the fence in `Runtime::end`: either that thread sees the driver and ends it,
        // or this thread sees `closed`.
        fence(SeqCst);
        if self.closed.load(Relaxed) {
            driver.end();
        }
        Ok(driver)
    }

    /// The context in which background tasks start.
    pub(crate) fn root(&self) -> Context {
        self.with_given(|given| given.map_or(Context::empty(), |given| given.root.clone()))
    }

    /// Calls `f` with the settings of the builder, or none when the runtime has ended. A worker
    /// reads them without a count.
    pub(crate) fn with_given<R>(&self, f: impl FnOnce(Option<&HooksAndRoot>) -> R) -> R {
        if self.given.is_empty() {
            return f(None);
        }
        current::with_worker(self, |worker| match worker {
            Some(worker) => f(worker.given()),
            None => f(self.given.get().as_deref()),
        })
    }

    /// Calls `f` with the hooks, if there are any that do something.
    #[inline]
    pub(crate) fn with_hooks<R>(&self, f: impl FnOnce(Option<&Arc<RuntimeHooks>>) -> R) -> R {
        if !self.given.has_hooks() {
            return f(None);
        }
        self.with_given(|given| f(given.and_then(|given| given.hooks.as_ref())))
    }

    /// HK8.
    ///
    /// # Safety
    /// The caller has a reference of the task.
    pub(crate) unsafe fn tell_of_wake_up(&self, task: NonNull<Header>) {
        if self.given.tells_of_wake_ups() {
            self.with_hooks(|hooks| {
                if let Some(hooks) = hooks {
                    // SAFETY: the reference outlives this call.
                    unsafe { TaskMeta::lend(task, |task| hooks.woken(task)) }
                }
            });
        }
    }

    /// Whether this is the runtime without threads, for tasks that are run eagerly outside of all
    /// runtimes.
    pub(crate) fn is_threadless(&self) -> bool {
        self.remotes.is_empty() && !self.closed.load(Relaxed)
    }

    /// How many polls the workers have made.
    pub(crate) fn poll_count(&self) -> u64 {
        self.remotes.iter().map(|remote| remote.counters.polls.load(Relaxed)).sum()
    }

    /// Whether there is work that a worker could take.
    pub(crate) fn has_work(&self) -> bool {
        !self.injector.is_empty() || self.remotes.iter().any(|remote| !remote.stealer.is_empty())
    }

    pub(crate) fn inject(&self, task: Runnable) {
        if let Some(adopt) = self.adopt.filter(|_| self.is_threadless()) {
            // A cancelled task needs no runtime: the drop of the runnable ends it.
            if !task.header().state.is_cancelled() {
                adopt(task);
            }
            return;
        }
        // P1.
        self.injector.push(task);
        self.notify();
        // S3. Pairs with `Runtime::end`, which sets `closed`, then fences and drains: the fence of
        // P2 lies between the push and this load, so either that thread finds the task, or this
        // thread sees `closed`.
        if self.closed.load(Relaxed) {
            self.drain();
        }
    }

    /// Takes a task that was woken by a thread that is not a worker.
    fn wake(&self, task: Runnable) {
        Counters::add_shared(&self.non_workers.wake_ups);
        self.inject(task);
    }

    /// Drops the runnables in the injector, which cancels the tasks.
    pub(crate) fn drain(&self) {
        drop_all(|| self.injector.steal());
    }

    /// The heap for this thread, which is not a worker.
    pub(crate) fn shared_heap(&self) -> &Heap {
        &self.heaps[self.remotes.len() + current::thread_number() % SHARED_HEAPS]
    }

    /// The heaps for all threads that are not workers.
    fn shared_heaps(&self) -> &[CachePadded<Heap>] {
        &self.heaps[self.remotes.len()..]
    }

    /// Whether a shared heap is to be tidied.
    pub(crate) fn is_shared_heap_untidy(&self) -> bool {
        self.shared_heaps().iter().any(|heap| heap.is_untidy())
    }

    /// Tidies the shared heaps. Returns whether there is more to be done at once.
    pub(crate) fn tidy_shared_heaps(&self) -> bool {
        let mut more = false;
        for heap in self.shared_heaps().iter().filter(|heap| heap.is_untidy()) {
            // SAFETY: `self` keeps the heap, which has no owner.
            more |= unsafe { heap.tidy_unowned() } == Tidied::Partly;
        }
        more
    }

    /// Unparks the keeper after a change that the keeper looks at before it sleeps: the I/O driver
    /// has started, or a shared heap has become untidy.
    #[cold]
    fn notify_keeper(&self) {
        if let Some(worker) = self.sleepers.keeper_after_change() {
            self.unpark(worker);
        }
    }

    /// Leaves the heap of this thread at rest, after an eager call outside of all runtimes: the
    /// tasks that the call has spawned are mostly done.
    pub(crate) fn rest_shared_heap(&self) {
        let heap = self.shared_heap();
        if heap.exceeds(SPARE) && heap.is_untidy() {
            // SAFETY: `self` keeps the heap, which has no owner.
            unsafe { heap.rest_unowned(SPARE) }
        }
    }

    /// The counters of all workers, then those that all other threads share.
    pub(crate) fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.remotes.iter().map(|remote| &*remote.counters).chain([&*self.non_workers])
    }

    /// How many tasks have ended, by how they ended.
    pub(crate) fn ended(&self) -> [u64; 3] {
        [Ending::Returned, Ending::Panicked, Ending::Cancelled]
            .map(|ending| counters::sum(self.counters(), |counters| counters.ended(ending)))
    }

    /// How many tasks there are: at least the tasks that were not done when the call began.
    pub(crate) fn task_count(&self) -> usize {
        // The ended tasks first, with acquire: a task that ends in between is still counted, and a
        // task whose end is seen was counted as spawned before.
        let ended: u64 = self.ended().iter().sum();
        let spawned = counters::sum(self.counters(), |counters| &counters.spawned);
        spawned.saturating_sub(ended) as usize
    }

    /// References of all tasks that are not done.
    pub(crate) fn tasks(&self) -> Vec<TaskRef> {
        self.heaps.iter().flat_map(|heap| TaskRef::all(heap)).collect()
    }

    /// Has dumps list these tasks, too.
    pub(crate) fn list(&self, tasks: Weak<dyn ListedTasks>) {
        let mut listed = self.listed();
        if listed.len() == listed.capacity() {
            // Twice as many as there are may come before the next look at all of them.
            listed.retain(|tasks| tasks.strong_count() != 0);
            let room = listed.len() + 1;
            listed.reserve(room);
        }
        listed.push(tasks);
    }

    /// Calls `f` with each heap whose tasks a dump lists.
    pub(crate) fn each_listed_heap(&self, mut f: impl FnMut(&Heap)) {
        self.heaps.iter().for_each(|heap| f(heap));
        let listed = self.listed().clone();
        listed.iter().filter_map(Weak::upgrade).for_each(|tasks| f(tasks.heap()));
    }

    fn listed(&self) -> MutexGuard<'_, Vec<Weak<dyn ListedTasks>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all workers sleep, and no task is queued or being polled.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = || self.blocking.is_idle() && self.sleepers.are_all_asleep() && !self.has_work();
        // Twice: a task that moved from one place to another in between is seen in one of the two
        // looks.
        self.closed.load(SeqCst) || (idle() && idle())
    }
}

/// The scheduler of tasks that workers poll.
pub(crate) struct Workers;

impl Schedule for Workers {
    type Shared = Shared;

    fn schedule(shared: &Shared, task: Runnable) {
        current::with_worker(shared, |worker| match worker {
            Some(worker) => worker.wake(task),
            None => shared.wake(task),
        });
    }

    #[inline(always)]
    unsafe fn wake(task: NonNull<Header>) {
        // SAFETY: the reference was counted for a runnable, and the task's page keeps the shared
        // part. A worker keeps it, too. On any other thread, the worker that takes the task from
        // the injector may end the task and the runtime during the call; so `keep` holds the task
        // until `Shared::wake` has returned.
        unsafe {
            let shared: *const Shared = slab::shared_of(task.cast());
            let task = Runnable::from_raw(task);
            current::with_worker(shared, |worker| match worker {
                Some(worker) => worker.wake(task),
                None => {
                    let keep = task.reference();
                    (*shared).wake(task);
                    drop(keep);
                }
            });
        }
    }

    unsafe fn wake_and_tell(task: NonNull<Header>) {
        // SAFETY: the reference that was counted for the runnable keeps the task, its page and the
        // shared part, and is given up by `wake`.
        unsafe {
            let shared: *const Shared = slab::shared_of(task.cast());
            (*shared).tell_of_wake_up(task);
            Self::wake(task);
        }
    }

    #[inline]
    fn launch(shared: &Shared, task: Runnable) {
        current::with_worker(shared, |worker| match worker {
            // If this worker does not see S1 yet, it cancels the task in S4.
            Some(worker) if !shared.closing.load(Relaxed) => worker.push_next(task),
            // The drop of the runnable cancels the task.
            Some(_) => drop(task),
            None => {
                // S1. Pairs with the fence in `Runtime::end`: either S2 finds the task, or S1 is
                // seen here.
                fence(SeqCst);
                // The spawner keeps the shared part.
                if shared.closing.load(Relaxed) { drop(task) } else { shared.inject(task) }
            }
        });
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: the slot keeps its page, and the page the shared part, until the slot is freed; a
        // worker keeps the shared part, too.
        unsafe {
            let shared: *const Shared = slab::shared_of(task.cast());
            current::with_worker(shared, |worker| {
                slab::free::<Shared>(task.cast(), worker.map(Worker::heap))
            });
        }
    }

    fn ending(shared: &Shared, ending: Ending) {
        current::with_worker(shared, |worker| match worker {
            Some(worker) => Counters::add(worker.remote().counters.ended(ending)),
            None => Counters::add_shared(shared.non_workers.ended(ending)),
        });
        if shared.closing.load(Relaxed) {
            shared.idle_condvar.notify();
        }
    }

    fn aborts_on_panic(shared: &Shared) -> bool {
        shared.on_panic == PanicPolicy::Abort
    }

    #[cfg(debug_assertions)]
    fn reports_mistakes(shared: &Shared) -> bool {
        shared.report_mistakes && !shared.closing.load(Relaxed)
    }

    /// A watchdog reports them better.
    #[cfg(debug_assertions)]
    fn reports_long_polls(shared: &Shared) -> bool {
        !shared.watched && Workers::reports_mistakes(shared)
    }
}

/// Spawns a task on a runtime. If the runtime is being shut down, the task is cancelled.
#[inline]
pub(crate) fn launch<F, S>(
    shared: &Arc<Shared>,
    future: F,
    parts: impl FnOnce() -> Parts,
) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
    S: Schedule<Shared = Shared>,
{
    // `parts` may run user code, so it is called before anything is taken.
    let parts = parts();
    if !shared.given.wraps_tasks() {
        return spawn_task::<F, S, _>(shared, future, parts, &());
    }
    if shared.given.inspected || shared.given.has_hooks() {
        return launch_with_hooks::<F, S>(shared, future, parts);
    }
    spawn_task::<F, S, _>(shared, future, parts, &AmbientsOnly(&shared.given.ambients))
}

#[inline(never)]
fn launch_with_hooks<F, S>(shared: &Arc<Shared>, future: F, parts: Parts) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
    S: Schedule<Shared = Shared>,
{
    shared.with_hooks(|hooks| {
        let wrapper = Wrapper::new(&shared.given, hooks);
        spawn_task::<F, S, _>(shared, future, parts, &wrapper)
    })
}

/// Neither the parts nor the future are moved through a call: a value that is written in pieces and
/// then copied as a whole makes the processor wait.
#[inline(always)]
fn spawn_task<F, S, O>(shared: &Arc<Shared>, future: F, parts: Parts, on_spawn: &O) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
    S: Schedule<Shared = Shared>,
    O: OnSpawn<F, Stored: Send + 'static>,
{
    let begin = parts.begin;
    // SAFETY: slots of this class from heaps of this runtime; the future and its output are `Send`.
    let Spawned { runnable, join } = unsafe {
        let slot = current::with_worker(&**shared, |worker| match worker {
            Some(worker) => {
                let (heap, owner) = worker.heap();
                Counters::add(&worker.remote().counters.spawned);
                heap.take(owner, cell::class::<O::Stored>(), shared)
            }
            None => take_shared(shared, cell::class::<O::Stored>()),
        });
        cell::spawn::<F, S, O>(slot, future, parts, on_spawn)
    };
    on_spawn.spawned(&runnable);
    if begin == Begin::Queued {
        S::launch(shared, runnable);
    } else {
        start_inline(shared, runnable, begin, S::launch);
    }
    join
}

/// A slot for a thread that is not a worker. The function is not generic, so that the path of a
/// worker stays short.
///
/// # Safety
/// As [`Heap::take_locked`].
#[inline(never)]
unsafe fn take_shared(shared: &Arc<Shared>, class: &Class) -> NonNull<SlotHead> {
    Counters::add_shared(&shared.non_workers.spawned);
    // SAFETY: the heap is part of `shared`, and has no owner; the result is used as
    // `Heap::take_locked` demands.
    let (slot, untidy) = unsafe { shared.shared_heap().take_locked(class, shared) };
    if untidy {
        shared.notify_keeper();
    }
    slot
}

/// Polls a new task on this thread.
#[cold]
fn start_inline(shared: &Arc<Shared>, task: Runnable, begin: Begin, launch: fn(&Shared, Runnable)) {
    // S1. Pairs with the fence in `Runtime::end`: either S2 finds the task, or S1 is seen here.
    fence(SeqCst);
    if shared.closing.load(Relaxed) {
        return drop(task);
    }
    // The task's leaves use the timers of its runtime, and its children the workers. The runtime
    // without threads is never entered.
    let elsewhere = !shared.remotes.is_empty() && !current::is_current(shared);
    let _entered = elsewhere.then(|| current::enter(shared));
    inline::start_task(task, begin, |task| launch(shared, task));
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("workers", &self.remotes.len()).finish_non_exhaustive()
    }
}
