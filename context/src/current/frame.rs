//! A context that was written to: bindings, and per variable the guards that live and the scopes
//! that are open.
//!
//! # Terms
//!
//! * The **base entry** of a variable is what was set without a guard.
//! * A [**level**](Level) is a base entry and one entry for each guard made on it, the newest on
//!   top. A scope of the variable puts a level of its own on top, and takes it away when it is
//!   left. A scope without guards, over a variable without levels, keeps the entry that it covers
//!   itself, and needs no level.
//! * The **top entry** is the top one of the top level: the one that shows. It stands in the
//!   bindings, where lookups and snapshots find it; all others wait in their levels.
//!
//! Hence a variable without guards, that is nearly every one, has no level.
//!
//! # Transitions
//!
//! | operation | bindings | levels of the variable |
//! | --- | --- | --- |
//! | set, unset, reset | new top entry | – |
//! | bind | new top entry | the former top waits here, below a new place |
//! | drop of the top guard | the entry below | its place goes |
//! | drop of another guard, also below a scope | – | its place goes, with the entry in it |
//! | drop of a guard elsewhere | – | – ; [later](super::abandoned) what lies below it goes |
//! | scope, on entry | its top entry | if there are guards: the former top waits here, below the scope's level |
//! | scope, on exit | the entry below | its level, if it has one, goes to the scope, for the next entry |
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;

use super::abandoned::{Notes, NotesOf};
use super::word::Word;
use crate::bindings::{Bindings, Entry, Id};

/// Aligned for the flags of a [`Word`].
#[repr(align(8))]
pub(crate) struct Frame {
    /// What shows; of a layer, what it has itself.
    pub(super) bindings: Bindings,
    /// Never reused. Zero for a layer that was never written to.
    pub(crate) identity: u64,
    /// What is not bound here is looked up outside.
    pub(super) is_layer: bool,
    /// Of a layer that is entered: the word below it, which it owns.
    pub(super) outside: Word,
    /// Only for variables with living guards, or with scopes over such; never an empty list.
    levels: BTreeMap<Id, Vec<Level>>,
    /// Of a level that is gone with all its guards, for the next level.
    spare_notes: Option<Notes>,
}

/// Which guard: its place in its level, and a serial of its own. (Serials alone do not grow: each
/// thread has a range.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct GuardKey {
    order: u64,
    serial: u64,
}

/// A base entry and those of the guards made on it.
#[derive(Default)]
struct Level {
    base: Option<Entry>,
    guards: BTreeMap<GuardKey, Option<Entry>>,
    /// Made with the first guard.
    notes: Option<Notes>,
    /// The newest guard that is known to be abandoned. Nothing below it is ever seen again.
    abandoned: Option<GuardKey>,
}

impl Level {
    /// The place of the top entry. It is empty in the top level, whose top entry is in the
    /// bindings.
    fn top(&mut self) -> &mut Option<Entry> {
        match self.guards.last_entry() {
            Some(guard) => guard.into_mut(),
            None => &mut self.base,
        }
    }

    /// Empties what lies below the newest abandoned guard. The top entry stays what it is.
    fn collect_abandoned(&mut self) {
        let mut newest = self.abandoned;
        for key in self.notes.iter().flat_map(Notes::collect) {
            // Of the abandoned guards one place is kept, the newest one's.
            let older = newest.map_or(key, |newest| newest.min(key));
            newest = newest.max(Some(key));
            if Some(older) != newest {
                self.guards.remove(&older);
            }
        }
        if newest == self.abandoned {
            return;
        }
        let newest = newest.expect("one was collected");
        self.base = Some(Entry::Absent);
        // What lies below the former newest one has gone before. A guard that lives keeps its
        // place, for its tokens.
        let from = self.abandoned.replace(newest).map_or(Bound::Unbounded, Bound::Included);
        for (_, entry) in self.guards.range_mut((from, Bound::Excluded(newest))) {
            *entry = Some(Entry::Absent);
        }
    }
}

/// Where a guard's entry is.
pub(crate) struct GuardPlace {
    key: GuardKey,
    notes: NotesOf,
}

impl GuardPlace {
    /// The guard is dropped where its entry cannot be removed. Returns whether the entry stays
    /// bound.
    pub(crate) fn abandon(&self) -> bool {
        self.notes.leave(self.key)
    }
}

/// A scope of one variable.
pub(crate) struct Scope {
    pub(super) id: Id,
    /// While the scope is not entered, its top entry. While it is entered without a level, the
    /// entry that it covers.
    entry: Entry,
    /// Of a scope that is not entered, if it has guards: everything but the top entry.
    guarded: Option<Box<Level>>,
    /// While the scope is entered.
    entered: ScopeEntry,
}

/// How a scope is entered.
#[derive(Clone, Copy)]
enum ScopeEntry {
    /// Without a level: neither the scope nor what it covers has guards. The frame's identity.
    Plainly(u64),
    /// Its level is on top of the variable's.
    WithLevel,
}

impl Scope {
    pub(crate) fn new(id: Id, entry: Entry) -> Scope {
        Scope { id, entry, guarded: None, entered: ScopeEntry::Plainly(0) }
    }

    /// What shows when it is entered.
    pub(super) fn entry(&self) -> Entry {
        self.entry.clone()
    }

    /// Keeps the level of the scope that is left, if there are guards in it.
    fn keep(&mut self, level: Option<Level>) {
        self.guarded = level.filter(|level| !level.guards.is_empty()).map(Box::new);
    }
}

impl Frame {
    pub(super) fn new(identity: u64, bindings: Bindings) -> Frame {
        Frame {
            bindings,
            identity,
            is_layer: false,
            outside: Word::EMPTY,
            levels: BTreeMap::new(),
            spare_notes: None,
        }
    }

    pub(super) fn layer() -> Frame {
        Frame { is_layer: true, ..Frame::new(0, Bindings::EMPTY) }
    }

    /// The identity, once it was written to.
    pub(super) fn identity(&self) -> Option<u64> {
        (self.identity != 0).then_some(self.identity)
    }

    fn levels(&self, id: Id) -> &[Level] {
        if self.levels.is_empty() {
            return &[];
        }
        self.levels.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Sets or unsets. Returns what was there, and the guard in whose entry it was.
    pub(crate) fn set(&mut self, id: Id, entry: Entry) -> (Entry, Option<GuardKey>) {
        let levels = self.levels(id);
        let guard = levels.last().and_then(|level| level.guards.last_key_value()).map(|(key, _)| *key);
        let entry = match entry {
            // Unset hides the outside in a layer, and so it does in a scope, which may be entered
            // in a layer the next time. Elsewhere there is nothing to hide, and nothing to
            // remember.
            Entry::Hidden if !self.is_layer && levels.len() < 2 => Entry::Absent,
            entry => entry,
        };
        (self.bindings.write(id, entry), guard)
    }

    /// Exchanges an entry for the top one, if there are no levels, and no more than a place in the
    /// bindings changes; see [`Bindings::exchange`]. Else nothing happens.
    #[inline]
    pub(super) fn exchange(&mut self, id: Id, entry: &mut Entry) -> bool {
        self.levels.is_empty() && self.bindings.exchange(id, entry)
    }

    /// Exchanges the top entry for what was there before a set that was made under `guard`. False
    /// if that guard is gone; nothing changes then.
    pub(crate) fn reset(&mut self, id: Id, previous: &mut Entry, guard: Option<GuardKey>) -> bool {
        if let Some(key) = guard {
            let mut levels = self.levels.get_mut(&id).into_iter().flatten();
            let lives = levels.find(|level| level.guards.contains_key(&key)).is_some_and(|level| {
                level.collect_abandoned();
                level.guards.contains_key(&key)
            });
            if !lives {
                return false;
            }
        }
        *previous = self.bindings.write(id, mem::replace(previous, Entry::Absent));
        true
    }

    /// Puts a further entry on top of a variable's, and the former top into its level. Returns the
    /// levels, with room for so many.
    fn cover(&mut self, id: Id, entry: Entry, room: usize) -> &mut Vec<Level> {
        let covered = self.bindings.write(id, entry);
        let levels = self.levels.entry(id).or_default();
        if levels.is_empty() {
            levels.reserve_exact(room);
            levels.push(Level::default());
        }
        *levels.last_mut().expect("just pushed").top() = Some(covered);
        levels
    }

    /// Takes the entry below the top one, which was taken away, into the bindings. Returns the
    /// former top.
    fn uncover(&mut self, id: Id) -> Entry {
        let levels = self.levels.get_mut(&id).expect("it has a top entry");
        let uncovered = levels.last_mut().expect("never empty").top().take();
        // A base without guards and scopes needs no level.
        if levels.len() == 1 && levels[0].guards.is_empty() {
            self.spare_notes = levels[0].notes.take();
            self.levels.remove(&id);
        }
        self.bindings.write(id, uncovered.unwrap_or(Entry::Absent))
    }

    /// A new guard's entry goes on top.
    pub(crate) fn bind(&mut self, id: Id, entry: Entry, serial: u64) -> GuardPlace {
        let spare = self.spare_notes.take();
        let level = self.cover(id, entry, 1).last_mut().expect("never empty");
        level.collect_abandoned();
        let order = level.guards.last_key_value().map_or(0, |(newest, _)| newest.order + 1);
        let key = GuardKey { order, serial };
        level.guards.insert(key, None);
        GuardPlace {
            key,
            notes: level.notes.get_or_insert_with(|| spare.unwrap_or_else(Notes::new)).for_a_guard(),
        }
    }

    /// A guard's entry goes. Returns it; `None` if the guard is in a scope that is not entered.
    pub(crate) fn unbind(&mut self, id: Id, place: &GuardPlace) -> Option<Entry> {
        let key = place.key;
        let levels = self.levels.get_mut(&id)?;
        let index = levels.iter().rposition(|level| level.guards.contains_key(&key))?;
        let shows = index + 1 == levels.len();
        let level = &mut levels[index];
        if level.guards.len() > 1 {
            level.collect_abandoned();
        }
        let was_top = level.guards.last_key_value().is_some_and(|(top, _)| *top == key);
        let entry = level.guards.remove(&key).flatten();
        Some(if shows && was_top { self.uncover(id) } else { entry.unwrap_or(Entry::Absent) })
    }

    /// Enters a scope as [`enter_scope`](Self::enter_scope) does, if that is an
    /// [`exchange`](Self::exchange).
    #[inline]
    pub(super) fn enter_in_place(&mut self, scope: &mut Scope) -> bool {
        let entered = scope.guarded.is_none() && self.exchange(scope.id, &mut scope.entry);
        if entered {
            scope.entered = ScopeEntry::Plainly(self.identity);
        }
        entered
    }

    /// Leaves the scope that is on top, if that is an exchange, too.
    #[inline]
    pub(super) fn leave_in_place(&mut self, scope: &mut Scope) -> bool {
        let left = matches!(scope.entered, ScopeEntry::Plainly(frame) if frame == self.identity)
            && self.exchange(scope.id, &mut scope.entry);
        if left {
            scope.entry = self.of_scope(mem::replace(&mut scope.entry, Entry::Absent));
        }
        left
    }

    /// Enters a scope: its entry goes on top, and so does its level, if it needs one.
    #[inline]
    pub(super) fn enter_scope(&mut self, scope: &mut Scope) {
        let entry = mem::replace(&mut scope.entry, Entry::Absent);
        if scope.guarded.is_none() && self.levels(scope.id).is_empty() {
            scope.entered = ScopeEntry::Plainly(self.identity);
            scope.entry = self.bindings.write(scope.id, entry);
        } else {
            scope.entered = ScopeEntry::WithLevel;
            let level = scope.guarded.take().map_or_else(Level::default, |level| *level);
            self.cover(scope.id, entry, 2).push(level);
        }
    }

    /// Leaves the scope that is on top, and gives it what it has bound.
    #[inline]
    pub(super) fn leave_scope(&mut self, scope: &mut Scope) {
        let covered = mem::replace(&mut scope.entry, Entry::Absent);
        match scope.entered {
            ScopeEntry::Plainly(frame) if frame == self.identity => {
                if !self.levels.is_empty() {
                    // Guards that were made inside and live go with the scope.
                    scope.keep(self.levels.remove(&scope.id).and_then(|mut levels| levels.pop()));
                }
                let top = self.bindings.write(scope.id, covered);
                scope.entry = self.of_scope(top);
            }
            // The contexts were swapped inside, and not swapped back: the scope has nothing.
            ScopeEntry::Plainly(_) => {}
            ScopeEntry::WithLevel => {
                // Fewer than two levels: swapped, too.
                let Some(levels) = self.levels.get_mut(&scope.id).filter(|levels| levels.len() > 1) else {
                    return;
                };
                scope.keep(levels.pop());
                let top = self.uncover(scope.id);
                scope.entry = self.of_scope(top);
            }
        }
    }

    /// What a scope keeps of its variable. Where it was unset, the scope hides the outside if it is
    /// next entered in a layer.
    fn of_scope(&self, top: Entry) -> Entry {
        match top {
            Entry::Absent if !self.is_layer => Entry::Hidden,
            top => top,
        }
    }
}
