//! Real tasks on real threads that say nothing to each other but by the task's word: what one has
//! done to a task's memory happens before what another does to it next.
//!
//! To be run by what looks for data races (`.ci/tsan`, `.ci/miri`). On most processors nothing goes
//! wrong by itself where the order is not asked for: then only they see it. The threads wait for
//! each other at flags that order nothing.

use std::future::{Ready, ready};
use std::hint::black_box;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;

use heirloom_context::raw::Live;

use super::Schedule;
use super::cell::{self, Begin, Header, Parts, Runnable, Spawned, TaskRef};
use crate::slab::{self, Heap};

/// A scheduler that keeps what it is given.
struct Keeper {
    tasks: Mutex<Vec<Runnable>>,
    heap: Heap,
}

impl Schedule for Keeper {
    type Shared = Keeper;

    fn schedule(shared: &Keeper, task: Runnable) {
        shared.tasks.lock().unwrap().push(task);
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: says the caller.
        unsafe { slab::free::<Keeper>(task.cast(), None) }
    }
}

impl Keeper {
    fn new() -> Arc<Keeper> {
        let keeper = Keeper { tasks: Mutex::default(), heap: Heap::new() };
        // SAFETY: the heap is owned under its lock only.
        unsafe { keeper.heap.end(None) };
        Arc::new(keeper)
    }

    fn spawn(self: &Arc<Self>) -> Spawned<()> {
        let live = Live::empty();
        let place = Location::caller();
        let parts = Parts { live, place, name: None, background: false, begin: Begin::Queued };
        // SAFETY: a slot of this future's class, from this keeper's heap.
        unsafe {
            let (slot, _) = self.heap.take_locked(cell::class::<Ready<()>>(), self);
            cell::spawn::<_, Keeper>(slot, ready(()), parts)
        }
    }

    /// A task that is done, and the only references to it there are.
    fn done(self: &Arc<Self>) -> [TaskRef; 2] {
        let Spawned { runnable, join } = self.spawn();
        let references = [runnable.reference(), runnable.reference()];
        assert!(runnable.run().is_none());
        drop(join);
        references
    }
}

/// Looks at what is plain memory of a task, and is written when its slot is freed and when it is
/// used again.
fn look(task: &TaskRef) {
    black_box(task.header().vtable.stage);
    black_box(task.header().about.place());
}

/// Says nothing of what was done before, and learns nothing.
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
    let keeper = Keeper::new();
    let [one, other] = keeper.done();
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
    assert_eq!(keeper.heap.page_count(), 0, "it was not freed");
    thread.join().unwrap();
}

#[test]
fn a_walker_sees_no_task_that_is_not_complete() {
    let keeper = Keeper::new();
    // So that no page, with its lock, comes between.
    let first = keeper.spawn();
    let spawned = Arc::new(AtomicUsize::new(0));
    let thread = thread::spawn({
        let (keeper, spawned) = (Arc::clone(&keeper), Arc::clone(&spawned));
        move || {
            let second = keeper.spawn();
            spawned.store(1, Relaxed);
            wait_for(&spawned, 2);
            second
        }
    });
    wait_for(&spawned, 1);
    let tasks = TaskRef::all(&keeper.heap);
    assert_eq!(tasks.len(), 2);
    tasks.iter().for_each(look);
    drop(tasks);
    spawned.store(2, Relaxed);
    drop((first, thread.join().unwrap()));
    assert_eq!(keeper.heap.page_count(), 0, "one was not freed");
}
