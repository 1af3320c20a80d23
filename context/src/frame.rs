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
//! | scope, on entry | its top entry | the former top waits here, below the scope's level |
//! | scope, on exit | the entry below | its level goes to the scope, to be kept for the next entry |
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::current::Word;
use crate::storage::{Bindings, Entry, Id};

/// Aligned for the tags of a [`Word`].
#[repr(align(8))]
pub(crate) struct Frame {
    /// What shows; of a layer, what it has itself.
    pub(crate) bindings: Bindings,
    /// Never reused.
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

/// A base entry and those of the guards made on it.
#[derive(Default)]
struct Level {
    base: Option<Entry>,
    guards: BTreeMap<GuardKey, Option<Entry>>,
}

impl Level {
    /// The place of the top entry. It is empty in the top level, whose top entry is in the bindings.
    fn top(&mut self) -> &mut Option<Entry> {
        match self.guards.last_entry() {
            Some(guard) => guard.into_mut(),
            None => &mut self.base,
        }
    }
}

/// A scope of one variable: what it has bound, while it is not entered.
pub(crate) struct Scope {
    pub(crate) id: Id,
    level: Level,
}

impl Scope {
    pub(crate) fn new(id: Id, entry: Entry) -> Scope {
        Scope { id, level: Level { base: Some(entry), guards: BTreeMap::new() } }
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

    pub(crate) fn layer(identity: u64) -> Frame {
        Frame { is_layer: true, ..Frame::new(identity, Bindings::EMPTY) }
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
        if let Some(key) = guard
            && !self.levels(id).iter().any(|level| level.guards.contains_key(&key))
        {
            return Err((previous, GuardGone));
        }
        Ok(self.bindings.write(id, previous))
    }

    /// A new guard's entry goes on top.
    pub(crate) fn bind(&mut self, id: Id, entry: Entry, serial: u64) -> GuardKey {
        let covered = self.bindings.write(id, entry);
        let levels = self.levels.entry(id).or_default();
        if levels.is_empty() {
            levels.push(Level::default());
        }
        let level = levels.last_mut().expect("just pushed");
        *level.top() = Some(covered);
        let order = level.guards.last_key_value().map_or(0, |(newest, _)| newest.order + 1);
        let key = GuardKey { order, serial };
        level.guards.insert(key, None);
        key
    }

    /// A guard's entry goes. Returns it.
    pub(crate) fn unbind(&mut self, id: Id, key: GuardKey) -> Entry {
        let Some(levels) = self.levels.get_mut(&id) else { return Entry::Absent };
        let Some(index) = levels.iter().rposition(|level| level.guards.contains_key(&key)) else {
            return Entry::Absent;
        };
        let shows = index + 1 == levels.len();
        let level = &mut levels[index];
        let was_top = level.guards.last_key_value().is_some_and(|(top, _)| *top == key);
        let entry = level.guards.remove(&key).flatten();
        if !(shows && was_top) {
            return entry.unwrap_or(Entry::Absent);
        }
        let uncovered = level.top().take();
        self.forget_plain_base(id);
        self.bindings.write(id, uncovered.unwrap_or(Entry::Absent))
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
