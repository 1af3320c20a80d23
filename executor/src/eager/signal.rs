//! The signal of one driver: a waker that costs nothing until it is cloned.
//!
//! # Terms
//!
//! * The *lent waker* points to the driver's signal, which is on the driver's stack. It exists
//!   during a poll.
//! * A *wake flag* is what clones of the lent waker wake: a counted boolean with a condition
//!   variable.
//! * The *spare* is the wake flag that this thread's last call left for the next one.
//!
//! # States
//!
//! A signal has **no flag** until the lent waker is cloned or the driver waits for the first time:
//! a call that never suspends allocates nothing. Then it **has a flag**, its own until it is
//! dropped. A wake flag belongs to one driver, so that no wake-up is taken from another one on this
//! thread, or from the worker.
//!
//! # Transitions
//!
//! | step | event | function | effect |
//! | --- | --- | --- | --- |
//! | SG1 | the lent waker is woken | `wake_by_ref` | sets the signal's `woken` |
//! | SG2 | the lent waker is cloned | `clone` | no flag -> has a flag; the clone owns a count of it |
//! | SG3 | a clone is woken | `WakeFlag::wake_by_ref` | sets the flag and notifies the condition variable |
//! | SG4 | the driver waits | `DriverSignal::wait` | takes `woken` if it is set; else waits until the flag is set, and takes it |
//! | SG5 | the driver is done | `DriverSignal::drop` | the flag becomes the spare, unless a clone still has it |
//!
//! # Why no wake-up is lost
//!
//! SG1 happens during a poll, and the driver waits only between polls. SG3 and SG4 set and take the
//! flag under one lock, which the condition variable gives back while SG4 waits. After SG5 a clone
//! that is left wakes a flag of no driver.

use std::cell::Cell;
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Instant;

use crate::clock::{self, now};

pub(crate) struct DriverSignal {
    /// The lent waker was woken.
    woken: AtomicBool,
    flag: OnceLock<Arc<WakeFlag>>,
}

impl DriverSignal {
    pub(crate) const fn new() -> DriverSignal {
        DriverSignal { woken: AtomicBool::new(false), flag: OnceLock::new() }
    }

    /// Calls `f` with the lent waker.
    #[inline]
    pub(crate) fn with_waker<R>(&self, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
        // SAFETY: the functions of `VTABLE` keep the contract of a waker. The waker borrows `self`.
        // `f` gets a reference to it that ends with the call, and can keep only clones, which point
        // to a counted wake flag.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(lent_waker(self)) });
        f(&mut Context::from_waker(&waker))
    }

    /// SG4. Returns when the driver was woken since the last call, or at this instant.
    pub(crate) fn wait(&self, until: Option<Instant>) {
        // Pairs with the store in `wake_by_ref`.
        if !self.woken.swap(false, Acquire) {
            self.flag().wait(until);
        }
    }

    fn flag(&self) -> &Arc<WakeFlag> {
        self.flag.get_or_init(WakeFlag::spare_or_new)
    }
}

impl Drop for DriverSignal {
    fn drop(&mut self) {
        if let Some(flag) = self.flag.take() {
            WakeFlag::keep_as_spare(flag);
        }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake_by_ref, wake_by_ref, |_| ());

fn lent_waker(signal: &DriverSignal) -> RawWaker {
    RawWaker::new(ptr::from_ref(signal).cast(), &VTABLE)
}

/// Whether it is a lent waker: then no executor is between its holder and the driver.
pub(super) fn is_lent(waker: &Waker) -> bool {
    ptr::eq(waker.vtable(), &VTABLE)
}

/// SG2.
unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: `data` is the signal that the waker borrows.
    let signal = unsafe { &*data.cast::<DriverSignal>() };
    let waker = ManuallyDrop::new(Waker::from(Arc::clone(signal.flag())));
    RawWaker::new(waker.data(), waker.vtable())
}

/// SG1.
unsafe fn wake_by_ref(data: *const ()) {
    // The driver does not wait while its waker is lent, so no notification is needed. Pairs with
    // the swap in `wait`. SAFETY: `data` is the signal that the waker borrows.
    unsafe { &*data.cast::<DriverSignal>() }.woken.store(true, Release);
}

struct WakeFlag {
    woken: Mutex<bool>,
    condvar: Condvar,
}

thread_local! {
    static SPARE: Cell<Option<Arc<WakeFlag>>> = const { Cell::new(None) };
}

impl WakeFlag {
    fn spare_or_new() -> Arc<WakeFlag> {
        // During thread teardown there is no spare.
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        spare.unwrap_or_else(|| Arc::new(WakeFlag { woken: Mutex::new(false), condvar: Condvar::new() }))
    }

    /// SG5.
    fn keep_as_spare(mut flag: Arc<WakeFlag>) {
        // A clone that is left would wake the next driver.
        let Some(own) = Arc::get_mut(&mut flag) else { return };
        *own.woken.get_mut().unwrap_or_else(PoisonError::into_inner) = false;
        let _ = SPARE.try_with(|spare| spare.set(Some(flag)));
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, until: Option<Instant>) {
        let mut woken = self.lock();
        while !mem::take(&mut *woken) {
            woken = match until.map(|until| until.saturating_duration_since(now())) {
                None => self.condvar.wait(woken).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return,
                // The thread can do nothing else: in virtual time it moves the clock.
                Some(_) if clock::current_manual().is_some() => {
                    clock::block_until(until);
                    woken
                }
                Some(left) => {
                    self.condvar.wait_timeout(woken, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// SG3.
    fn wake_by_ref(self: &Arc<Self>) {
        *self.lock() = true;
        self.condvar.notify_one();
    }
}
