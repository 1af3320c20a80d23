//! Real tasks on real threads whose only common memory is the task: what one thread has done to a
//! task's memory happens before what another thread does to it next.
//!
//! For detectors of data races (`.ci/tsan`, `.ci/miri`): on most processors a missing order does no
//! harm by itself. The threads wait for each other with relaxed flags, which order nothing.

use std::future::{Ready, ready};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;

use super::Schedule;
use super::cell::{self, Header, Parts, Runnable, Spawned, TaskRef};
use crate::slab::{self, Heap};

/// A scheduler that collects its runnables.
struct Collector {
    tasks: Mutex<Vec<Runnable>>,
    heap: Heap,
}

impl Schedule for Collector {
    type Shared = Collector;

    fn schedule(shared: &Collector, task: Runnable) {
        shared.tasks.lock().unwrap().push(task);
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: the task is gone, and its page keeps a `Collector`.
        unsafe { slab::free::<Collector>(task.cast(), None) }
    }
}

impl Collector {
    fn new() -> Arc<Collector> {
        let collector = Collector { tasks: Mutex::default(), heap: Heap::new() };
        // SAFETY: the heap has no owner, and the collector keeps it.
        unsafe { collector.heap.end(None) };
        Arc::new(collector)
    }

    fn spawn(self: &Arc<Self>) -> Spawned<()> {
        // SAFETY: a slot of this future's class, from this collector's heap.
        unsafe {
            let (slot, _) = self.heap.take_locked(cell::class::<Ready<()>>(), self);
            cell::spawn::<_, Collector, _>(slot, ready(()), Parts::plain(), &())
        }
    }

    /// The only two references of a task that is done.
    fn done(self: &Arc<Self>) -> [TaskRef; 2] {
        let Spawned { runnable, join } = self.spawn();
        let references = [runnable.reference(), runnable.reference()];
        assert!(runnable.run().is_none());
        drop(join);
        references
    }
}

/// Reads plain memory of a task, which is written when its slot is freed and when the slot is used
/// again.
fn look(task: &TaskRef) {
    black_box(task.header().vtable.stage);
    black_box(task.header().about.spawned_at());
}

/// Waits for a flag without ordering anything.
fn wait_for(flag: &AtomicUsize, value: usize) {
    let mut looks = 0;
    while flag.load(Relaxed) < value {
        looks += 1;
        if cfg!(miri) || looks > 1_000 {
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn the_last_holder_of_a_task_frees_it_after_all_use_by_others() {
    let collector = Collector::new();
    let [one, other] = collector.done();
    let gone = Arc::new(AtomicUsize::new(0));
    let thread = thread::spawn({
        let gone = Arc::clone(&gone);
        move || {
            look(&one);
            drop(one);
            gone.store(1, Relaxed);
        }
    });
    wait_for(&gone, 1);
    drop(other);
    assert_eq!(collector.heap.page_count(), 0, "the task was not freed");
    thread.join().unwrap();
}

#[test]
fn a_walker_sees_no_unfinished_task() {
    let collector = Collector::new();
    // The page is allocated first, since its lock would order the two threads.
    let first = collector.spawn();
    let spawned = Arc::new(AtomicUsize::new(0));
    let thread = thread::spawn({
        let (collector, spawned) = (Arc::clone(&collector), Arc::clone(&spawned));
        move || {
            let second = collector.spawn();
            spawned.store(1, Relaxed);
            wait_for(&spawned, 2);
            second
        }
    });
    wait_for(&spawned, 1);
    let mut tasks = TaskRef::all(&collector.heap);
    // A walker may miss a slot that was just used for the first time.
    while tasks.len() < 2 {
        thread::yield_now();
        tasks = TaskRef::all(&collector.heap);
    }
    tasks.iter().for_each(look);
    drop(tasks);
    spawned.store(2, Relaxed);
    drop((first, thread.join().unwrap()));
    assert_eq!(collector.heap.page_count(), 0, "a task was not freed");
}
