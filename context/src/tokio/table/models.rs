//! Every interleaving of the hooks of one task, and twins that must fail.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::Relaxed as CountRelaxed;

use loom::thread;

use super::*;
use crate::util::sync::model::{check, check_without};

const TASK: u64 = 5;

/// Counts how many of it there are.
#[derive(Default)]
struct Counted(Option<Arc<Count>>);

impl Counted {
    fn new(alive: &Arc<Count>) -> Self {
        alive.fetch_add(1, CountRelaxed);
        Counted(Some(Arc::clone(alive)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(alive) = &self.0 {
            alive.fetch_sub(1, CountRelaxed);
        }
    }
}

/// The next poll of a task begins on another thread before the hook after the former poll.
fn polls_overlap() {
    let table = Arc::new(TaskTable::new());
    table.insert(TASK, 0).unwrap();
    table.enter(TASK, 1, |polls| *polls += 1);
    let theirs = Arc::clone(&table);
    let other = thread::spawn(move || {
        theirs.enter(TASK, 2, |polls| *polls += 1);
        assert_eq!(theirs.end(TASK, 2), None);
        assert_eq!(theirs.leave(TASK, 2, |polls| *polls += 1), Some(4));
    });
    assert_eq!(table.leave(TASK, 1, |polls| *polls += 1), None);
    other.join().unwrap();
    assert_eq!(table.len(), 0);
}

/// A runtime shuts down: one thread ends the task, another one has it from a queue. The slot may go
/// to another task meanwhile.
fn shutdown_meets_a_poll() {
    let alive = Arc::new(Count::new(0));
    let table = Arc::new(TaskTable::new());
    assert!(table.insert(TASK, Counted::new(&alive)).is_ok());
    let theirs = Arc::clone(&table);
    let other = thread::spawn(move || {
        // As the hooks do: the value is moved out and back, by two swaps with what the thread has.
        let mut thread = Counted::default();
        theirs.enter(TASK, 2, |value| mem::swap(value, &mut thread));
        drop(theirs.leave(TASK, 2, |value| mem::swap(value, &mut thread)));
        assert!(thread.0.is_none());
    });
    assert!(table.end(TASK, 1).is_some());
    assert!(table.insert(TASK + 1, Counted::new(&alive)).is_ok());
    other.join().unwrap();
    assert_eq!((table.len(), alive.load(CountRelaxed)), (1, 1));
    drop(Arc::into_inner(table).unwrap().drain());
    assert_eq!(alive.load(CountRelaxed), 0);
}

/// A runtime shuts down while a thread spawns: the end may come before, in between or after.
fn shutdown_meets_a_spawn() {
    let alive = Arc::new(Count::new(0));
    let table = Arc::new(TaskTable::new());
    let (theirs, counted) = (Arc::clone(&table), Arc::clone(&alive));
    let other = thread::spawn(move || drop(theirs.insert(TASK, Counted::new(&counted))));
    drop(table.end(TASK, 1));
    other.join().unwrap();
    assert_eq!((table.len(), alive.load(CountRelaxed)), (0, 0));
}

#[test]
fn the_next_poll_waits_for_the_hook_after_the_former_one() {
    check(polls_overlap);
}

#[test]
#[should_panic]
fn without_a_release_the_next_poll_races_with_the_former_one() {
    check_without("task slot: release", polls_overlap);
}

#[test]
fn a_task_that_a_shutdown_ends_may_be_in_a_queue() {
    check(shutdown_meets_a_poll);
}

#[test]
fn a_spawn_during_a_shutdown_leaves_no_entry() {
    check(shutdown_meets_a_spawn);
}

#[test]
#[should_panic]
fn without_the_fence_of_spawn_an_entry_is_left() {
    check_without("task table: fence of spawn", shutdown_meets_a_spawn);
}

#[test]
#[should_panic]
fn without_the_fence_of_terminate_an_entry_is_left() {
    check_without("task table: fence of terminate", shutdown_meets_a_spawn);
}
