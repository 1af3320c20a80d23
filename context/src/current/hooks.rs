//! Telling `on_change` hooks what looks different.
//!
//! A hook is told after the change, with the new context current. Its panic is swallowed: a change
//! that is made is not to be undone by a panic, and a swap has two words in its hands.

use super::lookup::flatten;
use super::pins::seen;
use super::word::Word;
use super::{Closed, SLOT, Slot};
use crate::bindings::Id;
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
        let differences = before.differences(&after);
        // First what was bound before.
        for is_new in [false, true] {
            for (before, after) in differences.iter().filter(|(before, _)| before.is_none() == is_new) {
                tell(slot, before.as_ref(), after.as_ref());
            }
        }
    });
}

/// Calls a hook, unless one is running: hooks are for mirroring, and their own changes are told to
/// none.
fn tell(slot: &Slot, before: Option<&Value>, after: Option<&Value>) {
    let same = before.map(Value::as_ptr) == after.map(Value::as_ptr);
    if same || slot.hooked.replace(true) {
        return;
    }
    panic::swallow(|| Value::notify(before, after));
    slot.hooked.set(false);
}
