//! Places to wait at, for tasks and for threads.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Poller, Poll, Waker};

/// A gate at which tasks and threads wait until it is opened. It stays open.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    change: Condvar,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    wakers: Vec<Waker>,
}

impl Shared {
    // A panic of a test elsewhere must not turn into a second one here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// Lets all waiters through, from now on.
    pub fn open(&self) {
        let wakers = {
            let mut state = self.shared.lock();
            state.open = true;
            std::mem::take(&mut state.wakers)
        };
        self.shared.change.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether it has been opened.
    pub fn is_open(&self) -> bool {
        self.shared.lock().open
    }

    /// Blocks the thread until the gate is open.
    pub fn wait(&self) {
        let mut state = self.shared.lock();
        while !state.open {
            state = self.shared.change.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Suspends the task until the gate is open. Touches no budget and no timer.
    pub fn opened(&self) -> Opened {
        Opened { shared: self.shared.clone() }
    }
}

/// The wait of [`Gate::opened`].
#[derive(Debug)]
pub struct Opened {
    shared: Arc<Shared>,
}

impl Future for Opened {
    type Output = ();

    fn poll(self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.open {
            return Poll::Ready(());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(poller.waker())) {
            state.wakers.push(poller.waker().clone());
        }
        Poll::Pending
    }
}

/// A gate that opens at the last of a number of arrivals.
#[derive(Clone, Debug)]
pub struct Countdown {
    left: Arc<Mutex<usize>>,
    gate: Gate,
}

impl Countdown {
    /// Opens after `arrivals` calls of [`arrive`](Countdown::arrive).
    pub fn new(arrivals: usize) -> Countdown {
        let gate = Gate::new();
        if arrivals == 0 {
            gate.open();
        }
        Countdown { left: Arc::new(Mutex::new(arrivals)), gate }
    }

    /// Counts one arrival. More than were asked for are a mistake of the test.
    pub fn arrive(&self) {
        let last = {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            *left = left.checked_sub(1).expect("more arrivals than the countdown waits for");
            *left == 0
        };
        if last {
            self.gate.open();
        }
    }

    /// How many arrivals are missing.
    pub fn left(&self) -> usize {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks the thread until all have arrived.
    pub fn wait(&self) {
        self.gate.wait();
    }

    /// Suspends the task until all have arrived.
    pub fn done(&self) -> Opened {
        self.gate.opened()
    }
}
