//! Two workers with spare handles of one snapshot, and twins that must fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use super::Spares;
use crate::bindings::{Bindings, Entry, Id, Lookup};
use crate::current::word::{Owned, Target};
use crate::util::sync::model::{check, check_without};
use crate::value::models::Probe;

/// The word of a snapshot of one value, which counts its end.
fn snapshot(ends: &Arc<AtomicUsize>) -> Owned {
    Owned::snapshot_of(Bindings::EMPTY.with(Id::from_key(1), Entry::Bound(Probe::value(ends))))
}

/// A task reads the value, and ends.
fn poll_and_end(spares: &Spares, mut task: Owned) {
    drop(spares.keep_for(task.0));
    if let Lookup::Bound(found) = task.bindings().lookup(Id::from_key(1)) {
        // SAFETY: made by `Probe::value`, and the task shows it.
        unsafe { Probe::read(found.as_ptr()) }
    }
    end(spares, &mut task);
}

fn end(spares: &Spares, task: &mut Owned) {
    let word = std::mem::replace(task, Owned::EMPTY);
    let Target::Snapshot(header) = word.0.target() else { unreachable!("tasks have snapshots") };
    // SAFETY: the word's handle moves along.
    drop(unsafe { spares.release(std::mem::ManuallyDrop::new(word).0, header) });
}

/// A task forks two, one of which another worker takes. All end, and both workers look for further
/// tasks.
fn fork_and_end() {
    let ends = Arc::new(AtomicUsize::new(0));
    let mut parent = snapshot(&ends);
    let spares = Spares::new();
    drop(spares.keep_for(parent.0));
    // SAFETY: the parent keeps it alive.
    let [here, there] = [(); 2].map(|()| Owned::snapshot_of(unsafe { spares.fork(parent.0) }));
    let other = thread::spawn(move || {
        let spares = Spares::new();
        poll_and_end(&spares, there);
        drop(spares.give_back());
    });
    end(&spares, &mut parent);
    poll_and_end(&spares, here);
    drop(spares.give_back());
    other.join().unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 1);
}

/// Of two tasks one ends on each worker. The worker that finds no other handle ends the snapshot,
/// or what is left is given back.
fn end_on_both() {
    let ends = Arc::new(AtomicUsize::new(0));
    let parent = snapshot(&ends);
    let there = Owned::snapshot_of(parent.bindings());
    let other = thread::spawn(move || {
        let spares = Spares::new();
        poll_and_end(&spares, there);
        drop(spares.give_back());
    });
    let spares = Spares::new();
    poll_and_end(&spares, parent);
    drop(spares.give_back());
    other.join().unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 1);
}

/// All handles are those of one worker: the value ends with the last task, before anything is given
/// back.
fn end_alone() {
    let ends = Arc::new(AtomicUsize::new(0));
    let mut parent = snapshot(&ends);
    let spares = Spares::new();
    drop(spares.keep_for(parent.0));
    // SAFETY: the parent keeps it alive.
    let children = [(); 3].map(|()| Owned::snapshot_of(unsafe { spares.fork(parent.0) }));
    end(&spares, &mut parent);
    for child in children {
        assert_eq!(ends.load(Ordering::Relaxed), 0);
        poll_and_end(&spares, child);
    }
    assert_eq!(ends.load(Ordering::Relaxed), 1);
}

#[test]
fn a_shared_snapshot_ends_once_and_after_all_reads() {
    check(fork_and_end);
    check(end_on_both);
    check(end_alone);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_look_for_other_handles_is_caught() {
    check_without("look for other handles", fork_and_end);
}

#[test]
#[should_panic]
fn twin_that_keeps_its_spare_handles_is_caught() {
    check_without("return of spare handles", fork_and_end);
}
