//! Running a future on the calling thread.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crossbeam_utils::sync::{Parker, Unparker};
use heirloom_context::raw::{self, Live};

use crate::scheduler::current;
use crate::task::budget;

/// Wakes a thread that is parked in [`run`]. With a parker of our own: the thread's may be anybody's.
struct Thread(Unparker);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    /// Kept from one call to the next; taken, so that a nested call makes its own.
    static SPARE: RefCell<Option<(Parker, Waker)>> = const { RefCell::new(None) };
}

/// Puts the thread's context back.
struct Outside(Live);

impl Drop for Outside {
    fn drop(&mut self) {
        raw::swap(&mut self.0);
    }
}

/// A worker must not wait for what only workers can do.
#[track_caller]
pub(crate) fn refuse_workers() {
    assert!(
        !current::is_worker(),
        "`block_on` must not be called from inside a task: it would block the worker that runs all the others. \
         Use `.await` instead, or call it inside `spawn_blocking`"
    );
}

/// Runs `future` to its end in a copy of the current context.
///
/// # Panics
/// On a worker thread.
#[track_caller]
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    refuse_workers();
    let mut copy = Live::new(heirloom_context::Context::current());
    copy.set_execution(raw::execution());
    let mut outside = Outside(copy);
    raw::swap(&mut outside.0);
    let _unlimited = budget::unlimited();

    // During thread teardown there is no spare, and no place for one.
    let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.take()).ok().flatten();
    let (parker, waker) = spare.unwrap_or_else(|| {
        let parker = Parker::new();
        let waker = Waker::from(Arc::new(Thread(parker.unparker().clone())));
        (parker, waker)
    });
    let output = {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                break output;
            }
            parker.park();
        }
    };
    let _ = SPARE.try_with(|spare| {
        if let Ok(mut spare) = spare.try_borrow_mut() {
            *spare = Some((parker, waker));
        }
    });
    output
}
