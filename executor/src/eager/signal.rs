//! A wake-up for one call, by a waker that costs nothing until somebody keeps it.
//!
//! The call lends a waker that points to its own stack. Clones point to a *bell*, which is counted, and made (or taken from
//! where this thread has put the last one) for the first of them: what never suspends allocates nothing. A bell belongs
//! to one call, so that no wake-up is taken from anybody else who waits on this thread, a worker for example; it is used
//! again only if nobody else has it any more.

use std::cell::RefCell;
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Instant;

use crate::clock::now;

pub(crate) struct Signal {
    /// The borrowed waker was woken.
    woken: AtomicBool,
    bell: OnceLock<Arc<Bell>>,
}

impl Signal {
    pub(crate) const fn new() -> Signal {
        Signal { woken: AtomicBool::new(false), bell: OnceLock::new() }
    }

    /// Calls `f` with a waker of this call.
    #[inline]
    pub(crate) fn with_waker<R>(&self, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
        // SAFETY: the functions below keep the contract of a waker. This one borrows `self`, and lives no longer than the
        // reference to it, of which `f` can keep nothing but clones, which do not.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(raw(self)) });
        f(&mut Context::from_waker(&waker))
    }

    /// Returns when the call was woken since the last time, or at this instant.
    pub(crate) fn wait(&self, until: Option<Instant>) {
        // Pairs with the store in `wake_by_ref`.
        if !self.woken.swap(false, Acquire) {
            self.bell().wait(until);
        }
    }

    fn bell(&self) -> &Arc<Bell> {
        self.bell.get_or_init(Bell::take)
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        if let Some(bell) = self.bell.take() {
            Bell::put_back(bell);
        }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake_by_ref, wake_by_ref, |_| ());

fn raw(signal: &Signal) -> RawWaker {
    RawWaker::new(ptr::from_ref(signal).cast(), &VTABLE)
}

/// Whether it is the waker that a call has lent, so that nobody stands between who has it and who waits.
pub(super) fn is_borrowed(waker: &Waker) -> bool {
    ptr::eq(waker.vtable(), &VTABLE)
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: `data` is the signal that the waker borrows.
    let signal = unsafe { &*data.cast::<Signal>() };
    let waker = ManuallyDrop::new(Waker::from(Arc::clone(signal.bell())));
    RawWaker::new(waker.data(), waker.vtable())
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: `data` is the signal that the waker borrows. Nobody waits while it is lent, so the mark is enough. It pairs
    // with the swap in `wait`.
    unsafe { &*data.cast::<Signal>() }.woken.store(true, Release);
}

/// What clones wake.
struct Bell {
    rung: Mutex<bool>,
    condvar: Condvar,
}

thread_local! {
    /// Kept from one call to the next.
    static SPARE: RefCell<Option<Arc<Bell>>> = const { RefCell::new(None) };
}

impl Bell {
    fn take() -> Arc<Bell> {
        // During thread teardown there is none.
        let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.take()).ok().flatten();
        spare.unwrap_or_else(|| Arc::new(Bell { rung: Mutex::new(false), condvar: Condvar::new() }))
    }

    fn put_back(mut bell: Arc<Bell>) {
        // Whoever has a clone still would wake another call.
        let Some(mine) = Arc::get_mut(&mut bell) else { return };
        *mine.rung.get_mut().unwrap_or_else(PoisonError::into_inner) = false;
        let former = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.replace(bell));
        mem::drop(former);
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        *self.lock() = true;
        self.condvar.notify_one();
    }

    fn wait(&self, until: Option<Instant>) {
        let mut rung = self.lock();
        while !mem::take(&mut *rung) {
            rung = match until.map(|until| until.saturating_duration_since(now())) {
                None => self.condvar.wait(rung).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return,
                Some(left) => self.condvar.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
