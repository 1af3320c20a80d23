//! Guards that were dropped where their entries could not be removed: how a context learns of them.
//!
//! # Terms
//!
//! * A **level** is one variable's entries in one context, or in one scope; see
//!   [`frame`](super::frame).
//! * A guard is **abandoned** when it is dropped outside the context it was made in. Such a drop
//!   removes nothing: the guard's value stays bound in its own context.
//! * A level's **notes** are the keys of its abandoned guards that it has not collected yet.
//!
//! Nothing below the newest abandoned entry of a variable is ever seen again, so it may go. Only
//! the context itself can change its entries. So the drop leaves a note, and the level collects its
//! notes at its next step that has to do with guards.
//!
//! # Transitions
//!
//! * **N1**, a guard is dropped elsewhere, and its level lives: [`NotesOf::leave`]. A note of the
//!   guard is left.
//! * **N2**, a guard is dropped elsewhere, and its level is gone: [`NotesOf::leave`]. Nothing.
//! * **N3**, the level binds, unbinds or resets: [`Notes::collect`]. The notes are taken.
//!
//! # Why nothing stays
//!
//! A guard is dropped once, so it leaves one note at most. The notes belong to their level and go
//! with it; a guard has a weak reference. (A guard that is forgotten keeps the memory of one empty
//! list.) A level that collects too early for a note finds it the next time. Under the lock a list
//! is linked or taken, and nothing else: neither an allocator nor a destructor runs there.
#![forbid(unsafe_code)]

use std::sync::{Arc, Weak};

use super::frame::GuardKey;
use crate::util::sync::{Mutex, lock};

/// The notes of one level; see the protocol.
pub(super) struct Notes(Arc<Mutex<List>>);

/// A guard's reference to the notes of its level.
pub(super) struct NotesOf(Weak<Mutex<List>>);

/// The newest note.
struct List(Option<Box<Note>>);

struct Note {
    key: GuardKey,
    older: List,
}

impl Notes {
    pub(super) fn new() -> Notes {
        Notes(Arc::new(Mutex::new(List(None))))
    }

    pub(super) fn for_a_guard(&self) -> NotesOf {
        NotesOf(Arc::downgrade(&self.0))
    }

    /// Step N3.
    pub(super) fn collect(&self) -> impl Iterator<Item = GuardKey> + use<> {
        let mut list = List(lock(&self.0).0.take());
        std::iter::from_fn(move || {
            let mut note = list.0.take()?;
            list = List(note.older.0.take());
            Some(note.key)
        })
    }
}

impl NotesOf {
    /// Steps N1 and N2. Returns whether the level lives, with the guard's entry.
    pub(super) fn leave(&self, key: GuardKey) -> bool {
        let Some(level) = self.0.upgrade() else { return false };
        let mut note = Box::new(Note { key, older: List(None) });
        let mut list = lock(&level);
        note.older = List(list.0.take());
        list.0 = Some(note);
        true
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // A loop, so that a long list needs no stack.
        let mut next = self.0.take();
        while let Some(mut note) = next {
            next = note.older.0.take();
        }
    }
}
