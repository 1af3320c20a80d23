//! Guards: values bound for as long as something lives.
#![forbid(unsafe_code)]

use std::fmt;

use crate::current;
use crate::frame::GuardKey;
use crate::storage::Id;

/// Keeps a value bound; made by [`ContextVar::bind`](crate::ContextVar::bind), which has the rules.
#[must_use = "the value is bound only as long as the binding lives; `let _ = …` drops it at once"]
pub struct Binding {
    id: Id,
    /// In which context, and where there; nothing in a thread that was being torn down.
    made: Option<(u64, GuardKey)>,
    watched: bool,
}

impl Binding {
    pub(crate) fn new(id: Id, made: Option<(u64, GuardKey)>, watched: bool) -> Binding {
        Binding { id, made, watched }
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        let Some((identity, key)) = self.made else { return };
        if current::identity() != Some(identity) {
            return;
        }
        let unbound =
            current::observe(self.id, self.watched, || current::write(|frame| frame.unbind(self.id, key)));
        drop(unbound);
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").finish_non_exhaustive()
    }
}
