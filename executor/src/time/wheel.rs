//! A hierarchical timing wheel: pure, single-threaded, knows ticks and nothing of clocks, threads or wakers.
//!
//! # Where an entry lives
//!
//! A tick is a number of eleven digits in base 64; level *n* stands for digit *n*. With `now` as the tick up to which
//! everything was done, an entry is filed under the highest digit in which its tick differs from `now`, in the slot of
//! the value its tick has there:
//!
//! ```text
//!  now = 0·02·05      tick 0·02·41  ->  level 0, slot 41   everything in a slot of level 0 has the same tick
//!                     tick 0·17·03  ->  level 1, slot 17
//!                     tick 9·00·00  ->  level 2, slot  9
//!                     tick ≤ now    ->  `ready`
//! ```
//!
//! Eleven digits hold every `u64`, so no deadline is too far, nothing is clamped, and no level ever wraps around. A level
//! is allocated when the first entry needs it: 1.5 KiB, five of them for deadlines within twelve days.
//!
//! # What holds at all times
//!
//! 1. In an occupied slot of level *n*, every tick has the digits of `now` above *n*, and a greater digit *n*. So what
//!    is on a lower level is due before what is on a higher one, and the first occupied slot of the lowest occupied level
//!    holds the earliest entry.
//! 2. A slot's `earliest` is no later than any tick in it. It may be too early after a removal, never too late.
//! 3. What waits in `ready` has been taken from a slot whose turn has come, or was late when it was inserted.
//!
//! # Advancing
//!
//! [`Wheel::advance`] moves `now` to the first slot whose first tick has been reached, at most to the slot's
//! `earliest`, so that whole levels are skipped at once; it moves the slot's list to `ready`; then it takes entries from
//! `ready` one by one: due ones go out, the others are filed again, further down. Each step counts against the
//! caller's limit, so that a slot of a million entries does not hold the caller's lock; what is left stays in `ready`, and
//! [`Wheel::next_tick`] says that there is something to do now.
//!
//! Entries of one tick leave in the order in which they came. The idea is that of G. Varghese and T. Lauck, "Hashed and
//! hierarchical timing wheels", 1987.
#![forbid(unsafe_code)]

use slab::Slab;

/// Bits per digit.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;

/// No entry.
const NONE: usize = usize::MAX;

/// Entries for which memory is kept when the last one goes.
///
/// What an idle runtime may well hold on to, some tens of KiB; a burst's megabytes go back.
const KEEP: usize = 1024;

/// Names an entry. A key whose entry is gone names nothing, whatever has taken its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: usize,
    stamp: u64,
}

struct Entry<T> {
    tick: u64,
    /// Of this entry alone.
    stamp: u64,
    before: usize,
    after: usize,
    value: T,
}

/// A list through the entries.
#[derive(Clone, Copy)]
struct List {
    head: usize,
    tail: usize,
}

impl List {
    const EMPTY: List = List { head: NONE, tail: NONE };

    fn push<T>(&mut self, entries: &mut Slab<Entry<T>>, index: usize) {
        entries[index].before = self.tail;
        entries[index].after = NONE;
        match self.tail {
            NONE => self.head = index,
            tail => entries[tail].after = index,
        }
        self.tail = index;
    }

    fn unlink<T>(&mut self, entries: &mut Slab<Entry<T>>, index: usize) {
        let (before, after) = (entries[index].before, entries[index].after);
        match before {
            NONE => self.head = after,
            before => entries[before].after = after,
        }
        match after {
            NONE => self.tail = before,
            after => entries[after].before = before,
        }
    }

    fn is_end(self, index: usize) -> bool {
        self.head == index || self.tail == index
    }
}

#[derive(Clone, Copy)]
struct Slot {
    list: List,
    earliest: u64,
}

struct Level {
    /// One bit per slot.
    occupied: u64,
    slots: Box<[Slot]>,
}

impl Level {
    fn new() -> Self {
        Level { occupied: 0, slots: vec![Slot { list: List::EMPTY, earliest: u64::MAX }; SLOTS].into() }
    }
}

/// Whether an [`advance`](Wheel::advance) came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Progress {
    /// Everything due has been handed out.
    Done,
    /// The limit was reached first: call again.
    More,
}

/// See the [module](self).
pub(crate) struct Wheel<T> {
    /// Everything up to here was done, or is in `ready`.
    now: u64,
    /// As many as were needed so far.
    levels: Vec<Level>,
    /// One bit per level.
    occupied: u32,
    ready: List,
    entries: Slab<Entry<T>>,
    next_stamp: u64,
}

/// The level and slot of a tick that is later than `now`.
fn position(now: u64, tick: u64) -> (usize, usize) {
    debug_assert!(tick > now, "what is due is not filed");
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

    /// Adds an entry, which is handed out by the first [`advance`](Self::advance) to `tick` or beyond.
    pub(crate) fn insert(&mut self, tick: u64, value: T) -> Key {
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        let index = self.entries.insert(Entry { tick, stamp, before: NONE, after: NONE, value });
        self.file(index);
        Key { index, stamp }
    }

    /// The entry's value, if it is still there.
    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut T> {
        self.find(key).then(|| &mut self.entries[key.index].value)
    }

    /// Takes an entry out, if it is still there.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<T> {
        self.find(key).then(|| {
            self.unfile(key.index);
            self.take(key.index)
        })
    }

    /// Moves an entry to another tick; `false` if it is gone.
    pub(crate) fn reset(&mut self, key: &Key, tick: u64) -> bool {
        let found = self.find(key);
        if found {
            self.unfile(key.index);
            self.entries[key.index].tick = tick;
            self.file(key.index);
        }
        found
    }

    /// The tick at which to [`advance`](Self::advance) next: no later than the earliest entry, and usually exactly then.
    /// `None` without entries.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        if self.ready.head != NONE {
            return Some(self.now);
        }
        self.first().map(|(level, slot)| self.levels[level].slots[slot].earliest)
    }

    /// Moves time to `to` and appends to `due` what is due by then, after at most `limit` steps. Time does not go back.
    pub(crate) fn advance(&mut self, to: u64, limit: usize, due: &mut Vec<T>) -> Progress {
        let mut steps = limit;
        loop {
            while self.ready.head != NONE {
                if steps == 0 {
                    return Progress::More;
                }
                steps -= 1;
                let index = self.ready.head;
                self.ready.unlink(&mut self.entries, index);
                if self.entries[index].tick <= self.now {
                    let value = self.take(index);
                    due.push(value);
                } else {
                    self.file(index);
                }
            }
            match self.first() {
                Some((level, slot)) if self.slot_start(level, slot) <= to => self.turn_to(level, slot, to),
                _ => {
                    self.now = self.now.max(to);
                    return Progress::Done;
                }
            }
        }
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let wheel = std::mem::replace(self, Wheel { next_stamp: self.next_stamp, ..Wheel::new(self.now) });
        wheel.entries.into_iter().map(|(_, entry)| entry.value)
    }

    /// Whether the key's entry is there.
    fn find(&self, key: &Key) -> bool {
        let entry = self.entries.get(key.index);
        entry.is_some_and(|entry| entry.stamp == key.stamp || crate::util::sync::weakened("stamp"))
    }

    /// The first slot whose turn comes.
    fn first(&self) -> Option<(usize, usize)> {
        let level = self.occupied.trailing_zeros() as usize;
        Some((level, self.levels.get(level)?.occupied.trailing_zeros() as usize))
    }

    /// The first tick of a slot to come.
    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * BITS;
        // In two steps, since the shift by all bits at once may be one by more than 63.
        let above = (self.now >> shift >> BITS) << BITS << shift;
        above | (slot as u64) << shift
    }

    /// Moves time to a slot, and the slot's entries to `ready`, which is empty.
    fn turn_to(&mut self, level: usize, slot: usize, to: u64) {
        let level_bit = 1 << level;
        let start = self.slot_start(level, slot);
        let level = &mut self.levels[level];
        level.occupied &= !(1 << slot);
        if level.occupied == 0 {
            self.occupied &= !level_bit;
        }
        let slot = &mut level.slots[slot];
        debug_assert!(self.now < start && start <= slot.earliest, "slots to come are ahead");
        self.now = slot.earliest.min(to);
        self.ready = std::mem::replace(&mut slot.list, List::EMPTY);
    }

    /// Puts an entry where it belongs, seen from `now`.
    fn file(&mut self, index: usize) {
        let tick = self.entries[index].tick;
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

    /// Takes an entry out of its list.
    fn unfile(&mut self, index: usize) {
        let Entry { tick, before, after, .. } = self.entries[index];
        if self.ready.is_end(index) {
            return self.ready.unlink(&mut self.entries, index);
        }
        if before != NONE && after != NONE {
            // In the middle of whatever list.
            return { List::EMPTY }.unlink(&mut self.entries, index);
        }
        let (level_index, slot_index) = position(self.now, tick);
        let level = &mut self.levels[level_index];
        let slot = &mut level.slots[slot_index];
        debug_assert!(slot.list.is_end(index), "filed where its tick belongs");
        slot.list.unlink(&mut self.entries, index);
        if slot.list.head == NONE {
            level.occupied &= !(1 << slot_index);
            if level.occupied == 0 {
                self.occupied &= !(1 << level_index);
            }
        }
    }

    /// Ends an entry that is in no list.
    fn take(&mut self, index: usize) -> T {
        let value = self.entries.remove(index).value;
        if self.entries.is_empty() && self.entries.capacity() > KEEP {
            self.entries = Slab::new();
        }
        value
    }
}

const _: () =
    assert!(u64::BITS.div_ceil(BITS) <= u32::BITS, "`occupied` has a bit for each level of 64-bit ticks");

#[cfg(all(test, not(loom)))]
mod tests;
