//! One worker: what it runs, and what it does when there is nothing to run.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
#[cfg(feature = "net")]
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_deque::{Steal, Worker as Queue};

use super::current;
use super::limits::{BATCH, NEXT_SLOT_STREAK, SEARCH_ROUNDS, SEARCH_SPINS, SHARE, TIDY_AFTER};
use super::pace::Pace;
use super::parker::Parker;
use super::patience::Patience;
use super::shared::{Counters, Remote, Shared};
use super::throttle::{Contention, NAP};
use crate::instrument::hooks::{Company, Kept};
#[cfg(feature = "net")]
use crate::io::driver;
use crate::slab::{Heap, Owner, Tidied};
use crate::task::cell::{Runnable, TaskRef};
use crate::task::join_handle::CancelReason;
use crate::time::ParkUntil;
use crate::util::switches::{BATCH_NOTIFY, INJECTOR_SHARE, LONE_TASK, NEXT_SLOT};

pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    queue: Queue<Runnable>,
    /// What was woken last, while it is warm.
    next: Cell<Option<Runnable>>,
    /// How often in a row the next slot went first.
    streak: Cell<u32>,
    pace: Pace,
    /// It has queued tasks of its own since it looked around last.
    has_queued: Cell<bool>,
    parker: Parker,
    searching: Cell<bool>,
    /// It is waking many at once: what it queues is offered when all of it is there.
    waking_many: Cell<bool>,
    /// It kept the time when it was parked last, and has not polled since.
    was_keeper: Cell<bool>,
    /// It is throttled, and has seen at the end of a nap that siblings have left work.
    helps: Cell<bool>,
    /// State of a small random number generator: where to begin to steal.
    random: Cell<u64>,
    /// Since when there is nothing to do.
    dry: Cell<Option<Instant>>,
    patience: Patience,
    contention: Contention,
    owner: Owner,
    given: Option<Kept>,
    /// When to tidy, if there is something to be tidied.
    tidy_at: Cell<Option<Instant>>,
    /// Whom the poll has found to be woken; kept for its room.
    #[cfg(feature = "net")]
    wakers: Cell<Vec<Waker>>,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, queue: Queue<Runnable>, parker: Parker) -> Worker {
        let owner = shared.heaps[index].acquire();
        let given = shared.given.get();
        Worker {
            index,
            shared,
            queue,
            next: Cell::new(None),
            streak: Cell::new(0),
            pace: Pace::new(),
            has_queued: Cell::new(false),
            parker,
            searching: Cell::new(false),
            waking_many: Cell::new(false),
            was_keeper: Cell::new(false),
            helps: Cell::new(false),
            random: Cell::new(0x9E37_79B9_7F4A_7C15 ^ (index as u64 + 1)),
            dry: Cell::new(None),
            patience: Patience::new(),
            contention: Contention::default(),
            owner,
            given,
            tidy_at: Cell::new(None),
            #[cfg(feature = "net")]
            wakers: Cell::default(),
        }
    }

    #[inline]
    pub(crate) fn remote(&self) -> &Remote {
        &self.shared.remotes[self.index]
    }

    /// Where its tasks live.
    #[inline]
    pub(crate) fn heap(&self) -> (&Heap, &Owner) {
        (&self.shared.heaps[self.index], &self.owner)
    }

    /// What the runtime's builder was given; this worker keeps it while it runs.
    #[inline]
    pub(crate) fn given(&self) -> Option<&Company> {
        self.given.as_deref()
    }

    /// Takes a task that was spawned or woken here. What was in the next slot goes to the queue, where others see it.
    pub(crate) fn push_next(&self, task: Runnable) {
        if !NEXT_SLOT {
            return self.push_back(task);
        }
        self.has_queued.set(true);
        if let Some(former) = self.next.replace(Some(task)) {
            self.push_back(former);
        }
    }

    /// Takes a task that has yielded, or has lost the next slot.
    pub(crate) fn push_back(&self, task: Runnable) {
        self.has_queued.set(true);
        // P1. A lone task is not worth waking anybody: this worker takes it next.
        let alone = LONE_TASK && self.queue.is_empty();
        self.queue.push(task);
        // P0.
        if !self.waking_many.get()
            && self.shared.sleepers.is_wake_up_due()
            && (!alone || !self.is_next_empty())
        {
            self.shared.notify();
        }
    }

    /// P0 before a poll, that may be a long one: somebody may sleep who has missed what is queued here.
    #[inline]
    fn offer(&self, popped: bool) {
        if !self.queue.is_empty() && self.shared.sleepers.is_wake_up_due_fenced(popped) {
            self.shared.notify();
        }
    }

    /// Wakes many, and offers them when they are all there. Otherwise a sibling that is called for the first may be done with
    /// it, and asleep again, before the third is queued, and so on: with 64 connections and a processor short, that was one
    /// call in eight requests, and is one in a thousand.
    fn wake_many(&self, wake: impl FnOnce() -> usize) -> usize {
        // Both ways of waking pass no panic on.
        self.waking_many.set(BATCH_NOTIFY);
        let woken = wake();
        self.waking_many.set(false);
        // As in `push_back`, a lone task is this worker's next.
        if woken != 0 && (self.queue.len() > 1 || !self.is_next_empty()) {
            self.offer(false);
        }
        woken
    }

    /// Wakes what is due.
    #[inline]
    fn fire(&self) -> usize {
        if !self.shared.timers.any() {
            return 0;
        }
        self.wake_many(|| self.shared.timers.fire(self.index))
    }

    /// Another task is polled before the one in the next slot: from the queue others can take that. Whether there was one.
    #[inline]
    fn show_next(&self) -> bool {
        let passed_over = self.next.take();
        let shown = passed_over.is_some();
        if let Some(task) = passed_over {
            self.push_back(task);
        }
        shown
    }

    /// In the middle of a poll that is about to block: whatever waits here can be taken by others.
    pub(super) fn show_all(&self) {
        self.show_next();
        self.offer(false);
    }

    fn is_next_empty(&self) -> bool {
        let next = self.next.take();
        let empty = next.is_none();
        self.next.set(next);
        empty
    }

    /// Runs until the runtime is closed.
    pub(crate) fn run(self) {
        self.work();
        // SAFETY: the owner is this heap's, which the shared part keeps.
        unsafe { self.shared.heaps[self.index].end(Some(self.owner)) }
    }

    fn work(&self) {
        let _entered = current::enter_worker(self);
        // Pairs with the store in `end`: what was closed before is seen to be closed.
        while !self.shared.closed.load(Acquire) {
            match self.find() {
                Some((task, popped)) => self.poll(task, popped),
                None if self.contention.is_throttled() => self.nap(),
                None => self.park(),
            }
        }
        if self.searching.replace(false) {
            let _ = self.shared.sleepers.end_search();
        }
        // Whatever is left is cancelled by being dropped.
        drop(self.next.take());
        while let Some(task) = self.queue.pop() {
            drop(task);
        }
        // What was spawned here while the runtime was being closed.
        for task in TaskRef::all(&self.shared.heaps[self.index]) {
            task.shut_down(CancelReason::Shutdown);
        }
        // And whom destructors have woken meanwhile: what is in the queue keeps the runtime, and with it the queue.
        while let Some(task) = self.next.take().or_else(|| self.queue.pop()) {
            drop(task);
        }
    }

    fn poll(&self, task: Runnable, popped: bool) {
        if let Some(since) = self.dry.take() {
            self.patience.waited(since.elapsed());
        }
        self.offer(popped);
        if self.searching.replace(false) && self.shared.sleepers.end_search() && self.shared.has_work() {
            self.shared.notify();
        }
        if self.was_keeper.replace(false) {
            // K4: this poll may be a long one.
            self.shared.hand_over_time();
        }
        Counters::add(&self.remote().counters.polls);
        if let Some(again) = task.run() {
            self.push_back(again);
        }
    }

    #[inline]
    fn is_next_first(&self) -> bool {
        self.streak.get() < NEXT_SLOT_STREAK || self.queue.is_empty()
    }

    /// The next task to be polled, from where this worker is or from elsewhere; and whether it was popped from a queue, that
    /// is by a locked operation, and nothing was pushed since: then that stands for the fence of P0.
    fn find(&self) -> Option<(Runnable, bool)> {
        if self.pace.count() && self.is_anything_around() {
            self.fire();
            self.poll_io();
            if let Some(task) = self.take_injected() {
                return Some((task, !self.show_next()));
            }
        }
        if self.is_next_first()
            && let Some(task) = self.next.take()
        {
            self.streak.set(self.streak.get().saturating_add(1));
            return Some((task, false));
        }
        self.streak.set(0);
        if let Some(task) = self.queue.pop() {
            return Some((task, !self.show_next()));
        }
        if self.contention.is_throttled() && !self.helps.replace(false) {
            return None;
        }
        self.take_injected().or_else(|| self.search()).map(|task| (task, true))
    }

    /// Whether there is anything to look around for.
    fn is_anything_around(&self) -> bool {
        self.shared.timers.any() || self.shared.has_driver() || !self.shared.injector.is_empty()
    }

    /// Takes this worker's share of the injector. It goes behind what is queued here, as in one
    /// queue that is served in order.
    ///
    /// Out of line: a worker asks seldom, and the way to its own queue is to stay short.
    #[inline(never)]
    fn take_injected(&self) -> Option<Runnable> {
        let injector = &self.shared.injector;
        if injector.is_empty() {
            return None;
        }
        let limit = if self.has_queued.replace(false) && INJECTOR_SHARE { SHARE } else { BATCH };
        let share = (injector.len() / self.shared.remotes.len()).clamp(1, limit);
        let goal = self.queue.len() + share - 1;
        let task = loop {
            match injector.steal_batch_with_limit_and_pop(&self.queue, share) {
                Steal::Success(task) => break task,
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        };
        // One call takes no more than a block of the injector has.
        while let left @ 1.. = goal.saturating_sub(self.queue.len())
            && injector.steal_batch_with_limit(&self.queue, left).is_success()
        {}
        // While the batch was moved, it was in no queue that others could have looked at.
        if !self.searching.get() {
            self.offer(false);
        }
        Some(task)
    }

    /// Looks in all the others' queues, if not too many do so already.
    #[cold]
    fn search(&self) -> Option<Runnable> {
        self.pace.pause();
        if self.dry.get().is_none() {
            let now = Instant::now();
            self.dry.set(Some(now));
            self.contention.ran_dry(now, &self.shared.throttle);
        }
        if !self.searching.get() {
            if !self.shared.sleepers.start_search() {
                return None;
            }
            self.searching.set(true);
        }
        for _ in 0..SEARCH_ROUNDS {
            if let Some(task) = self.search_once() {
                return Some(task);
            }
        }
        let limit = self.shared.search.max(self.patience.limit());
        // A worker that can be told of events does not look elsewhere.
        if limit.is_zero() || (self.shared.has_driver() && self.shared.sleepers.is_unkept()) {
            return None;
        }
        let begun = Instant::now();
        while begun.elapsed() < limit && !self.shared.closed.load(Relaxed) {
            for _ in 0..SEARCH_SPINS {
                std::hint::spin_loop();
            }
            if self.shared.has_work()
                && let Some(task) = self.search_once()
            {
                return Some(task);
            }
            if self.fire() != 0
                && let Some(task) = self.next.take()
            {
                return Some(task);
            }
        }
        None
    }

    fn search_once(&self) -> Option<Runnable> {
        if let Some(task) = self.steal() {
            Counters::add(&self.remote().counters.steals);
            return Some(task);
        }
        self.take_injected()
    }

    fn steal(&self) -> Option<Runnable> {
        let remotes = &self.shared.remotes;
        let first = self.random(remotes.len());
        for offset in 0..remotes.len() {
            let victim = (first + offset) % remotes.len();
            if victim == self.index {
                continue;
            }
            // A few tries: a queue that stays contended is another thief's success.
            for _ in 0..4 {
                match remotes[victim].stealer.steal_batch_and_pop(&self.queue) {
                    Steal::Success(task) => return Some(task),
                    Steal::Empty => break,
                    Steal::Retry => std::hint::spin_loop(),
                }
            }
        }
        None
    }

    /// A number below `below`, by xorshift.
    fn random(&self, below: usize) -> usize {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        (x >> 32) as usize % below
    }

    /// Parks until there is something to do: announces that it sleeps, looks once more, sleeps.
    fn park(&self) {
        let shared = &*self.shared;
        if self.fire() != 0 {
            return;
        }
        let tidied = self.tidy();
        if tidied == Tidied::Partly {
            return;
        }
        // K1.
        let keeper = shared.sleepers.become_keeper(self.index);
        let until = keeper.then(|| shared.timers.prepare_park());
        // W1 to W3.
        shared.sleepers.announce(self.index, self.searching.replace(false), keeper);
        // W4 and K2.
        let stay = matches!(until, Some(ParkUntil::Due))
            || shared.has_work()
            || (!keeper && shared.sleepers.is_unkept())
            || shared.closed.load(Relaxed);
        if !stay {
            let deadline = match &until {
                Some(ParkUntil::Until(deadline, _)) => *deadline,
                _ => None,
            };
            self.sleep(deadline, keeper, tidied);
        }
        if let Some(until) = until {
            if let ParkUntil::Until(_, watch) = until {
                shared.timers.parked(watch);
            }
            // K3.
            shared.sleepers.stop_keeping();
            self.was_keeper.set(true);
        }
        self.searching.set(shared.sleepers.retract(self.index));
        self.wake_those_found();
        if stay && !self.searching.get() && shared.has_work() {
            // What was seen must be found: search, even if others do.
            self.searching.set(shared.sleepers.start_search());
        }
    }

    /// Naps, as a throttled worker does in place of parking. The siblings that are not throttled hear of all work; this worker
    /// looks after its nap whether they have left some, and whether one of them keeps the time.
    #[cold]
    fn nap(&self) {
        let shared = &*self.shared;
        if self.searching.replace(false) && shared.sleepers.end_search() && shared.has_work() {
            shared.notify();
        }
        let tidied = self.tidy();
        if tidied == Tidied::Partly {
            return;
        }
        shared.sleepers.start_nap();
        self.sleep(Some(Instant::now() + NAP), false, tidied);
        shared.sleepers.end_nap();
        self.contention.nap_over(Instant::now(), &shared.throttle);
        if shared.sleepers.is_unkept() {
            self.fire();
            self.poll_io();
        }
        self.helps.set(shared.has_work());
    }

    /// Sleeps until it is unparked, or until the deadline. A heap that is tidy is left at rest meanwhile.
    fn sleep(&self, deadline: Option<Instant>, keeper: bool, tidied: Tidied) {
        Counters::add(&self.remote().counters.parks);
        self.shared.idle_condvar.notify();
        let at_rest = tidied == Tidied::Done;
        if at_rest {
            // SAFETY: the owner is this heap's, which the shared part keeps.
            unsafe { self.heap().0.rest(&self.owner, 0) }
        }
        let tidy = self.next_tidy(keeper);
        self.sleep_until(deadline.into_iter().chain(tidy).min(), keeper);
        if at_rest {
            // Before a slot of the heap is taken or freed here.
            self.heap().0.resume(&self.owner);
        }
    }

    /// If it is time to, brings home what was freed elsewhere, and gives back the memory that is
    /// not needed. In part, so that no work waits for that; done, if the heap can be left at rest.
    fn tidy(&self) -> Tidied {
        match self.tidy_at.get() {
            Some(at) if Instant::now() >= at => {}
            _ => return Tidied::NotYet,
        }
        let (heap, owner) = self.heap();
        // SAFETY: the owner is this heap's, which the shared part keeps.
        let own = if heap.is_untidy() { unsafe { heap.tidy(owner) } } else { Tidied::NotYet };
        if own == Tidied::Partly || self.shared.tidy_outside() {
            return Tidied::Partly;
        }
        self.tidy_at.set(None);
        own
    }

    /// When to get up to tidy: not at all, if nothing was spawned here or, as far as the keeper of
    /// the time is asked, outside. To be asked after W3.
    fn next_tidy(&self, keeper: bool) -> Option<Instant> {
        let untidy = self.heap().0.is_untidy() || keeper && self.shared.is_outside_untidy();
        let at = untidy.then(|| self.tidy_at.get().unwrap_or_else(|| Instant::now() + TIDY_AFTER));
        self.tidy_at.set(at);
        at
    }

    /// Sleeps; the keeper of the time does so in the poll, if there is one.
    fn sleep_until(&self, deadline: Option<Instant>, keeper: bool) {
        #[cfg(feature = "net")]
        if keeper && let Some(driver) = self.shared.running_driver() {
            let mut wakers = self.wakers.take();
            self.parker.poll(|state| {
                let limit = || match state.lie_down_in_poll() {
                    true => deadline.map(|at| at.saturating_duration_since(Instant::now())),
                    false => Some(Duration::ZERO),
                };
                driver.wait(limit, &mut wakers);
            });
            self.wakers.set(wakers);
            return;
        }
        let _ = keeper;
        self.parker.park(deadline);
    }

    /// Hears of what has happened outside, unless somebody sleeps in the poll.
    #[inline]
    fn poll_io(&self) {
        #[cfg(feature = "net")]
        if let Some(driver) = self.shared.running_driver() {
            let mut wakers = self.wakers.take();
            driver.try_poll(&mut wakers);
            self.wakers.set(wakers);
            self.wake_those_found();
        }
    }

    /// Wakes whom the poll has found. Not before this worker is up: one of those whom that gets up might be itself.
    #[inline]
    fn wake_those_found(&self) {
        #[cfg(feature = "net")]
        {
            let mut wakers = self.wakers.take();
            if !wakers.is_empty() {
                self.wake_many(|| driver::wake_all(&mut wakers));
            }
            self.wakers.set(wakers);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
