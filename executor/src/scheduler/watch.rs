//! What a watchdog sees of a worker's polls.
//!
//! A worker counts its polls anyway. While it polls, it leaves a reference of the task in a slot
//! ([`Lent`]), so that the watchdog can look at the task though it may end at any time. The worker
//! reads no clock: the watchdog, which looks from time to time, knows that a poll is as old as its
//! first look at it, at least. The end of a poll that was reported is timed by the worker.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use crate::task::cell::{Runnable, TaskRef};
use crate::task::lent::Lent;
use crate::task::record::now;

pub(crate) struct PollWatch {
    current: Lent<TaskRef>,
    /// When the poll ended that was reported: [`NONE`], [`AWAITED`], or a time of `task::record`.
    ended: AtomicU64,
}

/// No poll was reported.
const NONE: u64 = 0;
/// The poll that was reported goes on.
const AWAITED: u64 = u64::MAX;

impl PollWatch {
    pub(crate) fn new() -> PollWatch {
        PollWatch { current: Lent::new(None), ended: AtomicU64::new(NONE) }
    }

    /// Polls a task. The poll was counted before.
    pub(crate) fn run(&self, task: Runnable) -> Option<Runnable> {
        drop(self.current.replace(Some(task.reference())));
        let again = task.run();
        if self.ended.load(Relaxed) == AWAITED {
            self.ended.store(now(), Release);
        }
        // This may be the last reference of the task, whose memory is freed then.
        drop(self.current.replace(None));
        again
    }

    /// Whether the worker polls a task.
    pub(crate) fn is_polling(&self) -> bool {
        !self.current.is_empty()
    }

    /// The task that is being polled.
    pub(crate) fn task(&self) -> Option<TaskRef> {
        let task = self.current.look();
        // The number of the poll is read again behind this.
        fence(Acquire);
        task
    }

    /// The poll in progress was reported: its end is to be timed.
    pub(crate) fn await_end(&self) {
        self.ended.store(AWAITED, Relaxed);
    }

    /// When the poll ended that was reported, if the worker has timed it.
    pub(crate) fn take_end(&self) -> Option<u64> {
        Some(self.ended.swap(NONE, Acquire)).filter(|ended| ![NONE, AWAITED].contains(ended))
    }
}
