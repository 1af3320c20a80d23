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
    let spares = Spares::NONE;
    drop(spares.keep_for(parent.0));
    // SAFETY: the parent keeps it alive.
    let [here, there] = [(); 2].map(|()| Owned::snapshot_of(unsafe { spares.fork(parent.0) }));
    let other = thread::spawn(move || {
        let spares = Spares::NONE;
        poll_and_end(&spares, there);
        drop(spares.give_back());
    });
    end(&spares, &mut parent);
    poll_and_end(&spares, here);
    drop(spares.give_back());
    other.join().unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 1);
}

/// The same with one worker that takes over all handles: the value ends with the last task.
fn end_with_the_last_task() {
    let ends = Arc::new(AtomicUsize::new(0));
    let mut parent = snapshot(&ends);
    let there = Owned::snapshot_of(parent.bindings());
    let other = thread::spawn(move || {
        let spares = Spares::NONE;
        poll_and_end(&spares, there);
        drop(spares.give_back());
    });
    let spares = Spares::NONE;
    drop(spares.keep_for(parent.0));
    // SAFETY: the parent keeps it alive.
    let child = Owned::snapshot_of(unsafe { spares.fork(parent.0) });
    end(&spares, &mut parent);
    poll_and_end(&spares, child);
    let ended = ends.load(Ordering::Relaxed) == 1;
    other.join().unwrap();
    drop(spares.give_back());
    assert_eq!(ends.load(Ordering::Relaxed), 1);
    drop(ended);
}

#[test]
fn a_shared_snapshot_ends_once_and_after_all_reads() {
    check(fork_and_end);
    check(end_with_the_last_task);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_look_for_other_handles_is_caught() {
    check_without("look for other handles", fork_and_end);
}

#[test]
#[should_panic]
fn twin_that_ends_without_a_look_is_caught() {
    check_without("other handles", fork_and_end);
}
