//! Guards of one level that are dropped elsewhere while the level looks, and ends.

use loom::sync::Arc;
use loom::thread;

use super::Registry;
use crate::frame::GuardKey;
use crate::util::sync::atomic::Ordering::Relaxed;
use crate::util::sync::model::{check, check_without};

const LEVEL: u64 = 7;

fn key(serial: u64) -> GuardKey {
    GuardKey::for_model(serial)
}

/// Two guards of a level are dropped by two threads, while the level looks once and ends: each is
/// either taken, or finds the level ended, and nothing stays in the registry.
fn look_and_end() {
    let registry = Arc::new(Registry::new());
    let threads = [1, 2].map(|serial| {
        let registry = registry.clone();
        thread::spawn(move || registry.note(LEVEL, key(serial)))
    });
    let taken = if registry.is_any_noted() { registry.take(LEVEL).len() } else { 0 };
    registry.end(LEVEL, 2 - taken);
    let stays: Vec<bool> = threads.map(|thread| thread.join().unwrap()).into();
    assert!(stays.iter().filter(|stays| **stays).count() >= taken);
    assert!(registry.levels.lock().unwrap().is_empty(), "something stays");
    assert_eq!(registry.noted.load(Relaxed), 0);
}

/// What was dropped before the level looks is seen, as soon as anything else tells that it was.
fn look_after_a_drop() {
    let registry = Arc::new(Registry::new());
    let other = thread::spawn({
        let registry = registry.clone();
        move || assert!(registry.note(LEVEL, key(1)))
    });
    other.join().unwrap();
    assert!(registry.is_any_noted());
    assert_eq!(registry.take(LEVEL), [key(1)]);
    assert!(!registry.is_any_noted());
}

#[test]
fn nothing_stays_of_a_level_and_its_guards() {
    check(look_and_end);
}

#[test]
#[should_panic = "something stays"]
fn twin_that_forgets_that_a_level_has_ended_is_caught() {
    check_without("remember the end", look_and_end);
}

#[test]
fn a_level_sees_what_was_dropped_before_it_looks() {
    check(look_after_a_drop);
}

#[test]
#[should_panic]
fn twin_that_does_not_count_is_caught() {
    check_without("count the level", look_after_a_drop);
}
