//! Reading a value without counting it.
//!
//! # Terms
//!
//! * A **pin** stands on the stack of a [`read`], and names the value that is being read.
//! * The slot's **list** has the pins of its thread whose values have no count of their own, from
//!   the newest to the oldest. A pin is **counted** if it is not in the list any more.
//!
//! # Transitions
//!
//! * **PI1**, a variable is read: [`read`]. Its pin becomes the newest of the list.
//! * **PI2**, the slot's word, or what it points to, is about to change: [`count_all`]. The values
//!   of all pins in the list are counted, and the list is empty.
//! * **PI3**, the read ends, also by unwinding: drop of [`Unpin`]. The pin is taken from the list,
//!   or, if it is counted, its count is given back.
//!
//! # Why no value goes while it is read
//!
//! A value that PI1 finds is shown by the slot's word, which keeps it alive. Nothing takes a value
//! from the slot before PI2, and after PI2 the pin itself keeps its value alive. A read during
//! which nothing changes, that is nearly every one, pays two stores.
//!
//! Pins end in the reverse order of PI1, since they stand on one stack. So at PI3 the pin is the
//! newest of the list, or is counted; and a pin that is counted has no newer one in the list.

use std::ptr::{self, NonNull};

use super::lookup::lookup;
use super::{SLOT, Slot};
use crate::bindings::{Found, Id};
use crate::util::switches;
use crate::value::{Value, ValueHeader};

/// A value that is being read.
pub(super) struct Pin {
    value: NonNull<ValueHeader>,
    older: *const Pin,
}

/// Ends a pin, also by unwinding.
struct Unpin<'a> {
    slot: &'a Slot,
    pin: &'a Pin,
}

impl Drop for Unpin<'_> {
    #[inline]
    fn drop(&mut self) {
        if ptr::eq(self.slot.pins.get(), self.pin) {
            self.slot.pins.set(self.pin.older);
        } else {
            self.pin.give_count_back();
        }
    }
}

impl Pin {
    #[cold]
    fn give_count_back(&self) {
        // SAFETY: `count_all` took this count.
        drop(unsafe { Value::from_raw(self.value) });
    }
}

/// Reads a variable where it is. The value stays valid until `f` returns, whatever `f` does.
#[inline]
pub(crate) fn read<R>(id: Id, f: impl FnOnce(Option<NonNull<ValueHeader>>) -> R) -> R {
    if !switches::PINS {
        let value = seen(id);
        return f(value.as_ref().map(Value::as_ptr));
    }
    SLOT.with(|slot| {
        // SAFETY: the slot owns its word; the answer is pinned before anything else can happen.
        let found = unsafe { lookup(slot.word.get(), id) };
        let Some(value) = found.map(Found::as_ptr) else { return f(None) };
        let pin = Pin { value, older: slot.pins.get() };
        slot.pins.set(&raw const pin);
        let _unpin = Unpin { slot, pin: &pin };
        f(Some(value))
    })
}

/// Step PI2.
#[cold]
pub(super) fn count_all(slot: &Slot) {
    let mut pin = slot.pins.replace(ptr::null());
    // SAFETY: pins stand on the stacks of calls below this one, and are taken from the list before
    // they go.
    while let Some(uncounted) = unsafe { pin.as_ref() } {
        // SAFETY: nothing was taken from the slot since the value was found there, or this would
        // have run.
        std::mem::forget(unsafe { Value::retain(uncounted.value) });
        pin = uncounted.older;
    }
}

/// Whether a variable is bound, as seen from here.
pub(crate) fn is_bound(id: Id) -> bool {
    // SAFETY: the slot owns its word.
    SLOT.with(|slot| unsafe { lookup(slot.word.get(), id) }.is_some())
}

/// The bound value as seen from here, counted.
pub(super) fn seen(id: Id) -> Option<Value> {
    // SAFETY: the slot owns its word.
    SLOT.with(|slot| unsafe { lookup(slot.word.get(), id) }.map(Found::retain))
}
