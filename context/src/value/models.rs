//! A value that two threads read and drop: the thread that drops it last runs its destructor.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use super::{Value, ValueHeader, VarOptions};
use crate::util::sync::UnsafeCell;
use crate::util::sync::model::{check, check_without};

/// A value that counts its ends. The cell is read by each reader of the value, and written by its
/// destructor: loom sees whether the one happens before the other.
pub(crate) struct Probe(UnsafeCell<()>, Arc<AtomicUsize>);

// SAFETY: for loom to judge.
unsafe impl Sync for Probe {}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.with_mut(|_| ());
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

impl Probe {
    pub(crate) fn value(ends: &Arc<AtomicUsize>) -> Value {
        let probe = Probe(UnsafeCell::new(()), ends.clone());
        Value::new(probe, "probe", Location::caller(), &VarOptions::new(), 0)
    }

    /// # Safety
    /// Made by [`value`](Self::value), and alive.
    pub(crate) unsafe fn read(value: std::ptr::NonNull<ValueHeader>) {
        // SAFETY: a live `Probe` by this function's contract.
        unsafe { super::get::<Probe>(value) }.0.with(|_| ());
    }
}

fn read(value: &Value) {
    // SAFETY: made of a `Probe`, and alive.
    unsafe { Probe::read(value.as_ptr()) }
}

fn read_and_drop() {
    let ends = Arc::new(AtomicUsize::new(0));
    let value = Probe::value(&ends);
    let theirs = value.clone();
    let other = thread::spawn(move || {
        read(&theirs);
        drop(theirs);
    });
    read(&value);
    drop(value);
    other.join().unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 1);
}

#[test]
fn reading_a_value_happens_before_its_end() {
    check(read_and_drop);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_look_of_the_only_one_is_caught() {
    check_without("look of the only one", read_and_drop);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_release_is_caught() {
    check_without("release of a value", read_and_drop);
}

#[test]
#[should_panic]
fn twin_with_a_relaxed_acquire_is_caught() {
    check_without("acquire of a value", read_and_drop);
}
