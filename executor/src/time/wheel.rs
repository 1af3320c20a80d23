//! A hierarchical timing wheel: single-threaded, knows ticks and no clock, thread or waker.
//!
//! # Terms
//!
//! * A *tick* is a number of eleven digits in base 64.
//! * *Now* is the tick up to which all due entries were moved to the ready list.
//! * An *entry* is a tick and a value.
//! * A *level* is a digit of ticks: level 0 is the lowest digit.
//! * A *slot* is the list of the entries with one value of a level's digit; a level has 64.
//! * The *ready list* has entries whose slot was reached, or that were late when they were
//!   inserted.
//!
//! # Where an entry is linked
//!
//! * **ready**: its tick is not after `now`.
//! * **in a slot**: the level is the highest digit in which the tick differs from `now`, and the
//!   slot is the value of that digit in the tick.
//!
//! ```text
//!  now = 0·02·05      tick 0·02·41  ->  level 0, slot 41   one tick per slot of level 0
//!                     tick 0·17·03  ->  level 1, slot 17
//!                     tick 9·00·00  ->  level 2, slot  9
//!                     tick ≤ now    ->  `ready`
//! ```
//!
//! Eleven digits hold every `u64`: every deadline has a slot of its own level, and no level wraps
//! around. A level is allocated when the first entry needs it: 1.5 KiB. With ticks of a 64th of a
//! millisecond, deadlines within four hours need five of them, and those within twelve days six.
//!
//! # Invariants
//!
//! 1. In an occupied slot of level *n*, every tick has the digits of `now` above *n*, and a greater
//!    digit *n*. So entries of a lower level are due before those of a higher one, and the first
//!    occupied slot of the lowest occupied level holds the earliest entry.
//! 2. A slot's `earliest` is at most the earliest tick in the slot. It may be too early after a
//!    removal, never too late.
//!
//! # Transitions
//!
//! * insert ([`Wheel::insert`], [`Wheel::reset`]): the entry is linked as above.
//! * remove ([`Wheel::remove`]): the entry is unlinked from the list it is in.
//! * reach ([`Wheel::advance`], `move_to_slot`): `now` moves to the first slot whose first tick has
//!   been reached, at most to the slot's `earliest`, so that whole levels are skipped at once. The
//!   slot's list becomes the ready list.
//! * take ([`Wheel::advance`]): an entry is unlinked from the ready list. If it is due, its value
//!   is returned; otherwise it is linked again, on a lower level.
//!
//! Each step of `advance` counts against the caller's limit, so that a slot of a million entries
//! does not occupy the caller's lock for long. What is left stays in the ready list, and
//! [`Wheel::next_tick`] returns `now`.
//!
//! **No entry is skipped.** `now` never moves beyond an occupied slot, by invariant 1 and the bound
//! by `earliest`, and a slot that was reached is emptied into the ready list as a whole.
//!
//! Entries of one tick leave in the order in which they came. The algorithm is that of G. Varghese
//! and T. Lauck, "Hashed and hierarchical timing wheels", 1987.
#![forbid(unsafe_code)]

use slab::Slab;

/// Bits per digit.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;

/// No entry.
const NONE: usize = usize::MAX;

/// For how many entries memory is kept when the last one is removed: some tens of KiB, which an
/// idle runtime may keep. The megabytes of a burst are freed.
const KEPT_CAPACITY: usize = 1024;

/// Names an entry. The key of a removed entry names no entry, also if another has its index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: usize,
    stamp: u64,
}

struct Entry<T> {
    tick: u64,
    /// Unique in this wheel: tells the entry from a former one at the same index.
    stamp: u64,
    prev: usize,
    next: usize,
    value: T,
}

/// A doubly linked list through the entries.
#[derive(Clone, Copy)]
struct List {
    head: usize,
    tail: usize,
}

impl List {
    const EMPTY: List = List { head: NONE, tail: NONE };

    fn push<T>(&mut self, entries: &mut Slab<Entry<T>>, index: usize) {
        let entry = &mut entries[index];
        (entry.prev, entry.next) = (self.tail, NONE);
        match self.tail {
            NONE => self.head = index,
            tail => entries[tail].next = index,
        }
        self.tail = index;
    }

    fn unlink<T>(&mut self, entries: &mut Slab<Entry<T>>, index: usize) {
        let (prev, next) = (entries[index].prev, entries[index].next);
        match prev {
            NONE => self.head = next,
            prev => entries[prev].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => entries[next].prev = prev,
        }
    }

    fn is_end(self, index: usize) -> bool {
        self.head == index || self.tail == index
    }
}

#[derive(Clone, Copy)]
struct WheelSlot {
    list: List,
    earliest: u64,
}

struct Level {
    /// One bit per slot.
    occupied: u64,
    slots: Box<[WheelSlot; SLOTS]>,
}

impl Level {
    fn new() -> Self {
        Level { occupied: 0, slots: Box::new([WheelSlot { list: List::EMPTY, earliest: u64::MAX }; SLOTS]) }
    }
}

/// How far an [`advance`](Wheel::advance) came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Advanced {
    /// All due values were returned.
    Completely,
    /// The limit was reached first: call again.
    InPart,
}

/// See the [module](self).
pub(crate) struct Wheel<T> {
    /// All entries up to this tick were returned, or are in `ready`.
    now: u64,
    /// As many levels as were needed so far.
    levels: Vec<Level>,
    /// One bit per level.
    occupied: u32,
    ready: List,
    entries: Slab<Entry<T>>,
    next_stamp: u64,
}

/// The level and slot of a tick that is later than `now`.
fn position(now: u64, tick: u64) -> (usize, usize) {
    debug_assert!(tick > now, "a due entry has no slot");
    let level = (now ^ tick).ilog2() / BITS;
    (level as usize, (tick >> (level * BITS)) as usize % SLOTS)
}

impl<T> Wheel<T> {
    /// A wheel whose time starts at `now`.
    pub(crate) fn new(now: u64) -> Self {
        Wheel {
            now,
            levels: Vec::new(),
            occupied: 0,
            ready: List::EMPTY,
            entries: Slab::new(),
            next_stamp: 0,
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds an entry, whose value the first [`advance`](Self::advance) to `tick` or beyond returns.
    pub(crate) fn insert(&mut self, tick: u64, value: T) -> Key {
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        let index = self.entries.insert(Entry { tick, stamp, prev: NONE, next: NONE, value });
        self.link_entry(index, tick);
        Key { index, stamp }
    }

    /// The entry's value, if the entry was not removed.
    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut T> {
        self.is_live(key).then(|| &mut self.entries[key.index].value)
    }

    /// Removes an entry, unless that was done before.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<T> {
        self.is_live(key).then(|| {
            self.unlink_entry(key.index);
            self.remove_entry(key.index)
        })
    }

    /// Moves an entry to another tick; `false` if the entry was removed.
    pub(crate) fn reset(&mut self, key: &Key, tick: u64) -> bool {
        let found = self.is_live(key);
        if found {
            self.unlink_entry(key.index);
            self.entries[key.index].tick = tick;
            self.link_entry(key.index, tick);
        }
        found
    }

    /// Whether there are entries whose slot was reached.
    pub(crate) fn has_ready(&self) -> bool {
        self.ready.head != NONE
    }

    /// The tick at which to [`advance`](Self::advance) next: at most the earliest entry's tick, and
    /// usually just that. `None` without entries.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        if self.has_ready() {
            return Some(self.now);
        }
        self.first_slot().map(|(level, slot)| self.levels[level].slots[slot].earliest)
    }

    /// Moves `now` to `to` and appends the values that are due by then to `due`, in at most `limit`
    /// steps. `now` does not go back.
    pub(crate) fn advance(&mut self, to: u64, limit: usize, due: &mut Vec<T>) -> Advanced {
        let mut steps = limit;
        loop {
            while self.ready.head != NONE {
                if steps == 0 {
                    return Advanced::InPart;
                }
                steps -= 1;
                let index = self.ready.head;
                self.ready.unlink(&mut self.entries, index);
                let tick = self.entries[index].tick;
                if tick <= self.now {
                    let value = self.remove_entry(index);
                    due.push(value);
                } else {
                    self.link_entry(index, tick);
                }
            }
            match self.first_slot() {
                Some((level, slot)) if self.slot_start(level, slot) <= to => {
                    self.move_to_slot(level, slot, to)
                }
                _ => {
                    self.now = self.now.max(to);
                    return Advanced::Completely;
                }
            }
        }
    }

    /// Removes all entries.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let wheel = std::mem::replace(self, Wheel { next_stamp: self.next_stamp, ..Wheel::new(self.now) });
        wheel.entries.into_iter().map(|(_, entry)| entry.value)
    }

    /// Whether the key's entry was not removed.
    fn is_live(&self, key: &Key) -> bool {
        let entry = self.entries.get(key.index);
        entry.is_some_and(|entry| entry.stamp == key.stamp || crate::util::sync::weakened("stamp"))
    }

    /// The slot with the earliest entry, as level and slot.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.occupied.trailing_zeros() as usize;
        Some((level, self.levels.get(level)?.occupied.trailing_zeros() as usize))
    }

    /// The first tick of a slot that lies ahead.
    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * BITS;
        // In two steps, since a shift by all bits at once could be one by more than 63.
        let above = (self.now >> shift >> BITS) << BITS << shift;
        above | (slot as u64) << shift
    }

    /// Moves `now` to a slot, and the slot's entries to `ready`, which is empty.
    fn move_to_slot(&mut self, level: usize, slot: usize, to: u64) {
        let level_bit = 1 << level;
        let start = self.slot_start(level, slot);
        let level = &mut self.levels[level];
        level.occupied &= !(1 << slot);
        if level.occupied == 0 {
            self.occupied &= !level_bit;
        }
        let slot = &mut level.slots[slot];
        debug_assert!(self.now < start && start <= slot.earliest, "an occupied slot lies ahead");
        self.now = slot.earliest.min(to);
        self.ready = std::mem::replace(&mut slot.list, List::EMPTY);
    }

    /// Links an entry where its tick belongs, seen from `now`.
    fn link_entry(&mut self, index: usize, tick: u64) {
        if tick <= self.now {
            return self.ready.push(&mut self.entries, index);
        }
        let (level, slot_index) = position(self.now, tick);
        while self.levels.len() <= level {
            self.levels.push(Level::new());
        }
        self.occupied |= 1 << level;
        let level = &mut self.levels[level];
        let slot = &mut level.slots[slot_index];
        let is_first = level.occupied & 1 << slot_index == 0;
        slot.earliest = if is_first { tick } else { tick.min(slot.earliest) };
        slot.list.push(&mut self.entries, index);
        level.occupied |= 1 << slot_index;
    }

    /// Unlinks an entry from its list.
    fn unlink_entry(&mut self, index: usize) {
        let Entry { tick, prev, next, .. } = self.entries[index];
        if self.ready.is_end(index) {
            return self.ready.unlink(&mut self.entries, index);
        }
        if prev != NONE && next != NONE {
            // In the middle of a list, whose head and tail stay.
            return { List::EMPTY }.unlink(&mut self.entries, index);
        }
        let (level_index, slot_index) = position(self.now, tick);
        let level = &mut self.levels[level_index];
        let slot = &mut level.slots[slot_index];
        debug_assert!(slot.list.is_end(index), "linked where its tick belongs");
        slot.list.unlink(&mut self.entries, index);
        if slot.list.head == NONE {
            level.occupied &= !(1 << slot_index);
            if level.occupied == 0 {
                self.occupied &= !(1 << level_index);
            }
        }
    }

    /// Frees an entry that is in no list.
    fn remove_entry(&mut self, index: usize) -> T {
        let value = self.entries.remove(index).value;
        if self.entries.is_empty() && self.entries.capacity() > KEPT_CAPACITY {
            self.entries = Slab::new();
        }
        value
    }
}

const _: () =
    assert!(u64::BITS.div_ceil(BITS) <= u32::BITS, "`occupied` has a bit for each level of 64-bit ticks");

#[cfg(all(test, not(loom)))]
mod tests;
