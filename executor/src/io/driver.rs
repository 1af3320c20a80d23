//! The runtime's poll. See the [module](super) for the protocol.
//!
//! On `mio`: registered once, for both directions, edge-triggered. A oneshot poll (as `polling` has it) costs a system call
//! to arm it again after each event.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use mio::event::Source;
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

use super::readiness::{Change, Readiness};
use crate::util::report::complain;
use crate::util::sync::{Mutex, MutexGuard, lock};
use crate::util::waker_set::wake;

/// Events taken at once. As tokio's: enough for a busy server, 12 KiB.
const EVENTS: usize = 1024;

/// What wakes the worker in the poll. No source has this number: places are below half of the bits.
const WAKE: Token = Token(usize::MAX);

/// Half the bits of a token are the place, the other half the generation.
const PLACE_BITS: u32 = usize::BITS / 2;
const PLACES: usize = (1 << PLACE_BITS) - 1;

/// The names of a source: where it stands, and which one of those that have stood there.
fn token(place: usize, generation: usize) -> Token {
    Token(generation << PLACE_BITS | place)
}

/// See the [module](self).
pub(crate) struct Driver {
    turn: Mutex<Turn>,
    registry: Registry,
    waker: mio::Waker,
    sources: Mutex<Sources>,
    ended: AtomicBool,
}

/// Of the one who polls.
struct Turn {
    poll: Poll,
    events: Events,
}

#[derive(Default)]
struct Sources {
    slab: Slab<(usize, Arc<Readiness>)>,
    generation: usize,
}

impl Driver {
    pub(crate) fn new() -> io::Result<Driver> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKE)?;
        Ok(Driver {
            turn: Mutex::new(Turn { poll, events: Events::with_capacity(EVENTS) }),
            registry,
            waker,
            sources: Mutex::new(Sources::default()),
            ended: AtomicBool::new(false),
        })
    }

    /// Adds a source; the number is for [`remove`](Self::remove).
    pub(crate) fn add(&self, source: &mut impl Source) -> io::Result<(usize, Arc<Readiness>)> {
        let readiness = Arc::new(Readiness::new());
        let (place, token) = {
            let mut sources = lock(&self.sources);
            if sources.slab.vacant_key() >= PLACES {
                return Err(io::Error::other("too many sources of events"));
            }
            // What is left of the number of a place's former source, if it ever comes round, is long over.
            sources.generation = sources.generation.wrapping_add(1);
            let generation = sources.generation & PLACES;
            let place = sources.slab.insert((generation, Arc::clone(&readiness)));
            (place, token(place, generation))
        };
        if let Err(error) = self.registry.register(source, token, Interest::READABLE | Interest::WRITABLE) {
            // Mio may have noted down that the source is in this poll, and would not have it
            // anywhere else.
            let _ = self.registry.deregister(source);
            self.remove(place);
            return Err(error);
        }
        // The end may have come before the source stood in the slab. Pairs with the lock in `end`, which comes after its store.
        if self.ended.load(Acquire) {
            note(&readiness, Change::ENDED);
        }
        Ok((place, readiness))
    }

    /// Takes a source out of the poll and out of the slab.
    pub(crate) fn deregister(&self, place: usize, source: &mut impl Source) -> io::Result<()> {
        let done = self.registry.deregister(source);
        self.remove(place);
        done
    }

    fn remove(&self, place: usize) {
        let mut sources = lock(&self.sources);
        let gone = sources.slab.remove(place);
        if sources.slab.is_empty() && sources.slab.capacity() > EVENTS {
            sources.slab = Slab::new();
        }
        drop(sources);
        // Its wakers may be the last of it.
        drop(gone);
    }

    /// Gets the worker up that is in [`wait`](Self::wait), or is about to be.
    pub(crate) fn wake(&self) {
        // It cannot fail but for want of memory in the kernel; then the worker's next event or timer does it.
        let _ = self.waker.wake();
    }

    /// Waits for events, or until `limit` has passed, or somebody [wakes](Self::wake) it. Who is to be woken is added to
    /// `wakers`. `limit` is asked as soon as nobody else can poll: who wakes it from then on wakes this one.
    pub(crate) fn wait(&self, limit: impl FnOnce() -> Option<Duration>, wakers: &mut Vec<Waker>) {
        let turn = lock(&self.turn);
        self.poll(turn, limit(), wakers);
    }

    /// Events that are there, unless somebody is at it.
    pub(crate) fn try_poll(&self, wakers: &mut Vec<Waker>) {
        if let Ok(turn) = self.turn.try_lock() {
            self.poll(turn, Some(Duration::ZERO), wakers);
        }
    }

    fn poll(&self, mut turn: MutexGuard<'_, Turn>, limit: Option<Duration>, wakers: &mut Vec<Waker>) {
        let Turn { poll, events } = &mut *turn;
        match poll.poll(events, limit) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => {
                // Somebody has closed our descriptor. Asking again would be asking for ever.
                complain(format_args!("there are no more events from outside: {error}"));
                drop(turn);
                self.end();
                return;
            }
        }
        if events.is_empty() {
            return;
        }
        let sources = lock(&self.sources);
        for event in events.iter() {
            let Token(number) = event.token();
            let Some((generation, readiness)) = sources.slab.get(number & PLACES) else { continue };
            if token(number & PLACES, *generation) != event.token() {
                continue;
            }
            // An error is for whoever tries next, in either direction.
            let failed = event.is_error();
            let change = Change::new(
                event.is_readable() || failed,
                event.is_writable() || failed,
                event.is_read_closed(),
                event.is_write_closed(),
            );
            readiness.note(change, wakers);
        }
    }

    /// Whether no event comes any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// No event comes any more. Whoever waits is woken, to find that out.
    pub(crate) fn end(&self) {
        self.ended.store(true, Release);
        let all: Vec<_> =
            lock(&self.sources).slab.iter().map(|(_, (_, source))| Arc::clone(source)).collect();
        for readiness in all {
            note(&readiness, Change::ENDED);
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        lock(&self.sources).slab.len()
    }
}

/// A runtime's driver, which begins when it is first asked for.
#[derive(Debug)]
pub(crate) struct Slot {
    driver: OnceLock<Arc<Driver>>,
    starting: Mutex<()>,
}

impl Slot {
    pub(crate) fn new() -> Slot {
        Slot { driver: OnceLock::new(), starting: Mutex::new(()) }
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&Arc<Driver>> {
        self.driver.get()
    }

    /// The driver; if it had to be started, after `started` was called.
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

    /// Gets the worker up that is in the poll.
    pub(crate) fn wake(&self) {
        if let Some(driver) = self.get() {
            driver.wake();
        }
    }
}

fn note(readiness: &Readiness, change: Change) {
    let mut wakers = Vec::new();
    readiness.note(change, &mut wakers);
    wake_all(&mut wakers);
}

/// Wakes, whatever the wakers do, and says how many that were.
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
