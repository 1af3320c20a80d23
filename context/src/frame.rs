//! A context that was written to: bindings, and per variable the guards that live and the scopes that are open.
//!
//! Per variable there is a base entry and one entry for each living guard, the newest on top: a [`Level`]. A scope of
//! the variable puts a level of its own on top of that, and takes it away when it is left. The top entry of the top
//! level is the one that shows, so it stands in the bindings, where lookups and snapshots find it; all others wait
//! here. Hence a variable without guards and scopes, that is nearly every one, has nothing here.
//!
//! | operation | bindings | levels of the variable |
//! | --- | --- | --- |
//! | set, unset, reset | new top entry | – |
//! | bind | new top entry | the former top waits here, below a new place |
//! | drop of the top guard | the entry below | its place goes |
//! | drop of another guard, also below a scope | – | its place goes, with the entry in it |
//! | drop of a guard elsewhere | – | – ; [later](crate::abandoned) what lies below it goes |
//! | scope, on entry | its top entry | the former top waits here, below the scope's level |
//! | scope, on exit | the entry below | its level goes to the scope, to be kept for the next entry |
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::abandoned;
use crate::current::Word;
use crate::storage::{Bindings, Entry, Id};

/// Aligned for the tags of a [`Word`].
#[repr(align(8))]
pub(crate) struct Frame {
    /// What shows; of a layer, what it has itself.
    pub(crate) bindings: Bindings,
    /// Never reused. Zero for a layer that was never written to.
    pub(crate) identity: u64,
    /// What is not bound here is looked up outside.
    pub(crate) is_layer: bool,
    /// Of a layer that is entered: the word below it, which it owns.
    pub(crate) outside: Word,
    /// Only for variables with living guards or open scopes; never an empty list.
    levels: BTreeMap<Id, Vec<Level>>,
}

/// Which guard: its place in its level, and a serial of its own. (Serials alone do not grow: threads have ranges.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct GuardKey {
    order: u64,
    serial: u64,
}

#[cfg(all(test, loom))]
impl GuardKey {
    pub(crate) fn for_model(serial: u64) -> GuardKey {
        GuardKey { order: serial, serial }
    }
}

/// A base entry and those of the guards made on it.
#[derive(Default)]
struct Level {
    base: Option<Entry>,
    guards: BTreeMap<GuardKey, Option<Entry>>,
    /// Never reused: the serial of the first guard. Zero before there is one.
    number: u64,
    /// The newest guard of which it is known that it was abandoned. Nothing below it is ever seen
    /// again.
    abandoned: Option<GuardKey>,
}

impl Level {
    /// The place of the top entry. It is empty in the top level, whose top entry is in the bindings.
    fn top(&mut self) -> &mut Option<Entry> {
        match self.guards.last_entry() {
            Some(guard) => guard.into_mut(),
            None => &mut self.base,
        }
    }

    /// Lets go what was abandoned since the last call, and what lies below it. The top entry stays
    /// what it is.
    #[inline]
    fn settle(&mut self) {
        if abandoned::is_any_noted() {
            self.settle_now();
        }
    }

    #[cold]
    #[inline(never)]
    fn settle_now(&mut self) {
        let keys = abandoned::take(self.number);
        let Some(newest) = keys.iter().copied().max() else { return };
        let newest = self.abandoned.map_or(newest, |before| before.max(newest));
        let before = self.abandoned.replace(newest);
        for key in keys.into_iter().chain(before).filter(|key| *key != newest) {
            self.guards.remove(&key);
        }
        self.base = Some(Entry::Absent);
        // What lies below the former newest one has gone before. A guard that lives keeps its
        // place, for its tokens.
        let from = before.map_or(Bound::Unbounded, Bound::Included);
        for (_, entry) in self.guards.range_mut((from, Bound::Excluded(newest))) {
            *entry = Some(Entry::Absent);
        }
    }
}

impl Drop for Level {
    #[inline]
    fn drop(&mut self) {
        if !self.guards.is_empty() {
            abandoned::end(self.number, self.guards.len() - usize::from(self.abandoned.is_some()));
        }
    }
}

/// Where a guard's entry is.
#[derive(Clone, Copy)]
pub(crate) struct GuardPlace {
    /// See [`abandoned`].
    pub(crate) level: u64,
    pub(crate) key: GuardKey,
}

/// A scope of one variable: what it has bound, while it is not entered.
pub(crate) struct Scope {
    pub(crate) id: Id,
    level: Level,
}

impl Scope {
    pub(crate) fn new(id: Id, entry: Entry) -> Scope {
        let mut scope = Scope { id, level: Level::default() };
        scope.level.base = Some(entry);
        scope
    }

    /// What shows when it is entered.
    pub(crate) fn entry(&self) -> Entry {
        let top = match self.level.guards.last_key_value() {
            Some((_, entry)) => entry,
            None => &self.level.base,
        };
        top.clone().unwrap_or(Entry::Absent)
    }
}

/// The guard a token was made under is gone.
pub(crate) struct GuardGone;

impl Frame {
    pub(crate) fn new(identity: u64, bindings: Bindings) -> Frame {
        Frame { bindings, identity, is_layer: false, outside: Word::EMPTY, levels: BTreeMap::new() }
    }

    pub(crate) fn layer() -> Frame {
        Frame { is_layer: true, ..Frame::new(0, Bindings::EMPTY) }
    }

    /// The identity, once it was written to.
    pub(crate) fn identity(&self) -> Option<u64> {
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
            // Unset hides the outside in a layer, and so it does in a scope, which may be entered in a layer next time.
            // Else there is nothing to hide, and nothing to remember.
            Entry::Hidden if !self.is_layer && levels.len() < 2 => Entry::Absent,
            entry => entry,
        };
        (self.bindings.write(id, entry), guard)
    }

    /// Puts back what was there before a set that was made under `guard`. Returns what is there now.
    pub(crate) fn reset(
        &mut self,
        id: Id,
        previous: Entry,
        guard: Option<GuardKey>,
    ) -> Result<Entry, (Entry, GuardGone)> {
        if let Some(key) = guard {
            let mut levels = self.levels.get_mut(&id).into_iter().flatten();
            let lives = levels.find(|level| level.guards.contains_key(&key)).is_some_and(|level| {
                level.settle();
                level.guards.contains_key(&key)
            });
            if !lives {
                return Err((previous, GuardGone));
            }
        }
        Ok(self.bindings.write(id, previous))
    }

    /// A new guard's entry goes on top.
    pub(crate) fn bind(&mut self, id: Id, entry: Entry, serial: u64) -> GuardPlace {
        let covered = self.bindings.write(id, entry);
        let levels = self.levels.entry(id).or_default();
        if levels.is_empty() {
            // One is enough for nearly every variable.
            levels.reserve_exact(1);
            levels.push(Level::default());
        }
        let level = levels.last_mut().expect("just pushed");
        *level.top() = Some(covered);
        if level.number == 0 {
            level.number = serial;
        } else {
            level.settle();
        }
        let order = level.guards.last_key_value().map_or(0, |(newest, _)| newest.order + 1);
        let key = GuardKey { order, serial };
        level.guards.insert(key, None);
        GuardPlace { level: level.number, key }
    }

    /// A guard's entry goes. Returns it; `None` if the guard is in a scope that is not on.
    pub(crate) fn unbind(&mut self, id: Id, key: GuardKey) -> Option<Entry> {
        let levels = self.levels.get_mut(&id)?;
        let index = levels.iter().rposition(|level| level.guards.contains_key(&key))?;
        let shows = index + 1 == levels.len();
        let level = &mut levels[index];
        if level.guards.len() > 1 {
            level.settle();
        }
        let was_top = level.guards.last_key_value().is_some_and(|(top, _)| *top == key);
        let entry = level.guards.remove(&key).flatten();
        if !(shows && was_top) {
            return Some(entry.unwrap_or(Entry::Absent));
        }
        let uncovered = level.top().take();
        self.forget_plain_base(id);
        Some(self.bindings.write(id, uncovered.unwrap_or(Entry::Absent)))
    }

    /// A base without guards and scopes needs no level.
    fn forget_plain_base(&mut self, id: Id) {
        if self.levels(id).len() == 1 && self.levels(id)[0].guards.is_empty() {
            self.levels.remove(&id);
        }
    }

    /// Puts a scope on top. It has nothing until it is taken off again.
    pub(crate) fn put_on(&mut self, scope: &mut Scope) {
        let mut level = std::mem::take(&mut scope.level);
        let entry = level.top().take().unwrap_or(Entry::Absent);
        let covered = self.bindings.write(scope.id, entry);
        let levels = self.levels.entry(scope.id).or_default();
        if levels.is_empty() {
            levels.push(Level::default());
        }
        *levels.last_mut().expect("just pushed").top() = Some(covered);
        levels.push(level);
    }

    /// Takes the scope off that is on top, and gives it what it has bound.
    pub(crate) fn take_off(&mut self, scope: &mut Scope) {
        // Fewer than two levels: somebody swapped the contexts inside and did not swap back.
        let Some(levels) = self.levels.get_mut(&scope.id).filter(|levels| levels.len() > 1) else { return };
        let mut level = levels.pop().expect("two at least");
        let uncovered = levels.last_mut().expect("one is left").top().take();
        self.forget_plain_base(scope.id);
        *level.top() = Some(self.bindings.write(scope.id, uncovered.unwrap_or(Entry::Absent)));
        scope.level = level;
    }
}
