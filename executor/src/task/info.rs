//! What is known of a task: where it was spawned, its name, its identity, why it was cancelled.

use std::borrow::Cow;
use std::panic::Location;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use super::id::Id;
use crate::task::join_handle::CancelReason;

type Place = &'static Location<'static>;

/// One word: the place, perhaps with a mark that the task was aborted; or, marked by its lowest bit, a box with more.
///
/// Nearly every task has no name, is cancelled by nobody who gives a reason, and is never asked for its identity, so it
/// pays for none of them.
pub(crate) struct About(AtomicPtr<()>);

struct More {
    place: Place,
    name: Option<Cow<'static, str>>,
    id: Id,
    reason: OnceLock<CancelReason>,
}

const MORE: usize = 1;
/// Mark of a place: aborted, without a reason, and before any other reason came.
const ABORTED: usize = 2;
const MARKS: usize = MORE | ABORTED;
const _: () = assert!(align_of::<Location<'static>>() > MARKS && align_of::<More>() > MARKS);

impl About {
    #[inline]
    pub(crate) fn new(place: Place, name: Option<Cow<'static, str>>) -> About {
        About(AtomicPtr::new(match name {
            None => ptr::from_ref(place).cast_mut().cast(),
            Some(_) => More { place, name, id: Id::next(), reason: OnceLock::new() }.into_word(),
        }))
    }

    fn more(&self) -> Result<&More, Place> {
        // Pairs with the release in `extended`.
        // SAFETY: the word of this, which keeps it.
        unsafe { More::of(self.0.load(Acquire)) }
    }

    /// What there is more, made if need be.
    #[cold]
    fn extended(&self) -> &More {
        let mut word = self.0.load(Acquire);
        // SAFETY: as above.
        while let Err(place) = unsafe { More::of(word) } {
            let reason = if word.addr() & ABORTED != 0 {
                OnceLock::from(CancelReason::Aborted)
            } else {
                OnceLock::new()
            };
            let more = More { place, name: None, id: Id::next(), reason }.into_word();
            // Released, so that whoever sees the word sees what it points to.
            match self.0.compare_exchange(word, more, AcqRel, Acquire) {
                Ok(_) => word = more,
                Err(changed) => {
                    // Somebody else was first, with as much or with the mark.
                    // SAFETY: ours, and not shared.
                    unsafe { More::free(more) }
                    word = changed;
                }
            }
        }
        // SAFETY: as above; the loop has ended with a box.
        unsafe { More::of(word) }.unwrap_or_else(|_| unreachable!("not a place"))
    }

    /// The task's identity, made if nobody has asked for it before.
    pub(crate) fn id(&self) -> Id {
        self.more().unwrap_or_else(|_| self.extended()).id
    }

    pub(crate) fn place(&self) -> Place {
        self.more().map_or_else(|place| place, |more| more.place)
    }

    pub(crate) fn name(&self) -> Option<&Cow<'static, str>> {
        self.more().ok()?.name.as_ref()
    }

    /// Why the task was cancelled.
    pub(crate) fn reason(&self) -> CancelReason {
        let reason = self.more().ok().and_then(|more| more.reason.get());
        reason.cloned().unwrap_or(CancelReason::Aborted)
    }

    /// Says that there is no reason, if nobody has given one.
    pub(crate) fn set_aborted(&self) {
        let abort = |more: &More| drop(more.reason.set(CancelReason::Aborted));
        match self.more() {
            Ok(more) => abort(more),
            Err(place) => {
                let plain: *mut () = ptr::from_ref(place).cast_mut().cast();
                let aborted = plain.map_addr(|address| address | ABORTED);
                let changed = self.0.compare_exchange(plain, aborted, AcqRel, Acquire);
                // It may be marked already, or there is more by now, and be it only an identity.
                if let Err(changed) = changed {
                    // SAFETY: as above.
                    let _ = unsafe { More::of(changed) }.map(abort);
                }
            }
        }
    }

    /// Says why, if nobody has.
    pub(crate) fn set_reason(&self, reason: CancelReason) {
        drop(self.extended().reason.set(reason));
    }
}

impl More {
    /// What a word says.
    ///
    /// # Safety
    /// It is that of an `About`, which lives for `'a`.
    unsafe fn of<'a>(word: *mut ()) -> Result<&'a More, Place> {
        let pointer = word.map_addr(|address| address & !MARKS);
        // SAFETY: marked: a box that lives as long as the word; else a static.
        unsafe { if word.addr() & MORE != 0 { Ok(&*pointer.cast()) } else { Err(&*pointer.cast()) } }
    }

    fn into_word(self) -> *mut () {
        Box::into_raw(Box::new(self)).map_addr(|address| address | MORE).cast()
    }

    /// # Safety
    /// Made by `into_word`; nobody looks at it any more.
    unsafe fn free(word: *mut ()) {
        // SAFETY: says the caller.
        drop(unsafe { Box::<More>::from_raw(word.map_addr(|address| address & !MORE).cast()) });
    }
}

impl Drop for About {
    fn drop(&mut self) {
        let word = *self.0.get_mut();
        if word.addr() & MORE != 0 {
            // SAFETY: ours alone.
            unsafe { More::free(word) }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    fn about() -> About {
        About::new(Location::caller(), None)
    }

    #[test]
    fn an_identity_stays_whatever_else_becomes_known() {
        let (one, other) = (about(), about());
        let id = one.id();
        assert_ne!(id, other.id());
        one.set_reason(CancelReason::Shutdown);
        one.set_aborted();
        assert_eq!((one.id(), one.reason()), (id, CancelReason::Shutdown));
        assert_eq!(one.place().file(), file!());
    }

    #[test]
    fn an_abort_stays_the_first_reason_when_somebody_asks_for_the_identity() {
        let (before, after) = (about(), about());
        let id = before.id();
        before.set_aborted();
        after.set_aborted();
        assert_ne!(after.id(), id);
        for about in [before, after] {
            about.set_reason(CancelReason::Shutdown);
            assert_eq!(about.reason(), CancelReason::Aborted);
        }
    }

    #[test]
    fn all_who_ask_at_once_hear_the_same_identity_and_the_same_reason() {
        for _ in 0..if cfg!(miri) { 8 } else { 500 } {
            let about = about();
            let heard = thread::scope(|scope| {
                let aborts = scope.spawn(|| {
                    about.set_aborted();
                    about.set_reason(CancelReason::Shutdown);
                    (about.id(), about.reason())
                });
                let asks = scope.spawn(|| (about.id(), CancelReason::Aborted));
                [aborts.join().unwrap(), asks.join().unwrap()]
            });
            assert_eq!(heard[0], heard[1]);
            assert_eq!(heard[0], (about.id(), about.reason()));
        }
    }
}
