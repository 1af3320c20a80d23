//! Every interleaving of searching and parking, and of spawning and shutting down; and twins that
//! must fail.

use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Plain, Ordering::Relaxed as Any};
use std::task::{Context, Poll};

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::thread;

use super::parker::{ParkState, UnparkAction};
use super::sleepers::Sleepers;
use crate::slab::{self, Heap};
use crate::task::Schedule;
use crate::task::cell::{self, Header, Parts, Runnable, Spawned, TaskRef};
use crate::task::join_handle::{CancelReason, JoinHandle};
use crate::util::sync::model::{check, check_without};
use crate::util::sync::weakened;

/// One queue, and per worker a token that unparks it.
struct Pool {
    sleepers: Sleepers,
    queue: AtomicUsize,
    tokens: [AtomicBool; 2],
}

impl Pool {
    fn new() -> Arc<Pool> {
        Arc::new(Pool {
            sleepers: Sleepers::new(2),
            queue: AtomicUsize::new(0),
            tokens: [(); 2].map(|()| AtomicBool::new(false)),
        })
    }

    fn push(&self) {
        // P1.
        self.queue.fetch_add(1, Ordering::Relaxed);
        self.notify();
    }

    fn notify(&self) {
        if let Some(worker) = self.sleepers.notify() {
            self.tokens[worker].store(true, Ordering::Relaxed);
        }
    }

    fn take(&self) -> bool {
        self.queue.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queue| queue.checked_sub(1)).is_ok()
    }

    /// A worker that has found nothing: true if it goes on, false if it would park for ever.
    fn park(&self, worker: usize, searching: bool) -> bool {
        self.sleepers.announce(worker, searching, false);
        // W4.
        self.queue.load(Ordering::Relaxed) != 0
    }
}

/// One worker parks while another thread pushes.
fn push_during_park() {
    let shared = Pool::new();
    let pusher = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.push())
    };
    let stays = shared.park(0, false);
    pusher.join().unwrap();
    assert!(stays || shared.tokens[0].load(Ordering::Relaxed), "a worker sleeps although there is work");
}

/// One worker parks while another, which has queued something for itself, begins a poll.
fn poll_during_park() {
    let shared = Pool::new();
    let busy = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            shared.queue.store(1, Ordering::Relaxed);
            // P0.
            if shared.sleepers.is_wake_up_due_fenced(false) {
                shared.notify();
            }
        })
    };
    let stays = shared.park(0, false);
    busy.join().unwrap();
    assert!(stays || shared.tokens[0].load(Ordering::Relaxed), "a worker sleeps although there is work");
}

/// The only searcher gives up while a pusher relies on it.
fn push_during_search() {
    let shared = Pool::new();
    assert!(shared.sleepers.start_search());
    let pusher = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.push())
    };
    let stays = shared.park(0, true);
    pusher.join().unwrap();
    assert!(stays || shared.tokens[0].load(Ordering::Relaxed), "a worker sleeps although there is work");
}

/// One worker sleeps, one searches and finds work, while a thread pushes more: the sleeper is
/// woken, or the searcher has seen that there is more.
fn push_while_the_searcher_succeeds() {
    let shared = Pool::new();
    shared.queue.store(1, Ordering::Relaxed);
    assert!(shared.sleepers.start_search());
    assert!(shared.take());
    shared.sleepers.announce(1, false, false);
    let pusher = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.push())
    };
    // F1 and F2.
    if shared.sleepers.end_search() && shared.queue.load(Ordering::Relaxed) != 0 {
        shared.notify();
    }
    pusher.join().unwrap();
    assert!(shared.tokens[1].load(Ordering::Relaxed), "a worker sleeps although there is work");
}

/// The keeper is unparked for a long poll while another worker goes to sleep: that worker becomes
/// the keeper, or is unparked, or does not sleep.
fn sleep_while_the_keeper_polls() {
    let shared = Pool::new();
    assert!(shared.sleepers.become_keeper(0));
    let keeper = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            // K3 and K4.
            shared.sleepers.stop_keeping();
            if let Some(worker) = shared.sleepers.hand_over_time() {
                shared.tokens[worker].store(true, Ordering::Relaxed);
            }
        })
    };
    // K1.
    let keeps = shared.sleepers.become_keeper(1);
    shared.sleepers.announce(1, false, keeps);
    // K2.
    let stays = !keeps && shared.sleepers.has_no_keeper();
    keeper.join().unwrap();
    assert!(
        keeps || stays || shared.tokens[1].load(Ordering::Relaxed),
        "a worker sleeps, and there is no keeper"
    );
}

/// A worker parks in the poll while a sibling looks at the poll without waiting, and a third thread
/// unparks the worker: the worker does not sleep, or the wake-up is there for it.
fn unpark_while_another_polls() {
    struct Poll {
        lock: Mutex<()>,
        /// The event that wakes the worker in the poll.
        woken: AtomicBool,
    }
    let poll = Arc::new(Poll { lock: Mutex::new(()), woken: AtomicBool::new(false) });
    let sleeper = Arc::new(ParkState::new());
    let busy = {
        let poll = Arc::clone(&poll);
        thread::spawn(move || {
            if let Ok(_guard) = poll.lock.try_lock() {
                poll.woken.swap(false, Ordering::AcqRel);
            }
        })
    };
    let unparker = {
        let (poll, sleeper) = (Arc::clone(&poll), Arc::clone(&sleeper));
        thread::spawn(move || {
            if sleeper.notify() == UnparkAction::WakePoll {
                poll.woken.store(true, Ordering::Release);
            }
        })
    };
    let too_early = weakened("poll lock before park").then(|| sleeper.start_poll());
    let guard = poll.lock.lock().unwrap();
    let waits = too_early.unwrap_or_else(|| sleeper.start_poll());
    unparker.join().unwrap();
    assert!(!waits || poll.woken.swap(false, Ordering::AcqRel), "an unparked worker sleeps in the poll");
    drop(guard);
    sleeper.end_sleep();
    busy.join().unwrap();
}

#[test]
fn a_worker_in_the_poll_gets_its_wake_up() {
    check(unpark_while_another_polls);
}

#[test]
#[should_panic(expected = "an unparked worker sleeps in the poll")]
fn twin_that_parks_before_it_locks_the_poll_is_caught() {
    check_without("poll lock before park", unpark_while_another_polls);
}

#[test]
fn while_a_worker_sleeps_there_is_a_keeper() {
    check(sleep_while_the_keeper_polls);
}

#[test]
#[should_panic(expected = "there is no keeper")]
fn twin_that_does_not_look_for_a_keeper_is_caught() {
    check_without("keeper look", sleep_while_the_keeper_polls);
}

/// The keeper parks while another thread changes what the keeper looks at: starts the I/O driver,
/// or makes a heap untidy.
fn change_while_the_keeper_parks() {
    let shared = Pool::new();
    let changed = Arc::new(AtomicBool::new(false));
    let outside = {
        let (shared, changed) = (Arc::clone(&shared), Arc::clone(&changed));
        thread::spawn(move || {
            changed.store(true, Ordering::Relaxed);
            if let Some(worker) = shared.sleepers.keeper_after_change() {
                shared.tokens[worker].store(true, Ordering::Relaxed);
            }
        })
    };
    // K1, W1 to W3.
    assert!(shared.sleepers.become_keeper(0));
    shared.sleepers.announce(0, false, true);
    let seen = changed.load(Ordering::Relaxed);
    outside.join().unwrap();
    assert!(seen || shared.tokens[0].load(Ordering::Relaxed), "the keeper was not unparked");
}

#[test]
fn the_keeper_sees_a_change_or_is_unparked() {
    check(change_while_the_keeper_parks);
}

#[test]
#[should_panic(expected = "the keeper was not unparked")]
fn twin_that_looks_for_the_keeper_without_a_fence_is_caught() {
    check_without("keeper fence", change_while_the_keeper_parks);
}

#[test]
#[should_panic(expected = "the keeper was not unparked")]
fn twin_whose_keeper_parks_without_a_fence_is_caught() {
    check_without("announce fence", change_while_the_keeper_parks);
}

#[test]
fn a_push_is_seen_by_the_worker_that_parks() {
    check(push_during_park);
}

#[test]
fn a_long_poll_keeps_no_task_from_a_worker_that_parks() {
    check(poll_during_park);
}

#[test]
#[should_panic(expected = "a worker sleeps")]
fn twin_without_the_fence_before_a_poll_is_caught() {
    check_without("poll fence", poll_during_park);
}

#[test]
fn a_searcher_that_gives_up_looks_again() {
    check(push_during_search);
}

#[test]
fn a_searcher_that_succeeds_wakes_the_next() {
    check(push_while_the_searcher_succeeds);
}

#[test]
#[should_panic(expected = "a worker sleeps")]
fn twin_without_the_pushers_fence_is_caught() {
    check_without("notify fence", push_during_park);
}

#[test]
#[should_panic(expected = "a worker sleeps")]
fn twin_without_the_sleepers_fence_is_caught() {
    check_without("announce fence", push_during_park);
}

#[test]
#[should_panic(expected = "a worker sleeps")]
fn twin_without_the_searchers_fence_is_caught() {
    check_without("search fence", push_while_the_searcher_succeeds);
}

/// A runtime without workers: runnables stay in the injector.
struct Runtime {
    heap: Heap,
    injector: Mutex<Vec<Runnable>>,
    closing: AtomicBool,
    closed: AtomicBool,
}

impl Schedule for Runtime {
    type Shared = Runtime;

    fn schedule(shared: &Runtime, task: Runnable) {
        shared.injector.lock().unwrap().push(task);
        fence(Ordering::SeqCst);
        if shared.closed.load(Ordering::Relaxed) && !weakened("closed injector") {
            shared.drain();
        }
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: the task is gone, and its page keeps a `Runtime`.
        unsafe { slab::free::<Runtime>(task.cast(), None) }
    }
}

impl Runtime {
    /// As `shared::spawn_task`, on a thread that is not a worker.
    fn spawn<F: Future<Output: Send> + Send + 'static>(self: &Arc<Self>, future: F) -> JoinHandle<F::Output> {
        // SAFETY: a slot of this future's class, from this runtime's heap.
        let Spawned { runnable, join } = unsafe {
            let (slot, _) = self.heap.take_locked(cell::class::<F>(), self);
            cell::spawn::<F, Runtime, _>(slot, future, Parts::plain(), &())
        };
        fence(Ordering::SeqCst);
        if self.closing.load(Ordering::Relaxed) && !weakened("closing spawn") {
            drop(runnable);
        } else {
            Runtime::launch(self, runnable);
        }
        join
    }

    fn drain(&self) {
        let tasks = std::mem::take(&mut *self.injector.lock().unwrap());
        drop(tasks);
    }
}

struct Pending(Arc<Plain>);

impl Future for Pending {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_add(1, Any);
    }
}

/// A task is spawned while the runtime is shut down: the thread that comes second cancels it.
fn spawn_during_shutdown() {
    let drops = Arc::new(Plain::new(0));
    let runtime = Arc::new(Runtime {
        heap: Heap::new(),
        injector: Mutex::new(Vec::new()),
        closing: AtomicBool::new(false),
        closed: AtomicBool::new(false),
    });
    let spawner = {
        let (runtime, future) = (Arc::clone(&runtime), Pending(Arc::clone(&drops)));
        thread::spawn(move || runtime.spawn(future))
    };
    // S1.
    runtime.closing.store(true, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    // S2.
    for task in TaskRef::all(&runtime.heap) {
        task.shut_down(CancelReason::Shutdown);
    }
    // A worker that has not seen the end yet polls what it finds.
    let found = runtime.injector.lock().unwrap().pop();
    if let Some(task) = found {
        assert!(task.run().is_none());
    }
    // S3.
    runtime.closed.store(true, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    runtime.drain();
    // SAFETY: the heap has no owner, and the runtime keeps it.
    unsafe { runtime.heap.end(None) };
    let join = spawner.join().unwrap();
    assert!(join.is_finished(), "a task was left behind");
    assert_eq!(drops.load(Any), 1);
    assert!(runtime.injector.lock().unwrap().is_empty(), "a runnable was left behind");
    drop(join);
    assert_eq!(runtime.heap.page_count(), 0, "a task was not freed");
}

#[test]
fn a_task_spawned_during_shutdown_is_cancelled() {
    check(spawn_during_shutdown);
}

#[test]
#[should_panic(expected = "left behind")]
fn twin_that_does_not_look_after_pushing_is_caught() {
    check_without("closed injector", spawn_during_shutdown);
}

#[test]
#[should_panic(expected = "left behind")]
fn twin_that_does_not_look_after_spawning_is_caught() {
    check_without("closing spawn", spawn_during_shutdown);
}
