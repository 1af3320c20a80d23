//! What the workers of a runtime, its handles and its tasks share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
use std::sync::{Condvar, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_deque::{Injector, Steal, Stealer};
use crossbeam_utils::CachePadded;
use crossbeam_utils::sync::Unparker;
use heirloom_context::{Ambients, Context};

use super::current;
use super::idle::Idle;
use super::registry::Registry;
use crate::accompanied::Hooks;
use crate::blocking::Pool;
use crate::builder::PanicPolicy;
use crate::task::Schedule;
use crate::task::cell::{Header, Runnable, TaskRef};
use crate::time::Timers;

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
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        // One writer: no read-modify-write needed.
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }
}

pub(crate) struct Shared {
    pub(crate) injector: Injector<Runnable>,
    pub(crate) remotes: Box<[Remote]>,
    pub(crate) idle: CachePadded<Idle>,
    pub(crate) registry: Registry,
    pub(crate) timers: Arc<Timers>,
    pub(crate) blocking: Arc<Pool>,
    pub(crate) root: Context,
    pub(crate) ambients: Ambients,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    pub(crate) on_panic: PanicPolicy,
    /// How long an idle worker searches on.
    pub(crate) search: Duration,
    /// S1: no further tasks.
    pub(crate) closing: AtomicBool,
    /// S3, S4: no further work.
    pub(crate) closed: AtomicBool,
    /// Where `wait_until_idle` and `shutdown` wait.
    pub(crate) bell: Bell,
    /// Where threads that are none of the workers register their tasks, in turn.
    pub(crate) next_shard: AtomicUsize,
}

/// Something has come to rest.
#[derive(Default)]
pub(crate) struct Bell {
    waiting: AtomicUsize,
    mutex: StdMutex<()>,
    condvar: Condvar,
}

impl Bell {
    /// Tells those who wait to look again.
    pub(crate) fn ring(&self) {
        // Pairs with the fence in `wait`: either the waiter is seen, or it sees what has come to rest.
        fence(SeqCst);
        if self.waiting.load(Relaxed) != 0 {
            drop(self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
            self.condvar.notify_all();
        }
    }

    /// Waits until `rested` says so; false if it is not so at the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>, mut rested: impl FnMut() -> bool) -> bool {
        self.waiting.fetch_add(1, Relaxed);
        // Pairs with the fence in `ring`.
        fence(SeqCst);
        let mut guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = loop {
            if rested() {
                break true;
            }
            // What has no bell (a queue that was just emptied) is looked at again soon.
            let mut nap = Duration::from_millis(1);
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break rested();
                }
                nap = nap.min(left);
            }
            guard = self.condvar.wait_timeout(guard, nap).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(guard);
        self.waiting.fetch_sub(1, Relaxed);
        rested
    }
}

impl Shared {
    /// P3 to P5: there may be work for one more.
    pub(crate) fn notify(&self) {
        if let Some(worker) = self.idle.notify() {
            self.remotes[worker].unparker.unpark();
        }
    }

    /// K4: sees to it that there is another keeper, if anybody sleeps.
    pub(crate) fn hand_over(&self) {
        if let Some(worker) = self.idle.hand_over() {
            self.remotes[worker].unparker.unpark();
        }
    }

    /// Wakes the worker that keeps the time, because there is an earlier deadline.
    pub(crate) fn wake_keeper(&self) {
        if let Some(worker) = self.idle.keeper() {
            self.remotes[worker].unparker.unpark();
        }
    }

    /// Whether there is work that a worker could take.
    pub(crate) fn has_work(&self) -> bool {
        !self.injector.is_empty() || self.remotes.iter().any(|remote| !remote.stealer.is_empty())
    }

    fn inject(&self, task: Runnable) {
        // P1.
        self.injector.push(task);
        self.notify();
        // S3. The other half is in `drain`'s caller: it closes, then drains. One of the two sees the task.
        fence(SeqCst);
        if self.closed.load(Relaxed) {
            self.drain();
        }
    }

    /// Drops what is in the injector: the tasks are cancelled.
    pub(crate) fn drain(&self) {
        loop {
            match self.injector.steal() {
                Steal::Success(task) => drop(task),
                Steal::Retry => {}
                Steal::Empty => return,
            }
        }
    }

    /// The shard in which this thread registers its tasks.
    pub(crate) fn shard(&self) -> usize {
        current::with_worker(self, |worker| match worker {
            Some(worker) => worker.index,
            None => self.remotes.len() + self.next_shard.fetch_add(1, Relaxed) % 2,
        })
    }

    /// Whether all workers sleep and nothing is queued or being run.
    pub(crate) fn is_idle(&self) -> bool {
        let idle =
            || self.blocking.is_idle() && self.idle.sleepers() == self.remotes.len() && !self.has_work();
        // Twice: what moved from one place to another in between is seen in one of the two.
        self.closed.load(SeqCst) || (idle() && idle())
    }
}

/// Tasks hold the runtime's shared part, so that wakers may outlive the runtime.
impl Schedule for Arc<Shared> {
    fn schedule(&self, task: Runnable) {
        current::with_worker(self, |worker| match worker {
            Some(worker) => worker.push_next(task),
            None => self.inject(task),
        });
    }

    fn forget(&self, task: &Header) -> Option<TaskRef> {
        let reference = self.registry.remove(task);
        if self.closing.load(Acquire) {
            self.bell.ring();
        }
        reference
    }

    fn panicked(&self) {
        if self.on_panic == PanicPolicy::Abort {
            std::process::abort();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("workers", &self.remotes.len()).finish_non_exhaustive()
    }
}
