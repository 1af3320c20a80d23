//! What the workers of a runtime, its handles and its tasks share.

use std::fmt;
use std::future::Future;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_deque::{Injector, Steal, Stealer};
use crossbeam_utils::CachePadded;
use heirloom_context::Context;

use super::current;
use super::parker::{Call, Unparker};
use super::sleepers::Sleepers;
use super::throttle::Throttle;
use super::worker::Worker;
use crate::eager::inline as start_inline;
use crate::instrument::hooks::{Company, Given, accompany};
#[cfg(feature = "net")]
use crate::io::driver::{Driver, Slot};
use crate::scheduler::blocking::Pool;
use crate::slab::{self, Class, Heap, SPARE, SlotHead, Tidied};
use crate::task::Schedule;
use crate::task::cell::{self, Begin, Header, Parts, Runnable, Spawned, TaskRef};
use crate::task::join_handle::JoinHandle;
use crate::time::Timers;
use crate::util::idle_condvar::IdleCondvar;

/// What happens when a task panics, besides its joiner being told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// Nothing: a panicking task harms only its joiner.
    #[default]
    Isolate,
    /// The process aborts.
    Abort,
}

/// Of a worker, what others see.
pub(crate) struct Remote {
    pub(crate) stealer: Stealer<Runnable>,
    pub(crate) unparker: Unparker,
    pub(crate) counters: CachePadded<Counters>,
}

/// What a worker has done. Written by it alone.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) polls: AtomicU64,
    pub(crate) steals: AtomicU64,
    pub(crate) parks: AtomicU64,
    pub(crate) spawned: AtomicU64,
    pub(crate) ended: AtomicU64,
}

/// Of all threads that are none of the workers.
#[derive(Default)]
pub(crate) struct Outside {
    spawned: AtomicU64,
    ended: AtomicU64,
}

/// Heaps for all threads that are none of the workers. More than one, so that two such threads seldom meet.
pub(crate) const OUTSIDE: usize = 4;

impl Counters {
    #[inline]
    pub(crate) fn add(counter: &AtomicU64) {
        // One writer: no read-modify-write needed.
        counter.store(counter.load(Relaxed) + 1, Release);
    }
}

pub(crate) struct Shared {
    pub(crate) injector: Injector<Runnable>,
    pub(crate) remotes: Box<[Remote]>,
    pub(crate) sleepers: CachePadded<Sleepers>,
    /// How many workers are throttled.
    pub(crate) throttle: Throttle,
    /// One per worker, then [`OUTSIDE`] for all other threads.
    pub(crate) heaps: Box<[CachePadded<Heap>]>,
    /// What other threads than the workers have done.
    pub(crate) outside: CachePadded<Outside>,
    pub(crate) timers: Arc<Timers>,
    #[cfg(feature = "net")]
    pub(crate) io: Slot,
    pub(crate) blocking: Arc<Pool>,
    pub(crate) given: Given,
    /// Of the runtime without threads: hands a task that has not ended where it was spawned to another runtime.
    pub(crate) adopt: Option<fn(Runnable)>,
    pub(crate) on_panic: PanicPolicy,
    /// How long an idle worker searches on.
    pub(crate) search: Duration,
    /// S1: no further tasks.
    pub(crate) closing: AtomicBool,
    /// S3, S4: no further work.
    pub(crate) closed: AtomicBool,
    /// The workers, for whoever ends the runtime.
    pub(crate) threads: StdMutex<Vec<std::thread::JoinHandle<()>>>,
    pub(crate) enders: Turns,
    /// Where `wait_until_idle` and `shutdown` wait.
    pub(crate) idle_condvar: IdleCondvar,
}

/// Of several threads that want to do the same, one at a time; none waits for itself.
#[derive(Default)]
pub(crate) struct Turns {
    turn: StdMutex<()>,
    /// The [number](current::thread_number) of the thread whose turn it is.
    whose: AtomicUsize,
}

/// A thread's turn, until this is dropped.
pub(crate) struct Turn<'a>(Option<(&'a Turns, MutexGuard<'a, ()>)>);

impl Turns {
    pub(crate) fn begin(&self) -> Turn<'_> {
        // Only a thread itself writes its own number, so if it finds that there, it is up to date.
        let me = current::thread_number();
        if self.whose.load(Relaxed) == me {
            return Turn(None);
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.whose.store(me, Relaxed);
        Turn(Some((self, turn)))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some((turns, _)) = &self.0 {
            turns.whose.store(0, Relaxed);
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
    /// P3 to P5: there may be work for one more.
    pub(crate) fn notify(&self) {
        if let Some(worker) = self.sleepers.notify() {
            self.unpark(worker);
        }
    }

    /// K4: makes a sleeper the keeper of the time, if there is no keeper.
    pub(crate) fn hand_over_time(&self) {
        if let Some(worker) = self.sleepers.hand_over_time() {
            self.unpark(worker);
        }
    }

    /// Wakes the worker that keeps the time, because there is an earlier deadline.
    pub(crate) fn wake_keeper(&self) {
        if let Some(worker) = self.sleepers.keeper() {
            self.unpark(worker);
        }
    }

    /// Gets a worker up, wherever it sleeps.
    pub(crate) fn unpark(&self, worker: usize) {
        match self.remotes[worker].unparker.unpark() {
            Call::Done | Call::Unpark => {}
            Call::WakePoll => {
                #[cfg(feature = "net")]
                self.io.wake();
            }
        }
    }

    /// The poll, if there is one and it has not ended.
    #[cfg(feature = "net")]
    #[inline]
    pub(crate) fn running_driver(&self) -> Option<&Arc<Driver>> {
        self.io.get().filter(|driver| !driver.has_ended())
    }

    #[inline]
    pub(crate) fn has_driver(&self) -> bool {
        #[cfg(feature = "net")]
        return self.running_driver().is_some();
        #[cfg(not(feature = "net"))]
        false
    }

    /// The poll; it begins when it is asked for first.
    #[cfg(feature = "net")]
    pub(crate) fn driver(&self) -> std::io::Result<Arc<Driver>> {
        let driver = self.io.get_or_start(|| self.tell_keeper())?;
        // Pairs with the fence in `Runtime::end`: either it ends what has begun, or the end is seen here.
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

    /// Calls `f` with what the builder was given, until the runtime has ended. A worker has it without
    /// a count.
    pub(crate) fn with_given<R>(&self, f: impl FnOnce(Option<&Company>) -> R) -> R {
        if self.given.is_nothing() {
            return f(None);
        }
        current::with_worker(self, |worker| match worker {
            Some(worker) => f(worker.given()),
            None => f(self.given.get().as_deref()),
        })
    }

    /// Whether it is that of tasks that are run eagerly outside of any runtime: nobody polls here.
    pub(crate) fn is_threadless(&self) -> bool {
        self.remotes.is_empty() && !self.closed.load(Relaxed)
    }

    /// Whether there is work that a worker could take.
    pub(crate) fn has_work(&self) -> bool {
        !self.injector.is_empty() || self.remotes.iter().any(|remote| !remote.stealer.is_empty())
    }

    pub(crate) fn inject(&self, task: Runnable) {
        if let Some(adopt) = self.adopt.filter(|_| self.is_threadless()) {
            // A task that is to be cancelled needs no runtime: it is, when it is dropped.
            if !task.header().state.is_cancelled() {
                adopt(task);
            }
            return;
        }
        // P1.
        self.injector.push(task);
        self.notify();
        // S3. The other half is in `drain`'s caller: it closes, then drains. One of the two sees the task: the fence of P2 comes
        // before this look, and after the push.
        if self.closed.load(Relaxed) {
            self.drain();
        }
    }

    /// Drops what is in the injector: the tasks are cancelled.
    pub(crate) fn drain(&self) {
        drop_all(|| self.injector.steal());
    }

    /// The heap for this thread, which is none of the workers.
    pub(crate) fn outside_heap(&self) -> &Heap {
        &self.heaps[self.remotes.len() + current::thread_number() % OUTSIDE]
    }

    /// The heaps for all threads that are none of the workers.
    fn outside_heaps(&self) -> &[CachePadded<Heap>] {
        &self.heaps[self.remotes.len()..]
    }

    /// Whether a heap for other threads than the workers is to be tidied.
    pub(crate) fn is_outside_untidy(&self) -> bool {
        self.outside_heaps().iter().any(|heap| heap.is_untidy())
    }

    /// Tidies the heaps for other threads than the workers. Whether there is more to be done at
    /// once.
    pub(crate) fn tidy_outside(&self) -> bool {
        let mut more = false;
        for heap in self.outside_heaps().iter().filter(|heap| heap.is_untidy()) {
            // SAFETY: the caller keeps what is shared.
            more |= unsafe { heap.tidy_unowned() } == Tidied::Partly;
        }
        more
    }

    /// Something has changed that the worker that keeps the time looks at before it sleeps: there
    /// is a poll, or a heap for other threads has become untidy.
    #[cold]
    fn tell_keeper(&self) {
        if let Some(worker) = self.sleepers.keeper_after_change() {
            self.unpark(worker);
        }
    }

    /// An eager call outside of all runtimes is over, and with it what it has spawned, as a rule.
    /// This is where such tasks live.
    pub(crate) fn end_of_call(&self) {
        let heap = self.outside_heap();
        if heap.exceeds(SPARE) && heap.is_untidy() {
            // SAFETY: the caller keeps what is shared.
            unsafe { heap.rest_unowned(SPARE) }
        }
    }

    /// How many tasks there are; at least so many as were not over when it was called.
    pub(crate) fn task_count(&self) -> usize {
        let sum = |count: fn(&Counters) -> &AtomicU64, outside: &AtomicU64| {
            let workers: u64 = self.remotes.iter().map(|remote| count(&remote.counters).load(Acquire)).sum();
            workers + outside.load(Acquire)
        };
        // The ended ones first: what ends in between is counted still.
        let ended = sum(|counters| &counters.ended, &self.outside.ended);
        let spawned = sum(|counters| &counters.spawned, &self.outside.spawned);
        spawned.saturating_sub(ended) as usize
    }

    /// References to all tasks that are not over.
    pub(crate) fn tasks(&self) -> Vec<TaskRef> {
        self.heaps.iter().flat_map(|heap| TaskRef::all(&heap)).collect()
    }

    /// Whether all workers sleep and nothing is queued or being run.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = || self.blocking.is_idle() && self.sleepers.is_everyone_asleep() && !self.has_work();
        // Twice: what moved from one place to another in between is seen in one of the two.
        self.closed.load(SeqCst) || (idle() && idle())
    }
}

/// The scheduler of tasks that workers poll.
pub(crate) struct Workers;

impl Schedule for Workers {
    type Shared = Shared;

    fn schedule(shared: &Shared, task: Runnable) {
        current::with_worker(shared, |worker| match worker {
            Some(worker) => worker.push_next(task),
            None => shared.inject(task),
        });
    }

    unsafe fn wake(task: NonNull<Header>) {
        // SAFETY: says the caller. A worker keeps what is shared. Else whoever takes the task from the injector may end it, and
        // the runtime, while we are in here; so the task is kept, and given up when nobody borrows what it keeps.
        unsafe {
            let shared: *const Shared = slab::shared_of(task.cast());
            let task = Runnable::from_raw(task);
            current::with_worker(shared, |worker| match worker {
                Some(worker) => worker.push_next(task),
                None => {
                    let keep = task.reference();
                    (*shared).inject(task);
                    drop(keep);
                }
            });
        }
    }

    #[inline]
    fn launch(shared: &Shared, task: Runnable) {
        current::with_worker(shared, |worker| match worker {
            // If it does not see yet that the runtime is being closed, it looks through its heap when it ends.
            Some(worker) if !shared.closing.load(Relaxed) => worker.push_next(task),
            // Dropped, it is cancelled.
            Some(_) => drop(task),
            None => {
                // Pairs with the fence in `Runtime::end`: either this task is seen there, or that it is closed here.
                fence(SeqCst);
                // Whoever spawns keeps what is shared.
                if shared.closing.load(Relaxed) { drop(task) } else { shared.inject(task) }
            }
        });
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: says the caller. A worker keeps what is shared.
        unsafe {
            let shared: *const Shared = slab::shared_of(task.cast());
            current::with_worker(shared, |worker| {
                slab::free::<Shared>(task.cast(), worker.map(Worker::heap))
            });
        }
    }

    fn ending(shared: &Shared) {
        current::with_worker(shared, |worker| match worker {
            Some(worker) => Counters::add(&worker.remote().counters.ended),
            None => {
                shared.outside.ended.fetch_add(1, Release);
            }
        });
        if shared.closing.load(Relaxed) {
            shared.idle_condvar.notify();
        }
    }

    fn panicked(shared: &Shared) {
        if shared.on_panic == PanicPolicy::Abort {
            std::process::abort();
        }
    }
}

/// Spawns a task on a runtime; if that is being shut down, the task is cancelled.
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
    if !shared.given.accompanies() {
        return begin::<F, S>(shared, future, parts, |_| {});
    }
    launch_accompanied::<F, S>(shared, future, parts())
}

#[inline(never)]
fn launch_accompanied<F, S>(shared: &Arc<Shared>, future: F, parts: Parts) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
    S: Schedule<Shared = Shared>,
{
    shared.with_given(|company| {
        let (accompanied, spawned) = accompany(company, future, &parts);
        begin::<_, S>(shared, accompanied, || parts, spawned)
    })
}

#[inline]
fn begin<F, S>(
    shared: &Arc<Shared>,
    future: F,
    parts: impl FnOnce() -> Parts,
    spawned: impl FnOnce(&Runnable),
) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
    S: Schedule<Shared = Shared>,
{
    // Made first, for it may run users' code; and not before it is needed. Neither it nor the future is moved through a
    // closure: what was written in pieces and is then copied as a whole makes the processor wait.
    let parts = parts();
    let begin = parts.begin;
    // SAFETY: slots of this class from heaps of this runtime; the future and its output are `Send`.
    let Spawned { runnable, join } = unsafe {
        let slot = current::with_worker(&**shared, |worker| match worker {
            Some(worker) => {
                let (heap, owner) = worker.heap();
                Counters::add(&worker.remote().counters.spawned);
                heap.take(owner, cell::class::<F>(), shared)
            }
            None => take_outside(shared, cell::class::<F>()),
        });
        cell::spawn::<F, S>(slot, future, parts)
    };
    spawned(&runnable);
    if begin == Begin::Queued {
        S::launch(shared, runnable);
    } else {
        begin_here(shared, runnable, begin, S::launch);
    }
    join
}

/// A slot for a thread that is no worker. One function for all futures, so that the way of a worker
/// stays short.
///
/// # Safety
/// As [`Heap::take_locked`].
#[inline(never)]
unsafe fn take_outside(shared: &Arc<Shared>, class: &Class) -> NonNull<SlotHead> {
    shared.outside.spawned.fetch_add(1, Release);
    // SAFETY: the heap is part of what is shared, and has no owner; the caller promises the rest.
    let (slot, untidy) = unsafe { shared.outside_heap().take_locked(class, shared) };
    if untidy {
        shared.tell_keeper();
    }
    slot
}

/// Begins a task on this thread.
#[cold]
fn begin_here(shared: &Arc<Shared>, task: Runnable, begin: Begin, launch: fn(&Shared, Runnable)) {
    // Pairs with the fence in `Runtime::end`: either this task is seen there, or that it is closed here.
    fence(SeqCst);
    if shared.closing.load(Relaxed) {
        return drop(task);
    }
    // Its leaves find its runtime's timers, and its own children its workers. The one without threads is nobody's.
    let elsewhere = !shared.remotes.is_empty() && !current::is_current(shared);
    let _entered = elsewhere.then(|| current::enter(shared));
    start_inline::begin(task, begin, |task| launch(shared, task));
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("workers", &self.remotes.len()).finish_non_exhaustive()
    }
}
