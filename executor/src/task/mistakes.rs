//! Reports of mistakes, in debug builds: a task that is lost with its handle, a poll that blocks
//! its worker. A release build has nothing of this module.
//!
//! A task is *lost* if it is cancelled before its first poll because its join handle was dropped,
//! by code that most likely did not mean that. It is not lost if
//!
//! * the handle was awaited before, or its task aborted: then the drop is a decision;
//! * the drop is a consequence: of a panic, of the end of another task or of a runtime, or of the
//!   end of a group.
//!
//! A mistake is reported once for each place that spawns such tasks: a loop makes the same one
//! again and again.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cell::{Header, TaskRef};
use super::join_handle::CancelReason;
use crate::util::report::complain;

/// A poll of this length keeps the other tasks of its worker waiting for too long. (Far more than a
/// poll should take, so that a slow machine is not mistaken for a slow poll.)
const LONG_POLL: Duration = Duration::from_secs(1);

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static IN_CONSEQUENCE: Cell<bool> = const { Cell::new(false) };
}

/// What this thread drops until the guard is dropped is dropped because something else ends.
pub(crate) struct Consequence(bool);

impl Consequence {
    pub(crate) fn begin() -> Consequence {
        Consequence(IN_CONSEQUENCE.replace(true))
    }
}

impl Drop for Consequence {
    fn drop(&mut self) {
        IN_CONSEQUENCE.set(self.0);
    }
}

/// Places at which tasks are spawned with which a mistake was reported.
struct Reported(Mutex<Vec<&'static Location<'static>>>);

impl Reported {
    const fn none() -> Reported {
        Reported(Mutex::new(Vec::new()))
    }

    /// Whether this is the first report for the task's place.
    fn is_first(&self, task: &Header) -> bool {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = task.about.spawned_at();
        let is_first = !reported.contains(&place);
        if is_first {
            reported.push(place);
        }
        is_first
    }
}

/// Whether the task is lost if its join handle is dropped here and now, and it is not polled
/// before.
pub(crate) fn would_be_lost(task: &Header) -> bool {
    task.state.is_fresh() && !task.state.is_cancelled() && !std::thread::panicking() && !IN_CONSEQUENCE.get()
}

/// Reports a task that [would be lost](would_be_lost) by a drop that has happened, unless its first
/// poll came before the drop.
#[cold]
pub(crate) fn report_lost(task: &TaskRef) {
    static LOST: Reported = Reported::none();
    let Header { state, about, .. } = task.header();
    // A task that is cancelled is not polled any more, so it stays fresh. A runtime that has ended
    // meanwhile has left its reason.
    if state.is_fresh() && about.reason() == CancelReason::Aborted && LOST.is_first(task.header()) {
        complain(format_args!(
            "{}, was cancelled before its first poll, because its handle was dropped: keep the handle, await it, or \
             call `detach`",
            about.describe()
        ));
    }
}

/// Reports a poll that has begun then, if it was too long.
#[inline]
pub(crate) fn poll_ended(task: &Header, began: Instant) {
    static SLOW: Reported = Reported::none();
    let took = began.elapsed();
    if took >= LONG_POLL && !cfg!(miri) && SLOW.is_first(task) {
        complain(format_args!(
            "a poll of {}, took {} ms, and the other tasks of its thread waited: `.await` what takes time, and run \
             what blocks in `spawn_blocking`",
            task.about.describe(),
            took.as_millis()
        ));
    }
}
