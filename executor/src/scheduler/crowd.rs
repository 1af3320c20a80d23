//! What workers do where processors are short.
//!
//! A worker more is of use only if there is a processor for it. Where others keep the processors busy (the clients beside a
//! service, its neighbours), it takes what it uses from them, or from its siblings, and adds the changes of thread. So a worker
//! looks now and then how long it has *waited for a processor* while it had something to do. If that was a large part of the time,
//! it *stands back*, for a while: it steals nothing from a sibling that copes, and leaves the poll to it. Then it tries again.
//!
//! * They stand back one after another: the others first look again how long they wait. One never does.
//! * A sibling *copes* that polls its tasks one after another, and comes to the end of them now and then. From one that is
//!   in a long poll, or always has more to do, its tasks are taken as ever; so are those that come from outside.
//! * Who stands back naps, and looks every few milliseconds whether its siblings still cope. So what is queued, or due, behind
//!   a long poll waits for two of these naps at most, 8 ms.
//!
//! How long a thread has waited is known to Linux alone, in `/proc/thread-self/schedstat`. Elsewhere no worker stands back.
//!
//! Measured with 64 connections that are echoed, the client on one of two processors: two workers waited for a processor for nearly
//! half of their time, and a request took a tenth to a fifth more time than with one worker, which waited for a fiftieth. So it is
//! with 1,000 connections and with hyper, less so where the messages are long. With one of two standing back, a request takes what
//! it takes one worker.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::shared::Counters;
use crate::switches::THROTTLE;
use crate::sync::{Mutex, lock};

/// Time between two looks at how long was waited. In less, the share that was waited for goes up and down by half.
const WINDOW: Duration = Duration::from_millis(12);
/// The same for whoever has been back, to see whether that is still so.
const AGAIN: Duration = Duration::from_millis(6);
/// What a thread must have run or waited between two looks for the second to mean anything.
const ENOUGH: Duration = Duration::from_millis(1);
/// Processors are short if one was waited for in so many hundredths of the time. Two workers and a busy client on two processors wait for
/// 35 to 50; two workers and a pool of threads that block, which leave processors idle a quarter of the time, for 20.
const SHORT: u32 = 28;
/// How long to stand back the first time; doubled each time that processors are still short, up to the longest.
const TERM_MIN: Duration = Duration::from_millis(64);
const TERM_DOUBLINGS: u32 = 3;
/// How long a sibling's polls may take, and it still copes. Also the first nap; doubled while they cope, up to about the time for
/// which a system leaves a thread on a processor. A nap costs 20 to 40 µs of a processor that is short.
const NAP_MIN: Duration = Duration::from_millis(1);
const NAP_DOUBLINGS: u32 = 2;
/// How long a sibling may have had something to do all the time, and still copes.
const BUSY: Duration = Duration::from_millis(8);

/// Who stands back, as all workers know it.
#[derive(Debug)]
pub(crate) struct Crowd(Mutex<Back>);

#[derive(Debug)]
struct Back {
    most: usize,
    workers: usize,
    /// When one last stood back or came back.
    changed: Option<Instant>,
    /// How often in a row somebody has.
    terms: u32,
}

impl Crowd {
    pub(crate) fn new(workers: usize) -> Crowd {
        Crowd(Mutex::new(Back { most: workers.saturating_sub(1), workers: 0, changed: None, terms: 0 }))
    }

    /// For how long to look.
    fn window(&self) -> Duration {
        if lock(&self.0).terms == 0 { WINDOW } else { AGAIN }
    }

    /// Whether one more is to stand back, and for how long. The others must have looked again since the last one did.
    fn stand_back(&self, now: Instant) -> Option<Duration> {
        let mut back = lock(&self.0);
        let settled = back.changed.is_none_or(|changed| now.saturating_duration_since(changed) >= AGAIN);
        if back.workers == back.most || !settled {
            return None;
        }
        back.workers += 1;
        back.changed = Some(now);
        let term = TERM_MIN * 2u32.pow(back.terms);
        back.terms = (back.terms + 1).min(TERM_DOUBLINGS);
        Some(term)
    }

    fn come_back(&self, now: Instant) {
        let mut back = lock(&self.0);
        back.workers -= 1;
        back.changed = Some(now);
    }

    #[cfg(all(test, not(loom)))]
    fn back(&self) -> usize {
        lock(&self.0).workers
    }

    /// There were processors since that instant. That says something if nobody stood back.
    fn has_room(&self, since: Instant) {
        let mut back = lock(&self.0);
        if back.workers == 0 && back.changed.is_none_or(|changed| changed <= since) {
            back.terms = 0;
        }
    }
}

/// A worker's own part.
#[derive(Debug)]
pub(crate) struct Stance {
    /// When to look again at the earliest.
    next: Cell<Option<Instant>>,
    /// The last look that meant anything.
    looked: Cell<Option<(Instant, Used)>>,
    /// When to come back.
    until: Cell<Option<Instant>>,
    naps: Cell<u32>,
    siblings: Box<[Sibling]>,
}

/// What a worker has seen of another one.
#[derive(Debug)]
struct Sibling(Cell<Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    looked: Instant,
    polls: u64,
    /// When its polls were last seen to be short.
    polled: Instant,
    parks: u64,
    parked: Instant,
}

impl Stance {
    pub(crate) fn new(workers: usize) -> Stance {
        let now = Instant::now();
        let seen = Seen { looked: now, polls: 0, polled: now, parks: 0, parked: now };
        Stance {
            next: Cell::new(None),
            looked: Cell::new(None),
            until: Cell::new(None),
            naps: Cell::new(0),
            siblings: (0..workers).map(|_| Sibling(Cell::new(seen))).collect(),
        }
    }

    /// Whether the worker stands back.
    #[inline]
    pub(crate) fn is_back(&self) -> bool {
        self.until.get().is_some()
    }

    /// The worker has run out of work.
    pub(crate) fn ran_dry(&self, now: Instant, crowd: &Crowd) {
        self.settle(now, crowd);
        // One alone never stands back.
        if !THROTTLE
            || self.siblings.len() < 2
            || self.is_back()
            || self.next.get().is_some_and(|next| now < next)
        {
            return;
        }
        self.next.set(Some(now + crowd.window()));
        if let Some(used) = Used::so_far() {
            self.look(now, used, crowd);
        }
    }

    /// Looks at what it has had of the processors since the last look.
    fn look(&self, now: Instant, used: Used, crowd: &Crowd) {
        let Some((since, before)) = self.looked.get() else { return self.looked.set(Some((now, used))) };
        let waited = used.waited.saturating_sub(before.waited);
        let all = waited + used.ran.saturating_sub(before.ran);
        if all < ENOUGH {
            return;
        }
        self.looked.set(Some((now, used)));
        if waited * 100 < all * SHORT {
            crowd.has_room(since);
        } else if let Some(term) = crowd.stand_back(now) {
            self.until.set(Some(now + term));
        }
    }

    /// How long to nap, for a worker that stands back, if a sibling copes.
    pub(crate) fn nap(&self, somebody_copes: bool) -> Option<Duration> {
        if !somebody_copes {
            self.naps.set(0);
            return None;
        }
        let naps = self.naps.get();
        self.naps.set((naps + 1).min(NAP_DOUBLINGS));
        Some(NAP_MIN * 2u32.pow(naps))
    }

    /// Comes back when it is time to.
    pub(crate) fn settle(&self, now: Instant, crowd: &Crowd) {
        if self.until.get().is_some_and(|until| until <= now) {
            self.until.set(None);
            self.naps.set(0);
            self.next.set(None);
            self.looked.set(None);
            crowd.come_back(now);
        }
    }

    /// Whether a sibling copes.
    pub(crate) fn copes(&self, sibling: usize, counters: &Counters, now: Instant) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        self.siblings[sibling].copes(counters.polls.load(Relaxed), counters.parks.load(Relaxed), now)
    }
}

impl Sibling {
    fn copes(&self, polls: u64, parks: u64, now: Instant) -> bool {
        let mut seen = self.0.get();
        if seen.parks != parks {
            (seen.parks, seen.parked) = (parks, now);
        }
        let enough = now.saturating_duration_since(seen.looked).as_nanos() / NAP_MIN.as_nanos();
        if seen.parked == now || u128::from(polls - seen.polls) > enough {
            seen.polled = now;
        }
        (seen.polls, seen.looked) = (polls, now);
        self.0.set(seen);
        now.saturating_duration_since(seen.polled) < NAP_MIN
            && now.saturating_duration_since(seen.parked) < BUSY
    }
}

/// What a thread has had of the processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    ran: Duration,
    /// It could have run, but there was no processor.
    waited: Duration,
}

impl Used {
    /// What the calling thread has had so far, if the system says. Takes some 3 µs, and a descriptor for that time.
    #[cfg(all(target_os = "linux", not(any(miri, loom))))]
    fn so_far() -> Option<Used> {
        use std::io::Read;
        let mut text = [0; 64];
        let length = std::fs::File::open("/proc/thread-self/schedstat").ok()?.read(&mut text).ok()?;
        Used::parse(std::str::from_utf8(&text[..length]).ok()?)
    }

    #[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
    fn so_far() -> Option<Used> {
        None
    }

    /// Nanoseconds run and waited, and how often the thread was put on a processor.
    #[cfg_attr(not(all(target_os = "linux", not(any(miri, loom)))), allow(dead_code))]
    fn parse(schedstat: &str) -> Option<Used> {
        let mut numbers =
            schedstat.split_ascii_whitespace().map(|number| number.parse().map(Duration::from_nanos));
        Some(Used { ran: numbers.next()?.ok()?, waited: numbers.next()?.ok()? })
    }
}

#[cfg(all(test, not(loom)))]
#[path = "crowd_tests.rs"]
mod tests;
