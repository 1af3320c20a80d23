//! Where a worker sleeps: on a parker of its own, or in the poll.
//!
//! | state | meaning |
//! | --- | --- |
//! | `AWAKE` | it is up |
//! | `PARKED` | it is on its parker, or about to be |
//! | `POLLING` | it is in the poll, which nobody else can be in |
//! | `CALLED` | somebody has called it since it was last up |
//!
//! Who calls writes `CALLED` and sees in the former state what is to be done: nothing, if the worker is up, for it looks at
//! the state before it sleeps. A call that comes while the worker gets up by itself may be left over, in the parker or the
//! poll: its next sleep ends at once, for nothing.
//!
//! The poll is one for all, and so is what wakes it: whoever polls takes it away. So a worker must lie down in the poll with
//! the poll in its hands. If it did so before, another that polls in between, without waiting, would take its call.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use crossbeam_utils::CachePadded;
use crossbeam_utils::sync;

use crate::util::sync::atomic::AtomicU8;
use crate::util::sync::atomic::Ordering::{AcqRel, Acquire};

const AWAKE: u8 = 0;
const PARKED: u8 = 1;
const POLLING: u8 = 2;
const CALLED: u8 = 3;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct State(AtomicU8);

/// What is to be done to get a worker up.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Call {
    Done,
    /// It is on its parker.
    Unpark,
    /// It is in the poll.
    WakePoll,
}

impl State {
    pub(crate) fn new() -> State {
        State(AtomicU8::new(AWAKE))
    }

    fn lie_down(&self, state: u8) -> bool {
        self.0.compare_exchange(AWAKE, state, AcqRel, Acquire).is_ok()
    }

    /// Whether a worker that has the poll in its hands may wait in it.
    #[cfg(feature = "net")]
    pub(crate) fn lie_down_in_poll(&self) -> bool {
        self.lie_down(POLLING)
    }

    pub(crate) fn get_up(&self) {
        // Acquire: what was done before the call is seen. A swap, for a call that comes now must not be overwritten unseen.
        self.0.swap(AWAKE, AcqRel);
    }

    pub(crate) fn call(&self) -> Call {
        match self.0.swap(CALLED, AcqRel) {
            PARKED => Call::Unpark,
            POLLING => Call::WakePoll,
            _ => Call::Done,
        }
    }
}

/// A worker's own end.
#[derive(Debug)]
pub(crate) struct Parker {
    state: Arc<CachePadded<State>>,
    parker: sync::Parker,
}

/// Everybody's end.
#[derive(Debug)]
pub(crate) struct Unparker {
    state: Arc<CachePadded<State>>,
    unparker: sync::Unparker,
}

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker { state: Arc::new(CachePadded::new(State::new())), parker: sync::Parker::new() }
    }

    pub(crate) fn unparker(&self) -> Unparker {
        Unparker { state: Arc::clone(&self.state), unparker: self.parker.unparker().clone() }
    }

    /// Sleeps until somebody calls, or until the deadline.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        if self.state.lie_down(PARKED) {
            match deadline {
                Some(deadline) => self.parker.park_deadline(deadline),
                None => self.parker.park(),
            }
        }
        self.state.get_up();
    }

    /// Sleeps in the poll.
    #[cfg(feature = "net")]
    pub(crate) fn poll(&self, poll: impl FnOnce(&State)) {
        poll(&self.state);
        self.state.get_up();
    }
}

impl Unparker {
    /// The worker is up, or will be when the poll is woken if that is the answer, and sees what was done before this call.
    pub(crate) fn unpark(&self) -> Call {
        match self.state.call() {
            Call::Unpark => {
                self.unparker.unpark();
                Call::Done
            }
            call => call,
        }
    }
}
