//! The word that says what is current: as a plain copy ([`Word`]), and as an owner ([`Owned`]).

use std::mem;
use std::ptr::{self, NonNull};

use super::SLOT;
use super::frame::Frame;
use crate::bindings::flat::Header;
use crate::bindings::{Bindings, LastHandle};
use crate::util::tagged::Tagged;
use crate::value::reaper;

/// Flag: the word points to a frame, not to bindings.
const FRAME: usize = 1;
/// Flag: there may be variables with hooks among what is visible.
const WATCHED: usize = 2;
/// Flag of a frame: it is a layer.
const LAYER: usize = 4;

/// See the table in [`current`](super). A plain copy, which owns nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(Tagged<Header, 3>);

/// What a word points to.
pub(super) enum Target {
    Nothing,
    Closed,
    Snapshot(NonNull<Header>),
    Frame(NonNull<Frame>),
}

impl Word {
    pub(crate) const EMPTY: Word = Word(Tagged::NULL);
    /// Points to nothing, and differs from the empty word by a flag that says nothing there.
    pub(super) const CLOSED: Word = Word(Tagged::from_raw(ptr::without_provenance_mut(WATCHED)));

    /// The word of a snapshot, which takes over the handle.
    fn of_snapshot(bindings: Bindings) -> Word {
        let flags = if bindings.is_watched() { WATCHED } else { 0 };
        Word(Tagged::new(bindings.into_raw(), flags))
    }

    /// The word of a frame, which may see what its outside has.
    ///
    /// # Safety
    /// The frame and its outside are alive, and it is a layer if `is_layer` says so.
    #[inline]
    pub(super) unsafe fn of_frame(frame: NonNull<Frame>, is_layer: bool) -> Word {
        // SAFETY: alive by this function's contract.
        let Frame { bindings, outside, .. } = unsafe { frame.as_ref() };
        let layer = if is_layer { LAYER } else { 0 };
        let watched = if bindings.is_watched() || outside.is_watched() { WATCHED } else { 0 };
        Word(Tagged::new(frame.as_ptr(), FRAME | layer | watched).cast())
    }

    #[inline]
    pub(super) fn is_watched(self) -> bool {
        self.0.has(WATCHED)
    }

    #[inline]
    pub(super) fn is_layer(self) -> bool {
        self.0.has(LAYER)
    }

    #[inline]
    pub(super) fn target(self) -> Target {
        if self.0.has(FRAME) {
            // SAFETY: made by `of_frame`, of a pointer that is not null.
            return Target::Frame(unsafe { NonNull::new_unchecked(self.0.cast().ptr()) });
        }
        match self.0.non_null() {
            None if self == Word::CLOSED => Target::Closed,
            None => Target::Nothing,
            Some(header) => Target::Snapshot(header),
        }
    }

    /// The bindings of the word itself, of a layer those of the layer alone.
    ///
    /// # Safety
    /// What the word points to is alive, and so is the answer only that long.
    #[inline(always)]
    pub(super) unsafe fn own_header(self) -> Option<NonNull<Header>> {
        if !self.0.has(FRAME) {
            return self.0.non_null();
        }
        // SAFETY: a frame, alive by this function's contract.
        NonNull::new(unsafe { (*self.0.cast::<Frame>().ptr()).bindings.as_raw() })
    }

    /// A further handle of the word's own bindings.
    ///
    /// # Safety
    /// What the word points to is alive.
    pub(super) unsafe fn own_bindings(self) -> Bindings {
        // SAFETY: alive by this function's contract.
        unsafe { Bindings::clone_at(self.own_header()) }
    }

    /// What a layer lies on; empty for any other word.
    ///
    /// # Safety
    /// What the word points to is alive.
    pub(super) unsafe fn outside(self) -> Word {
        match self.target() {
            // SAFETY: alive by this function's contract.
            Target::Frame(frame) => unsafe { frame.as_ref() }.outside,
            _ => Word::EMPTY,
        }
    }

    /// The identity of the frame, if it is one that was written to.
    ///
    /// # Safety
    /// What the word points to is alive.
    pub(super) unsafe fn identity(self) -> Option<u64> {
        match self.target() {
            // SAFETY: alive by this function's contract.
            Target::Frame(frame) => unsafe { frame.as_ref() }.identity(),
            _ => None,
        }
    }
}

/// A word that owns what it points to.
pub(crate) struct Owned(pub(super) Word);

// SAFETY: bindings and frames are `Send`, and the word owns them.
unsafe impl Send for Owned {}
// SAFETY: through `&Owned` bindings are only read and counted, both of which any thread may do.
unsafe impl Sync for Owned {}

impl Owned {
    pub(crate) const EMPTY: Owned = Owned(Word::EMPTY);

    pub(crate) fn snapshot_of(bindings: Bindings) -> Owned {
        Owned(Word::of_snapshot(bindings))
    }

    /// A new, empty layer.
    pub(crate) fn layer() -> Owned {
        // SAFETY: just leaked, without an outside.
        Owned(unsafe { Word::of_frame(NonNull::from(Box::leak(Box::new(Frame::layer()))), true) })
    }

    /// A copy of the bindings; of a layer, of its own only.
    pub(crate) fn bindings(&self) -> Bindings {
        // SAFETY: the word owns what it points to.
        unsafe { self.0.own_bindings() }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        drop(mem::replace(self, Owned::EMPTY));
    }

    /// Empties the word, which is not the current one. If it was the only owner, destructors are
    /// left to the drop of the answer.
    #[inline]
    pub(crate) fn take_unique(&mut self) -> Option<Unique> {
        let word = mem::replace(&mut self.0, Word::EMPTY);
        match word.target() {
            Target::Snapshot(header) => {
                // SAFETY: the word's handle moves along.
                let last = SLOT.with(|slot| unsafe { slot.spares.release(word, header) });
                last.map(Unique::from)
            }
            Target::Frame(_) => Some(Unique::Frame { _word: Owned(word) }),
            Target::Nothing | Target::Closed => None,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0 == Word::EMPTY
    }

    /// The identity of the frame, if it is one that was written to.
    pub(crate) fn identity(&self) -> Option<u64> {
        // SAFETY: the word owns what it points to.
        unsafe { self.0.identity() }
    }

    /// Whether it is a layer that was never written to, so that a new one is as good.
    pub(crate) fn is_blank_layer(&self) -> bool {
        self.0.is_layer() && self.identity().is_none()
    }
}

/// What [`Owned::take_unique`] has taken: a context without any other owner.
pub(crate) enum Unique {
    Snapshot { _bindings: LastHandle },
    Frame { _word: Owned },
}

impl From<LastHandle> for Unique {
    fn from(last: LastHandle) -> Unique {
        Unique::Snapshot { _bindings: last }
    }
}

impl Drop for Owned {
    #[inline]
    fn drop(&mut self) {
        match self.0.target() {
            Target::Nothing | Target::Closed => {}
            // SAFETY: the word's handle moves into the bindings.
            Target::Snapshot(header) => drop(unsafe { Bindings::from_raw(header.as_ptr()) }),
            // SAFETY: the word owns what it points to, and ends here.
            Target::Frame(_) => unsafe { drop_frames(self.0) },
        }
    }
}

/// Drops a frame, and what it keeps.
///
/// # Safety
/// The word owns what it points to, and is not used afterwards.
#[cold]
unsafe fn drop_frames(mut word: Word) {
    let _hold = reaper::hold();
    // A layer that was taken away while it was entered still has its outside, and that perhaps
    // another outside: a loop, so that no depth needs stack.
    while let Target::Frame(frame) = word.target() {
        // SAFETY: the word owns the frame, which was leaked from a box.
        word = unsafe { Box::from_raw(frame.as_ptr()) }.outside;
    }
    // No frame any more, so this does not come back here with one.
    drop(Owned(word));
}
