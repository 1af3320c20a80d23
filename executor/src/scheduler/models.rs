//! Every interleaving of searching and parking, and of spawning and shutting down; and twins that must fail.

use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Plain, Ordering::Relaxed as Any};
use std::task::{Context, Poll};

use heirloom_context::raw::Live;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::thread;

use super::idle::{As, Idle};
use super::parker::{Call, State};
use crate::join_handle::{CancelReason, JoinHandle};
use crate::sync::model::{check, check_without};
use crate::sync::weakened;
use crate::task::Schedule;
use crate::task::cell::{self, Begin, Header, Parts, Runnable, Spawned};
use crate::task::page::{self, Heap};

/// One queue, and per worker a token that unparks it.
struct Sleepers {
    idle: Idle,
    queue: AtomicUsize,
    tokens: [AtomicBool; 3],
}

impl Sleepers {
    fn new() -> Arc<Sleepers> {
        Sleepers::of(2)
    }

    fn of(workers: usize) -> Arc<Sleepers> {
        Arc::new(Sleepers {
            idle: Idle::new(workers),
            queue: AtomicUsize::new(0),
            tokens: [(); 3].map(|()| AtomicBool::new(false)),
        })
    }

    fn push(&self) {
        // P1.
        self.queue.fetch_add(1, Ordering::Relaxed);
        self.notify();
    }

    fn notify(&self) {
        if let Some(worker) = self.idle.notify() {
            self.tokens[worker].store(true, Ordering::Relaxed);
        }
    }

    fn take(&self) -> bool {
        self.queue.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queue| queue.checked_sub(1)).is_ok()
    }

    /// A worker that has found nothing: true if it goes on, false if it would park now and for ever.
    fn park(&self, worker: usize, searching: bool) -> bool {
        let _ = self.idle.announce(worker, searching, As::Any);
        // W4.
        self.queue.load(Ordering::Relaxed) != 0
    }
}

/// One worker parks while somebody pushes.
fn push_during_park() {
    let shared = Sleepers::new();
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
    let shared = Sleepers::new();
    let busy = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            shared.queue.store(1, Ordering::Relaxed);
            // P0.
            if shared.idle.glance(false) {
                shared.notify();
            }
        })
    };
    let stays = shared.park(0, false);
    busy.join().unwrap();
    assert!(stays || shared.tokens[0].load(Ordering::Relaxed), "a worker sleeps although there is work");
}

/// The only searcher gives up while somebody relies on it.
fn push_during_search() {
    let shared = Sleepers::new();
    assert!(shared.idle.start_search());
    let pusher = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.push())
    };
    let stays = shared.park(0, true);
    pusher.join().unwrap();
    assert!(stays || shared.tokens[0].load(Ordering::Relaxed), "a worker sleeps although there is work");
}

/// One sleeps, one searches and finds work, while somebody pushes more: the sleeper is woken, or the searcher has seen
/// that there is more.
fn push_while_the_searcher_succeeds() {
    let shared = Sleepers::new();
    shared.queue.store(1, Ordering::Relaxed);
    assert!(shared.idle.start_search());
    assert!(shared.take());
    let _ = shared.idle.announce(1, false, As::Any);
    let pusher = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.push())
    };
    // F1 and F2.
    if shared.idle.end_search() && shared.queue.load(Ordering::Relaxed) != 0 {
        shared.notify();
    }
    pusher.join().unwrap();
    assert!(shared.tokens[1].load(Ordering::Relaxed), "a worker sleeps although there is work");
}

/// A worker in doubt rests while the watcher's nap ends, who takes one of two tasks: the other one is watched, or somebody is
/// called. Both wait behind a long poll of a third worker.
fn rest_in_doubt_while_the_watch_ends() {
    let shared = Sleepers::of(4);
    shared.queue.store(2, Ordering::Relaxed);
    assert!(shared.idle.start_search());
    let _ = shared.idle.announce(1, false, As::Any);
    assert!(shared.idle.start_watch());
    let watcher = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            // N2.
            shared.idle.end_watch();
            let searching = shared.idle.retract(1) || shared.idle.start_search();
            assert!(shared.take());
            // F1 and F2.
            if searching && shared.idle.end_search() && shared.queue.load(Ordering::Relaxed) != 0 {
                shared.notify();
            }
        })
    };
    let too_early = weakened("watch after W3").then(|| shared.idle.start_watch());
    let _ = shared.idle.announce(0, true, As::Any);
    // N1.
    let watches = too_early.unwrap_or_else(|| shared.idle.start_watch());
    watcher.join().unwrap();
    assert!(
        watches || shared.tokens[0].load(Ordering::Relaxed),
        "a worker sleeps although there is work, and nobody watches"
    );
}

/// The only searcher stands back, and rests, while somebody relies on it: a worker that sleeps is called in its place.
fn push_while_the_searcher_stands_back() {
    let shared = Sleepers::of(3);
    let _ = shared.idle.announce(1, false, As::Any);
    assert!(shared.idle.start_search());
    let pusher = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.push())
    };
    let others = shared.idle.announce(0, true, As::Back);
    // The sleeper may have been called by then.
    if others && shared.queue.load(Ordering::Relaxed) != 0 && !weakened("pass on") {
        if let Some(worker) = shared.idle.pass_on() {
            shared.tokens[worker].store(true, Ordering::Relaxed);
        }
    }
    pusher.join().unwrap();
    assert!(shared.tokens[1].load(Ordering::Relaxed), "a worker sleeps although there is work");
}

/// A worker has queued something for itself, and leaves it to the watcher, whose nap ends: one of the two sees it.
fn glance_while_the_watch_ends() {
    let shared = Sleepers::of(3);
    let _ = shared.idle.announce(0, false, As::Any);
    let _ = shared.idle.announce(1, false, As::Any);
    assert!(shared.idle.start_watch());
    let busy = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            shared.queue.store(1, Ordering::Relaxed);
            // P0.
            if shared.idle.glance(false) {
                shared.notify();
            }
        })
    };
    // N2.
    shared.idle.end_watch();
    let seen = shared.queue.load(Ordering::Relaxed) != 0;
    busy.join().unwrap();
    let called = shared.tokens.iter().any(|token| token.load(Ordering::Relaxed));
    assert!(seen || called, "a worker sleeps although there is work");
}

/// The keeper is called away to a long poll while another worker goes to sleep: that one keeps the time, or is called,
/// or does not sleep.
fn sleep_while_the_keeper_goes() {
    let shared = Sleepers::new();
    assert!(shared.idle.keep(0));
    let keeper = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            // K3 and K4.
            shared.idle.give_up();
            if let Some(worker) = shared.idle.hand_over() {
                shared.tokens[worker].store(true, Ordering::Relaxed);
            }
        })
    };
    // K1.
    let keeps = shared.idle.keep(1);
    let _ = shared.idle.announce(1, false, if keeps { As::Keeper } else { As::Any });
    // K2.
    let stays = !keeps && shared.idle.is_unkept();
    keeper.join().unwrap();
    assert!(
        keeps || stays || shared.tokens[1].load(Ordering::Relaxed),
        "a worker sleeps, and nobody keeps the time"
    );
}

/// The keeper is called away to a long poll while its deputy's nap ends: there is another keeper, or the deputy naps on and
/// will look, or it is called.
fn keeper_goes_while_the_deputy_gets_up() {
    let shared = Sleepers::new();
    assert!(shared.idle.keep(0));
    assert!(shared.idle.start_deputy());
    let _ = shared.idle.announce(1, false, As::Any);
    let keeper = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            // K3 and K4.
            shared.idle.give_up();
            if let Some(worker) = shared.idle.hand_over() {
                shared.tokens[worker].store(true, Ordering::Relaxed);
            }
        })
    };
    // The nap is over, and the worker sleeps on without one.
    shared.idle.end_deputy();
    let _ = shared.idle.retract(1);
    let keeps = shared.idle.keep(1);
    let _ = shared.idle.announce(1, false, if keeps { As::Keeper } else { As::Any });
    let stays = !keeps && shared.idle.is_unkept();
    keeper.join().unwrap();
    assert!(
        keeps || stays || shared.tokens[1].load(Ordering::Relaxed),
        "a worker sleeps, and nobody keeps the time"
    );
}

/// A worker lies down in the poll while another polls without waiting, and somebody calls: it does not sleep, or the call is
/// there for it.
fn call_while_another_polls() {
    struct Poll {
        turn: Mutex<()>,
        /// The event that wakes whoever polls.
        woken: AtomicBool,
    }
    let poll = Arc::new(Poll { turn: Mutex::new(()), woken: AtomicBool::new(false) });
    let sleeper = Arc::new(State::new());
    let busy = {
        let poll = Arc::clone(&poll);
        thread::spawn(move || {
            if let Ok(_turn) = poll.turn.try_lock() {
                poll.woken.swap(false, Ordering::AcqRel);
            }
        })
    };
    let caller = {
        let (poll, sleeper) = (Arc::clone(&poll), Arc::clone(&sleeper));
        thread::spawn(move || {
            if sleeper.call() == Call::WakePoll {
                poll.woken.store(true, Ordering::Release);
            }
        })
    };
    let too_early = weakened("lie down with the poll in hand").then(|| sleeper.lie_down_in_poll());
    let turn = poll.turn.lock().unwrap();
    let waits = too_early.unwrap_or_else(|| sleeper.lie_down_in_poll());
    caller.join().unwrap();
    assert!(
        !waits || poll.woken.swap(false, Ordering::AcqRel),
        "a worker that was called sleeps in the poll"
    );
    drop(turn);
    sleeper.get_up();
    busy.join().unwrap();
}

#[test]
fn nobody_takes_the_call_of_a_worker_in_the_poll() {
    check(call_while_another_polls);
}

#[test]
#[should_panic(expected = "a worker that was called sleeps")]
fn twin_that_lies_down_before_it_has_the_poll_is_caught() {
    check_without("lie down with the poll in hand", call_while_another_polls);
}

#[test]
fn a_worker_in_doubt_relies_on_no_watcher_that_has_looked() {
    check(rest_in_doubt_while_the_watch_ends);
}

#[test]
#[should_panic(expected = "nobody watches")]
fn twin_that_watches_before_it_is_listed_is_caught() {
    check_without("watch after W3", rest_in_doubt_while_the_watch_ends);
}

#[test]
fn a_worker_that_stands_back_passes_on_what_others_rely_on_it_for() {
    check(push_while_the_searcher_stands_back);
}

#[test]
#[should_panic(expected = "a worker sleeps")]
fn twin_that_stands_back_and_passes_nothing_on_is_caught() {
    check_without("pass on", push_while_the_searcher_stands_back);
}

#[test]
fn what_is_left_to_the_watcher_is_seen_by_it() {
    check(glance_while_the_watch_ends);
}

#[test]
#[should_panic(expected = "a worker sleeps")]
fn twin_whose_watcher_has_no_fence_is_caught() {
    check_without("watch fence", glance_while_the_watch_ends);
}

#[test]
fn a_deputy_that_gets_up_is_relied_on_no_more() {
    check(keeper_goes_while_the_deputy_gets_up);
}

#[test]
#[should_panic(expected = "nobody keeps the time")]
fn twin_whose_deputy_stays_one_is_caught() {
    check_without("deputy gets up", keeper_goes_while_the_deputy_gets_up);
}

#[test]
fn while_anybody_sleeps_somebody_keeps_the_time() {
    check(sleep_while_the_keeper_goes);
}

#[test]
#[should_panic(expected = "nobody keeps the time")]
fn twin_that_does_not_look_for_a_keeper_is_caught() {
    check_without("keeper look", sleep_while_the_keeper_goes);
}

/// The keeper parks while a thread outside changes what it looks at: begins the poll, or makes a
/// heap untidy.
fn change_while_the_keeper_parks() {
    let shared = Sleepers::new();
    let changed = Arc::new(AtomicBool::new(false));
    let outside = {
        let (shared, changed) = (Arc::clone(&shared), Arc::clone(&changed));
        thread::spawn(move || {
            changed.store(true, Ordering::Relaxed);
            if let Some(worker) = shared.idle.keeper_to_tell() {
                shared.tokens[worker].store(true, Ordering::Relaxed);
            }
        })
    };
    // K1, W1 to W3.
    assert!(shared.idle.keep(0));
    let _ = shared.idle.announce(0, false, As::Keeper);
    let seen = changed.load(Ordering::Relaxed);
    outside.join().unwrap();
    assert!(seen || shared.tokens[0].load(Ordering::Relaxed), "the keeper was not told");
}

#[test]
fn the_keeper_sees_what_has_changed_or_is_told() {
    check(change_while_the_keeper_parks);
}

#[test]
#[should_panic(expected = "the keeper was not told")]
fn twin_that_tells_the_keeper_without_a_fence_is_caught() {
    check_without("tell fence", change_while_the_keeper_parks);
}

#[test]
#[should_panic(expected = "the keeper was not told")]
fn twin_whose_keeper_parks_without_a_fence_is_caught() {
    check_without("announce fence", change_while_the_keeper_parks);
}

#[test]
fn a_push_is_seen_by_the_worker_that_parks() {
    check(push_during_park);
}

#[test]
fn a_long_poll_keeps_nothing_from_a_worker_that_parks() {
    check(poll_during_park);
}

#[test]
#[should_panic(expected = "a worker sleeps")]
fn twin_without_the_fence_before_a_poll_is_caught() {
    check_without("glance fence", poll_during_park);
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

/// A runtime without workers: what is scheduled stays in the injector.
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
        // SAFETY: says the caller.
        unsafe { page::free::<Runtime>(task, None) }
    }
}

impl Runtime {
    /// As `shared::begin`, outside of workers.
    fn spawn<F: Future<Output: Send> + Send + 'static>(self: &Arc<Self>, future: F) -> JoinHandle<F::Output> {
        let parts = Parts {
            live: Live::empty(),
            place: std::panic::Location::caller(),
            name: None,
            background: false,
            begin: Begin::Queued,
        };
        // SAFETY: a slot of this future's class, from this runtime's heap.
        let Spawned { runnable, join } = unsafe {
            let (slot, _) = self.heap.take_locked(cell::class::<F>(), self);
            cell::spawn::<F, Runtime>(slot, future, parts)
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

/// A task is spawned while the runtime is shut down: it is cancelled, by whichever side comes second.
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
    for task in runtime.heap.each() {
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
    // SAFETY: nobody owns the heap but under its lock, and the runtime keeps it.
    unsafe { runtime.heap.orphan(None) };
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
