//! Telling `on_change` hooks what looks different.
//!
//! A hook is told after the change, with the new context current. Its panic is swallowed: a change
//! that is made is not to be undone by a panic, and a swap has two words in its hands.

use super::lookup::flatten;
use super::pins::seen;
use super::word::Word;
use super::{Closed, SLOT, Slot};
use crate::bindings::{Bindings, Id};
use crate::util::panic;
use crate::value::Value;

/// Runs a change of one variable, and tells its hook if what is seen has changed.
#[inline]
pub(crate) fn observe<R>(id: Id, watched: bool, change: impl FnOnce() -> R) -> R {
    if !watched {
        return change();
    }
    let before = seen(id);
    let result = change();
    // The change is made, and its guard exists: a destructor that panics here would undo neither.
    panic::swallow(|| {
        let after = seen(id);
        SLOT.with(|slot| tell(slot, before.as_ref(), after.as_ref()));
        drop((before, after));
    });
    result
}

/// Tells the hooks what looks different with `current` in place of `previous`. Does not unwind.
///
/// # Safety
/// Both words' targets are alive, and nothing but hooks changes them meanwhile.
#[cold]
pub(super) unsafe fn switched(slot: &Slot, previous: Word, current: Word) {
    panic::swallow(|| {
        let (before, after) = {
            let _closed = Closed::new(slot);
            // SAFETY: alive by this function's contract.
            unsafe { (flatten(previous), flatten(current)) }
        };
        let (before, after) = (watched(&before), watched(&after));
        for (id, value) in &before {
            let now = after.iter().find(|(other, _)| other == id).map(|(_, value)| value);
            tell(slot, Some(value), now);
        }
        for (id, value) in &after {
            if !before.iter().any(|(other, _)| other == id) {
                tell(slot, None, Some(value));
            }
        }
    });
}

fn watched(bindings: &Bindings) -> Vec<(Id, Value)> {
    let mut entries = bindings.entries();
    entries.retain(|(_, value)| value.is_watched());
    entries
}

/// Calls a hook, unless one is running: hooks are for mirroring, and their own changes are told to
/// none.
fn tell(slot: &Slot, before: Option<&Value>, after: Option<&Value>) {
    let same = match (before, after) {
        (Some(before), Some(after)) => before.is(after),
        (None, None) => true,
        _ => false,
    };
    if same || slot.hooked.replace(true) {
        return;
    }
    panic::swallow(|| Value::notify(before, after));
    slot.hooked.set(false);
}
