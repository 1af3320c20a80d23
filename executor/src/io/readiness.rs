//! What a source is ready for, and who waits for that. See the [protocol](super); its step numbers stand in the comments.
#![forbid(unsafe_code)]

use std::task::{Poll, Waker};

use slab::Slab;

use crate::util::sync::atomic::AtomicU64;
use crate::util::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::util::sync::{Mutex, lock, weakened};

/// A direction of a socket, for [`TcpStream::try_io`](crate::net::TcpStream::try_io) and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reading and receiving.
    Read,
    /// Writing and sending.
    Write,
}

const READ: u64 = 1;
const WRITE: u64 = 1 << 1;
/// The other side sends no more: reading never waits again.
const READ_CLOSED: u64 = 1 << 2;
const WRITE_CLOSED: u64 = 1 << 3;
/// There is no poll any more.
const ENDED: u64 = 1 << 4;
/// Above: how many events there were.
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

    /// With any of these, an operation need not wait.
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

/// What the word said before an operation was tried.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Seen(u64);

impl Seen {
    /// Whether the runtime has ended, so that no event will come.
    pub(crate) fn has_ended(self) -> bool {
        self.0 & ENDED != 0
    }
}

/// A waiter of many; its place is kept until it is [forgotten](Readiness::forget).
#[derive(Debug, Default)]
pub(crate) struct Place(Option<usize>);

#[derive(Default)]
struct Waiters {
    /// Of those who poll through `&mut`, one per direction: the last one counts.
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Of those who share the source.
    many: Slab<(Direction, Option<Waker>)>,
}

/// See the [module](self).
pub(crate) struct Readiness {
    word: AtomicU64,
    waiters: Mutex<Waiters>,
}

impl Readiness {
    pub(crate) fn new() -> Readiness {
        Readiness { word: AtomicU64::new(0), waiters: Mutex::new(Waiters::default()) }
    }

    /// R1.
    #[inline]
    pub(crate) fn look(&self, direction: Direction) -> Option<Seen> {
        // Acquire: pairs with E1, so that what an event announces can be had.
        let word = self.word.load(Acquire);
        (word & direction.mask() != 0).then_some(Seen(word))
    }

    /// R2: the operation would block, so the source is neither ready nor closed.
    pub(crate) fn would_block(&self, direction: Direction, seen: Seen) {
        self.take_back(direction.bits(), seen);
    }

    /// R2: the operation would block the next time, unless the other side has closed.
    pub(crate) fn exhausted(&self, direction: Direction, seen: Seen) {
        self.take_back(direction.bit(), seen);
    }

    fn take_back(&self, bits: u64, seen: Seen) {
        if weakened("count of events") {
            self.word.fetch_and(!bits, AcqRel);
            return;
        }
        let mut word = seen.0;
        loop {
            match self.word.compare_exchange(word, word & !bits, AcqRel, Relaxed) {
                Ok(_) => return,
                // Only the other direction has changed.
                Err(now) if now / EVENT == seen.0 / EVENT => word = now,
                Err(_) => return,
            }
        }
    }

    /// R1, R3, R4: what was seen, or pending, and `waker` is woken when it is worth another look.
    #[inline]
    pub(crate) fn poll(&self, direction: Direction, waker: &Waker) -> Poll<Seen> {
        match self.look(direction) {
            Some(seen) => Poll::Ready(seen),
            None => self.wait(direction, waker, None),
        }
    }

    /// The same for one of many.
    pub(crate) fn poll_shared(&self, direction: Direction, waker: &Waker, place: &mut Place) -> Poll<Seen> {
        match self.look(direction) {
            Some(seen) => Poll::Ready(seen),
            None => self.wait(direction, waker, Some(place)),
        }
    }

    fn wait(&self, direction: Direction, waker: &Waker, mut place: Option<&mut Place>) -> Poll<Seen> {
        // Cloning and dropping wakers calls foreign code: under no lock.
        let mut new = None;
        loop {
            let mut waiters = lock(&self.waiters);
            let slot = waiters.slot(direction, place.as_deref_mut());
            let old = match new.take() {
                None if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) => {
                    drop(waiters);
                    new = Some(waker.clone());
                    continue;
                }
                None => None,
                // R3.
                Some(new) => slot.replace(new),
            };
            // R4.
            let seen = if weakened("second look") { None } else { self.look(direction) };
            drop(waiters);
            drop(old);
            return match seen {
                Some(seen) => Poll::Ready(seen),
                None => Poll::Pending,
            };
        }
    }

    /// One of many waits no longer.
    pub(crate) fn forget(&self, place: &mut Place) {
        if let Some(place) = place.0.take() {
            let gone = lock(&self.waiters).many.remove(place);
            drop(gone);
        }
    }

    /// E1 and E2. Who is to be woken is added to `wakers`.
    pub(crate) fn note(&self, change: Change, wakers: &mut Vec<Waker>) {
        // E1. Release: pairs with R1.
        let add = |word: u64| Some((word | change.0).wrapping_add(EVENT));
        let before = self.word.fetch_update(AcqRel, Relaxed, add).unwrap_or_else(|word| word);
        let word = before | change.0;
        // E2.
        let mut waiters = lock(&self.waiters);
        let Waiters { reader, writer, many } = &mut *waiters;
        if word & Direction::Read.mask() != 0 {
            wakers.extend(reader.take());
        }
        if word & Direction::Write.mask() != 0 {
            wakers.extend(writer.take());
        }
        for (_, (direction, waker)) in many {
            if word & direction.mask() != 0 {
                wakers.extend(waker.take());
            }
        }
    }
}

impl Waiters {
    fn slot(&mut self, direction: Direction, place: Option<&mut Place>) -> &mut Option<Waker> {
        match (place, direction) {
            (None, Direction::Read) => &mut self.reader,
            (None, Direction::Write) => &mut self.writer,
            (Some(place), direction) => {
                let many = &mut self.many;
                let place = place.0.get_or_insert_with(|| many.insert((direction, None)));
                &mut many[*place].1
            }
        }
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("word", &self.word.load(Relaxed)).finish_non_exhaustive()
    }
}
