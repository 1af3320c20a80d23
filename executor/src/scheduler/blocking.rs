//! A pool of threads for closures that block.
//!
//! A closure is a task like any other, whose future returns at its first poll; it is scheduled here instead of on the
//! workers. The pool grows when a closure arrives and nobody is free, up to its cap, and shrinks when threads have
//! had nothing to do for a while. Closures wait in a queue that is as long as it must be: see
//! [`Stats::blocking_queued`](crate::Stats::blocking_queued). Those that were cancelled there are taken out when the queue has
//! doubled, and dropped by the workers, so that a pool that is stuck does not gather what nobody waits for.
//!
//! If the operating system refuses a thread, the closure waits for the others; if there are none, it is cancelled with
//! [`NoThread`](crate::CancelReason::NoThread). Nothing panics, and no handle is left without an answer.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::eager;
use crate::scheduler::current;
use crate::scheduler::shared::{Shared, Workers};
use crate::slab;
use crate::task::cell::{Header, Runnable};
use crate::task::join_handle::CancelReason;
use crate::task::{Schedule, budget};
use crate::util::panic::swallow;
use crate::util::room;
use crate::util::threads::Threads;

pub(crate) struct Pool {
    state: Mutex<State>,
    work: Condvar,
    cap: usize,
    keep_alive: Duration,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Runnable>,
    /// How long the queue may get before it is looked through for what was cancelled.
    sweep_at: usize,
    /// Started and not ended.
    threads: usize,
    /// Waiting for work, those that were told of some included.
    idle: usize,
    /// Told of work they have not taken yet.
    called: usize,
    closed: bool,
    /// What starts threads, with the user's functions for them; gone when it is closed.
    starter: Option<Arc<Threads>>,
}

/// The shortest queue that is worth looking through.
const SWEEP_MIN: usize = 64;

impl State {
    /// Takes out what was cancelled, if the queue is twice as long as what was left the last time.
    fn sweep(&mut self) -> VecDeque<Runnable> {
        if self.queue.len() < self.sweep_at.max(SWEEP_MIN) {
            return VecDeque::new();
        }
        let queue = std::mem::take(&mut self.queue);
        let (cancelled, rest) = queue.into_iter().partition(|task| task.header().state.is_cancelled());
        self.queue = rest;
        self.sweep_at = 2 * self.queue.len();
        cancelled
    }
}

impl Pool {
    pub(crate) fn new(threads: Threads, cap: usize, keep_alive: Duration) -> Pool {
        let state = State { starter: Some(Arc::new(threads)), ..State::default() };
        Pool { state: Mutex::new(state), work: Condvar::new(), cap: cap.max(1), keep_alive }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it returns was cancelled, and is somebody else's to drop.
    #[must_use]
    fn submit(self: &Arc<Self>, task: Runnable) -> VecDeque<Runnable> {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            // Dropped, it is cancelled.
            drop(task);
            return VecDeque::new();
        }
        state.queue.push_back(task);
        let cancelled = state.sweep();
        if state.idle > state.called {
            state.called += 1;
            drop(state);
            self.work.notify_one();
            return cancelled;
        }
        if state.threads == self.cap {
            return cancelled;
        }
        let Some(starter) = state.starter.clone() else { return cancelled };
        state.threads += 1;
        drop(state);
        let pool = Arc::clone(self);
        let started = starter.start("blocking", move || pool.run());
        // It may be the last by now.
        swallow(|| drop(starter));
        if started.is_err() {
            let mut state = self.lock();
            state.threads -= 1;
            // Whoever is left takes the work. If nobody is, there is nobody to wait for.
            let orphans = if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
            drop(state);
            for task in orphans {
                task.header().about.set_reason(CancelReason::NoThread);
                drop(task);
            }
        }
        cancelled
    }

    /// What each thread does.
    fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.queue.pop_front() {
                room::trim(&mut state.queue);
                drop(state);
                let again = task.run();
                state = self.lock();
                // A closure is done at its first poll; whatever is not, is polled again.
                state.queue.extend(again);
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (mut woken, timeout) =
                self.work.wait_timeout(state, self.keep_alive).unwrap_or_else(PoisonError::into_inner);
            woken.idle -= 1;
            let called = woken.called > 0;
            woken.called = woken.called.saturating_sub(1);
            state = woken;
            if timeout.timed_out() && !called && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        drop(state);
        // `close` may be waiting.
        self.work.notify_all();
    }

    /// Takes no further work, and gives up what was not begun. Waits for the threads, until the deadline at most.
    pub(crate) fn close(&self, deadline: Option<Instant>) {
        let mut state = self.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        let starter = state.starter.take();
        drop(state);
        self.work.notify_all();
        drop(queue);
        swallow(|| drop(starter));
        let Some(deadline) = deadline else { return };
        let mut state = self.lock();
        while state.threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether nothing waits and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && state.idle == state.threads && state.called == 0
    }

    /// Most threads.
    pub(crate) fn cap(&self) -> usize {
        self.cap
    }

    /// Threads, and closures that wait for one.
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.threads, state.queue.len())
    }
}

/// The scheduler of blocking closures.
pub(crate) struct Blocking;

impl Schedule for Blocking {
    type Shared = Shared;

    fn schedule(shared: &Shared, task: Runnable) {
        for cancelled in shared.blocking.submit(task) {
            // A worker takes it for one of its own, and drops it in its context.
            shared.inject(cancelled);
        }
    }

    unsafe fn wake(task: NonNull<Header>) {
        // SAFETY: says the caller. Whoever takes the task may end it, and the runtime, while we are in here; so it is kept,
        // and given up when nobody borrows what it keeps.
        unsafe {
            let task = Runnable::from_raw(task);
            if task.header().state.is_cancelled() {
                // Not queued, and not running: it was begun by an eager call that must not run it. It needs no thread to end.
                return drop(task);
            }
            let keep = task.reference();
            Blocking::schedule(slab::shared_of(keep.as_raw().cast()), task);
        }
    }

    fn launch(shared: &Shared, task: Runnable) {
        // Pairs with the fence in `Runtime::end`: either this task is seen there, or that it is closed here.
        fence(SeqCst);
        if shared.closing.load(Relaxed) { drop(task) } else { Blocking::schedule(shared, task) }
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: says the caller.
        unsafe { Workers::free(task) }
    }

    fn ending(shared: &Shared) {
        Workers::ending(shared);
    }

    fn panicked(shared: &Shared) {
        Workers::panicked(shared);
    }
}

/// A blocking closure as a future.
pub(crate) struct Call<F> {
    f: Option<F>,
    /// On whose pool it runs; none if it runs where it was spawned.
    pool: Option<Arc<Shared>>,
}

impl<F> Call<F> {
    pub(crate) fn new(f: F, pool: Option<Arc<Shared>>) -> Call<F> {
        Call { f: Some(f), pool }
    }
}

impl<F> Unpin for Call<F> {}

impl<F: FnOnce() -> R, R> Future for Call<F> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<R> {
        if eager::refuses("spawn_blocking") {
            return Poll::Pending;
        }
        let f = self.f.take().expect("polled once");
        // What it spawns belongs to the same runtime; it may take its time.
        let _entered = self.pool.as_ref().map(current::enter_pool);
        let _unlimited = budget::unlimited();
        Poll::Ready(f())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc::channel;

    use crate::Runtime;

    /// The kind: a queue keeps the room of its longest burst. See `room` for what is kept.
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
