//! A pool of threads for closures that block.
//!
//! # Terms
//!
//! * A *blocking closure* is a task whose future calls the closure at its first poll. The pool is
//!   its scheduler.
//! * The *queue* holds the closures that have no thread yet. It has no bound: see
//!   [`Stats::blocking_queued`](crate::runtime::Stats::blocking_queued).
//! * The *cap* is the most threads the pool may have; the *keep-alive* is how long an idle thread
//!   stays.
//! * A *notified* thread is idle and was told of a closure that it has not taken yet.
//! * A *sweep* takes the cancelled closures out of the queue.
//!
//! # States
//!
//! A thread of the pool is **running** a closure, **idle**, or **notified**. The pool is **open**
//! until its runtime ends, then **closed**.
//!
//! # Transitions
//!
//! | step | event | function | effect |
//! | --- | --- | --- | --- |
//! | BL1 | a closure is spawned or woken | `Pool::submit` | queues it; a closed pool drops it, which cancels it |
//! | BL2 | there is an idle thread that was not notified | `Pool::submit` | idle -> notified |
//! | BL3 | there is none, and fewer threads than the cap | `Pool::submit` | starts a thread |
//! | BL4 | a thread looks at the queue | `Pool::run` | takes the first closure: -> running; or the queue is empty: -> idle |
//! | BL5 | an idle thread's keep-alive is over | `Pool::run` | the thread ends, unless it was notified or the queue has a closure |
//! | BL6 | the queue is twice as long as after the last sweep | `PoolState::sweep` | hands the cancelled closures to workers, which drop them |
//! | BL7 | the runtime ends | `Pool::close` | open -> closed; drops the queue; waits for the threads until the deadline, if there is one |
//!
//! # Why nothing is lost
//!
//! The queue and all counts are under one lock. BL1 to BL3 leave a queued closure with a notified
//! thread, a new thread, or as many threads as the cap allows, each of which looks at the queue
//! (BL4) before it is idle. BL6 keeps a pool whose threads are all stuck from collecting closures
//! that were cancelled. If the operating system refuses a thread (BL3), the closure waits for the
//! other threads; if there are none, the queue is cancelled with
//! [`NoThread`](crate::task::CancelReason::NoThread): no join handle stays without an answer.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::clock::{Hold, ManualClock, ThreadHold};
use crate::eager;
use crate::scheduler::current;
use crate::scheduler::shared::{Shared, Workers};
use crate::slab;
use crate::task::cell::{Header, Runnable};
use crate::task::join_handle::CancelReason;
use crate::task::{Schedule, budget};
use crate::util::counters::Ending;
use crate::util::histogram::AtomicHistogram;
use crate::util::panic::swallow;
use crate::util::room;
use crate::util::threads::Threads;

pub(crate) struct Pool {
    state: Mutex<PoolState>,
    /// Notified by BL2, BL7, and a thread that ends.
    changed: Condvar,
    cap: usize,
    keep_alive: Duration,
    /// How long closures have waited for a thread, if the runtime is inspected. Written under the
    /// lock of the state.
    waits: Option<Box<AtomicHistogram>>,
    /// The clock of the runtime, in virtual time.
    clock: Option<Arc<ManualClock>>,
}

/// A closure in the queue. In virtual time, it has a hold until it has run and its joiner is woken.
struct Queued {
    task: Runnable,
    hold: Hold,
    /// Since when, if waits are recorded.
    since: Option<Instant>,
}

/// Numbers of a pool.
pub(crate) struct Load {
    pub(crate) threads: usize,
    pub(crate) queued: usize,
    pub(crate) taken: u64,
    pub(crate) held_up: u64,
}

#[derive(Default)]
struct PoolState {
    queue: VecDeque<Queued>,
    /// The length of the queue at which the next sweep is due.
    sweep_at: usize,
    /// Threads that were started and have not ended.
    threads: usize,
    /// Idle threads, the notified ones included.
    idle: usize,
    notified: usize,
    closed: bool,
    /// Closures that a thread has taken, and those that found all threads busy.
    taken: u64,
    held_up: u64,
    /// Starts threads, and holds the user's functions for them; `None` once the pool is closed.
    starter: Option<Arc<Threads>>,
}

/// The shortest queue that is swept.
const SWEEP_MIN: usize = 64;

impl PoolState {
    /// BL6. Takes out the cancelled closures, if the queue is twice as long as after the last
    /// sweep.
    fn sweep(&mut self) -> VecDeque<Queued> {
        if self.queue.len() < self.sweep_at.max(SWEEP_MIN) {
            return VecDeque::new();
        }
        let queue = std::mem::take(&mut self.queue);
        let (cancelled, rest) =
            queue.into_iter().partition(|queued| queued.task.header().state.is_cancelled());
        self.queue = rest;
        self.sweep_at = 2 * self.queue.len();
        cancelled
    }
}

impl Pool {
    pub(crate) fn new(
        threads: Threads,
        cap: usize,
        keep_alive: Duration,
        inspect: bool,
        clock: Option<Arc<ManualClock>>,
    ) -> Pool {
        let state = PoolState { starter: Some(Arc::new(threads)), ..PoolState::default() };
        let waits = inspect.then(Box::default);
        Pool { state: Mutex::new(state), changed: Condvar::new(), cap: cap.max(1), keep_alive, waits, clock }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// BL1 to BL3. Returns cancelled closures, which are to be dropped on workers.
    #[must_use]
    fn submit(self: &Arc<Self>, task: Runnable) -> VecDeque<Queued> {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            // Dropped, it is cancelled.
            drop(task);
            return VecDeque::new();
        }
        let since = self.waits.as_ref().map(|_| Instant::now());
        state.queue.push_back(Queued { task, hold: Hold::new(self.clock.as_ref()), since });
        let cancelled = state.sweep();
        if state.idle > state.notified {
            state.notified += 1;
            drop(state);
            self.changed.notify_one();
            return cancelled;
        }
        if state.threads == self.cap {
            state.held_up += 1;
            return cancelled;
        }
        let Some(starter) = state.starter.clone() else { return cancelled };
        state.threads += 1;
        drop(state);
        let pool = Arc::clone(self);
        let started = starter.start("blocking", move || pool.run());
        // `close` may have dropped the other count: then the user's destructors run here.
        swallow(|| drop(starter));
        if started.is_err() {
            let mut state = self.lock();
            state.threads -= 1;
            // The other threads take what is queued. Without any, it is cancelled.
            let orphans = if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
            drop(state);
            for Queued { task, hold, since: _ } in orphans {
                task.header().about.set_reason(CancelReason::NoThread);
                drop(task);
                drop(hold);
            }
        }
        cancelled
    }

    /// BL4 and BL5: what each thread of the pool runs.
    fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(Queued { task, hold, since }) = state.queue.pop_front() {
                room::trim(&mut state.queue);
                state.taken += 1;
                if let (Some(waits), Some(since)) = (&self.waits, since) {
                    waits.record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
                drop(state);
                let acting = ThreadHold::of_closure(&hold);
                let woken = task.run().map(|task| Queued { task, hold, since: None });
                drop(acting);
                state = self.lock();
                // A closure is done at its first poll. A task that was woken in it is not, and is
                // polled again.
                state.queue.extend(woken);
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (guard, timeout) =
                self.changed.wait_timeout(state, self.keep_alive).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            let notified = state.notified > 0;
            state.notified = state.notified.saturating_sub(1);
            if timeout.timed_out() && !notified && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        drop(state);
        // `close` may be waiting.
        self.changed.notify_all();
    }

    /// BL7. Cancels the queued closures. With a deadline, waits for the threads until then.
    pub(crate) fn close(&self, deadline: Option<Instant>) {
        let mut state = self.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        let starter = state.starter.take();
        drop(state);
        self.changed.notify_all();
        drop(queue);
        swallow(|| drop(starter));
        let Some(deadline) = deadline else { return };
        let mut state = self.lock();
        while state.threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether no closure is queued or running.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && state.idle == state.threads && state.notified == 0
    }

    pub(crate) fn cap(&self) -> usize {
        self.cap
    }

    pub(crate) fn load(&self) -> Load {
        let PoolState { threads, ref queue, taken, held_up, .. } = *self.lock();
        Load { threads, queued: queue.len(), taken, held_up }
    }

    /// How long closures have waited for a thread, if the runtime is inspected.
    pub(crate) fn waits(&self) -> Option<&AtomicHistogram> {
        self.waits.as_deref()
    }
}

/// The scheduler of blocking closures.
pub(crate) struct Blocking;

impl Schedule for Blocking {
    type Shared = Shared;

    fn schedule(shared: &Shared, task: Runnable) {
        for Queued { task, hold, since: _ } in shared.blocking.submit(task) {
            // A worker takes it from the injector, and drops the closure in the closure's context.
            shared.inject(task);
            drop(hold);
        }
    }

    unsafe fn wake(task: NonNull<Header>) {
        // SAFETY: the reference of the wake-up is the runnable's: that is the contract of `wake`. A
        // thread that takes the task may end it, and with it the runtime, before `schedule`
        // returns. `keep` is a second reference, which keeps the page, and so the shared part that
        // `schedule` borrows, until the end of this block.
        unsafe {
            let task = Runnable::from_raw(task);
            if task.header().state.is_cancelled() {
                // It is neither queued nor running: an eager call refused to run it. It needs no
                // thread to end.
                return drop(task);
            }
            let keep = task.reference();
            Blocking::schedule(slab::shared_of(keep.as_raw().cast()), task);
        }
    }

    fn launch(shared: &Shared, task: Runnable) {
        // Pairs with the fence in `Runtime::end`: either that walk sees this task, or this load
        // sees `closing`.
        fence(SeqCst);
        if shared.closing.load(Relaxed) { drop(task) } else { Blocking::schedule(shared, task) }
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: blocking closures lie in the same pages as the tasks of workers, and the contract
        // of `free` is the same.
        unsafe { Workers::free(task) }
    }

    fn ending(shared: &Shared, ending: Ending) {
        Workers::ending(shared, ending);
    }

    fn aborts_on_panic(shared: &Shared) -> bool {
        Workers::aborts_on_panic(shared)
    }

    #[cfg(debug_assertions)]
    fn reports_mistakes(shared: &Shared) -> bool {
        Workers::reports_mistakes(shared)
    }

    #[cfg(debug_assertions)]
    const MAY_BLOCK: bool = true;
}

/// A blocking closure as a future.
pub(crate) struct BlockingCall<F> {
    f: Option<F>,
    /// The runtime whose pool runs it; `None` if it runs where it was spawned.
    pool: Option<Arc<Shared>>,
}

impl<F> BlockingCall<F> {
    pub(crate) fn new(f: F, pool: Option<Arc<Shared>>) -> BlockingCall<F> {
        BlockingCall { f: Some(f), pool }
    }
}

impl<F> Unpin for BlockingCall<F> {}

impl<F: FnOnce() -> R, R> Future for BlockingCall<F> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<R> {
        if eager::refuses("spawn_blocking") {
            return Poll::Pending;
        }
        let f = self.f.take().expect("polled once");
        // What the closure spawns belongs to the same runtime. Its leaves have no budget.
        let _entered = self.pool.as_ref().map(current::enter_pool);
        let _unlimited = budget::unlimited();
        Poll::Ready(f())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc::channel;

    use crate::Runtime;

    /// A queue must not keep the memory of its longest burst. See `room` for what it keeps.
    #[test]
    fn a_burst_of_closures_leaves_a_short_queue() {
        let burst = if cfg!(miri) { 3_000 } else { 300_000 };
        let runtime = Runtime::builder().workers(1).max_blocking_threads(1).build().unwrap();
        let (go, held) = channel::<()>();
        runtime.spawn_blocking(move || held.recv()).detach();
        for _ in 0..burst {
            runtime.spawn_blocking(|| ()).detach();
        }
        let room = || runtime.handle().shared().blocking.lock().queue.capacity();
        assert!(room() >= burst);
        drop(go);
        runtime.wait_until_idle();
        assert!(room() <= 1024, "room for {}", room());
    }
}
