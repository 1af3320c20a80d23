//! Every interleaving of a few threads on one real task, and twins that must fail.

use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Plain, Ordering::Relaxed as Any};
use std::task::{Context, Poll, Wake as StdWake, Waker};

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::Schedule;
use super::cell::{self, Header, Parts, Runnable, Spawned, TaskRef};
use super::state::{AfterRelease, AfterStart, Close, StateWord, Wake};
use crate::slab::{self, Heap, SlotHead};
use crate::task::join_handle::{CancelReason, JoinHandle};
use crate::util::sync::UnsafeCell;
use crate::util::sync::model::{check, check_without};

/// A queue that is run by hand.
struct Queue {
    tasks: Mutex<Vec<Runnable>>,
    heap: Heap,
}

impl Schedule for Queue {
    type Shared = Queue;

    fn schedule(shared: &Queue, task: Runnable) {
        let _keep = task.reference();
        shared.tasks.lock().unwrap().push(task);
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: the task is gone, and its page keeps a `Queue`.
        unsafe { slab::free::<Queue>(task.cast(), None) }
    }
}

impl Queue {
    fn new() -> Arc<Queue> {
        let queue = Queue { tasks: Mutex::new(Vec::new()), heap: Heap::new() };
        // Without an owner, each freed page goes at once.
        // SAFETY: the heap has no owner, and the queue keeps it.
        unsafe { queue.heap.end(None) };
        Arc::new(queue)
    }

    fn spawn<F: Future<Output: Send> + Send + 'static>(
        self: &Arc<Self>,
        future: F,
    ) -> (TaskRef, JoinHandle<F::Output>) {
        // SAFETY: a slot of this future's class, from this queue's heap.
        let Spawned { runnable, join } = unsafe {
            let (slot, _) = self.heap.take_locked(cell::class::<F>(), self);
            cell::spawn::<F, Queue, _>(slot, future, Parts::plain(), &())
        };
        let reference = runnable.reference();
        Queue::launch(self, runnable);
        (reference, join)
    }

    fn run_one(&self) -> bool {
        let task = self.tasks.lock().unwrap().pop();
        let Some(task) = task else { return false };
        let again = task.run();
        self.tasks.lock().unwrap().extend(again);
        true
    }

    fn run_all(&self) {
        while self.run_one() {}
    }
}

/// Ready when the flag is set; counts its drops.
struct Flagged {
    ready: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
    drops: Arc<Plain>,
}

impl Future for Flagged {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.ready.load(Ordering::Relaxed) { Poll::Ready(7) } else { Poll::Pending }
    }
}

impl Drop for Flagged {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Any);
    }
}

/// Counts its wakes.
struct Count(Plain);

impl StdWake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Any);
    }
}

struct Setup {
    queue: Arc<Queue>,
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
    let future = Flagged { ready: Arc::clone(&ready), waker: Arc::clone(&waker), drops: Arc::clone(&drops) };
    let (registered, join) = queue.spawn(future);
    Setup { queue, registered, join, ready, waker, drops }
}

fn poll(join: &mut JoinHandle<u32>, waker: &Waker) -> Poll<Result<u32, crate::task::JoinError>> {
    Pin::new(join).poll(&mut Context::from_waker(waker))
}

/// A wake-up from another thread while the task is being polled: a later poll sees what was written
/// before the wake-up.
fn wake_during_poll() {
    let Setup { queue, registered, mut join, ready, waker, drops } = setup();
    let other = thread::spawn(move || {
        ready.store(true, Ordering::Relaxed);
        let waker = waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
        // Without a waker, the first poll is still to come: it takes the lock later, and sees the
        // store.
    });
    queue.run_one();
    other.join().unwrap();
    queue.run_all();
    assert_eq!(drops.load(Any), 1, "the wake-up was lost");
    let Poll::Ready(Ok(7)) = poll(&mut join, Waker::noop()) else { panic!("no output") };
    drop(registered);
}

/// The joiner polls while the task ends: it sees the output, or is woken.
fn join_during_end() {
    let Setup { queue, registered, mut join, ready, .. } = setup();
    ready.store(true, Ordering::Relaxed);
    let runner = thread::spawn(move || queue.run_one());
    let count = Arc::new(Count(Plain::new(0)));
    let first = poll(&mut join, &Waker::from(Arc::clone(&count)));
    runner.join().unwrap();
    if first.is_pending() {
        assert_eq!(count.0.load(Any), 1, "the joiner was not woken");
        let Poll::Ready(Ok(7)) = poll(&mut join, Waker::noop()) else { panic!("no output") };
    }
    drop((registered, join));
    assert_eq!(Arc::strong_count(&count), 1, "a waker was not dropped");
}

/// A shutdown claims the task while another thread polls it and the handle is dropped: the future
/// is dropped once.
fn claim_during_poll() {
    let Setup { queue, registered, join, drops, .. } = setup();
    let runner = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.run_all())
    };
    registered.shut_down(CancelReason::Shutdown);
    runner.join().unwrap();
    queue.run_all();
    assert_eq!(drops.load(Any), 1);
    assert!(join.is_finished());
    drop((join, registered));
}

/// The handle is dropped while the task runs and is woken: the task is cancelled, once.
fn drop_handle_during_poll() {
    let Setup { queue, registered, join, drops, .. } = setup();
    let runner = {
        let queue = Arc::clone(&queue);
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
fn twin_that_goes_idle_although_woken_is_caught() {
    check_without("pend", wake_during_poll);
}

#[test]
fn a_joiner_sees_the_output_or_is_woken() {
    check(join_during_end);
}

#[test]
#[should_panic(expected = "the joiner was not woken")]
fn twin_that_offers_a_waker_without_a_look_for_done_is_caught() {
    check_without("offer look", join_during_end);
}

#[test]
#[should_panic(expected = "the joiner was not woken")]
fn twin_that_completes_without_a_look_for_a_waker_is_caught() {
    check_without("late offer", join_during_end);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_offer_of_a_waker_is_caught() {
    check_without("offer order", join_during_end);
}

/// The joiner changes its waker while the task ends: the last waker is woken, and both are dropped.
fn change_during_end() {
    let Setup { queue, registered, mut join, ready, .. } = setup();
    ready.store(true, Ordering::Relaxed);
    let (one, two) = (Arc::new(Count(Plain::new(0))), Arc::new(Count(Plain::new(0))));
    assert!(poll(&mut join, &Waker::from(Arc::clone(&one))).is_pending());
    let runner = thread::spawn(move || queue.run_one());
    let second = poll(&mut join, &Waker::from(Arc::clone(&two)));
    runner.join().unwrap();
    if second.is_pending() {
        assert_eq!(two.0.load(Any), 1, "the joiner was not woken");
    }
    drop((join, registered));
    assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), (1, 1), "a waker was not dropped");
}

/// The handle, which was awaited, is dropped while the task ends.
fn drop_handle_during_end() {
    let Setup { queue, registered, mut join, ready, drops, .. } = setup();
    ready.store(true, Ordering::Relaxed);
    let count = Arc::new(Count(Plain::new(0)));
    assert!(poll(&mut join, &Waker::from(Arc::clone(&count))).is_pending());
    let runner = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.run_one())
    };
    drop(join);
    runner.join().unwrap();
    queue.run_all();
    drop(registered);
    assert_eq!(drops.load(Any), 1);
    assert_eq!(Arc::strong_count(&count), 1, "the waker was not dropped");
    assert_eq!(queue.heap.page_count(), 0, "the task was not freed");
}

#[test]
fn an_exchanged_waker_is_woken_or_dropped() {
    check(change_during_end);
}

#[test]
fn a_dropped_handle_drops_its_waker() {
    check(drop_handle_during_end);
}

/// Two tasks are freed on two threads while the heap's owner ends: no slot, and no page, is
/// forgotten.
fn free_during_end() {
    let queue = Arc::new(Queue { tasks: Mutex::new(Vec::new()), heap: Heap::new() });
    let owner = queue.heap.acquire();
    let spawn = || {
        // SAFETY: a slot of this future's class, from this queue's heap, whose owner this is.
        unsafe {
            let future = std::future::ready(());
            let slot = queue.heap.take(&owner, cell::class::<std::future::Ready<()>>(), &queue);
            cell::spawn::<_, Queue, _>(slot, future, Parts::plain(), &())
        }
    };
    let other = spawn();
    let other = thread::spawn(move || drop(other));
    // SAFETY: the owner is this heap's.
    unsafe { queue.heap.end(Some(owner)) };
    other.join().unwrap();
    assert_eq!(queue.heap.page_count(), 0, "a page was forgotten");
    assert_eq!(Arc::strong_count(&queue), 1);
}

/// A task is freed remotely while the heap's owner rests, resumes, and takes a slot: one thread at
/// a time touches the owner's part, and no page stays while the owner rests.
fn free_during_rest() {
    let queue = Arc::new(Queue { tasks: Mutex::new(Vec::new()), heap: Heap::new() });
    let owner = queue.heap.acquire();
    let class = cell::class::<std::future::Ready<()>>();
    // SAFETY: the owner is this heap's.
    let take = || unsafe { queue.heap.take(&owner, class, &queue) };
    // SAFETY: no task was ever in the slot.
    let free = |slot, mine| unsafe { slab::free::<Queue>(slot, mine) };
    let other = take().as_ptr() as usize;
    let other = thread::spawn(move || free(NonNull::new(other as *mut SlotHead).unwrap(), None));
    // SAFETY: the owner is this heap's.
    unsafe { queue.heap.rest(&owner, 0) };
    queue.heap.resume(&owner);
    free(take(), Some((&queue.heap, &owner)));
    // SAFETY: the owner is this heap's.
    unsafe { queue.heap.rest(&owner, 0) };
    other.join().unwrap();
    assert_eq!(queue.heap.page_count(), 0, "a page was forgotten");
    assert_eq!(Arc::strong_count(&queue), 1);
}

#[test]
fn a_resting_heap_forgets_no_page_and_has_one_owner() {
    check(free_during_rest);
}

#[test]
#[should_panic(expected = "a page was forgotten")]
fn twin_that_ignores_the_mark_of_a_resting_heap_is_caught() {
    check_without("mark look", free_during_rest);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_reclaims_after_the_owner_has_resumed_is_caught() {
    check_without("ownership look", free_during_rest);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_with_a_relaxed_push_of_a_freed_slot_is_caught() {
    check_without("push", free_during_end);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_with_a_relaxed_take_of_freed_slots_is_caught() {
    check_without("take", free_during_end);
}

#[test]
fn an_ended_heap_forgets_no_page() {
    check(free_during_end);
}

#[test]
#[should_panic(expected = "a page was forgotten")]
fn twin_that_ignores_the_mark_of_an_ended_heap_is_caught() {
    check_without("mark look", free_during_end);
}

#[test]
fn a_claimed_task_is_dropped_once() {
    check(claim_during_poll);
}

#[test]
fn a_task_whose_handle_is_dropped_is_cancelled_once() {
    check(drop_handle_during_poll);
}

/// Memory that a task's word protects.
struct Memory {
    state: StateWord,
    used: UnsafeCell<u32>,
}

impl Memory {
    /// A task that is done, with as many references as there are holders.
    fn done(holders: usize) -> Arc<Memory> {
        let memory = Memory { state: StateWord::vacant(), used: UnsafeCell::new(1) };
        memory.state.publish(false);
        assert!(matches!(memory.state.start(), AfterStart::Poll { .. }));
        (1..holders).for_each(|_| memory.state.retain());
        let _ = memory.state.seal();
        // The task's own reference and the runnable's are given up, the join handle's is left.
        assert_eq!(memory.state.complete(1, false), Close::Nothing);
        Arc::new(memory)
    }

    /// A holder reads the memory and gives its reference up; the last one frees the memory.
    fn release(&self) -> bool {
        // SAFETY: the memory is freed after the last release only; loom checks.
        assert_eq!(self.used.with(|used| unsafe { *used }), 1);
        let last = self.state.release(1);
        if last {
            // SAFETY: the memory is this holder's alone; loom checks.
            self.used.with_mut(|used| unsafe { *used = 0 });
        }
        last
    }
}

/// The last two holders of a task that is done give their references up: one of them frees the
/// task, after all use by the other.
fn last_two_release() {
    let memory = Memory::done(2);
    let other = {
        let memory = Arc::clone(&memory);
        thread::spawn(move || memory.release())
    };
    let here = memory.release();
    assert!(here != other.join().unwrap(), "freed twice, or never");
}

/// A walker looks at memory that is becoming a task: it sees no task, or a complete one.
fn walk_during_spawn() {
    let memory = Arc::new(Memory { state: StateWord::vacant(), used: UnsafeCell::new(0) });
    let spawner = {
        let memory = Arc::clone(&memory);
        thread::spawn(move || {
            // SAFETY: the memory is no task yet, and so the spawner's; loom checks.
            memory.used.with_mut(|used| unsafe { *used = 1 });
            memory.state.publish(false);
        })
    };
    if memory.state.try_retain() {
        assert!(!memory.release());
    }
    spawner.join().unwrap();
}

/// A shutdown claims a task while a worker starts to poll it: one thread at a time has the stage.
fn claim_during_start() {
    let memory = Arc::new(Memory { state: StateWord::vacant(), used: UnsafeCell::new(0) });
    memory.state.publish(false);
    let worker = {
        let memory = Arc::clone(&memory);
        thread::spawn(move || {
            if memory.state.start() != AfterStart::Stale {
                // SAFETY: RUNNING was set by this thread; loom checks.
                memory.used.with_mut(|used| unsafe { *used = 1 });
            }
        })
    };
    if memory.state.claim() {
        // SAFETY: RUNNING was set by this thread; loom checks.
        memory.used.with_mut(|used| unsafe { *used = 2 });
    }
    worker.join().unwrap();
}

/// The join handle is dropped while a worker takes the runnable: what the dropper reads afterwards
/// is whether the task was, or will be, polled.
fn lose_during_start() {
    let state = Arc::new(StateWord::vacant());
    state.publish(false);
    let worker = {
        let state = Arc::clone(&state);
        thread::spawn(move || state.start())
    };
    assert_eq!(state.release_handle(false), AfterRelease::Released(Wake::Nothing));
    let lost = state.is_fresh();
    let polled = worker.join().unwrap() != AfterStart::Cancel;
    assert!(lost != polled, "a task was lost and polled, or neither");
}

#[test]
fn a_task_is_lost_or_polled() {
    check(lose_during_start);
}

#[test]
#[should_panic(expected = "a task was lost and polled, or neither")]
fn twin_that_polls_a_cancelled_task_is_caught() {
    check_without("start look", lose_during_start);
}

#[test]
fn a_task_is_claimed_or_started() {
    check(claim_during_start);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_claims_a_running_task_is_caught() {
    check_without("claim look", claim_during_start);
}

#[test]
fn a_task_is_freed_once_and_after_all_use() {
    check(last_two_release);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_load_in_the_fast_release_is_caught() {
    check_without("fast release", last_two_release);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_load_after_the_last_release_is_caught() {
    check_without("last release", last_two_release);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_release_is_caught() {
    check_without("release", last_two_release);
}

#[test]
fn a_walker_sees_no_task_or_a_complete_one() {
    check(walk_during_spawn);
}

#[test]
#[should_panic]
fn twin_that_publishes_an_unfinished_task_is_caught() {
    check_without("publish", walk_during_spawn);
}
