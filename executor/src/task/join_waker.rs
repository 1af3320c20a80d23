//! Where the joiner leaves its waker. See the [protocol](super): write, then offer; seal, then take.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::sync::Arc;
use std::task::Waker;

use super::state::State;
use super::waker;
use crate::util::sync::UnsafeCell;

/// The waker of whoever awaits the join handle, if the state word says so.
///
/// Until it is offered it is the handle's; from there on it is lent to the closer, who takes it when it sets SEALED, or at
/// the latest before it sets DONE. Before SEALED the handle can withdraw it. No lock: the word decides whose it is.
pub(crate) struct Joiner(UnsafeCell<MaybeUninit<OneWord>>);

// SAFETY: wakers are; whose this one is says the state word.
unsafe impl Send for Joiner {}
// SAFETY: as above.
unsafe impl Sync for Joiner {}

impl Joiner {
    pub(crate) fn new() -> Joiner {
        Joiner(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Leaves a waker. False if the task is done: then there is nothing to wait for.
    ///
    /// # Safety
    /// The caller has the join handle; `state` is of the same task.
    pub(crate) unsafe fn register(&self, state: &State, waker: &Waker) -> bool {
        let known = state.has_waker();
        // SAFETY: it was written, and is the handle's to look at even if the closer takes it meanwhile.
        if known && unsafe { self.word().will_wake(waker) } {
            return !state.is_done();
        }
        // A stranger's code, as is the destructor of the former one, which goes last.
        let new = waker.clone();
        let mut _former = None;
        if known {
            // SAFETY: says the caller.
            _former = unsafe { self.withdraw(state) };
            if _former.is_none() {
                // The closer has another one, or is about to take it. It cannot be exchanged, so the joiner looks again
                // until the task is done: it has come with two wakers while a context's values were dropped, or before the
                // end was published.
                if state.is_done() {
                    return false;
                }
                waker.wake_by_ref();
                return true;
            }
        }
        // SAFETY: none is offered, so the place is the handle's.
        self.0.with_mut(|place| unsafe { (*place).write(OneWord::new(new)) });
        if state.offer_waker() {
            return true;
        }
        // SAFETY: written above, and still the handle's.
        _former = Some(unsafe { self.word().into_both() });
        false
    }

    /// Takes an offered waker back; none if the task is sealed: then it is the closer's.
    ///
    /// # Safety
    /// The caller has the join handle; a waker was offered.
    pub(crate) unsafe fn withdraw(&self, state: &State) -> Option<Waker> {
        // SAFETY: it was written, and if the task is not sealed it is the handle's again.
        state.withdraw_waker().then(|| unsafe { self.word().into_both() })
    }

    /// The closer takes the waker.
    ///
    /// # Safety
    /// There is one, and it is the caller's.
    pub(crate) unsafe fn take(&self) -> Waker {
        // SAFETY: says the caller.
        unsafe { self.word().into_closers() }
    }

    /// The handle looks at the waker no more, if it has left one which is the closer's.
    ///
    /// # Safety
    /// The caller has the join handle, and calls this once at most; the task is sealed.
    #[inline]
    pub(crate) unsafe fn forget(&self, state: &State) {
        if state.has_waker() {
            // SAFETY: it was written.
            drop(unsafe { self.word().into_handles() });
        }
    }

    /// # Safety
    /// It was written, and nobody writes it meanwhile.
    #[inline]
    unsafe fn word(&self) -> OneWord {
        // SAFETY: says the caller.
        self.0.with(|place| unsafe { *(*place).assume_init_ref() })
    }
}

/// A waker in one word: the header of a task of ours; or, marked by its lowest bit, a place with somebody else's.
///
/// The waker moves as the protocol says. The place is shared by the handle and the closer, so that the one can compare what the
/// other is taking. Nearly every joiner is a task; the others pay for a place, rather than every task for a second word.
#[derive(Clone, Copy)]
struct OneWord(*const ());

type Place = ManuallyDrop<Waker>;

const PLACE: usize = 1;
const _: () = assert!(align_of::<super::cell::Header>() > PLACE && align_of::<Place>() > PLACE);

impl OneWord {
    /// One that is to be offered.
    fn new(waker: Waker) -> OneWord {
        if waker::is_ours(&waker) {
            return OneWord(ManuallyDrop::new(waker).data());
        }
        let place = Arc::new(ManuallyDrop::new(waker));
        // One share is the handle's, the other the closer's.
        std::mem::forget(Arc::clone(&place));
        OneWord(Arc::into_raw(place).map_addr(|address| address | PLACE).cast())
    }

    fn place(self) -> Option<*const Place> {
        let is_place = self.0.addr() & PLACE != 0;
        is_place.then(|| self.0.map_addr(|address| address & !PLACE).cast())
    }

    /// # Safety
    /// The caller has a share.
    unsafe fn will_wake(self, waker: &Waker) -> bool {
        match self.place() {
            // SAFETY: says the caller. Two words are compared, which stay what they are when the waker is taken. Should they by
            // then be another waker's, this one is gone, which it is after DONE only: and that the caller looks for next.
            Some(place) => unsafe { &*place }.will_wake(waker),
            None => waker::is_of(waker, self.0.cast()),
        }
    }

    /// # Safety
    /// The caller is the closer, has the waker, and gives its share up.
    unsafe fn into_closers(self) -> Waker {
        // SAFETY: says the caller: the waker is read once.
        unsafe {
            match self.place() {
                Some(place) => {
                    let share = Arc::from_raw(place);
                    ManuallyDrop::into_inner((&raw const *share).read())
                }
                None => waker::from_data(self.0),
            }
        }
    }

    /// # Safety
    /// The caller has the handle, and gives its share up.
    unsafe fn into_handles(self) -> Option<Arc<Place>> {
        // SAFETY: says the caller.
        self.place().map(|place| unsafe { Arc::from_raw(place) })
    }

    /// # Safety
    /// Both shares, and the waker, are the caller's, and given up.
    unsafe fn into_both(self) -> Waker {
        // SAFETY: says the caller.
        unsafe {
            drop(self.into_handles());
            self.into_closers()
        }
    }
}
