//! The wheel against a sorted map.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Advanced, BITS, KEPT_CAPACITY, Key, Wheel};

/// Advances to the end, in steps of at most `limit`.
fn advance<T>(wheel: &mut Wheel<T>, to: u64, limit: usize) -> Vec<T> {
    let mut due = Vec::new();
    while wheel.advance(to, limit, &mut due) == Advanced::InPart {}
    due
}

/// Ticks around which levels begin and end.
fn boundaries() -> impl Iterator<Item = u64> {
    (0..=10)
        .flat_map(|level| {
            let size = 1u64 << (level * BITS);
            [size - 1, size, size + 1, size.wrapping_mul(63), (1u64 << 36).saturating_sub(size)]
        })
        .chain([u64::MAX, u64::MAX - 1, u64::MAX - 64, u64::MAX - 5000])
}

#[test]
fn entries_leave_at_their_tick_and_not_before() {
    for start in boundaries() {
        for distance in boundaries() {
            let Some(tick) = start.checked_add(distance) else { continue };
            let mut wheel = Wheel::new(start);
            wheel.insert(tick, tick);
            assert_eq!(wheel.next_tick(), Some(tick));
            if tick > start {
                assert!(advance(&mut wheel, tick - 1, 10).is_empty());
                assert_eq!(wheel.next_tick(), Some(tick));
            }
            assert_eq!(advance(&mut wheel, tick, 10), [tick]);
            assert_eq!((wheel.next_tick(), wheel.len()), (None, 0));
        }
    }
}

#[test]
fn a_far_entry_hides_no_nearer_one() {
    for start in boundaries().filter(|start| start.checked_add(1 << 50).is_some()) {
        let mut wheel = Wheel::new(start);
        wheel.insert(u64::MAX, u64::MAX);
        for distance in [1 << 49, 1 << 36, 1 << 30, 1 << 12, 1] {
            wheel.insert(start + distance, start + distance);
            assert_eq!(wheel.next_tick(), Some(start + distance));
        }
        for distance in [1, 1 << 12, 1 << 30, 1 << 36, 1 << 49] {
            assert_eq!(advance(&mut wheel, start + distance, 10), [start + distance]);
        }
        assert_eq!(wheel.len(), 1);
    }
}

#[test]
fn a_late_entry_leaves_next() {
    let mut wheel = Wheel::new(100);
    wheel.insert(7, "late");
    wheel.insert(100, "now");
    assert_eq!(wheel.next_tick(), Some(100));
    assert_eq!(advance(&mut wheel, 100, 10), ["late", "now"]);
}

#[test]
fn time_does_not_go_back() {
    let mut wheel = Wheel::new(100);
    wheel.insert(200, ());
    assert!(advance(&mut wheel, 150, 10).is_empty());
    assert!(advance(&mut wheel, 20, 10).is_empty());
    wheel.insert(140, ());
    assert_eq!(wheel.next_tick(), Some(150));
    assert_eq!(advance(&mut wheel, 20, 10), [()]);
    assert_eq!(advance(&mut wheel, 200, 10), [()]);
}

#[test]
fn entries_of_one_tick_leave_in_order() {
    let mut wheel = Wheel::new(0);
    for number in 0..50 {
        wheel.insert(5000, number);
    }
    assert!(advance(&mut wheel, 4990, 10).is_empty());
    for number in 50..100 {
        wheel.insert(5000, number);
    }
    assert_eq!(advance(&mut wheel, 5000, 10), (0..100).collect::<Vec<_>>());
}

#[test]
fn an_advance_takes_bounded_steps() {
    let mut wheel = Wheel::new(0);
    for number in 0..100 {
        wheel.insert(10, number);
    }
    let mut due = Vec::new();
    assert_eq!(wheel.advance(20, 30, &mut due), Advanced::InPart);
    assert_eq!((due.len(), wheel.len(), wheel.next_tick()), (30, 70, Some(10)));
    assert_eq!(wheel.advance(20, 0, &mut due), Advanced::InPart);
    assert_eq!(due.len(), 30);
    assert_eq!(advance(&mut wheel, 20, 30).len(), 70);
}

#[test]
fn a_key_outlives_its_entry_and_names_no_other() {
    let mut wheel = Wheel::new(0);
    let old = wheel.insert(10, 1);
    assert_eq!(wheel.remove(&old), Some(1));
    let new = wheel.insert(10, 2);
    assert_eq!(old.index, new.index);
    assert_eq!(wheel.remove(&old), None);
    assert!(!wheel.reset(&old, 20) && wheel.get_mut(&old).is_none());
    assert_eq!(wheel.get_mut(&new), Some(&mut 2));
    wheel.drain().for_each(drop);
    wheel.insert(10, 3);
    assert_eq!(wheel.remove(&new), None);
}

#[test]
fn entries_are_removed_while_their_slot_is_in_the_ready_list() {
    for removed in 0..5 {
        let mut wheel = Wheel::new(0);
        let keys = Vec::from_iter((0..5).map(|number| wheel.insert(100 + number, number)));
        // All are in `ready` now; the first one is linked again.
        assert_eq!(wheel.advance(90, 1, &mut Vec::new()), Advanced::InPart);
        assert_eq!(wheel.remove(&keys[removed as usize]), Some(removed));
        let rest = Vec::from_iter((0..5).filter(|number| *number != removed));
        assert_eq!(advance(&mut wheel, 104, 2), rest);
    }
}

#[test]
fn the_memory_of_a_burst_is_freed() {
    let mut wheel = Wheel::new(0);
    let keys = Vec::from_iter(
        (0..if cfg!(miri) { KEPT_CAPACITY as u64 + 1 } else { 100_000 })
            .map(|number| wheel.insert(number, ())),
    );
    for key in &keys {
        wheel.remove(key);
    }
    assert!(wheel.entries.capacity() <= KEPT_CAPACITY);
    assert_eq!((wheel.len(), wheel.next_tick()), (0, None));
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Remove(usize),
    Reset(usize, u64),
    Advance(u64, usize),
    /// To the wheel's `next_tick`.
    AdvanceToNext,
}

/// Distances of all magnitudes.
fn distance() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..200u64,
        (0..64u32, any::<u64>()).prop_map(|(bits, number)| number >> bits),
        (0..11u32, 0..3u64).prop_map(|(level, more)| (1 << (level * BITS)) + more - 1),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => distance().prop_map(Step::Insert),
        2 => any::<usize>().prop_map(Step::Remove),
        2 => (any::<usize>(), distance()).prop_map(|(which, to)| Step::Reset(which, to)),
        2 => (distance(), 1..6usize).prop_map(|(by, limit)| Step::Advance(by, limit)),
        2 => Just(Step::AdvanceToNext),
    ]
}

fn start() -> impl Strategy<Value = u64> {
    let around = (0..11u32, 0..200u64).prop_map(|(level, less)| (1u64 << (level * BITS)).wrapping_sub(less));
    prop_oneof![Just(0), around, any::<u64>(), (0..10_000u64).prop_map(|less| u64::MAX - less)]
}

/// Entries by tick and number.
#[derive(Default)]
struct Model {
    keys: Vec<(Key, u64)>,
    entries: BTreeMap<(u64, usize), ()>,
}

impl Model {
    fn choose(&self, which: usize) -> Option<usize> {
        (!self.keys.is_empty()).then(|| which % self.keys.len())
    }

    fn is_alive(&self, number: usize) -> bool {
        self.entries.contains_key(&(self.keys[number].1, number))
    }

    fn take_due(&mut self, now: u64) -> Vec<usize> {
        let mut due = Vec::new();
        while let Some(first) = self.entries.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove_entry().0.1);
        }
        due
    }
}

proptest! {
    #[test]
    fn agrees_with_a_sorted_map(start in start(), steps in prop::collection::vec(step(), 1..80)) {
        let mut wheel = Wheel::new(start);
        let mut model = Model::default();
        let mut now = start;
        for step in steps {
            match step {
                Step::Insert(distance) => {
                    let (tick, number) = (now.saturating_add(distance), model.keys.len());
                    model.keys.push((wheel.insert(tick, number), tick));
                    model.entries.insert((tick, number), ());
                }
                Step::Remove(which) => if let Some(number) = model.choose(which) {
                    let expected = model.is_alive(number).then_some(number);
                    prop_assert_eq!(wheel.remove(&model.keys[number].0), expected);
                    model.entries.remove(&(model.keys[number].1, number));
                },
                Step::Reset(which, distance) => if let Some(number) = model.choose(which) {
                    let tick = now.saturating_add(distance);
                    let alive = model.is_alive(number);
                    prop_assert_eq!(wheel.reset(&model.keys[number].0, tick), alive);
                    if alive {
                        model.entries.remove(&(model.keys[number].1, number));
                        model.entries.insert((tick, number), ());
                        model.keys[number].1 = tick;
                    }
                },
                Step::Advance(by, limit) => {
                    now = now.saturating_add(by);
                    let mut due = Vec::new();
                    while wheel.advance(now, limit, &mut due) == Advanced::InPart {
                        prop_assert!(wheel.next_tick().is_some_and(|tick| tick <= now));
                    }
                    due.sort_by_key(|number| (model.keys[*number].1, *number));
                    prop_assert_eq!(due, model.take_due(now));
                }
                Step::AdvanceToNext => if let Some(next) = wheel.next_tick() {
                    now = now.max(next);
                    let mut due = advance(&mut wheel, now, 100);
                    due.sort_by_key(|number| (model.keys[*number].1, *number));
                    prop_assert_eq!(due, model.take_due(now));
                },
            }
            prop_assert_eq!(wheel.len(), model.entries.len());
            let earliest = model.entries.first_key_value().map(|((tick, _), ())| (*tick).max(now));
            prop_assert_eq!(wheel.next_tick().is_some(), earliest.is_some());
            if let (Some(next), Some(earliest)) = (wheel.next_tick(), earliest) {
                prop_assert!(next <= earliest);
            }
        }
        // Advancing to `next_tick` each time returns everything, without many steps in vain.
        let mut advances = 0;
        while let Some(next) = wheel.next_tick() {
            now = now.max(next);
            let due = advance(&mut wheel, now, 100).len();
            prop_assert_eq!(due, model.take_due(now).len());
            advances += 1;
            prop_assert!(advances <= model.keys.len() * 12 + 1);
        }
        prop_assert!(model.entries.is_empty());
    }
}
