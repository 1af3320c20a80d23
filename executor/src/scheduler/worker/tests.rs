//! A worker's duties towards its siblings, one step at a time: workers without threads, of which
//! one is driven by the test while the others are listed as sleepers.
//!
//! With threads, the next push or nap some microseconds later hides a missed wake-up, unless a long
//! poll begins just then. Here each wake-up is counted.

use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::runtime::builder::Builder;
use crate::runtime::share;
use crate::scheduler::current::RuntimeGuard;
use crate::util::threads::Threads;
use crate::{JoinHandle, spawn};

/// The workers of a runtime, none of which has a thread.
struct Crew {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

impl Crew {
    fn new(workers: usize) -> Crew {
        let threads =
            Threads { name: String::new(), stack_size: None, on_start: None, on_stop: None, guest: None };
        let parts: Vec<_> = (0..workers).map(|_| (Queue::new_fifo(), Parker::new())).collect();
        let shared = share(&Builder::new(), threads, &parts);
        let workers = parts.into_iter().enumerate();
        let workers =
            workers.map(|(index, (queue, parker))| Worker::new(index, Arc::clone(&shared), queue, parker));
        Crew { workers: workers.collect(), shared }
    }

    /// The first worker; this thread acts as that worker from now on.
    fn first(&self) -> (&Worker, RuntimeGuard<'_>) {
        (&self.workers[0], current::enter_worker(&self.workers[0]))
    }

    /// All others go to sleep without a look at the queues.
    fn others_sleep(&self) {
        for sibling in 1..self.workers.len() {
            self.shared.sleepers.announce(sibling, false, false);
        }
    }

    fn sleepers(&self) -> usize {
        self.shared.sleepers.listed()
    }

    /// S3 and S4 without S2, as if workers that did not see S1 had spawned all tasks.
    fn end(self) {
        self.shared.closing.store(true, SeqCst);
        self.shared.closed.store(true, SeqCst);
        self.shared.drain();
        let workers = self.workers.len();
        self.workers.into_iter().for_each(Worker::run);
        for heap in &self.shared.heaps[workers..] {
            // SAFETY: the heap has no owner, and the crew keeps it.
            unsafe { heap.end(None) }
        }
    }
}

/// Tasks that record how many siblings sleep when they are polled.
struct Counting<'a> {
    crew: &'a Crew,
    seen: Arc<Mutex<Vec<usize>>>,
}

impl<'a> Counting<'a> {
    fn new(crew: &'a Crew) -> Self {
        Counting { crew, seen: Arc::default() }
    }

    fn task(&self) -> impl Future<Output = ()> + Send + 'static {
        let (shared, seen) = (Arc::clone(&self.crew.shared), Arc::clone(&self.seen));
        async move { seen.lock().unwrap().push(shared.sleepers.listed()) }
    }

    fn seen(&self) -> Vec<usize> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// The worker polls the next task.
fn step(worker: &Worker) {
    let (task, popped) = worker.find().expect("a task");
    worker.poll(task, popped);
}

#[test]
fn a_sibling_is_woken_for_queued_tasks_before_a_poll_begins() {
    let crew = Crew::new(2);
    let (worker, entered) = crew.first();
    let counting = Counting::new(&crew);
    // One task for the next slot and two for the queue, before the sibling sleeps: the pushes wake
    // no sibling.
    let tasks: Vec<_> = (0..3).map(|_| spawn(counting.task())).collect();
    crew.others_sleep();
    assert_eq!(crew.sleepers(), 1, "no sibling is woken yet");
    step(worker);
    assert_eq!(counting.seen(), [0], "a poll began, and no sibling was woken for the queued tasks");
    drop((tasks, entered));
    crew.end();
}

#[test]
fn no_sibling_is_woken_for_a_lone_task() {
    // The counterpart: the lone task is the one that is polled.
    let crew = Crew::new(2);
    let (worker, entered) = crew.first();
    let counting = Counting::new(&crew);
    let task = spawn(counting.task());
    crew.others_sleep();
    step(worker);
    assert_eq!(counting.seen(), [1]);
    drop((task, entered));
    crew.end();
}

#[test]
fn a_sibling_is_woken_for_a_batch_from_the_injector() {
    // While the batch is moved, a sibling that is about to park cannot see it in a queue. The
    // injector is filled while no sibling sleeps.
    let crew = Crew::new(2);
    let (worker, entered) = crew.first();
    let tasks: Vec<_> = (0..8).map(|_| outside(&crew)).collect();
    crew.others_sleep();
    assert_eq!(crew.sleepers(), 1);
    let task = worker.take_injected().expect("there are eight");
    assert!(!worker.queue.is_empty(), "a batch");
    assert_eq!(crew.sleepers(), 0, "no sibling was woken for the batch");
    drop((task, tasks, entered));
    crew.end();
}

/// A task in the injector.
fn outside(crew: &Crew) -> JoinHandle<()> {
    let shared = Arc::clone(&crew.shared);
    std::thread::spawn(move || {
        let _entered = current::enter(&shared);
        spawn(async {})
    })
    .join()
    .unwrap()
}

#[test]
fn a_worker_that_ends_cancels_the_idle_tasks_of_its_heap() {
    // The task was spawned by a worker that did not see S1 yet, and is idle since: it is in no
    // queue, and S2 has not met it.
    let crew = Crew::new(1);
    let (worker, entered) = crew.first();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let task = spawn(async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    step(worker);
    assert!(worker.queue.is_empty() && worker.is_next_empty() && Arc::strong_count(&alive) == 2, "it waits");
    drop(entered);
    crew.end();
    assert!(task.is_finished(), "it was not cancelled");
    assert_eq!(Arc::strong_count(&alive), 1);
    let error = crate::block_on(task).unwrap_err();
    assert_eq!(error.reason(), Some(&CancelReason::Shutdown));
}

#[test]
fn a_former_keeper_wakes_a_keeper_before_a_poll() {
    let crew = Crew::new(2);
    let (worker, entered) = crew.first();
    worker.owe_keeper();
    crew.others_sleep();
    let task = spawn(async {});
    step(worker);
    assert_eq!(crew.sleepers(), 0, "there is no keeper during the poll");
    drop((task, entered));
    crew.end();
}

#[test]
fn a_throttled_worker_that_naps_is_asleep_and_in_no_list() {
    let crew = Crew::new(1);
    let (worker, entered) = crew.first();
    worker.nap();
    assert!(!crew.shared.sleepers.are_all_asleep());
    crew.shared.sleepers.start_nap();
    assert!(crew.shared.sleepers.are_all_asleep());
    assert_eq!(crew.sleepers(), 0);
    crew.shared.sleepers.end_nap();
    assert!(!worker.may_take.get(), "there is no work");
    drop(entered);
    crew.end();
}

#[test]
fn the_next_slot_is_not_forgotten_when_a_thief_empties_the_queue() {
    // The queue was to go first, since the next slot had gone first often enough; then a thief took
    // the last task of the queue.
    let crew = Crew::new(2);
    let (worker, entered) = crew.first();
    let task = spawn(async {});
    assert!(!worker.is_next_empty() && worker.queue.is_empty());
    assert!(worker.find_own(false).is_some(), "a worker parks, and its next slot is seen by no other");
    drop((task, entered));
    crew.end();
}

#[test]
fn a_worker_that_was_woken_sees_to_a_keeper_before_a_poll() {
    // It was taken from the list to become the keeper, and has found a task first, which may take
    // long.
    let crew = Crew::new(3);
    let (worker, entered) = crew.first();
    crew.others_sleep();
    let task = spawn(async {});
    crew.shared.sleepers.announce(0, false, false);
    assert_eq!(crew.shared.sleepers.wake_one(), Some(0));
    worker.got_up(crew.shared.sleepers.retract(0));
    step(worker);
    assert_eq!(crew.sleepers(), 1, "two long polls would leave nothing that keeps the time");
    drop((task, entered));
    crew.end();
}
