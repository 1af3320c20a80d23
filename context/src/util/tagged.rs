//! A pointer with flags in its lowest bits.
#![deny(unsafe_code)]

use std::fmt;
use std::ptr::{self, NonNull};

/// A pointer to a `T`, which may be null, with `BITS` flags in the bits that alignment leaves free.
///
/// A plain word: it owns nothing, and is read and written through [`ptr`](Self::ptr). The pointer
/// keeps its provenance through all operations here. That `T` has room for the flags is checked
/// when the program is compiled.
///
/// ```
/// use heirloom_context::internal::tagged::Tagged;
///
/// const DONE: usize = 1;
/// let mut value = 7_u64;
/// let word = Tagged::<u64, 1>::new(&mut value, 0);
/// assert!(!word.has(DONE));
/// let word = word.with(DONE);
/// assert_eq!((word.ptr(), word.flags()), (&raw mut value, DONE));
/// ```
pub struct Tagged<T, const BITS: u32>(*mut T);

impl<T, const BITS: u32> Tagged<T, BITS> {
    /// All flags.
    pub const FLAGS: usize = {
        assert!(align_of::<T>() >= 1 << BITS, "there must be room for the flags");
        (1 << BITS) - 1
    };

    /// A null pointer without flags.
    pub const NULL: Self = Tagged(ptr::null_mut());

    /// A pointer with these flags.
    #[inline]
    pub fn new(pointer: *mut T, flags: usize) -> Self {
        debug_assert!(pointer.addr() & Self::FLAGS == 0, "the pointer is not aligned");
        Tagged(pointer).with(flags)
    }

    /// A word that [`into_raw`](Self::into_raw) has returned.
    #[inline]
    pub const fn from_raw(raw: *mut T) -> Self {
        Tagged(raw)
    }

    /// The whole word, flags included, for an `AtomicPtr` or a field of another type.
    #[inline]
    pub const fn into_raw(self) -> *mut T {
        self.0
    }

    /// The pointer without the flags.
    #[inline]
    pub fn ptr(self) -> *mut T {
        self.0.map_addr(|address| address & !Self::FLAGS)
    }

    /// The pointer without the flags, unless it is null.
    #[inline]
    pub fn non_null(self) -> Option<NonNull<T>> {
        NonNull::new(self.ptr())
    }

    /// The flags.
    #[inline]
    pub fn flags(self) -> usize {
        self.0.addr() & Self::FLAGS
    }

    /// Whether one of these flags is set.
    #[inline]
    pub fn has(self, flags: usize) -> bool {
        self.0.addr() & flags & Self::FLAGS != 0
    }

    /// With these flags set in addition.
    #[inline]
    pub fn with(self, flags: usize) -> Self {
        debug_assert!(flags & !Self::FLAGS == 0, "there is no room for such a flag");
        Tagged(self.0.map_addr(|address| address | flags))
    }

    /// With these flags cleared.
    #[inline]
    pub fn without(self, flags: usize) -> Self {
        debug_assert!(flags & !Self::FLAGS == 0, "there is no such flag");
        Tagged(self.0.map_addr(|address| address & !flags))
    }

    /// The same word, as that of a pointer to another type. The flags tell which.
    #[inline]
    pub fn cast<U>(self) -> Tagged<U, BITS> {
        const { assert!(align_of::<U>() >= 1 << BITS, "there must be room for the flags") };
        Tagged(self.0.cast())
    }
}

impl<T, const BITS: u32> Clone for Tagged<T, BITS> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const BITS: u32> Copy for Tagged<T, BITS> {}

impl<T, const BITS: u32> PartialEq for Tagged<T, BITS> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T, const BITS: u32> Eq for Tagged<T, BITS> {}

impl<T, const BITS: u32> fmt::Debug for Tagged<T, BITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tagged").field("pointer", &self.ptr()).field("flags", &self.flags()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
