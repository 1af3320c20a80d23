//! Where a worker sleeps: on its own parker, or in the I/O poll.
//!
//! | state | meaning |
//! | --- | --- |
//! | `AWAKE` | the worker is up |
//! | `PARKED` | the worker sleeps on its parker, or is about to |
//! | `POLLING` | the worker sleeps in the poll, or is about to; it has locked the poll |
//! | `NOTIFIED` | a thread has unparked the worker since it was last up |
//!
//! A thread that unparks a worker writes `NOTIFIED`, and learns from the former state what else to
//! do. While the worker is up, that is nothing: the worker looks at the state before it sleeps. If
//! the worker wakes by itself at the same time, the notification may be left over in the parker or
//! the poll: then the worker's next sleep ends at once, without a cause.
//!
//! All workers share one poll and its waker, and each look at the poll consumes a wake-up. So a
//! worker locks the poll before it writes `POLLING`. In the other order, a sibling that looks at
//! the poll in between, without waiting, would consume this worker's wake-up.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use crossbeam_utils::sync;

use crate::util::sync::atomic::AtomicU8;
use crate::util::sync::atomic::Ordering::{AcqRel, Acquire};

const AWAKE: u8 = 0;
const PARKED: u8 = 1;
const POLLING: u8 = 2;
const NOTIFIED: u8 = 3;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ParkState(AtomicU8);

/// What a thread that unparks a worker must do.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum UnparkAction {
    Done,
    /// Unpark the worker's parker.
    Unpark,
    /// Wake the poll.
    WakePoll,
}

impl ParkState {
    pub(crate) fn new() -> ParkState {
        ParkState(AtomicU8::new(AWAKE))
    }

    fn start_sleep(&self, state: u8) -> bool {
        self.0.compare_exchange(AWAKE, state, AcqRel, Acquire).is_ok()
    }

    /// Whether a worker that has locked the poll may wait in it.
    pub(crate) fn start_poll(&self) -> bool {
        self.start_sleep(POLLING)
    }

    pub(crate) fn end_sleep(&self) {
        // Acquire: pairs with the release in `notify`, so the worker sees what the other thread did
        // before. A swap, so that a notification that comes now is not overwritten unread.
        self.0.swap(AWAKE, AcqRel);
    }

    pub(crate) fn notify(&self) -> UnparkAction {
        match self.0.swap(NOTIFIED, AcqRel) {
            PARKED => UnparkAction::Unpark,
            POLLING => UnparkAction::WakePoll,
            _ => UnparkAction::Done,
        }
    }
}

/// The *timer slack* of this thread: how much later than asked for the system may end its sleep, so
/// that several threads get up for one interrupt. Zero where there is no such thing.
pub(crate) fn timer_slack() -> Duration {
    #[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
    let nanos = crate::util::system::timer_slack().unwrap_or(0);
    #[cfg(not(all(any(target_os = "linux", target_os = "android"), not(miri))))]
    let nanos = 0;
    Duration::from_nanos(nanos as u64)
}

/// The worker's half.
#[derive(Debug)]
pub(crate) struct Parker {
    state: Arc<CachePadded<ParkState>>,
    parker: sync::Parker,
}

/// The half of all other threads.
#[derive(Debug)]
pub(crate) struct Unparker {
    state: Arc<CachePadded<ParkState>>,
    unparker: sync::Unparker,
}

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker { state: Arc::new(CachePadded::new(ParkState::new())), parker: sync::Parker::new() }
    }

    pub(crate) fn unparker(&self) -> Unparker {
        Unparker { state: Arc::clone(&self.state), unparker: self.parker.unparker().clone() }
    }

    /// Sleeps until the worker is unparked, or until the deadline.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        if self.state.start_sleep(PARKED) {
            match deadline {
                Some(deadline) => self.parker.park_deadline(deadline),
                None => self.parker.park(),
            }
        }
        self.state.end_sleep();
    }

    /// Sleeps in the poll.
    pub(crate) fn poll(&self, poll: impl FnOnce(&ParkState)) {
        poll(&self.state);
        self.state.end_sleep();
    }
}

impl Unparker {
    /// Unparks the worker, which sees what was done before this call. The result may be to wake the
    /// poll.
    pub(crate) fn unpark(&self) -> UnparkAction {
        match self.state.notify() {
            UnparkAction::Unpark => {
                self.unparker.unpark();
                UnparkAction::Done
            }
            action => action,
        }
    }
}
