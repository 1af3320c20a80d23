//! A value that may end before what holds it.

use std::mem::{ManuallyDrop, needs_drop};
use std::pin::Pin;

/// A value at the address of this one, which may be dropped in place before this one is.
#[repr(C)]
pub(crate) struct Early<T> {
    value: ManuallyDrop<T>,
    is_there: bool,
}

impl<T> Early<T> {
    #[inline]
    pub(crate) fn new(value: T) -> Early<T> {
        Early { value: ManuallyDrop::new(value), is_there: true }
    }

    /// Whether it was not dropped. Not by a shared reference, which would be one to the value, too:
    /// a future may have borrowed itself exclusively.
    #[inline]
    pub(crate) fn is_there(self: Pin<&mut Self>) -> bool {
        // SAFETY: nothing is moved.
        unsafe { self.get_unchecked_mut() }.is_there
    }

    /// The value, unless it was dropped.
    #[inline]
    pub(crate) fn get(self: Pin<&mut Self>) -> Option<Pin<&mut T>> {
        // SAFETY: nothing is moved out of `this`, and the value is never moved: it is pinned when
        // this one is.
        unsafe {
            let this = self.get_unchecked_mut();
            this.is_there.then(|| Pin::new_unchecked(&mut *this.value))
        }
    }

    /// Drops the value, unless it was dropped. It is gone also if its destructor panics.
    #[inline]
    pub(crate) fn drop_now(self: Pin<&mut Self>) {
        // SAFETY: the value is dropped where it is.
        unsafe { self.get_unchecked_mut() }.clear();
    }

    #[inline]
    fn clear(&mut self) {
        if std::mem::take(&mut self.is_there) {
            // SAFETY: it was there, and is not from now on, so it is dropped once.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        }
    }
}

impl<T> Drop for Early<T> {
    #[inline]
    fn drop(&mut self) {
        if needs_drop::<T>() {
            self.clear();
        }
    }
}
