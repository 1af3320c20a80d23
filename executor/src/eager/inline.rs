//! Tasks that begin where they are spawned.
//!
//! | a task | is | when it is pending |
//! | --- | --- | --- |
//! | of `Builder::eager` | polled once, as on a worker | it goes to its scheduler when it is woken, like any other |
//! | spawned under the eager flag | driven, with the flag, until it is done | nobody may wait for it any longer: see below |
//!
//! Nothing else differs: the task stands in its page and is found by walkers, its state is *running*, it is polled by the
//! [harness](crate::task::harness), which catches its panics, and `close` tells its joiner, who comes later.
//!
//! A driven task wakes the driver rather than itself, so that it stays *running* while the driver waits, and no worker can
//! take it away. If the driver stops, because time is up, the task becomes *idle* without having left its own
//! waker anywhere; so it is woken, and its scheduler polls it once more, without the flag.
#![forbid(unsafe_code)]

use std::task::Waker;

use heirloom_context::raw;

use crate::eager::{self, Frame, Signal};
use crate::task::Attendant;
use crate::task::cell::{Begin, Runnable};
use crate::util::thread_state;

/// First polls inside one another, at most; a task further in is queued.
///
/// So a chain of tasks each of which begins the next has the stack of a short one. A poll takes some hundred bytes of
/// stack in a release build and a few KiB in a debug build, besides the future's own; a worker has two MiB.
const NESTED: usize = 16;

/// Begins a task as it wants to be begun. `launch` hands it to its scheduler.
pub(crate) fn begin(task: Runnable, begin: Begin, launch: impl FnOnce(Runnable)) {
    match begin {
        Begin::Queued => launch(task),
        Begin::Polled => poll(task, launch),
        Begin::Driven => drive(task, launch),
    }
}

fn poll(task: Runnable, launch: impl FnOnce(Runnable)) {
    struct Leaving(usize);
    impl Drop for Leaving {
        fn drop(&mut self) {
            thread_state::with(|state| state.nested_polls.set(self.0));
        }
    }
    let nesting = thread_state::with(|state| state.nested_polls.get());
    if nesting == NESTED {
        return launch(task);
    }
    thread_state::with(|state| state.nested_polls.set(nesting + 1));
    let leaving = Leaving(nesting);
    let again = task.run();
    drop(leaving);
    if let Some(again) = again {
        launch(again);
    }
}

fn drive(task: Runnable, launch: impl FnOnce(Runnable)) {
    let reference = task.reference();
    let frame = Frame::task();
    let signal = Signal::new();
    let again = signal
        .with_waker(|cx| task.run_attended(&Driven { waker: cx.waker(), signal: &signal, frame: &frame }));
    let refuses = frame.refuses();
    drop(frame);
    if let Some(again) = again {
        return launch(again);
    }
    if reference.header().state.is_done() {
        return;
    }
    if refuses {
        // The call cannot end well. Until it ends, the task looks like one that is waited for.
        eager::leave_behind(reference);
    } else {
        reference.wake();
    }
}

struct Driven<'a> {
    waker: &'a Waker,
    signal: &'a Signal,
    frame: &'a Frame,
}

impl Attendant for Driven<'_> {
    fn waker(&self) -> &Waker {
        self.waker
    }

    fn again(&self) -> bool {
        let again = self.frame.wait(self.signal);
        if !again {
            // Whoever polls it next does not drive it.
            raw::set_execution(raw::execution().with_eager(false));
        }
        again
    }
}
