//! Every interleaving of a few threads on one real task, and twins that must fail.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Plain, Ordering::Relaxed as Any};
use std::task::{Context, Poll, Wake, Waker};

use heirloom_context::raw::Live;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::Schedule;
use super::cell::{self, Header, Parts, Runnable, Spawned, TaskRef};
use crate::join_handle::{CancelReason, JoinHandle};
use crate::sync::model::{check, check_without};

/// A queue, and nobody who would run it by himself.
#[derive(Clone)]
struct Queue(Arc<Mutex<Vec<Runnable>>>);

impl Schedule for Queue {
    fn schedule(&self, task: Runnable) {
        self.0.lock().unwrap().push(task);
    }

    fn forget(&self, _: &Header) -> Option<TaskRef> {
        None
    }
}

impl Queue {
    fn new() -> Queue {
        Queue(Arc::new(Mutex::new(Vec::new())))
    }

    fn spawn<F: Future<Output: Send> + Send + 'static>(&self, future: F) -> (TaskRef, JoinHandle<F::Output>) {
        let parts = Parts { live: Live::empty(), place: std::panic::Location::caller(), name: None };
        let Spawned { registered, runnable, join } = cell::spawn(future, self.clone(), parts);
        runnable.schedule();
        (registered, join)
    }

    fn run_one(&self) -> bool {
        let task = self.0.lock().unwrap().pop();
        let Some(task) = task else { return false };
        let again = task.run();
        self.0.lock().unwrap().extend(again);
        true
    }

    fn run_all(&self) {
        while self.run_one() {}
    }
}

/// Ready when told; counts its drops.
struct Told {
    ready: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
    drops: Arc<Plain>,
}

impl Future for Told {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.ready.load(Ordering::Relaxed) { Poll::Ready(7) } else { Poll::Pending }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Any);
    }
}

/// Counts its wakes.
struct Count(Plain);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Any);
    }
}

struct Setup {
    queue: Queue,
    registered: TaskRef,
    join: JoinHandle<u32>,
    ready: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
    drops: Arc<Plain>,
}

fn setup() -> Setup {
    let (ready, waker, drops) =
        (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)), Arc::default());
    let queue = Queue::new();
    let told = Told { ready: Arc::clone(&ready), waker: Arc::clone(&waker), drops: Arc::clone(&drops) };
    let (registered, join) = queue.spawn(told);
    Setup { queue, registered, join, ready, waker, drops }
}

fn poll(join: &mut JoinHandle<u32>, waker: &Waker) -> Poll<Result<u32, crate::JoinError>> {
    Pin::new(join).poll(&mut Context::from_waker(waker))
}

/// A wake-up from another thread while the task is being polled: what was written before it is seen by a later poll.
fn wake_during_poll() {
    let Setup { queue, registered, mut join, ready, waker, drops } = setup();
    let other = thread::spawn(move || {
        ready.store(true, Ordering::Relaxed);
        let waker = waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
        // Not polled yet: the first poll comes after the lock, and sees what was stored.
    });
    queue.run_one();
    other.join().unwrap();
    queue.run_all();
    assert_eq!(drops.load(Any), 1, "the wake-up was lost");
    let Poll::Ready(Ok(7)) = poll(&mut join, Waker::noop()) else { panic!("no output") };
    drop(registered);
}

/// The joiner comes while the task ends: it sees the output, or is woken.
fn join_during_end() {
    let Setup { queue, registered, mut join, ready, .. } = setup();
    ready.store(true, Ordering::Relaxed);
    let runner = thread::spawn(move || queue.run_one());
    let count = Arc::new(Count(Plain::new(0)));
    let first = poll(&mut join, &Waker::from(Arc::clone(&count)));
    runner.join().unwrap();
    if first.is_pending() {
        assert_eq!(count.0.load(Any), 1, "the joiner was not told");
        let Poll::Ready(Ok(7)) = poll(&mut join, Waker::noop()) else { panic!("no output") };
    }
    drop(registered);
}

/// A shutdown claims the task while another thread runs it and the handle goes: the future is dropped once.
fn claim_during_run() {
    let Setup { queue, registered, join, drops, .. } = setup();
    let runner = {
        let queue = queue.clone();
        thread::spawn(move || queue.run_all())
    };
    registered.shut_down(CancelReason::Shutdown);
    runner.join().unwrap();
    queue.run_all();
    assert_eq!(drops.load(Any), 1);
    assert!(join.is_finished());
    drop((join, registered));
}

/// The handle goes while the task runs and is woken: it is cancelled, once.
fn leave_during_run() {
    let Setup { queue, registered, join, drops, .. } = setup();
    let runner = {
        let queue = queue.clone();
        thread::spawn(move || queue.run_one())
    };
    drop(join);
    runner.join().unwrap();
    queue.run_all();
    assert_eq!(drops.load(Any), 1, "dropping the handle did not cancel");
    assert!(registered.header().state.is_done());
}

#[test]
fn a_wake_up_during_a_poll_leads_to_another() {
    check(wake_during_poll);
}

#[test]
#[should_panic(expected = "the wake-up was lost")]
fn twin_that_rests_although_woken_is_caught() {
    check_without("rest", wake_during_poll);
}

#[test]
fn a_joiner_sees_the_output_or_is_woken() {
    check(join_during_end);
}

#[test]
#[should_panic(expected = "the joiner was not told")]
fn twin_that_does_not_look_after_registering_is_caught() {
    check_without("join look", join_during_end);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_join_lock_is_caught() {
    check_without("join unlock", join_during_end);
}

#[test]
fn a_claimed_task_is_dropped_once() {
    check(claim_during_run);
}

#[test]
fn a_task_that_lost_its_handle_is_cancelled_once() {
    check(leave_during_run);
}
