//! The timers of one runtime, and why a worker that goes to sleep does not miss a new timer.
//!
//! # Terms
//!
//! * A *tick* is a 64th of a millisecond, in virtual time a nanosecond, counted from the clock's
//!   origin (see [`clock`](crate::clock)).
//! * A *shard* is a [wheel](super::wheel) of timers behind a lock. Timers are spread over shards.
//! * A shard's *due tick* is the tick at which the shard wants to be looked at next. It stands
//!   beside the lock: a look costs one load per shard and no lock.
//! * A *shard's tick* is the tick at which a worker has to be awake for the shard. It stands beside
//!   the due tick: mostly it is the end of the due tick's millisecond, so that an idle runtime gets
//!   up once for all timers of a millisecond. A *near* timer, one that was less than a millisecond
//!   ahead, has it be the due tick. Workers that are awake fire at the due tick.
//! * The *earliest tick* is the earliest of the shards' ticks.
//! * The *time keeper* is the worker that sleeps until the earliest tick. There is no timer thread.
//! * The *inserter* is the thread that adds a timer, or resets one to an earlier tick.
//! * To *fire* is to wake the wakers of the timers that are due.
//!
//! # States
//!
//! Workers [fire](Timers::fire) what is due between polls of tasks. When they run out of tasks, one
//! of them becomes the time keeper, and the others sleep without a limit. One word,
//! `sleeping_until`, is the state:
//!
//! * **`AWAKE`** (0): a worker is awake, or has been woken, and reads the ticks before it sleeps.
//! * **a tick**: the time keeper sleeps until this tick, or is about to.
//! * **`NEVER`**: the same without any timer: the time keeper sleeps without a limit.
//!
//! # Transitions
//!
//! ```text
//!   a worker goes to sleep
//!   T1   announce that `unpark` can wake this worker               the scheduler
//!   T2   read the shards' ticks; one is due: do not sleep          prepare_park
//!   T3   sleeping_until is AWAKE or later than the earliest tick:
//!        write the earliest tick, and be the time keeper           become_time_keeper
//!   T4   fence(SeqCst)                                             prepare_park
//!   T5   read the ticks again; one is earlier: T2                  prepare_park
//!   T6   park: the time keeper until its tick, others unlimited    the scheduler
//!   T7   awake; if the time keeper's tick is still there:
//!        write AWAKE                                               parked
//!
//!   an inserter
//!   T8   lock, change the wheel, write the shard's ticks, unlock   publish_tick
//!   T9   the tick became earlier: fence(SeqCst)                    Keeper::wake
//!   T10  sleeping_until is later than the tick: write AWAKE, and
//!        call `unpark` if this thread has changed it               Keeper::wake
//! ```
//!
//! # No timer is missed
//!
//! The two fences, T4 and T9, are in one order. If T9 is first, T5 reads the new tick. If T4 is
//! first, T10 reads what T3 wrote, or something later: `AWAKE`, or the tick of another time keeper,
//! whose own fence comes after its write. In both cases a worker that knows the new tick is awake,
//! or wakes early enough.
//!
//! `unpark` may wake any worker. The next worker to pass T3 becomes the time keeper, because it
//! reads `AWAKE`. The former time keeper wakes once, at its old tick, without need. `AWAKE` may
//! also be written while another worker is the time keeper: it says that *some* worker is awake,
//! and the writer is.
//!
//! The scheduler guarantees three things:
//!
//! * T1 comes before T2. An inserter that reads a worker's tick can then find the worker, and an
//!   `unpark` that finds no announced worker may do nothing.
//! * An `unpark` between T1 and T6 is kept: the parker remembers it.
//! * A time keeper that wakes to run tasks wakes another sleeping worker, if there is one. Without
//!   this no timer is lost, but timers wait for the end of a poll.
//!
//! # Firing
//!
//! A shard's due wakers are taken out in batches under its lock, and woken under no lock: a waker
//! may insert, remove and reset timers here, and may panic. The payload of a waker's panic is
//! discarded, and the other wakers are woken. The shard's ticks are written under the lock, so that
//! the latest write accounts for every change.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::wheel::{Advanced, Key, Wheel};
use crate::clock::{Clock, NEVER, Rounding};
use crate::util::sync::atomic::{AtomicU64, Ordering, fence};
use crate::util::sync::{Mutex, MutexGuard, fence_after_locked, lock, weakened};
use crate::util::waker_set::wake;

/// See the [states](self). No deadline has an earlier tick.
const AWAKE: u64 = 0;

/// Steps of a wheel under one lock: they take some microseconds.
const STEPS_PER_BATCH: usize = 32;

/// Batches of one shard in one call, after which the worker polls tasks. What is left stays due.
const MAX_BATCHES: usize = 32;

/// Names a timer. It counts the timer's shard, not the timers of the runtime: a shard is mostly
/// used by one worker, so that workers that set and drop timers write to no memory in common.
#[derive(Debug)]
#[must_use = "the timer stays until it is removed or fires"]
pub(crate) struct TimerKey {
    shard: Arc<Shard>,
    key: Key,
}

/// The state of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum TimerState {
    /// It will wake the waker.
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
    /// Not at all: a timer is due.
    Due,
    /// Until the instant, or without a limit. After its sleep, or instead of it, the worker passes
    /// the token to [`Timers::parked`].
    Until(Option<Instant>, KeeperToken),
}

/// The tick until which a worker is the time keeper; `AWAKE` if another worker is.
#[derive(Debug)]
#[must_use = "pass it to `Timers::parked`"]
pub(crate) struct KeeperToken(u64);

/// Each part is in a cache line of its own: one is read by every timer, one by all workers when
/// they look around, and one is written by the thread that changes the shard.
struct Shard {
    keeper: Arc<Keeper>,
    ticks: CachePadded<Ticks>,
    state: CachePadded<Mutex<ShardState>>,
}

/// Written under the lock, read without.
#[derive(Debug)]
struct Ticks {
    /// The due tick; [`NEVER`] without entries.
    due: AtomicU64,
    /// The shard's tick, no earlier than the due tick.
    awake_by: AtomicU64,
}

struct ShardState {
    wheel: Wheel<Waker>,
    /// No near timer has a later tick. Each was less than a millisecond ahead when it came, so this
    /// soon lies in the past.
    near_until: u64,
    closed: bool,
}

/// What the shards have in common.
struct Keeper {
    /// In a cache line of its own: each timer reads the clock's origin.
    sleeping_until: CachePadded<AtomicU64>,
    clock: Clock,
    unpark: Box<dyn Fn() + Send + Sync>,
}

/// See the [module](self).
pub(crate) struct Timers {
    shards: Box<[Arc<Shard>]>,
    keeper: Arc<Keeper>,
}

impl Timers {
    /// Timers in `shards` shards, at least one. `unpark` wakes a worker, if one sleeps or is about
    /// to; it is called under no lock.
    pub(crate) fn new(shards: usize, clock: Clock, unpark: Box<dyn Fn() + Send + Sync>) -> Self {
        let now = clock.tick();
        let sleeping_until = CachePadded::new(AtomicU64::new(AWAKE));
        let keeper = Arc::new(Keeper { sleeping_until, clock, unpark });
        let shard = |_| {
            let state = ShardState { wheel: Wheel::new(now), near_until: 0, closed: false };
            let ticks = Ticks { due: AtomicU64::new(NEVER), awake_by: AtomicU64::new(NEVER) };
            let (ticks, state) = (CachePadded::new(ticks), CachePadded::new(Mutex::new(state)));
            Arc::new(Shard { keeper: keeper.clone(), ticks, state })
        };
        Timers { shards: (0..shards.max(1)).map(shard).collect(), keeper }
    }

    /// What the time is here.
    pub(crate) fn clock(&self) -> &Clock {
        &self.keeper.clock
    }

    /// Wakes `waker` once, at `deadline` or soon after. Returns the waker if the runtime has ended.
    /// Calls no foreign code.
    pub(crate) fn insert(
        &self,
        shard_hint: usize,
        deadline: Instant,
        rounding: Rounding,
        waker: Waker,
    ) -> Result<TimerKey, Waker> {
        let shard = &self.shards[shard_hint % self.shards.len()];
        let tick = shard.tick_of(deadline, rounding);
        let mut state = lock(&shard.state);
        if state.closed {
            return Err(waker);
        }
        state.note(tick, rounding);
        let key = state.wheel.insert(tick, waker);
        shard.publish_tick(state);
        Ok(TimerKey { shard: Arc::clone(shard), key })
    }

    #[inline]
    fn earliest(&self, tick: impl Fn(&Ticks) -> &AtomicU64) -> u64 {
        // Acquire: pairs with the release stores of `Shard::write_ticks`.
        self.shards.iter().map(|shard| tick(&shard.ticks).load(Ordering::Acquire)).min().unwrap_or(NEVER)
    }

    fn earliest_tick(&self) -> u64 {
        self.earliest(|ticks| &ticks.awake_by)
    }

    /// When a worker has to be awake for the next timer: in virtual time, when that is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.keeper.clock.instant_of(self.earliest_tick())
    }

    /// How many timers there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(&shard.state).wheel.len()).sum()
    }

    /// Wakes the wakers of the timers that are due, and returns how many they were. `own` is the
    /// shard of the calling worker; another shard is skipped while another thread has its lock.
    ///
    /// Returns after a bounded number of wakers. Timers that are left are still due for
    /// [`prepare_park`](Self::prepare_park).
    pub(crate) fn fire(&self, own: usize) -> usize {
        let due = self.earliest(|ticks| &ticks.due);
        // Without timers no worker reads the clock.
        if due == NEVER {
            return 0;
        }
        let now = self.keeper.clock.tick();
        if due > now {
            return 0;
        }
        let count = self.shards.len();
        (0..count).map(|offset| self.fire_shard((own + offset) % count, offset == 0, now)).sum()
    }

    fn fire_shard(&self, shard: usize, own: bool, now: u64) -> usize {
        let shard = &self.shards[shard];
        let mut fired = 0;
        let mut batch = Vec::new();
        for _ in 0..MAX_BATCHES {
            // Acquire: pairs with the release stores of `write_ticks`.
            if shard.ticks.due.load(Ordering::Acquire) > now {
                break;
            }
            let mut state = if own {
                lock(&shard.state)
            } else if let Ok(state) = shard.state.try_lock() {
                state
            } else {
                break;
            };
            batch.reserve(STEPS_PER_BATCH);
            let advanced = state.wheel.advance(now, STEPS_PER_BATCH, &mut batch);
            let ticks = shard.ticks(&state);
            if weakened("tick under the lock") {
                drop(state);
                shard.write_ticks(ticks);
            } else {
                // They become later, so no worker need be woken.
                shard.write_ticks(ticks);
                drop(state);
            }
            fired += batch.len();
            batch.drain(..).for_each(wake);
            if advanced == Advanced::Completely {
                break;
            }
        }
        fired
    }

    /// T2 to T5: how long the calling worker may sleep.
    pub(crate) fn prepare_park(&self) -> ParkUntil {
        let mut earliest = self.earliest_tick();
        let mut token = KeeperToken(AWAKE);
        loop {
            if earliest != NEVER && earliest <= self.keeper.clock.tick() {
                self.parked(token);
                return ParkUntil::Due;
            }
            token = KeeperToken(if self.keeper.become_time_keeper(earliest) { earliest } else { AWAKE });
            if !weakened("fence of the sleeper") {
                // T4. Pairs with the fence in `Keeper::wake`.
                fence(Ordering::SeqCst);
            }
            if weakened("second read") {
                break;
            }
            let again = self.earliest_tick();
            if again >= earliest {
                break;
            }
            earliest = again;
        }
        let limit = if token.0 == AWAKE { None } else { self.keeper.clock.instant_of(token.0) };
        ParkUntil::Until(limit, token)
    }

    /// In virtual time, for the worker that has announced its sleep: moves the clock to the next
    /// timer, unless another thread may act now, or there is work. Returns whether timers are due.
    #[inline]
    pub(crate) fn jump(&self, has_work: impl Fn() -> bool) -> bool {
        let Some(clock) = self.keeper.clock.as_manual() else { return false };
        let is_stuck = Cell::new(false);
        let jumped = clock.jump(|| {
            let next = if has_work() { return None } else { self.next_deadline() };
            is_stuck.set(next.is_none());
            next
        });
        if is_stuck.get() {
            clock.report_stuck();
        }
        jumped
    }

    /// T7: the worker is the time keeper no longer. A worker that did not park after all calls
    /// this, too.
    pub(crate) fn parked(&self, token: KeeperToken) {
        if token.0 != AWAKE {
            // This fails if another worker is the time keeper, or an inserter has woken this one.
            // AcqRel: pairs with the operations of T3 and T10.
            let _ = self.keeper.sleeping_until.compare_exchange(
                token.0,
                AWAKE,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }

    /// Removes all timers, wakes their wakers, and accepts no more timers.
    pub(crate) fn close(&self) {
        for shard in &self.shards {
            let mut state = lock(&shard.state);
            state.closed = true;
            let wakers = state.wheel.drain();
            shard.write_ticks((NEVER, NEVER));
            drop(state);
            wakers.for_each(wake);
        }
    }
}

impl TimerKey {
    /// What the time is where the timer is.
    pub(crate) fn clock(&self) -> &Clock {
        &self.shard.keeper.clock
    }

    /// Makes the timer wake `waker` from now on.
    pub(crate) fn set_waker(&self, waker: &Waker) -> TimerState {
        // Dropped after the guard.
        let mut spare = None;
        let mut state = lock(&self.shard.state);
        loop {
            let closed = state.closed;
            return match state.wheel.get_mut(&self.key) {
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
                        // Cloning calls foreign code: under no lock.
                        drop(state);
                        spare = Some(waker.clone());
                        state = lock(&self.shard.state);
                        continue;
                    }
                },
            };
        }
    }

    /// Moves the timer to another deadline, earlier or later; its waker stays.
    pub(crate) fn reset(&self, deadline: Instant) -> TimerState {
        let ahead = deadline.saturating_duration_since(self.clock().now());
        let rounding = Rounding::for_deadline_in(ahead);
        let tick = self.shard.tick_of(deadline, rounding);
        let mut state = lock(&self.shard.state);
        if state.wheel.reset(&self.key, tick) {
            state.note(tick, rounding);
            self.shard.publish_tick(state);
            TimerState::Armed
        } else if state.closed {
            TimerState::Closed
        } else {
            TimerState::Fired
        }
    }

    /// Removes the timer and its waker, unless it has fired.
    pub(crate) fn remove(&self) {
        let mut state = lock(&self.shard.state);
        let waker = state.wheel.remove(&self.key);
        if waker.is_some() {
            self.shard.publish_tick(state);
        } else {
            drop(state);
        }
        // Dropping calls foreign code: under no lock.
        drop(waker);
    }
}

impl ShardState {
    /// Notes whether a timer that is to get this tick is near.
    fn note(&mut self, tick: u64, rounding: Rounding) {
        if rounding == Rounding::TICK && !weakened("near") {
            self.near_until = self.near_until.max(tick);
        }
    }
}

impl Shard {
    /// The tick of a timer. A deadline beyond the last tick gets an entry, which can be reset, but
    /// is never due.
    fn tick_of(&self, deadline: Instant, rounding: Rounding) -> u64 {
        let clock = &self.keeper.clock;
        clock.round_up(clock.tick_of(deadline), rounding).min(NEVER - 1)
    }

    /// The due tick and the shard's tick.
    fn ticks(&self, state: &ShardState) -> (u64, u64) {
        let due = state.wheel.next_tick().unwrap_or(NEVER);
        // What was reached and is left, or came late, is due now.
        let is_near = due <= state.near_until || state.wheel.has_ready();
        (due, if is_near { due } else { self.keeper.clock.round_up(due, Rounding::MILLISECOND) })
    }

    fn write_ticks(&self, (due, awake_by): (u64, u64)) {
        // Release: pairs with the acquire loads in `fire_shard` and `earliest_tick`. In this order:
        // a worker that gets up at the shard's tick finds what is due.
        self.ticks.due.store(due, Ordering::Release);
        self.ticks.awake_by.store(awake_by, Ordering::Release);
    }

    /// T8 to T10, the end of a change of a shard: writes its ticks, unlocks, and wakes a worker if
    /// the time keeper would sleep too long.
    fn publish_tick(&self, state: MutexGuard<'_, ShardState>) {
        let old = (self.ticks.due.load(Ordering::Relaxed), self.ticks.awake_by.load(Ordering::Relaxed));
        let new = self.ticks(&state);
        if new != old {
            self.write_ticks(new);
        }
        drop(state);
        if new.1 < old.1 {
            self.keeper.wake(new.1);
        }
    }
}

impl Keeper {
    /// T9 and T10: wakes a worker if the time keeper sleeps beyond `tick`.
    fn wake(&self, tick: u64) {
        if !weakened("fence of the inserter") {
            // T9. Pairs with the fence in `prepare_park`: either T5 reads the tick, or T10 reads
            // what T3 wrote. Unlocking the shard was a locked operation.
            fence_after_locked();
        }
        // T10. Acquire: pairs with the release in `become_time_keeper`, so that `unpark` finds the
        // announced worker.
        let mut until = self.sleeping_until.load(Ordering::Acquire);
        while until > tick {
            match self.sleeping_until.compare_exchange(until, AWAKE, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return (self.unpark)(),
                Err(now) => until = now,
            }
        }
    }

    /// T3: writes `tick`, unless another time keeper sleeps until `tick` or less. Returns whether
    /// it wrote.
    fn become_time_keeper(&self, tick: u64) -> bool {
        let take = |until| (until == AWAKE || tick < until).then_some(tick);
        // Release: pairs with the acquire load in `Keeper::wake`.
        self.sleeping_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
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

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("ticks", &self.ticks).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
#[path = "models.rs"]
mod models;
