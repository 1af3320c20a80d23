//! A pointer that its owner replaces without waiting while another thread looks at its target.
//!
//! # Terms
//!
//! What the slot owns is a *pointer*: a box, or a reference of a task. The *owner* is the thread
//! that alone replaces the pointer; the *looker* is the thread that holds [`LOOK`], so there is one
//! at a time.
//!
//! # Transitions
//!
//! | step | who | effect | function |
//! | --- | --- | --- | --- |
//! | LN1 | the owner | puts a new pointer in, and drops what was there | `Lent::replace` |
//! | LN2 | the looker | takes the pointer out, and leaves the slot *lent* | `Lent::look` |
//! | LN3 | the looker | puts the pointer back, if the slot is still lent; else drops it | `Lent::look` |
//!
//! # Why each pointer is dropped once
//!
//! Each step exchanges the slot by one operation, so a pointer belongs to the thread that took it
//! out. LN1 that finds the slot lent drops nothing: LN3 then finds another word than *lent*, and
//! drops the pointer. With two lookers LN3 of the first could put its pointer into the slot that
//! the second has left lent, in place of a newer one.

use std::ptr::{self, NonNull};

use crate::util::sync::atomic::AtomicPtr;
use crate::util::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::util::sync::weakened;
#[cfg(not(loom))]
use crate::util::sync::{Mutex, lock};

/// An owning pointer, as a word.
///
/// # Safety
/// `from_word` gives back what `into_word` has taken, and a word of `into_word` is aligned to more
/// than a byte, and not null.
pub(crate) unsafe trait Pointer: Clone + Send + Sync {
    type Target;

    fn into_word(self) -> NonNull<Self::Target>;

    /// # Safety
    /// The word is one of `into_word`, and is given up.
    unsafe fn from_word(word: NonNull<Self::Target>) -> Self;
}

// SAFETY: a box is what its pointer says, and `Lent` checks the alignment.
unsafe impl<T: Clone + Send + Sync> Pointer for Box<T> {
    type Target = T;

    fn into_word(self) -> NonNull<T> {
        const { assert!(align_of::<T>() > 1, "a marker must not be the address of a box") };
        NonNull::from(Box::leak(self))
    }

    unsafe fn from_word(word: NonNull<T>) -> Box<T> {
        // SAFETY: leaked by `into_word`.
        unsafe { Box::from_raw(word.as_ptr()) }
    }
}

/// A slot for a pointer, which may be empty.
pub(crate) struct Lent<P: Pointer>(AtomicPtr<P::Target>);

/// The lock of the looker. It is held for a copy of one pointer, and never by an owner.
#[cfg(not(loom))]
static LOOK: Mutex<()> = Mutex::new(());

/// The slot is lent: null. Empty: an address that no target has.
fn empty<T>() -> *mut T {
    ptr::without_provenance_mut(1)
}

impl<P: Pointer> Lent<P> {
    pub(crate) fn new(pointer: Option<P>) -> Lent<P> {
        Lent(AtomicPtr::new(Self::into_word(pointer)))
    }

    fn into_word(pointer: Option<P>) -> *mut P::Target {
        pointer.map_or(empty(), |pointer| pointer.into_word().as_ptr())
    }

    /// The pointer in a word that was taken out.
    ///
    /// # Safety
    /// The word was taken out by the caller.
    unsafe fn from_word(word: *mut P::Target) -> Option<P> {
        let word = NonNull::new(word).filter(|word| word.as_ptr() != empty())?;
        // SAFETY: every other word is made by `into_word`, and was taken out by the caller.
        Some(unsafe { P::from_word(word) })
    }

    /// LN1. What was there is dropped by the caller, or by the looker. For the owner.
    #[must_use = "its destructor may be the user's"]
    #[inline]
    pub(crate) fn replace(&self, pointer: Option<P>) -> Option<P> {
        // SAFETY: taken out here.
        unsafe { Self::from_word(self.0.swap(Self::into_word(pointer), AcqRel)) }
    }

    /// Whether there is nothing. Orders nothing; while it is looked at, a guess.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Relaxed) == empty()
    }

    /// LN2 and LN3. A copy of what is there. The second is what the owner has replaced meanwhile,
    /// to be dropped by the caller.
    ///
    /// # Safety
    /// One thread looks at a time.
    unsafe fn look_alone(&self) -> (Option<P>, Option<P>) {
        let word = self.0.swap(ptr::null_mut(), AcqRel);
        // SAFETY: taken out, so that no other thread drops it before it is put back.
        let taken = unsafe { Self::from_word(word) };
        let copy = taken.clone();
        let word = Self::into_word(taken);
        if weakened("return look") {
            self.0.store(word, Relaxed);
            return (copy, None);
        }
        match self.0.compare_exchange(ptr::null_mut(), word, AcqRel, Acquire) {
            Ok(_) => (copy, None),
            // SAFETY: taken out above, and not put back.
            Err(_) => (copy, unsafe { Self::from_word(word) }),
        }
    }

    /// A copy of what is there.
    pub(crate) fn look(&self) -> Option<P> {
        // No model has two lookers, and in a model the lock cannot be a static.
        #[cfg(not(loom))]
        let looking = lock(&LOOK);
        // SAFETY: under the lock.
        let (copy, replaced) = unsafe { self.look_alone() };
        #[cfg(not(loom))]
        drop(looking);
        drop(replaced);
        copy
    }
}

impl<P: Pointer> Drop for Lent<P> {
    fn drop(&mut self) {
        // SAFETY: no other thread has a reference, so the slot is not lent.
        drop(unsafe { Self::from_word(self.0.load(Relaxed)) });
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
    #[should_panic]
    fn a_looker_must_not_put_back_what_was_replaced() {
        check_without("return look", look_while_it_is_replaced);
    }
}
