//! A box that its owner replaces without waiting while another thread looks into it.
//!
//! # Terms
//!
//! The *owner* is the thread that has the stage of the task; the *looker* is the thread that holds
//! [`LOOK`], so there is one at a time.
//!
//! # Transitions
//!
//! | step | who | effect | function |
//! | --- | --- | --- | --- |
//! | LN1 | the owner | puts a new box in, and frees what was there | `Lent::replace` |
//! | LN2 | the looker | takes the box out, and leaves the slot *lent* | `Lent::look` |
//! | LN3 | the looker | puts the box back, if the slot is still lent; else frees it | `Lent::look` |
//!
//! # Why each box is freed once
//!
//! Each step exchanges the slot by one operation, so a box belongs to the thread that took it out.
//! LN1 that finds the slot lent frees nothing: LN3 then finds another word than *lent*, and frees
//! the box. With two lookers LN3 of the first could put its box into the slot that the second has
//! left lent, in place of a newer one.

use std::ptr::{self, NonNull};

use crate::util::sync::atomic::AtomicPtr;
use crate::util::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::util::sync::{Mutex, lock, weakened};

/// A slot for a box, which may be empty.
pub(crate) struct Lent<T>(AtomicPtr<T>);

/// The lock of the looker. It is held for a copy of one value, and never by an owner.
#[cfg(not(loom))]
static LOOK: Mutex<()> = Mutex::new(());

/// The slot is lent: null. Empty: an address that no box has.
fn empty<T>() -> *mut T {
    const { assert!(align_of::<T>() > 1, "the marker must not be the address of a box") };
    ptr::without_provenance_mut(1)
}

/// The box in a word that was taken out.
///
/// # Safety
/// The word was taken out by the caller.
unsafe fn boxed<T>(word: *mut T) -> Option<Box<T>> {
    let word = NonNull::new(word).filter(|word| word.as_ptr() != empty())?;
    // SAFETY: every other word is made by `into_word`, and was taken out by the caller.
    Some(unsafe { Box::from_raw(word.as_ptr()) })
}

fn into_word<T>(value: Option<Box<T>>) -> *mut T {
    value.map_or(empty(), Box::into_raw)
}

impl<T: Clone> Lent<T> {
    pub(crate) fn new(value: Option<Box<T>>) -> Lent<T> {
        Lent(AtomicPtr::new(into_word(value)))
    }

    /// LN1. What was there is dropped by the caller, or by the looker. For the owner.
    #[must_use = "its destructor may be the user's"]
    pub(crate) fn replace(&self, value: Option<Box<T>>) -> Option<Box<T>> {
        // SAFETY: taken out here.
        unsafe { boxed(self.0.swap(into_word(value), AcqRel)) }
    }

    /// LN2 and LN3. A copy of what is there. The second is what the owner has replaced meanwhile,
    /// to be dropped by the caller.
    ///
    /// # Safety
    /// One thread looks at a time.
    unsafe fn look_alone(&self) -> (Option<T>, Option<Box<T>>) {
        let word = self.0.swap(ptr::null_mut(), AcqRel);
        // SAFETY: the box in the word was taken out, so that no other thread frees it before it is
        // put back.
        let copy = (word != empty()).then(|| unsafe { (*word).clone() });
        if weakened("return look") {
            self.0.store(word, Relaxed);
            return (copy, None);
        }
        match self.0.compare_exchange(ptr::null_mut(), word, AcqRel, Acquire) {
            Ok(_) => (copy, None),
            // SAFETY: taken out above, and not put back.
            Err(_) => (copy, unsafe { boxed(word) }),
        }
    }

    /// A copy of what is there.
    #[cfg(not(loom))]
    pub(crate) fn look(&self) -> Option<T> {
        let looking = lock(&LOOK);
        // SAFETY: under the lock.
        let (copy, replaced) = unsafe { self.look_alone() };
        drop(looking);
        drop(replaced);
        copy
    }

    /// The same, for builds in which the lock cannot be a static.
    #[cfg(loom)]
    pub(crate) fn look(&self) -> Option<T> {
        let looking = Mutex::new(());
        let _looking = lock(&looking);
        // SAFETY: no model has two lookers.
        unsafe { self.look_alone() }.0
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        // SAFETY: no other thread has a reference, so the slot is not lent.
        drop(unsafe { boxed(self.0.load(Relaxed)) });
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::util::sync::model::{check, check_without};

    /// A value whose copies and drops loom sees.
    #[derive(Clone)]
    struct Seen(loom::sync::Arc<usize>);

    fn look_while_it_is_replaced() {
        let seen = |number| Some(Box::new(Seen(loom::sync::Arc::new(number))));
        let slot = Arc::new(Lent::new(seen(1)));
        let looker = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.look().map(|value| *value.0))
        };
        drop(slot.replace(seen(2)));
        drop(slot.replace(None));
        let looked = looker.join().unwrap();
        assert!(matches!(looked, Some(1 | 2) | None));
        assert!(slot.look().is_none(), "the last value is gone");
    }

    #[test]
    fn what_is_replaced_while_it_is_looked_at_is_freed_once() {
        check(look_while_it_is_replaced);
    }

    #[test]
    fn a_looker_must_not_put_back_what_was_replaced() {
        check_without("return look", look_while_it_is_replaced);
    }
}
