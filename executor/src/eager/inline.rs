//! Tasks whose first poll happens where they are spawned.
//!
//! A task can start in three ways ([`Begin`]):
//!
//! * **queued**: its scheduler polls it;
//! * **polled** (`Builder::start_inline`): the spawn polls it once, as a worker would. If it is
//!   pending it goes to its scheduler when it is woken, as any other task;
//! * **driven** (spawned under the eager flag): the spawn polls it, with the flag, until it is done
//!   or its driver stops.
//!
//! Everything else is as for a queued task: it lies in its page and is found by walks over the
//! pages, its state is *running*, the [harness](crate::task::harness) polls it and catches its
//! panics, and completion stores the output for the joiner.
//!
//! The leaves of a driven task wake the driver, not the task. So the task stays *running* while the
//! driver waits, and no worker can take it. When the driver stops because the time is up, the task
//! becomes *idle* and its own waker is stored nowhere. So the driver wakes it, and its scheduler
//! polls it once more, without the flag.
#![forbid(unsafe_code)]

use std::task::Waker;

use heirloom_context::raw;

use crate::eager::{self, DriverSignal, Frame};
use crate::task::Attendant;
use crate::task::cell::{Begin, Runnable};
use crate::util::thread_state;

/// The most inline first polls inside one another; a task further in is queued.
///
/// So a chain of tasks, each of which starts the next one, has the stack of a short chain. A poll
/// takes some hundred bytes of stack in a release build and a few KiB in a debug build, besides the
/// future's own; a worker has two MiB.
const MAX_DEPTH: usize = 16;

/// Starts a task as `begin` says. `launch` hands it to its scheduler.
pub(crate) fn start_task(task: Runnable, begin: Begin, launch: impl FnOnce(Runnable)) {
    match begin {
        Begin::Queued => launch(task),
        Begin::Polled => poll_once(task, launch),
        Begin::Driven => drive(task, launch),
    }
}

fn poll_once(task: Runnable, launch: impl FnOnce(Runnable)) {
    struct DepthGuard(usize);
    impl Drop for DepthGuard {
        fn drop(&mut self) {
            thread_state::with(|state| state.nested_polls.set(self.0));
        }
    }
    let depth = thread_state::with(|state| state.nested_polls.get());
    if depth == MAX_DEPTH {
        return launch(task);
    }
    thread_state::with(|state| state.nested_polls.set(depth + 1));
    let guard = DepthGuard(depth);
    let woken = task.run();
    drop(guard);
    if let Some(woken) = woken {
        launch(woken);
    }
}

fn drive(task: Runnable, launch: impl FnOnce(Runnable)) {
    let reference = task.reference();
    let frame = Frame::of_task();
    let signal = DriverSignal::new();
    let woken = signal.with_waker(|cx| {
        task.run_attended(&TaskDriver { waker: cx.waker(), signal: &signal, frame: &frame })
    });
    let refuses = frame.refuses();
    drop(frame);
    if let Some(woken) = woken {
        return launch(woken);
    }
    if reference.header().state.is_done() {
        return;
    }
    if refuses {
        // The call will return an error. Until then the task looks like one that is waited for.
        eager::keep_unfinished(reference);
    } else {
        reference.wake();
    }
}

struct TaskDriver<'a> {
    waker: &'a Waker,
    signal: &'a DriverSignal,
    frame: &'a Frame,
}

impl Attendant for TaskDriver<'_> {
    fn waker(&self) -> &Waker {
        self.waker
    }

    fn again(&self) -> bool {
        let again = self.frame.wait(self.signal);
        if !again {
            // The next poll is the scheduler's, without a driver.
            raw::set_execution(raw::execution().with_eager(false));
        }
        again
    }
}
