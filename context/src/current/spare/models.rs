//! Two workers with spare handles of one snapshot, and twins that must fail. A snapshot is busy
//! here if there is any other handle.

use std::mem::{self, ManuallyDrop};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use super::Spares;
use crate::bindings::{Bindings, Entry, Id, Lookup};
use crate::current::word::{Owned, Target};
use crate::util::sync::model::{check, check_without};
use crate::value::models::Probe;

/// The spare handles of a worker.
fn worker() -> Spares {
    let spares = Spares::new();
    spares.begin(1);
    spares
}

/// The word of a snapshot of one value, which counts its end.
fn snapshot(ends: &Arc<AtomicUsize>) -> Owned {
    Owned::snapshot_of(Bindings::EMPTY.with(Id::from_key(1), Entry::Bound(Probe::value(ends))))
}

/// A task reads the value and forks, its child ends, and so does the task.
fn poll_and_end(spares: &Spares, mut task: Owned) {
    drop(spares.keep_for(task.0));
    if let Lookup::Bound(found) = task.bindings().lookup(Id::from_key(1)) {
        // SAFETY: made by `Probe::value`, and the task shows it.
        unsafe { Probe::read(found.as_ptr()) }
    }
    // SAFETY: the task keeps it alive.
    let mut child = Owned::snapshot_of(unsafe { spares.fork(task.0) });
    drop(spares.settle());
    end(spares, &mut child);
    end(spares, &mut task);
}

fn end(spares: &Spares, task: &mut Owned) {
    let word = mem::replace(task, Owned::EMPTY);
    let Target::Snapshot(header) = word.0.target() else { unreachable!("tasks have snapshots") };
    // SAFETY: the word's handle moves along.
    drop(unsafe { spares.release(ManuallyDrop::new(word).0, header) });
}

/// A task forks two, one of which another worker takes. All end, and both workers look for further
/// tasks.
fn fork_and_end() {
    let ends = Arc::new(AtomicUsize::new(0));
    let mut parent = snapshot(&ends);
    let spares = worker();
    drop(spares.keep_for(parent.0));
    // SAFETY: the parent keeps it alive.
    let [here, there] = [(); 2].map(|()| Owned::snapshot_of(unsafe { spares.fork(parent.0) }));
    drop(spares.settle());
    let other = thread::spawn(move || {
        let spares = worker();
        poll_and_end(&spares, there);
        drop(spares.give_back());
    });
    end(&spares, &mut parent);
    poll_and_end(&spares, here);
    drop(spares.give_back());
    other.join().unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 1);
}

/// All handles are those of one worker: the value ends with the last task, before anything is given
/// back.
fn end_alone() {
    let ends = Arc::new(AtomicUsize::new(0));
    let mut parent = snapshot(&ends);
    let spares = worker();
    drop(spares.keep_for(parent.0));
    // SAFETY: the parent keeps it alive.
    let children = [(); 5].map(|()| Owned::snapshot_of(unsafe { spares.fork(parent.0) }));
    drop(spares.settle());
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
    check(end_alone);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_release_is_caught() {
    check_without("release of a handle", fork_and_end);
}

#[test]
#[should_panic]
fn twin_that_keeps_its_spare_handles_is_caught() {
    check_without("return of spare handles", fork_and_end);
}
