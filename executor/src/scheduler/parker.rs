//! Where a worker sleeps: on a parker of its own, or in the poll.
//!
//! | state | meaning |
//! | --- | --- |
//! | `AWAKE` | it is up |
//! | `PARKED` | it is on its parker, or about to be |
//! | `POLLING` | it is in the poll, or about to be |
//! | `CALLED` | somebody has called it since it was last up |
//!
//! Who calls writes `CALLED` and sees in the former state what is to be done: nothing, if the worker is up, for it looks at
//! the state before it sleeps. A call that comes while the worker gets up by itself may be left over, in the parker or the
//! poll: its next sleep ends at once, for nothing.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Instant;

use crossbeam_utils::CachePadded;
use crossbeam_utils::sync;

const AWAKE: u8 = 0;
const PARKED: u8 = 1;
const POLLING: u8 = 2;
const CALLED: u8 = 3;

/// A worker's own end.
#[derive(Debug)]
pub(crate) struct Parker {
    state: Arc<CachePadded<AtomicU8>>,
    parker: sync::Parker,
}

/// Everybody's end.
#[derive(Debug)]
pub(crate) struct Unparker {
    state: Arc<CachePadded<AtomicU8>>,
    unparker: sync::Unparker,
}

/// What is still to be done to get a worker up.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Call {
    Done,
    /// It is in the poll.
    WakePoll,
}

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker { state: Arc::default(), parker: sync::Parker::new() }
    }

    pub(crate) fn unparker(&self) -> Unparker {
        Unparker { state: Arc::clone(&self.state), unparker: self.parker.unparker().clone() }
    }

    /// Sleeps until somebody calls, or until the deadline.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        if self.lie_down(PARKED) {
            match deadline {
                Some(deadline) => self.parker.park_deadline(deadline),
                None => self.parker.park(),
            }
        }
        self.get_up();
    }

    /// Calls `poll`, which is to return when somebody who calls has woken it, and says whether it is to wait.
    #[cfg(feature = "net")]
    pub(crate) fn poll(&self, poll: impl FnOnce(bool)) {
        poll(self.lie_down(POLLING));
        self.get_up();
    }

    fn lie_down(&self, state: u8) -> bool {
        self.state.compare_exchange(AWAKE, state, AcqRel, Acquire).is_ok()
    }

    fn get_up(&self) {
        // Acquire: what was done before the call is seen. A swap, for a call that comes now must not be overwritten unseen.
        self.state.swap(AWAKE, AcqRel);
    }
}

impl Unparker {
    /// The worker is up, or will be, and sees what was done before this call.
    pub(crate) fn unpark(&self) -> Call {
        match self.state.swap(CALLED, AcqRel) {
            PARKED => self.unparker.unpark(),
            POLLING => return Call::WakePoll,
            _ => {}
        }
        Call::Done
    }
}
