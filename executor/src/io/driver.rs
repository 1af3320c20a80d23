//! The runtime's poll. See the [module](super) for the protocol.
//!
//! It is built on `mio`: a source is registered once, for both directions, edge-triggered. A
//! oneshot poll (as in `polling`) costs a system call to arm a source again after each event.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use super::readiness::Change;
use super::sources::{Place, SourcePage, Sources};
use crate::util::report::complain;
use crate::util::switches::FINE_TIMERS;
use crate::util::sync::{Mutex, MutexGuard, lock};
#[cfg(unix)]
use crate::util::system;
use crate::util::waker_set::wake;
use mio::event::Source;
use mio::{Events, Interest, Poll, Registry, Token};

/// Events taken in one system call. As in tokio: enough for a busy server, 12 KiB.
const EVENTS: usize = 1024;

/// The token of the driver's wake-up. No source has it: keys use half of the bits only.
const WAKE: Token = Token(usize::MAX);

/// See the [module](self).
pub(crate) struct Driver {
    poller: Mutex<Poller>,
    registry: Registry,
    waker: mio::Waker,
    sources: Mutex<Sources>,
    ended: AtomicBool,
}

/// What only the thread in the poll uses.
struct Poller {
    poll: Poll,
    events: Events,
}

impl Driver {
    pub(crate) fn new() -> io::Result<Driver> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKE)?;
        Ok(Driver {
            poller: Mutex::new(Poller { poll, events: Events::with_capacity(EVENTS) }),
            registry,
            waker,
            sources: Mutex::new(Sources::default()),
            ended: AtomicBool::new(false),
        })
    }

    /// Adds a source.
    pub(crate) fn register(self: &Arc<Driver>, source: &mut dyn Source) -> io::Result<Place> {
        let (place, token) = lock(&self.sources).insert(|| Arc::downgrade(self))?;
        if let Err(error) = self.registry.register(source, token, Interest::READABLE | Interest::WRITABLE) {
            // Mio may have recorded that the source belongs to this poll, and would refuse to
            // register it with another. A descriptor that was registered before stays so.
            if error.kind() != io::ErrorKind::AlreadyExists {
                let _ = self.registry.deregister(source);
            }
            self.remove_source(&place.page, place.index);
            return Err(error);
        }
        // The driver may have ended before the source was in the slab. Acquire: pairs with the
        // release store in `end`, which takes the lock of the sources after its store.
        if self.ended.load(Acquire) {
            record_and_wake(&place, Change::ENDED);
        }
        Ok(place)
    }

    /// Takes a source out of the poll and out of the table.
    pub(crate) fn deregister(&self, page: &SourcePage, index: u8, source: &mut dyn Source) -> io::Result<()> {
        let done = self.registry.deregister(source);
        self.remove_source(page, index);
        done
    }

    fn remove_source(&self, page: &SourcePage, index: u8) {
        let removed = lock(&self.sources).remove(page, index);
        // Under no lock: this may drop wakers.
        drop(removed);
    }

    /// Wakes the worker that is in [`wait`](Self::wait), or is about to enter it.
    pub(crate) fn wake(&self) {
        // It fails only if the kernel is out of memory. Then the next event or timer wakes the
        // worker.
        let _ = self.waker.wake();
    }

    /// Waits for events until `limit` has passed or another thread calls [`wake`](Self::wake), and
    /// appends the wakers of ready tasks to `wakers`.
    ///
    /// `limit` is called when this thread has the lock of the poll: from then on a wake-up through
    /// the driver reaches this thread.
    pub(crate) fn wait(&self, limit: impl FnOnce() -> Option<Duration>, wakers: &mut Vec<Waker>) {
        let poller = lock(&self.poller);
        self.poll(poller, limit(), wakers);
    }

    /// Takes the events that have come, unless another thread is in the poll.
    pub(crate) fn try_poll(&self, wakers: &mut Vec<Waker>) {
        if let Ok(poller) = self.poller.try_lock() {
            self.poll(poller, Some(Duration::ZERO), wakers);
        }
    }

    fn poll(&self, mut poller: MutexGuard<'_, Poller>, limit: Option<Duration>, wakers: &mut Vec<Waker>) {
        let Poller { poll, events } = &mut *poller;
        let limit = match limit {
            Some(limit) if FINE_TIMERS && limit < POLL_UNIT && !limit.is_zero() => {
                if !is_ready_within(poll.registry(), limit) {
                    return;
                }
                Some(Duration::ZERO)
            }
            limit => limit,
        };
        match poll.poll(events, limit) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => {
                // Foreign code has closed the descriptor of the poll: every further poll would
                // fail at once.
                complain(format_args!("there are no more events from outside: {error}"));
                drop(poller);
                self.end();
                return;
            }
        }
        if events.is_empty() {
            return;
        }
        let sources = lock(&self.sources);
        for event in events.iter() {
            let Some(readiness) = sources.get(event.token()) else { continue };
            // The next operation in either direction returns the error.
            let failed = event.is_error();
            let change = Change::new(
                event.is_readable() || failed,
                event.is_writable() || failed,
                event.is_read_closed(),
                event.is_write_closed(),
            );
            readiness.record(change, wakers);
        }
    }

    /// Whether no event comes any more.
    pub(crate) fn has_ended(&self) -> bool {
        // Relaxed: a hint. `register` has the load that counts.
        self.ended.load(Relaxed)
    }

    /// Ends the poll: no event comes any more. Wakes all waiters, whose operations then fail.
    pub(crate) fn end(&self) {
        // Release: pairs with the acquire load in `register`.
        self.ended.store(true, Release);
        let all = lock(&self.sources).all();
        // A place may have another source meanwhile, which is told the truth too.
        for place in all {
            record_and_wake(&place, Change::ENDED);
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        lock(&self.sources).all().len()
    }
}

/// The unit of the poll's limit, to which mio rounds a limit up. A shorter limit is waited for by
/// [`is_ready_within`].
#[cfg(unix)]
const POLL_UNIT: Duration =
    if system::POLL_HAS_NANOSECONDS { Duration::from_millis(1) } else { Duration::ZERO };
#[cfg(not(unix))]
const POLL_UNIT: Duration = Duration::ZERO;

/// Waits until the poll has events, at most for `limit`, of which nanoseconds count. Returns
/// whether to look at the poll.
#[cfg(unix)]
fn is_ready_within(poll: &Registry, limit: Duration) -> bool {
    // An interrupted wait is over, as one in the poll is: its caller looks at the clock again.
    system::poll(poll, libc::POLLIN, Some(limit)).unwrap_or(true)
}

#[cfg(not(unix))]
fn is_ready_within(_: &Registry, _: Duration) -> bool {
    true
}

/// A runtime's driver, which starts when it is first needed.
#[derive(Debug)]
pub(crate) struct LazyDriver {
    driver: OnceLock<Arc<Driver>>,
    starting: Mutex<()>,
}

impl LazyDriver {
    pub(crate) fn new() -> LazyDriver {
        LazyDriver { driver: OnceLock::new(), starting: Mutex::new(()) }
    }

    /// The driver, if it has started.
    #[inline]
    pub(crate) fn get(&self) -> Option<&Arc<Driver>> {
        self.driver.get()
    }

    /// The driver. If this call has started it, `started` is called before the return.
    pub(crate) fn get_or_start(&self, started: impl FnOnce()) -> io::Result<Arc<Driver>> {
        if let Some(driver) = self.get() {
            return Ok(Arc::clone(driver));
        }
        let starting = lock(&self.starting);
        if let Some(driver) = self.get() {
            return Ok(Arc::clone(driver));
        }
        let driver = Arc::new(Driver::new()?);
        let driver = Arc::clone(self.driver.get_or_init(|| driver));
        drop(starting);
        started();
        Ok(driver)
    }

    /// Wakes the worker in the poll.
    pub(crate) fn wake(&self) {
        if let Some(driver) = self.get() {
            driver.wake();
        }
    }
}

fn record_and_wake(place: &Place, change: Change) {
    let mut wakers = Vec::new();
    place.page.readiness(place.index).record(change, &mut wakers);
    wake_all(&mut wakers);
}

/// IO7: wakes `wakers` and returns how many they were. A waker's panic is discarded.
pub(crate) fn wake_all(wakers: &mut Vec<Waker>) -> usize {
    let count = wakers.len();
    wakers.drain(..).for_each(wake);
    count
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("ended", &self.has_ended()).finish_non_exhaustive()
    }
}
