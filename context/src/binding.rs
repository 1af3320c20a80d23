//! Guards: values bound for as long as something lives.
#![forbid(unsafe_code)]

use std::fmt;

use crate::current;
use crate::storage::Id;

/// Keeps a value bound; made by [`ContextVar::bind`](crate::ContextVar::bind), which has the rules.
#[must_use = "the value is bound only as long as the binding lives; `let _ = …` drops it at once"]
pub struct Binding {
    id: Id,
    identity: u64,
    serial: u64,
    watched: bool,
}

impl Binding {
    pub(crate) fn new(id: Id, identity: u64, serial: u64, watched: bool) -> Binding {
        Binding { id, identity, serial, watched }
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        if current::identity() != Some(self.identity) {
            return;
        }
        let unbound = current::observe(self.id, self.watched, || {
            current::write(|frame| frame.unbind(self.id, self.serial))
        });
        drop(unbound);
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").finish_non_exhaustive()
    }
}
