//! Where the joiner leaves its waker for the closer. See rules 4 and 5 of the [protocol](super):
//! the handle writes and then offers; the closer seals and then takes.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::sync::Arc;
use std::task::Waker;

use super::state::StateWord;
use super::waker;
use crate::util::sync::UnsafeCell;
use crate::util::tagged::Tagged;

/// The joiner's waker, if the state word has WAKER.
///
/// Until the waker is offered, it belongs to the handle. An offered waker belongs to the closer
/// from the time the task is sealed: the closer takes the waker when it sets SEALED, or before it
/// sets DONE. Before SEALED the handle can withdraw the waker. No lock is needed: the state word
/// says whose the waker is.
pub(crate) struct JoinWaker(UnsafeCell<MaybeUninit<OneWord>>);

// SAFETY: wakers are `Send` and `Sync`; the state word says which thread may touch this one.
unsafe impl Send for JoinWaker {}
// SAFETY: as above.
unsafe impl Sync for JoinWaker {}

impl JoinWaker {
    pub(crate) fn new() -> JoinWaker {
        JoinWaker(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Leaves a waker. False if the task is done: then there is nothing to wait for.
    ///
    /// # Safety
    /// The caller has the join handle; `state` is that of the same task.
    pub(crate) unsafe fn register(&self, state: &StateWord, waker: &Waker) -> bool {
        let known = state.has_waker();
        // SAFETY: WAKER says that the word was written. The handle's share keeps what the word
        // points to, even if the closer takes the waker meanwhile.
        if known && unsafe { self.word().will_wake(waker) } {
            return !state.is_done();
        }
        // `clone` and the drop of the former waker are foreign code; the drop goes last.
        let new = waker.clone();
        let mut _former = None;
        if known {
            // SAFETY: a waker was offered, and the caller has the handle.
            _former = unsafe { self.withdraw(state) };
            if _former.is_none() {
                // The closer has the former waker, or is about to take it. The waker cannot be
                // exchanged, so the joiner is woken at once and looks again until the task is done.
                // That happens if the joiner polls with a second waker while the closer is between
                // steps 4 and 5.
                if state.is_done() {
                    return false;
                }
                waker.wake_by_ref();
                return true;
            }
        }
        // SAFETY: no waker is offered, so the word is the handle's.
        self.0.with_mut(|word| unsafe { (*word).write(OneWord::new(new)) });
        if state.offer_waker() {
            return true;
        }
        // SAFETY: the word was written above, and the offer failed, so the waker is still the
        // handle's.
        _former = Some(unsafe { self.word().take_back() });
        false
    }

    /// Takes an offered waker back. `None` if the task is sealed: then the waker is the closer's.
    ///
    /// # Safety
    /// The caller has the join handle; a waker was offered.
    pub(crate) unsafe fn withdraw(&self, state: &StateWord) -> Option<Waker> {
        // SAFETY: the word was written; after a successful withdrawal the waker is the handle's.
        state.withdraw_waker().then(|| unsafe { self.word().take_back() })
    }

    /// The closer takes the waker.
    ///
    /// # Safety
    /// The caller is the closer; a waker was offered, and was not taken yet.
    pub(crate) unsafe fn take(&self) -> Waker {
        // SAFETY: the word was written before the offer, and the closer takes the waker once.
        unsafe { self.word().take_waker() }
    }

    /// Gives up the handle's share of a waker that is the closer's.
    ///
    /// # Safety
    /// The caller has the join handle, and calls this once at most; the task is sealed.
    #[inline]
    pub(crate) unsafe fn forget(&self, state: &StateWord) {
        if state.has_waker() {
            // SAFETY: WAKER says that the word was written; the share is given up once.
            drop(unsafe { self.word().into_handle_share() });
        }
    }

    /// # Safety
    /// The word was written, and is not written meanwhile.
    #[inline]
    unsafe fn word(&self) -> OneWord {
        // SAFETY: the word was written, and the handle alone writes it.
        self.0.with(|word| unsafe { *(*word).assume_init_ref() })
    }
}

/// A waker in one word: the header of a task of this crate; or, marked by the lowest bit, an
/// allocation with a foreign waker.
///
/// The waker moves as the protocol says. Handle and closer share the allocation, so that the handle
/// can compare the waker while the closer takes it. Nearly every joiner is a task; the others pay
/// for an allocation, so that a header needs no second word.
#[derive(Clone, Copy)]
struct OneWord(Tagged<Boxed, 1>);

type Boxed = ManuallyDrop<Waker>;

const BOXED: usize = 1;
const _: () = assert!(align_of::<super::cell::Header>() > BOXED);

impl OneWord {
    /// The word of a waker that is about to be offered.
    fn new(waker: Waker) -> OneWord {
        if waker::is_ours(&waker) {
            return OneWord(Tagged::new(ManuallyDrop::new(waker).data().cast_mut().cast(), 0));
        }
        let boxed = Arc::new(ManuallyDrop::new(waker));
        // One share is the handle's, one the closer's.
        std::mem::forget(Arc::clone(&boxed));
        OneWord(Tagged::new(Arc::into_raw(boxed).cast_mut(), BOXED))
    }

    fn boxed(self) -> Option<*const Boxed> {
        self.0.has(BOXED).then(|| self.0.ptr().cast_const())
    }

    /// # Safety
    /// The caller has a share of the allocation, if there is one.
    unsafe fn will_wake(self, waker: &Waker) -> bool {
        match self.boxed() {
            // SAFETY: the share keeps the allocation. The comparison reads two words, which stay
            // what they are when the waker is taken. If the compared waker was dropped and its
            // memory reused by then, the answer may be wrong; but that is after DONE, which the
            // caller looks for next.
            Some(boxed) => unsafe { &*boxed }.will_wake(waker),
            None => waker::is_of(waker, self.0.ptr().cast()),
        }
    }

    /// # Safety
    /// The caller is the closer, has the waker, and gives its share up.
    unsafe fn take_waker(self) -> Waker {
        // SAFETY: the waker is read once, by the closer, whose share keeps the allocation until
        // then.
        unsafe {
            match self.boxed() {
                Some(boxed) => {
                    let share = Arc::from_raw(boxed);
                    ManuallyDrop::into_inner((&raw const *share).read())
                }
                None => waker::from_data(self.0.ptr().cast()),
            }
        }
    }

    /// # Safety
    /// The caller has the join handle, and gives its share up.
    unsafe fn into_handle_share(self) -> Option<Arc<Boxed>> {
        // SAFETY: the handle's share was counted in `new`, and is given up once.
        self.boxed().map(|boxed| unsafe { Arc::from_raw(boxed) })
    }

    /// # Safety
    /// Both shares and the waker are the caller's, and are given up.
    unsafe fn take_back(self) -> Waker {
        // SAFETY: the waker is not offered, so both shares are the handle's.
        unsafe {
            drop(self.into_handle_share());
            self.take_waker()
        }
    }
}
