//! The timers of one runtime, and how a sleeping worker and a new timer do not miss each other.
//!
//! Timers are spread over shards, a [wheel](super::wheel) behind a lock each. Beside the lock stands the tick at which
//! the shard wants to be looked at next, so that looking needs no lock, and an idle worker's look costs one load per
//! shard.
//!
//! # Who watches the time
//!
//! There is no timer thread. Workers [fire](Timers::fire) what is due between tasks; when they run out of tasks, *one*
//! of them sleeps until the next tick, the others sleep without a limit. One word, `sleeping_until`, says how that
//! stands:
//!
//! | `sleeping_until` | meaning |
//! | --- | --- |
//! | `AWAKE`, which is 0 | a worker is up, or has been told to get up, and looks at the ticks before it sleeps |
//! | a tick | a worker sleeps until then, or is about to |
//! | `NEVER` | a worker sleeps, or is about to, and nothing wakes it for the time's sake |
//!
//! # A worker goes to sleep
//!
//! 1. It makes itself known to its scheduler as one that `unpark` is to get up.
//! 2. In [`Timers::prepare_park`] it looks at the shards' ticks. If the earliest has come, it does not sleep.
//! 3. It writes the earliest into `sleeping_until`, if `AWAKE` or a later tick stands there; it has the watch now.
//!    Otherwise somebody else has, and gets up early enough.
//! 4. SeqCst fence.
//! 5. It looks at the ticks once more. If there is an earlier one, it goes back to 2.
//! 6. It parks, with the watch until its tick, else without a limit. Its parker remembers an unpark that comes before the
//!    park.
//! 7. When it is up, for whatever reason, it calls [`Timers::parked`]: if `sleeping_until` still has its tick, it
//!    becomes `AWAKE`. Then it [fires](Timers::fire).
//!
//! # A timer is inserted (or reset to an earlier tick)
//!
//! 1. Under the shard's lock the entry is filed; the shard's tick is written if it has changed. The lock is released.
//! 2. If the tick became earlier: SeqCst fence.
//! 3. It reads `sleeping_until`. If that is later than the new tick, it sets it to `AWAKE`, and if it was the one to do
//!    so it calls `unpark`, which gets some worker up that sleeps, or is about to.
//!
//! # Why nobody misses the other
//!
//! The two fences are in one order. If the inserter's comes first, the worker's second look (5) sees the new tick. If the
//! worker's comes first, the inserter (3) sees what the worker wrote, or something later: `AWAKE`, or the tick of
//! another worker, who has fences of its own. Either way somebody up to date is up or gets up in time.
//!
//! It does not matter *which* worker `unpark` gets up: whoever comes by 2 and 3 next takes the watch over, since the
//! tick that stands there is `AWAKE`. The former watch gets up at its old tick, once, for nothing. Nor does it matter
//! that `AWAKE` may be written while another has the watch: it says that *somebody* is up, and the writer is.
//!
//! The scheduler owes three things. A worker makes itself known (1) before it asks (2), so that whoever sees its tick
//! knows it too, and an `unpark` that knows of nobody may do nothing. An `unpark` between 1 and 6 is not lost. And
//! a worker that gives up the watch to run tasks gets another one up, if any sleeps: no timer would be lost otherwise,
//! but it would wait for the end of a poll.
//!
//! # Firing
//!
//! A shard's due wakers are taken out in batches under its lock, and woken outside it: a waker may do anything,
//! also insert, remove and reset timers here, and panic. What a waker's panic throws is dropped; the other wakers are
//! woken. The shard's tick is written under the lock, so that the last to write has seen everything.
#![forbid(unsafe_code)]

use std::task::Waker;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::wheel::{Key, Progress, Wheel};
use crate::clock::{Clock, NEVER};
use crate::util::sync::atomic::{AtomicU64, Ordering, fence};
use crate::util::sync::{Mutex, MutexGuard, fence_after_locked, lock, weakened};
use crate::util::waker_set::wake;

/// See the table above. No deadline is earlier.
const AWAKE: u64 = 0;

/// Steps of a wheel under one lock: some microseconds, and few enough wakers for the stack's cache.
const BATCH: usize = 32;

/// Batches of one shard in one go; then the worker has tasks to see to. What is left stays due.
const BATCHES: usize = 32;

/// Names a timer of one [`Timers`].
#[derive(Debug)]
#[must_use = "the timer stays until it is removed or fires"]
pub(crate) struct TimerKey {
    shard: usize,
    key: Key,
}

/// How it stands with a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum TimerState {
    /// It is going to wake the waker.
    Armed,
    /// It has fired.
    Fired,
    /// The runtime has ended: it will not fire.
    Closed,
}

/// How long a worker may sleep.
#[derive(Debug)]
#[must_use]
pub(crate) enum ParkUntil {
    /// Not at all: something is due.
    Due,
    /// Until the instant, or without a limit. Afterwards the watch is to be [given back](Timers::parked).
    Until(Option<Instant>, Watch),
}

/// The tick under which a worker sleeps; `AWAKE` if another one has the watch.
#[derive(Debug)]
#[must_use = "to be given back with `Timers::parked`"]
pub(crate) struct Watch(u64);

struct Shard {
    /// When to look at the wheel; [`NEVER`] without entries. Written under the lock; read by everyone.
    next: AtomicU64,
    state: Mutex<State>,
}

struct State {
    wheel: Wheel<Waker>,
    closed: bool,
}

/// See the [module](self).
pub(crate) struct Timers {
    shards: Box<[CachePadded<Shard>]>,
    sleeping_until: AtomicU64,
    clock: Clock,
    unpark: Box<dyn Fn() + Send + Sync>,
}

impl Timers {
    /// Timers in `shards` shards, at least one. `unpark` gets a worker up, if any sleeps or is about to; it is
    /// called without a lock.
    pub(crate) fn new(shards: usize, clock: Clock, unpark: Box<dyn Fn() + Send + Sync>) -> Self {
        let now = clock.tick();
        let shard = |_| {
            let state = State { wheel: Wheel::new(now), closed: false };
            CachePadded::new(Shard { next: AtomicU64::new(NEVER), state: Mutex::new(state) })
        };
        Timers {
            shards: (0..shards.max(1)).map(shard).collect(),
            sleeping_until: AtomicU64::new(AWAKE),
            clock,
            unpark,
        }
    }

    /// What the time is here.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Wakes `waker` once, at `deadline` or soon after. `None`, and the waker is dropped, if the runtime has ended.
    pub(crate) fn insert(&self, shard_hint: usize, deadline: Instant, waker: Waker) -> Option<TimerKey> {
        // What no tick can hold is kept, so that it can be reset, but not reached.
        let tick = self.clock.tick_of(deadline).min(NEVER - 1);
        let shard = shard_hint % self.shards.len();
        let mut state = lock(&self.shards[shard].state);
        if state.closed {
            drop(state);
            return None;
        }
        let key = state.wheel.insert(tick, waker);
        self.settle(shard, state);
        Some(TimerKey { shard, key })
    }

    /// Makes the timer wake `waker` from now on.
    pub(crate) fn set_waker(&self, key: &TimerKey, waker: &Waker) -> TimerState {
        // Dropped after the guard.
        let mut spare = None;
        let mut state = lock(&self.shards[key.shard].state);
        loop {
            let closed = state.closed;
            return match state.wheel.get_mut(&key.key) {
                None if closed => TimerState::Closed,
                None => TimerState::Fired,
                Some(old) if old.will_wake(waker) => TimerState::Armed,
                Some(old) => match spare.take() {
                    Some(new) => {
                        let old = std::mem::replace(old, new);
                        drop(state);
                        drop(old);
                        TimerState::Armed
                    }
                    None => {
                        // Cloning calls foreign code.
                        drop(state);
                        spare = Some(waker.clone());
                        state = lock(&self.shards[key.shard].state);
                        continue;
                    }
                },
            };
        }
    }

    /// Moves the timer to another deadline, earlier or later; its waker stays.
    pub(crate) fn reset(&self, key: &TimerKey, deadline: Instant) -> TimerState {
        let tick = self.clock.tick_of(deadline).min(NEVER - 1);
        let mut state = lock(&self.shards[key.shard].state);
        if state.wheel.reset(&key.key, tick) {
            self.settle(key.shard, state);
            TimerState::Armed
        } else if state.closed {
            TimerState::Closed
        } else {
            TimerState::Fired
        }
    }

    /// Removes the timer; nothing of it stays. Of one that has fired there is nothing to remove.
    pub(crate) fn remove(&self, key: &TimerKey) {
        let mut state = lock(&self.shards[key.shard].state);
        let waker = state.wheel.remove(&key.key);
        if waker.is_some() {
            self.settle(key.shard, state);
        } else {
            drop(state);
        }
        // Dropping calls foreign code: not under the lock.
        drop(waker);
    }

    /// Ends a change of a shard: writes its tick, unlocks, and sees to it that a worker is up in time.
    fn settle(&self, shard: usize, state: MutexGuard<'_, State>) {
        let next = &self.shards[shard].next;
        let new = state.wheel.next_tick().unwrap_or(NEVER);
        let old = next.load(Ordering::Relaxed);
        if new != old {
            // Pairs with the acquire loads in `earliest`; against sleep, with the fence in `prepare_park`.
            next.store(new, Ordering::Release);
        }
        drop(state);
        if new < old {
            self.call_watch(new);
        }
    }

    /// Gets a worker up if the one that has the watch sleeps beyond `tick`.
    fn call_watch(&self, tick: u64) {
        if !weakened("fence of the inserter") {
            // Pairs with the fence in `prepare_park`: it sees the tick, or this sees its sleep. The lock's release is locked.
            fence_after_locked();
        }
        // Acquire: pairs with the release in `take_watch`, so that `unpark` finds the worker announced.
        let mut until = self.sleeping_until.load(Ordering::Acquire);
        while until > tick {
            match self.sleeping_until.compare_exchange(until, AWAKE, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return (self.unpark)(),
                Err(now) => until = now,
            }
        }
    }

    /// The earliest of the shards' ticks.
    #[inline]
    fn earliest(&self) -> u64 {
        self.shards.iter().map(|shard| shard.next.load(Ordering::Acquire)).min().unwrap_or(NEVER)
    }

    /// When the next timer is due, or may be: for whoever moves a clock by hand.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.clock.instant_of(self.earliest())
    }

    /// How many timers there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(&shard.state).wheel.len()).sum()
    }

    /// Whether there are timers. Without one no clock is read.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.earliest() != NEVER
    }

    /// Wakes what is due, and says how many that were. `own` is the shard of the worker that calls; a foreign
    /// one is left to whoever holds it.
    ///
    /// Returns after a bounded number of wakers; what is left is still due for [`prepare_park`](Self::prepare_park).
    pub(crate) fn fire(&self, own: usize) -> usize {
        if !self.any() {
            return 0;
        }
        let now = self.clock.tick();
        let count = self.shards.len();
        (0..count).map(|offset| self.fire_shard((own + offset) % count, offset == 0, now)).sum()
    }

    fn fire_shard(&self, shard: usize, own: bool, now: u64) -> usize {
        let shard = &self.shards[shard];
        let mut fired = 0;
        let mut batch = Vec::new();
        for _ in 0..BATCHES {
            if shard.next.load(Ordering::Acquire) > now {
                break;
            }
            let mut state = if own {
                lock(&shard.state)
            } else if let Ok(state) = shard.state.try_lock() {
                state
            } else {
                break;
            };
            batch.reserve(BATCH);
            let progress = state.wheel.advance(now, BATCH, &mut batch);
            let next = state.wheel.next_tick().unwrap_or(NEVER);
            if weakened("tick under the lock") {
                drop(state);
                shard.next.store(next, Ordering::Release);
            } else {
                // Later than before, so there is nobody to call.
                shard.next.store(next, Ordering::Release);
                drop(state);
            }
            fired += batch.len();
            batch.drain(..).for_each(wake);
            if progress == Progress::Done {
                break;
            }
        }
        fired
    }

    /// Asks how long a worker may sleep: steps 2 to 5.
    pub(crate) fn prepare_park(&self) -> ParkUntil {
        let mut earliest = self.earliest();
        let mut watch = Watch(AWAKE);
        loop {
            if earliest != NEVER && earliest <= self.clock.tick() {
                self.parked(watch);
                return ParkUntil::Due;
            }
            watch = Watch(if self.take_watch(earliest) { earliest } else { AWAKE });
            if !weakened("fence of the sleeper") {
                // Pairs with the fence in `call_watch`.
                fence(Ordering::SeqCst);
            }
            if weakened("second look") {
                break;
            }
            let again = self.earliest();
            if again >= earliest {
                break;
            }
            earliest = again;
        }
        let limit = if watch.0 == AWAKE { None } else { self.clock.instant_of(watch.0) };
        ParkUntil::Until(limit, watch)
    }

    /// Writes `tick` unless somebody sleeps until then or less. Whether it did.
    fn take_watch(&self, tick: u64) -> bool {
        let take = |until| (until == AWAKE || tick < until).then_some(tick);
        // Release: pairs with the acquire load in `call_watch`.
        self.sleeping_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    /// Gives the watch back: step 7. To be called also by a worker that did not park after all.
    pub(crate) fn parked(&self, watch: Watch) {
        if watch.0 != AWAKE {
            // If it fails, another has the watch, or this worker was called.
            let _ = self.sleeping_until.compare_exchange(watch.0, AWAKE, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Ends all timers, and accepts no more. Whoever waits is woken, to find that out.
    pub(crate) fn close(&self) {
        for shard in &self.shards {
            let mut state = lock(&shard.state);
            state.closed = true;
            let wakers = state.wheel.drain();
            shard.next.store(NEVER, Ordering::Release);
            drop(state);
            wakers.for_each(wake);
        }
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers")
            .field("shards", &self.shards.len())
            .field("next", &self.next_deadline())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
#[path = "models.rs"]
mod models;
