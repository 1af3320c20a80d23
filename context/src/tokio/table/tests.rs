//! The steps one by one, on one thread and on several.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;

const HERE: usize = 1;
const ELSEWHERE: usize = 2;

#[test]
fn a_poll_borrows_the_value_and_an_end_inside_of_it_gives_it_to_the_poll() {
    let table = TaskTable::new();
    table.insert(7, 70).unwrap();
    table.enter(7, HERE, |value| *value += 1);
    assert!(table.leave(7, ELSEWHERE, |_| unreachable!("another thread polls")).is_none());
    assert!(table.leave(7, HERE, |value| *value += 1).is_none());
    table.enter(7, HERE, |value| *value += 1);
    assert!(table.end(7, HERE).is_none());
    assert_eq!(table.len(), 1);
    assert_eq!(table.leave(7, HERE, |_| ()), Some(73));
    assert_eq!(table.len(), 0);
}

#[test]
fn an_end_outside_of_a_poll_returns_the_value() {
    let table = TaskTable::new();
    table.insert(7, 70).unwrap();
    assert_eq!(table.end(7, HERE), Some(70));
    assert_eq!(table.end(7, HERE), None);
    table.enter(7, HERE, |_| unreachable!("it has ended"));
    assert!(table.leave(7, HERE, |_| unreachable!("it has ended")).is_none());
}

#[test]
fn a_task_that_ended_before_it_was_spawned_has_no_entry() {
    let table = TaskTable::new();
    assert_eq!(table.end(7, HERE), None);
    assert_eq!(table.insert(7, 70), Err(70));
    // The mark is gone with the task that it was for, and there was none for others.
    assert_eq!(table.insert(7 + ROWS as u64, 71), Ok(()));
    assert_eq!(table.insert(7, 70), Ok(()));
    assert_eq!(table.len(), 2);
}

#[test]
fn marks_that_no_spawn_takes_give_way_to_newer_ones() {
    let table = TaskTable::<u64>::new();
    let closures = (ROWS * ROW) as u64;
    for id in 1..=closures * 3 {
        assert_eq!(table.end(id, HERE), None);
    }
    for id in closures * 2 + 1..=closures * 3 {
        assert_eq!(table.insert(id, 0), Err(0));
    }
    assert_eq!(table.len(), 0);
}

/// The one way in which an entry is left over.
#[test]
fn an_entry_whose_mark_gave_way_goes_with_the_table() {
    for (closures, left) in [(ROW - 1, 0), (ROW, 1)] {
        let mut table = TaskTable::new();
        assert_eq!(table.end(7, HERE), None, "before the hook of its spawn");
        for closure in 1..=closures {
            assert_eq!(table.end((7 + closure * ROWS) as u64, HERE), None);
        }
        assert_eq!(table.insert(7, 70).is_ok(), left == 1);
        assert_eq!((table.len(), table.drain().len()), (left, left));
    }
}

#[test]
fn a_table_that_grows_finds_all_and_leaves_nothing() {
    let table = TaskTable::new();
    // Regular distances, and those of the numbers by which the golden ratio is worst.
    for stride in [1, 2, 233, 256, 610, 1024, 10_946] {
        let ids: HashSet<u64> = (1..5_000).map(|number| number * stride).collect();
        for &id in &ids {
            table.insert(id, id).unwrap();
        }
        assert_eq!(table.len(), ids.len());
        let slots: usize =
            table.segments.iter().filter_map(|segment| segment.slots.get()).map(|slots| slots.len()).sum();
        assert!(slots < 1 << 18, "{slots} slots for 5,000 tasks with distance {stride}");
        for &id in &ids {
            table.enter(id, HERE, |value| assert_eq!(*value, id));
            assert!(table.leave(id, HERE, |value| assert_eq!(*value, id)).is_none());
        }
        for &id in &ids {
            assert_eq!(table.end(id, HERE), Some(id));
        }
        assert_eq!(table.len(), 0);
    }
}

#[test]
fn what_is_left_goes_with_the_table() {
    let mut table = TaskTable::new();
    for id in 1..=3 {
        table.insert(id, id).unwrap();
    }
    table.enter(2, HERE, |_| ());
    let mut left = table.drain();
    left.sort();
    assert_eq!(left, [1, 3]);
}

/// Threads that insert, poll and end tasks of their own, while others do the same.
#[test]
fn threads_do_not_disturb_each_other() {
    let (table, next) = (TaskTable::new(), AtomicU64::new(1));
    let rounds = if cfg!(miri) { 50 } else { 5_000 };
    std::thread::scope(|scope| {
        for thread in 1..=4 {
            let (table, next) = (&table, &next);
            scope.spawn(move || {
                let mut alive = Vec::new();
                for round in 0..rounds {
                    let id = next.fetch_add(1, Relaxed);
                    table.insert(id, Box::new(id)).unwrap();
                    alive.push(id);
                    for &id in alive.iter().rev().take(3) {
                        table.enter(id, thread, |value| assert_eq!(**value, id));
                        assert!(table.leave(id, thread, |value| assert_eq!(**value, id)).is_none());
                    }
                    if round % 3 > 0 {
                        let id = alive.swap_remove(round / 2 % alive.len());
                        assert_eq!(table.end(id, thread).as_deref(), Some(&id));
                    }
                }
                for id in alive {
                    assert_eq!(table.end(id, thread).as_deref(), Some(&id));
                }
            });
        }
    });
    assert_eq!(table.len(), 0);
}
