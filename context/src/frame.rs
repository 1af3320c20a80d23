//! A context that was written to: bindings, and per variable the guards that live.
//!
//! Per variable there is a base entry and one entry for each living guard, the newest on top. The top entry is the one
//! that shows, so it stands in the bindings, where lookups and snapshots find it; those below wait here. Hence a variable
//! without guards, that is nearly every one, has nothing here.
//!
//! | operation | bindings | stack of the variable |
//! | --- | --- | --- |
//! | set, unset, reset | new top entry | – |
//! | bind | new top entry | the former top moves here, below a new place |
//! | drop of the top guard | the entry below | its place goes |
//! | drop of another guard | – | its place goes, with the entry in it |
//! | scope, on entry and on exit | exchanged | exchanged, whole |
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::current::Word;
use crate::storage::{Bindings, Entry, Id};

pub(crate) struct Frame {
    /// What shows; of a layer, what it has itself.
    pub(crate) bindings: Bindings,
    /// Never reused.
    pub(crate) identity: u64,
    /// What is not bound here is looked up outside.
    pub(crate) is_layer: bool,
    /// Of a layer that is entered: the word below it, which it owns.
    pub(crate) outside: Word,
    /// Only for variables with living guards.
    stacks: BTreeMap<Id, Stack>,
}

/// A variable's entries below the top one.
#[derive(Default)]
pub(crate) struct Stack {
    /// What shows when all guards are gone. Meaningless while there are none.
    base: Option<Entry>,
    /// By the guards' serials, which grow. The newest one's entry is in the bindings, so its place is empty.
    guards: BTreeMap<u64, Option<Entry>>,
}

/// A variable's entries while they are not in any frame: those of a scope outside, or of its surroundings inside.
pub(crate) struct Shelved {
    pub(crate) id: Id,
    pub(crate) entry: Entry,
    stack: Option<Stack>,
}

impl Shelved {
    pub(crate) fn new(id: Id, entry: Entry) -> Shelved {
        Shelved { id, entry, stack: None }
    }
}

/// The guard a token was made under is gone.
pub(crate) struct GuardGone;

impl Frame {
    pub(crate) fn new(identity: u64, bindings: Bindings) -> Frame {
        Frame { bindings, identity, is_layer: false, outside: Word::EMPTY, stacks: BTreeMap::new() }
    }

    pub(crate) fn layer(identity: u64) -> Frame {
        Frame { is_layer: true, ..Frame::new(identity, Bindings::EMPTY) }
    }

    /// The newest living guard of a variable.
    fn newest(&self, id: Id) -> Option<u64> {
        if self.stacks.is_empty() {
            return None;
        }
        self.stacks.get(&id)?.guards.last_key_value().map(|(serial, _)| *serial)
    }

    /// Sets or unsets. Returns what was there, and the guard in whose entry it was.
    pub(crate) fn set(&mut self, id: Id, entry: Entry) -> (Entry, Option<u64>) {
        // Unset shows the default in a plain context, and hides the outside in a layer.
        let entry = match entry {
            Entry::Hidden if !self.is_layer => Entry::Absent,
            entry => entry,
        };
        (self.bindings.write(id, entry), self.newest(id))
    }

    /// Puts back what was there before a set that was made under `guard`. Returns what is there now.
    pub(crate) fn reset(
        &mut self,
        id: Id,
        previous: Entry,
        guard: Option<u64>,
    ) -> Result<Entry, (Entry, GuardGone)> {
        if let Some(serial) = guard
            && !self.stacks.get(&id).is_some_and(|stack| stack.guards.contains_key(&serial))
        {
            return Err((previous, GuardGone));
        }
        Ok(self.bindings.write(id, previous))
    }

    /// A new guard's entry goes on top.
    pub(crate) fn bind(&mut self, id: Id, entry: Entry, serial: u64) {
        let covered = self.bindings.write(id, entry);
        let stack = self.stacks.entry(id).or_default();
        match stack.guards.last_entry() {
            Some(mut top) => *top.get_mut() = Some(covered),
            None => stack.base = Some(covered),
        }
        stack.guards.insert(serial, None);
    }

    /// A guard's entry goes. Returns it.
    pub(crate) fn unbind(&mut self, id: Id, serial: u64) -> Entry {
        let Some(stack) = self.stacks.get_mut(&id) else { return Entry::Absent };
        let was_top = stack.guards.last_key_value().is_some_and(|(top, _)| *top == serial);
        let Some(waiting) = stack.guards.remove(&serial) else { return Entry::Absent };
        if !was_top {
            return waiting.unwrap_or(Entry::Absent);
        }
        let uncovered = match stack.guards.last_entry() {
            Some(mut top) => top.get_mut().take(),
            None => stack.base.take(),
        };
        if stack.guards.is_empty() {
            self.stacks.remove(&id);
        }
        self.bindings.write(id, uncovered.unwrap_or(Entry::Absent))
    }

    /// Exchanges a variable's entries with those on the shelf.
    pub(crate) fn exchange(&mut self, shelved: &mut Shelved) {
        let entry = std::mem::replace(&mut shelved.entry, Entry::Absent);
        shelved.entry = self.bindings.write(shelved.id, entry);
        let stack = if self.stacks.is_empty() { None } else { self.stacks.remove(&shelved.id) };
        if let Some(inner) = std::mem::replace(&mut shelved.stack, stack) {
            self.stacks.insert(shelved.id, inner);
        }
    }
}
