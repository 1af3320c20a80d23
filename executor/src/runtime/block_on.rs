//! Running a future on the calling thread.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crossbeam_utils::sync::{Parker, Unparker};
use heirloom_context::raw::{self, Execution, Live};

use super::eager_call;
use crate::eager;
use crate::scheduler::current;
use crate::scheduler::limits::SEARCH_SPINS;
use crate::scheduler::patience::Patience;
use crate::task::budget;

/// Wakes a thread that waits in [`run`]. With a parker of our own: the thread's may be anybody's.
struct Thread {
    state: AtomicU8,
    unparker: Unparker,
}

/// Nobody has woken the thread since it last looked.
const QUIET: u8 = 0;
/// The same, and it is parked, or about to be.
const PARKED: u8 = 1;
const WOKEN: u8 = 2;

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Pairs with the exchanges in `wait`.
        if self.state.swap(WOKEN, AcqRel) == PARKED {
            self.unparker.unpark();
        }
    }
}

/// What a thread waits with.
struct Seat {
    parker: Parker,
    thread: Arc<Thread>,
    waker: Waker,
    patience: Patience,
}

impl Seat {
    fn new() -> Seat {
        let parker = Parker::new();
        let thread = Thread { state: AtomicU8::new(QUIET), unparker: parker.unparker().clone() };
        let thread = Arc::new(thread);
        Seat { parker, waker: Waker::from(Arc::clone(&thread)), thread, patience: Patience::new() }
    }

    /// Returns when somebody has woken the thread since the last call.
    fn wait(&self) {
        let state = &self.thread.state;
        if state.swap(QUIET, AcqRel) == WOKEN {
            return;
        }
        let begun = Instant::now();
        let limit = self.patience.limit();
        while begun.elapsed() < limit {
            for _ in 0..SEARCH_SPINS {
                std::hint::spin_loop();
            }
            if state.load(Relaxed) == WOKEN {
                break;
            }
        }
        if state.compare_exchange(QUIET, PARKED, AcqRel, Acquire).is_ok() {
            // Until the word says so: a token may be left from a wake-up that was seen without it.
            while state.load(Acquire) != WOKEN {
                self.parker.park();
            }
        }
        state.swap(QUIET, AcqRel);
        self.patience.waited(begun.elapsed());
    }
}

thread_local! {
    /// Kept from one call to the next; taken, so that a nested call makes its own.
    static SPARE: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

/// The thread is in a copy of its context until this is dropped.
pub(crate) struct Outside(Live);

impl Outside {
    pub(crate) fn enter(execution: Execution) -> Outside {
        let mut copy = Live::new(heirloom_context::Context::current());
        copy.set_execution(execution);
        raw::swap(&mut copy);
        Outside(copy)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        raw::swap(&mut self.0);
    }
}

/// A worker must not wait for what only workers can do. Under the eager flag it waits for its own calls.
#[track_caller]
pub(crate) fn refuse_workers() {
    assert!(
        !current::is_worker() || eager::is_eager(),
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
    if eager::is_eager() {
        return eager_call::run_eagerly(future);
    }
    let _outside = Outside::enter(crate::clock::execution());
    let _budget = budget::full();

    // During thread teardown there is no spare, and no place for one.
    let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.take()).ok().flatten();
    let seat = spare.unwrap_or_else(Seat::new);
    let output = {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(&seat.waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                break output;
            }
            seat.wait();
            budget::renew();
        }
    };
    let _ = SPARE.try_with(|spare| {
        if let Ok(mut spare) = spare.try_borrow_mut() {
            *spare = Some(seat);
        }
    });
    output
}
