//! What a source is ready for, and the wakers of the tasks that wait for it. See the
//! [protocol](super); the numbers of its steps stand in the comments.
#![forbid(unsafe_code)]

use std::mem;
use std::net::SocketAddr;
use std::task::{Poll, Waker};

use slab::Slab;

use crate::util::sync::atomic::AtomicU64;
use crate::util::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::util::sync::{Mutex, lock, weakened};

/// A direction of a socket or another descriptor, for
/// [`TcpStream::try_io`](crate::net::TcpStream::try_io), [`Async`](crate::net::Async) and their
/// like.
#[doc(alias = "Interest")]
#[doc(alias = "Ready")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reading and receiving.
    Read,
    /// Writing and sending.
    Write,
}

const READ: u64 = 1;
const WRITE: u64 = 1 << 1;
/// The peer sends no more: reading never waits again.
const READ_CLOSED: u64 = 1 << 2;
/// The peer receives no more: writing never waits again.
const WRITE_CLOSED: u64 = 1 << 3;
/// The driver has ended.
const ENDED: u64 = 1 << 4;
/// One event. The bits from here on count events.
const EVENT: u64 = 1 << 8;

impl Direction {
    fn bit(self) -> u64 {
        match self {
            Direction::Read => READ,
            Direction::Write => WRITE,
        }
    }

    fn bits(self) -> u64 {
        match self {
            Direction::Read => READ | READ_CLOSED,
            Direction::Write => WRITE | WRITE_CLOSED,
        }
    }

    /// While one of these bits is set, an operation need not wait.
    fn mask(self) -> u64 {
        self.bits() | ENDED
    }
}

/// What an event says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change(u64);

impl Change {
    pub(crate) const ENDED: Change = Change(ENDED);

    pub(crate) fn new(readable: bool, writable: bool, read_closed: bool, write_closed: bool) -> Change {
        let bit = |set: bool, bit: u64| if set { bit } else { 0 };
        Change(
            bit(readable, READ)
                | bit(writable, WRITE)
                | bit(read_closed, READ_CLOSED)
                | bit(write_closed, WRITE_CLOSED),
        )
    }
}

/// The word as it was before an operation was tried.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Observation(u64);

impl Observation {
    /// Whether the driver has ended, so that no event will come.
    pub(crate) fn has_ended(self) -> bool {
        self.0 & ENDED != 0
    }
}

/// Where a task that shares the source has its waker, until [`remove_waiter`].
///
/// [`remove_waiter`]: Readiness::remove_waiter
#[derive(Debug, Default)]
pub(crate) struct WaiterKey(Option<usize>);

/// The wakers of a source.
#[derive(Default)]
pub(crate) struct Waiters {
    /// Of the tasks that poll through `poll_read` and the like: the latest one.
    reader: Option<Waker>,
    /// The same for `poll_write` and the like.
    writer: Option<Waker>,
    /// A word in an idle connection, which has neither.
    rare: Option<Box<Rare>>,
}

/// What few sources have.
#[derive(Default)]
struct Rare {
    /// Of the tasks that share the source, by their [`WaiterKey`].
    shared: Slab<(Direction, Option<Waker>)>,
    /// For dumps, once a task that is inspected has waited.
    address: Option<SocketAddr>,
}

/// See the [module](self).
pub(crate) struct Readiness {
    word: AtomicU64,
    wakers: Mutex<Waiters>,
}

impl Readiness {
    pub(crate) fn new() -> Readiness {
        Readiness { word: AtomicU64::new(0), wakers: Mutex::new(Waiters::default()) }
    }

    /// For the next source: as new. No thread uses the former one any more. Returns what is to be
    /// dropped under no lock.
    pub(crate) fn reset(&self) -> Waiters {
        // Relaxed: the next user comes by way of the table's lock.
        self.word.store(0, Relaxed);
        mem::take(&mut *lock(&self.wakers))
    }

    /// IO1: the word, if an operation in this direction need not wait.
    #[inline]
    pub(crate) fn observe(&self, direction: Direction) -> Option<Observation> {
        // Acquire: pairs with IO5, so that the operation finds what the event announced.
        let word = self.word.load(Acquire);
        (word & direction.mask() != 0).then_some(Observation(word))
    }

    /// IO2: the operation would block, so the direction is neither ready nor closed.
    pub(crate) fn would_block(&self, direction: Direction, observed: Observation) {
        self.clear_bits(direction.bits(), observed);
    }

    /// IO2: the next operation would block, unless the peer has closed the direction.
    pub(crate) fn exhausted(&self, direction: Direction, observed: Observation) {
        self.clear_bits(direction.bit(), observed);
    }

    /// Clears `bits` unless an event came since the observation.
    fn clear_bits(&self, bits: u64, observed: Observation) {
        if weakened("count of events") {
            self.word.fetch_and(!bits, AcqRel);
            return;
        }
        let mut word = observed.0;
        loop {
            // AcqRel: pairs with IO5 and the loads of IO1 and IO4.
            match self.word.compare_exchange(word, word & !bits, AcqRel, Relaxed) {
                Ok(_) => return,
                // The other direction has cleared its bits.
                Err(now) if now / EVENT == observed.0 / EVENT => word = now,
                Err(_) => return,
            }
        }
    }

    /// IO1, IO3 and IO4: what was observed; or pending, and the next event of the direction wakes
    /// `waker`. Of the tasks that call this, the event wakes the latest one.
    #[inline]
    pub(crate) fn poll(&self, direction: Direction, waker: &Waker) -> Poll<Observation> {
        match self.observe(direction) {
            Some(observed) => Poll::Ready(observed),
            None => self.wait(direction, waker, None),
        }
    }

    /// The same for one of any number of tasks, all of which the event wakes.
    pub(crate) fn poll_shared(
        &self,
        direction: Direction,
        waker: &Waker,
        key: &mut WaiterKey,
    ) -> Poll<Observation> {
        match self.observe(direction) {
            Some(observed) => Poll::Ready(observed),
            None => self.wait(direction, waker, Some(key)),
        }
    }

    fn wait(
        &self,
        direction: Direction,
        waker: &Waker,
        mut key: Option<&mut WaiterKey>,
    ) -> Poll<Observation> {
        // Cloning and dropping a waker calls foreign code: under no lock.
        let mut new = None;
        loop {
            let mut wakers = lock(&self.wakers);
            let slot = wakers.slot(direction, key.as_deref_mut());
            let old = match new.take() {
                None if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) => {
                    drop(wakers);
                    new = Some(waker.clone());
                    continue;
                }
                None => None,
                // IO3.
                Some(new) => slot.replace(new),
            };
            // IO4.
            let observed = if weakened("second observation") { None } else { self.observe(direction) };
            drop(wakers);
            drop(old);
            return match observed {
                Some(observed) => Poll::Ready(observed),
                None => Poll::Pending,
            };
        }
    }

    /// A task that shares the source waits no longer.
    pub(crate) fn remove_waiter(&self, key: &mut WaiterKey) {
        if let Some(key) = key.0.take() {
            let removed = lock(&self.wakers).rare.as_mut().map(|rare| rare.shared.remove(key));
            drop(removed);
        }
    }

    /// The address of the source, which `find` finds out if it is not known yet: by a system call,
    /// each time only while a connection is being made, which has no peer yet.
    #[cold]
    pub(crate) fn address(&self, find: impl FnOnce() -> Option<SocketAddr>) -> Option<SocketAddr> {
        let known = lock(&self.wakers).rare.as_ref().and_then(|rare| rare.address);
        known.or_else(|| {
            let found = find()?;
            lock(&self.wakers).rare().address = Some(found);
            Some(found)
        })
    }

    /// IO5 and IO6: appends the wakers of the tasks that need not wait any longer to `wakers`.
    pub(crate) fn record(&self, change: Change, wakers: &mut Vec<Waker>) {
        // IO5. Release: pairs with the acquire load of IO1 and IO4.
        let add = |word: u64| Some((word | change.0).wrapping_add(EVENT));
        let before = self.word.fetch_update(AcqRel, Relaxed, add).unwrap_or_else(|word| word);
        let word = before | change.0;
        // IO6.
        let mut waiting = lock(&self.wakers);
        let Waiters { reader, writer, rare } = &mut *waiting;
        if word & Direction::Read.mask() != 0 {
            wakers.extend(reader.take());
        }
        if word & Direction::Write.mask() != 0 {
            wakers.extend(writer.take());
        }
        let Some(rare) = rare else { return };
        for (_, (direction, waker)) in &mut rare.shared {
            if word & direction.mask() != 0 {
                wakers.extend(waker.take());
            }
        }
    }
}

impl Waiters {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn slot(&mut self, direction: Direction, key: Option<&mut WaiterKey>) -> &mut Option<Waker> {
        match (key, direction) {
            (None, Direction::Read) => &mut self.reader,
            (None, Direction::Write) => &mut self.writer,
            (Some(key), direction) => {
                let shared = &mut self.rare().shared;
                let key = key.0.get_or_insert_with(|| shared.insert((direction, None)));
                &mut shared[*key].1
            }
        }
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("word", &self.word.load(Relaxed)).finish_non_exhaustive()
    }
}
