//! What each thread of a runtime has done, counted without a line of the cache that others write.
//!
//! A worker has [`Counters`] of its own, which it alone writes. The current one of a thread is in
//! the thread's state, so that every floor can count. Threads that are not workers share one set.

use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::histogram::AtomicHistogram;
use super::thread_state;

/// How a task ended: an index of [`Counters::ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Returned,
    Panicked,
    Cancelled,
}

/// Numbers that only grow.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) polls: AtomicU64,
    pub(crate) steals: AtomicU64,
    pub(crate) parks: AtomicU64,
    pub(crate) spawned: AtomicU64,
    /// One counter for each [`Ending`]; see [`ended`](Self::ended).
    pub(crate) ended: [AtomicU64; 3],
    pub(crate) wake_ups: AtomicU64,
    pub(crate) budget_yields: AtomicU64,
    pub(crate) timers_fired: AtomicU64,
    pub(crate) io_wake_ups: AtomicU64,
    /// There if the runtime is inspected.
    pub(crate) times: Option<Box<PollTimes>>,
}

/// Times of polls, in nanoseconds.
#[derive(Default)]
pub(crate) struct PollTimes {
    /// From runnable to polled.
    pub(crate) latency: AtomicHistogram,
    pub(crate) poll: AtomicHistogram,
}

impl Counters {
    pub(crate) fn new(inspected: bool) -> Counters {
        Counters { times: inspected.then(Box::default), ..Counters::default() }
    }

    /// Counts one more. For the thread that the counters belong to.
    #[inline]
    pub(crate) fn add(counter: &AtomicU64) {
        Counters::add_many(counter, 1);
    }

    /// Counts `many` more. For the thread that the counters belong to.
    #[inline]
    pub(crate) fn add_many(counter: &AtomicU64, many: u64) {
        // There is one writer, so no read-modify-write operation is needed. Release: pairs with the
        // acquire in `ended`.
        counter.store(counter.load(Relaxed) + many, Release);
    }

    /// Counts one more. For counters that several threads share.
    #[inline]
    pub(crate) fn add_shared(counter: &AtomicU64) {
        counter.fetch_add(1, Release);
    }

    #[inline]
    pub(crate) fn ended(&self, ending: Ending) -> &AtomicU64 {
        &self.ended[ending as usize]
    }
}

/// The sum of a counter over all sets. Acquire: what a counted event came after is seen.
pub(crate) fn sum<'a>(
    all: impl IntoIterator<Item = &'a Counters>,
    counter: impl Fn(&Counters) -> &AtomicU64,
) -> u64 {
    all.into_iter().map(|counters| counter(counters).load(Acquire)).sum()
}

/// Calls `f` with the counters of this thread, if it is a worker.
#[inline]
pub(crate) fn here<R>(f: impl FnOnce(&Counters) -> R) -> Option<R> {
    let counters = thread_state::with(|here| here.counters.get()).cast::<Counters>();
    // SAFETY: `Installed` borrows the counters, and sets them for its own life, on this thread.
    unsafe { counters.as_ref() }.map(f)
}

/// The counters are those of this thread until this is dropped.
pub(crate) struct Installed<'a> {
    former: *const (),
    _counters: std::marker::PhantomData<&'a Counters>,
}

impl<'a> Installed<'a> {
    pub(crate) fn new(counters: &'a Counters) -> Installed<'a> {
        let former = thread_state::with(|here| here.counters.replace(ptr::from_ref(counters).cast()));
        Installed { former, _counters: std::marker::PhantomData }
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        thread_state::with(|here| here.counters.set(self.former));
    }
}
