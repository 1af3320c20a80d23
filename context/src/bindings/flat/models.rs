//! Every interleaving of a few threads on one root, and twins that must fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use super::FlatTable;
use crate::bindings::entry::{Entry, Id, Lookup};
use crate::util::sync::model::{check, check_without};
use crate::value::models::Probe;

/// Values that count their ends, one counter per variable.
#[derive(Clone, Default)]
struct Probes([Arc<AtomicUsize>; 8]);

impl Probes {
    fn value(&self, counter: usize) -> Entry {
        Entry::Bound(Probe::value(&self.0[counter]))
    }

    /// A root of four values that count on counters 0 to 3, large enough to be borrowed from.
    fn root(&self) -> FlatTable {
        let mut root = FlatTable::single(Id::from_key(1), self.value(0));
        for key in 2..=4 {
            drop(root.write(Id::from_key(key), self.value(key as usize - 1), false));
        }
        root
    }

    fn ended(&self) -> Vec<usize> {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }
}

/// Looks at the values of four variables.
fn read(table: &FlatTable) {
    read_from(1, table);
}

fn read_from(first: u64, table: &FlatTable) {
    for key in first..=4 {
        if let Lookup::Bound(found) = table.lookup(Id::from_key(key)) {
            // SAFETY: made by `Probes::value`, and `table` shows it.
            unsafe { Probe::read(found.as_ptr()) }
        }
    }
}

/// Two threads read one table and drop it.
fn read_and_drop() {
    let probes = Probes::default();
    let root = probes.root();
    let theirs = root.clone();
    let other = thread::spawn(move || {
        read(&theirs);
        drop(theirs);
    });
    read(&root);
    drop(root);
    other.join().unwrap();
    assert_eq!(probes.ended(), [1, 1, 1, 1, 0, 0, 0, 0]);
}

/// One handle reads and goes; then, or not yet, the other one changes the table in place, by an
/// exchange or by a write.
fn read_and_change(exchanges: bool) {
    let probes = Probes::default();
    let mut root = probes.root();
    let theirs = root.clone();
    let other = thread::spawn(move || {
        read(&theirs);
        drop(theirs);
    });
    let (id, mut entry) = (Id::from_key(1), probes.value(4));
    // SAFETY: the root's own handle.
    let exchanged = exchanges && unsafe { FlatTable::exchange_at_home(root.0.cast(), id, &mut entry) };
    if !exchanged {
        entry = root.write(id, entry, true);
    }
    drop(entry);
    other.join().unwrap();
    assert_eq!(probes.ended(), [1, 0, 0, 0, 0, 0, 0, 0]);
    drop(root);
    assert_eq!(probes.ended(), [1, 1, 1, 1, 1, 0, 0, 0]);
}

/// Two tables derived from one root, whose handles go meanwhile: a value ends with the last table
/// that shows it.
fn derive_and_drop() {
    let probes = Probes::default();
    let root = probes.root();
    let theirs = (root.clone(), probes.clone());
    let other = thread::spawn(move || {
        let (root, probes) = theirs;
        let derived = root.with(Id::from_key(1), probes.value(4));
        drop(root);
        drop(derived);
    });
    let derived = root.with(Id::from_key(2), probes.value(5));
    drop(root);
    other.join().unwrap();
    // What the last table shows is alive, everything else is not.
    assert_eq!(probes.ended(), [0, 1, 0, 0, 1, 0, 0, 0]);
    drop(derived);
    assert_eq!(probes.ended(), [1, 1, 1, 1, 1, 1, 0, 0]);
}

/// A borrower stops using an entry in place while the root's last handle goes.
fn change_in_place() {
    let probes = Probes::default();
    let root = probes.root();
    let mut derived = root.with(Id::from_key(1), probes.value(4));
    let other = thread::spawn(move || drop(root));
    drop(derived.write(Id::from_key(2), probes.value(5), true));
    other.join().unwrap();
    assert_eq!(probes.ended(), [1, 1, 0, 0, 0, 0, 0, 0]);
    drop(derived);
    assert_eq!(probes.ended(), [1, 1, 1, 1, 1, 1, 0, 0]);
}

/// The only handle of a root changes it, in place if the borrower that another thread has is gone
/// by then.
fn change_after_a_borrower(exchanges: bool) {
    let probes = Probes::default();
    let mut root = probes.root();
    let derived = root.with(Id::from_key(1), probes.value(4));
    let other = thread::spawn(move || {
        read_from(2, &derived);
        drop(derived);
    });
    let (id, mut entry) = (Id::from_key(2), probes.value(5));
    // SAFETY: the root's own handle.
    let exchanged = exchanges && unsafe { FlatTable::exchange_at_home(root.0.cast(), id, &mut entry) };
    if !exchanged {
        entry = root.write(id, entry, true);
    }
    drop(entry);
    drop(root);
    other.join().unwrap();
    assert_eq!(probes.ended(), [1, 1, 1, 1, 1, 1, 0, 0]);
}

/// A table derived from a derived table, after the root's handles are gone.
fn derive_from_derived() {
    let probes = Probes::default();
    let root = probes.root();
    let first = root.with(Id::from_key(1), probes.value(4));
    let second = first.clone();
    let other = thread::spawn({
        let probes = probes.clone();
        move || {
            let third = second.with(Id::from_key(2), probes.value(5));
            drop(second);
            third
        }
    });
    drop(root);
    drop(first);
    let third = other.join().unwrap();
    assert_eq!(probes.ended(), [1, 1, 0, 0, 0, 0, 0, 0]);
    drop(third);
    assert_eq!(probes.ended(), [1, 1, 1, 1, 1, 1, 0, 0]);
}

#[test]
fn reading_happens_before_the_end() {
    check(read_and_drop);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_release_is_caught() {
    check_without("release of a handle", read_and_drop);
}

#[test]
fn reading_happens_before_a_change_in_place() {
    check(|| read_and_change(false));
    check(|| read_and_change(true));
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_look_of_the_only_handle_is_caught() {
    check_without("look of the only handle", || read_and_change(false));
}

#[test]
#[should_panic]
fn twin_that_exchanges_after_a_relaxed_look_is_caught() {
    check_without("look of the only handle", || read_and_change(true));
}

#[test]
fn a_root_may_change_in_place_after_its_borrowers() {
    check(|| change_after_a_borrower(false));
    check(|| change_after_a_borrower(true));
}

#[test]
#[should_panic]
fn twin_of_a_root_without_borrowers_with_a_relaxed_unlock_is_caught() {
    check_without("unlock", || change_after_a_borrower(true));
}

#[test]
fn values_end_with_the_last_table_that_shows_them() {
    check(derive_and_drop);
}

#[test]
fn a_borrower_may_change_in_place() {
    check(change_in_place);
}

#[test]
fn a_derived_table_may_be_derived_from() {
    check(derive_from_derived);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_unlock_is_caught() {
    check_without("unlock", derive_and_drop);
}

#[test]
#[should_panic]
fn twin_without_the_sweep_is_caught() {
    check_without("sweep", change_in_place);
}
