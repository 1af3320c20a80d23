//! `block_on`: a future that is polled on the calling thread until it is ready.
//!
//! # Terms
//!
//! * The *root* is the future given to `block_on`. The thread polls it in a copy of its context
//!   ([`RootGuard`]).
//! * The *thread waker* is the waker of the root: a state word, and the unparker of a parker that
//!   no other code uses.
//! * The *block-on state* is what a thread needs to wait: the parker, the thread waker, and how
//!   long to spin. A thread keeps one from call to call as a *spare*. A nested call finds none and
//!   makes its own.
//!
//! # States of the thread waker
//!
//! | state | which means |
//! | --- | --- |
//! | **quiet** | not woken since the thread last looked |
//! | **parked** | the same, and the thread is parked, or about to park |
//! | **woken** | woken since the thread last looked |
//!
//! # Transitions
//!
//! | step | event | function | effect |
//! | --- | --- | --- | --- |
//! | BO1 | the root is woken | `ThreadWaker::wake_by_ref` | any -> woken; if it was parked, unparks the thread |
//! | BO2 | the root was pending | `BlockOnState::wait` | woken -> quiet, and returns; else spins for a while |
//! | BO3 | the spinning is over | `BlockOnState::wait` | quiet -> parked, and parks until the state is woken |
//! | BO4 | the state is woken | `BlockOnState::wait` | woken -> quiet; the root is polled again |
//!
//! # Why no wake-up is lost
//!
//! All transitions are read-modify-write operations on one word, so they have one order. A BO1
//! before BO3 makes the exchange of BO3 fail; a BO1 after BO3 sees *parked* and unparks. The parker
//! may hold a token from a wake-up that the thread saw in the word before, so BO3 parks again until
//! the word is *woken*.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crossbeam_utils::sync::{Parker, Unparker};
use heirloom_context::raw::{self, Execution, Live};
use heirloom_context::{Crossing, CrossingKind};

use super::eager_call;
use super::handle::with_current_or_configured;
use crate::clock::{self, ManualClock, ThreadHold};
use crate::eager;
use crate::instrument::hooks::{Hooked, wrap_call};
use crate::scheduler::current;
use crate::scheduler::limits::SEARCH_SPINS;
use crate::scheduler::patience::Patience;
use crate::scheduler::shared::Shared;
use crate::task::budget;
use crate::util::threads::inside;

/// Wakes a thread that waits in [`run`]. The parker is its own: other code may use the thread's
/// (`thread::park`).
struct ThreadWaker {
    state: AtomicU8,
    unparker: Unparker,
    /// The clock of the runtime, in virtual time.
    clock: Option<Arc<ManualClock>>,
}

const QUIET: u8 = 0;
const PARKED: u8 = 1;
const WOKEN: u8 = 2;

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// BO1.
    fn wake_by_ref(self: &Arc<Self>) {
        // Pairs with the exchanges in `wait`.
        if self.state.swap(WOKEN, AcqRel) == PARKED {
            if let Some(clock) = &self.clock {
                clock.woken();
            }
            self.unparker.unpark();
        }
    }
}

struct BlockOnState {
    parker: Parker,
    thread: Arc<ThreadWaker>,
    waker: Waker,
    patience: Patience,
}

impl BlockOnState {
    fn new(clock: Option<Arc<ManualClock>>) -> BlockOnState {
        let parker = Parker::new();
        let (state, unparker) = (AtomicU8::new(QUIET), parker.unparker().clone());
        let thread = Arc::new(ThreadWaker { state, unparker, clock });
        BlockOnState { parker, waker: Waker::from(Arc::clone(&thread)), thread, patience: Patience::new() }
    }

    /// Returns when the thread was woken since the last call. All exchanges and loads pair with the
    /// swap of BO1.
    fn wait(&self) {
        let state = &self.thread.state;
        // BO2.
        if state.swap(QUIET, AcqRel) == WOKEN {
            return;
        }
        let started = Instant::now();
        let limit = self.patience.limit();
        while started.elapsed() < limit {
            for _ in 0..SEARCH_SPINS {
                std::hint::spin_loop();
            }
            if state.load(Relaxed) == WOKEN {
                break;
            }
        }
        // BO3.
        if state.compare_exchange(QUIET, PARKED, AcqRel, Acquire).is_ok() {
            if let Some(clock) = &self.thread.clock {
                clock.park();
            }
            while state.load(Acquire) != WOKEN {
                self.parker.park();
            }
        }
        // BO4.
        state.swap(QUIET, AcqRel);
        self.patience.waited(started.elapsed());
    }
}

thread_local! {
    static SPARE: Cell<Option<BlockOnState>> = const { Cell::new(None) };
}

/// The thread is in a copy of its context until this is dropped.
pub(crate) struct RootGuard(Live);

impl RootGuard {
    pub(crate) fn install(execution: Execution) -> RootGuard {
        let mut copy = Live::new(heirloom_context::Context::current());
        copy.set_execution(execution);
        raw::swap(&mut copy);
        RootGuard(copy)
    }
}

impl Drop for RootGuard {
    fn drop(&mut self) {
        raw::swap(&mut self.0);
    }
}

/// Panics on a worker: it must not wait for tasks that only workers run. Under the eager flag a
/// worker may wait: what it waits for runs in the call.
#[track_caller]
pub(crate) fn refuse_workers() {
    assert!(
        !current::is_worker() || eager::is_eager(),
        "`block_on` must not be called from inside a task: it would block the worker that runs all the others. \
         Use `.await` instead, or call it inside `spawn_blocking`"
    );
}

/// The future of a call, in the ambient states of the runtime that go with such a call.
#[inline]
pub(super) fn in_ambients<F: Future>(
    runtime: Option<&Arc<Shared>>,
    crossing: &Crossing<'_>,
    future: F,
) -> Hooked<F> {
    wrap_call(runtime.map(|runtime| &runtime.given.ambients), crossing, future)
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
    #[cfg(debug_assertions)]
    let _inside = nested::enter();
    let _root = RootGuard::install(crate::clock::execution());
    let _budget = budget::full();

    let clock = clock::current_manual();
    let _hold = ThreadHold::of_block_on(clock.as_ref());
    // During thread teardown there is no spare, and none can be kept. A spare knows no clock.
    let spare = || SPARE.try_with(Cell::take).ok().flatten();
    let spare = if clock.is_none() { spare() } else { None };
    let block_on = spare.unwrap_or_else(|| BlockOnState::new(clock));
    let crossing = Crossing::new(CrossingKind::BlockOn);
    let (guest, future) = with_current_or_configured(|runtime| {
        (runtime.and_then(|runtime| runtime.guest.clone()), in_ambients(runtime, &crossing, future))
    });
    let output = inside(guest.as_deref(), || {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(&block_on.waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                break output;
            }
            block_on.wait();
            budget::renew();
        }
    });
    if block_on.thread.clock.is_none() {
        let _ = SPARE.try_with(|spare| spare.set(Some(block_on)));
    }
    output
}

/// The report of a call inside the future of another call, in debug builds.
#[cfg(debug_assertions)]
mod nested {
    use std::cell::Cell;
    use std::panic::Location;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::with_current_or_configured;
    use crate::util::report::complain;

    thread_local! {
        static INSIDE: Cell<bool> = const { Cell::new(false) };
    }

    /// The thread is inside a call until this is dropped.
    pub(super) struct InsideGuard(bool);

    impl Drop for InsideGuard {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }

    #[track_caller]
    pub(super) fn enter() -> InsideGuard {
        // Once in a process: the mistake is a habit.
        static REPORTED: AtomicBool = AtomicBool::new(false);
        let outer = INSIDE.replace(true);
        if outer
            && with_current_or_configured(|runtime| runtime.is_none_or(|runtime| runtime.report_mistakes))
            && !REPORTED.swap(true, Ordering::Relaxed)
        {
            complain(format_args!(
                "`block_on` at {} is inside the future of another `block_on`, and blocks its thread meanwhile; in a \
                 spawned task it would panic. Use `.await` instead, or call it inside `spawn_blocking`",
                Location::caller()
            ));
        }
        InsideGuard(outer)
    }
}
