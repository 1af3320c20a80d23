//! Wakers that count, and wakers that misbehave.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Poller, Poll, Wake, Waker};

use crate::probe::SCRIPTED;
use crate::watchdog::quiet_panic;

/// How a [`CountingWaker`] misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    None,
    /// Each wake-up panics, after it is counted.
    Wake,
    /// The last drop panics, unless a panic is under way.
    Drop,
}

/// Counts what it is asked to do.
#[derive(Debug)]
pub struct CountingWaker {
    counts: Arc<Counts>,
    fault: Fault,
}

/// The counters of a [`CountingWaker`], which outlive it.
#[derive(Debug, Default)]
pub struct Counts {
    wakes: AtomicUsize,
    drops: AtomicUsize,
}

impl Counts {
    /// How often it was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }

    /// Whether the waker and all its clones are gone.
    pub fn is_gone(&self) -> bool {
        self.drops.load(Ordering::SeqCst) == 1
    }
}

impl CountingWaker {
    /// A waker, and its counters.
    pub fn create(fault: Fault) -> (Waker, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        (Waker::from(Arc::new(CountingWaker { counts: counts.clone(), fault })), counts)
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.counts.wakes.fetch_add(1, Ordering::SeqCst);
        if self.fault == Fault::Wake && !std::thread::panicking() {
            quiet_panic(SCRIPTED);
        }
    }
}

impl Drop for CountingWaker {
    fn drop(&mut self) {
        self.counts.drops.fetch_add(1, Ordering::SeqCst);
        if self.fault == Fault::Drop && !std::thread::panicking() {
            quiet_panic(SCRIPTED);
        }
    }
}

/// Polls once with `waker`.
pub fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Poller::from_waker(waker))
}

/// Polls once with a waker that does nothing.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}
