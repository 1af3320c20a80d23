//! One worker: how it finds runnables, polls them, and parks.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_deque::{Steal, Worker as Queue};
use heirloom_context::raw;

use super::limits::{BATCH, NEXT_SLOT_STREAK, SEARCH_ROUNDS, SEARCH_SPINS, SHARE, TIDY_AFTER};
use super::pace::Pace;
use super::parker::Parker;
use super::patience::Patience;
use super::shared::{Remote, Shared};
use super::throttle::{Contention, NAP};
use super::{current, parker};
use crate::instrument::hooks::{HooksAndRoot, HooksRef};
use crate::io::driver;
use crate::slab::{Heap, Owner, Tidied};
use crate::task::cell::{Runnable, TaskRef};
use crate::task::join_handle::CancelReason;
use crate::task::record;
use crate::time::ParkUntil;
use crate::util::counters::{Counters, Installed};
use crate::util::panic;
use crate::util::switches::{BATCH_NOTIFY, FINE_TIMERS, INJECTOR_SHARE, LONE_TASK, NEXT_SLOT};

pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    queue: Queue<Runnable>,
    /// The next slot: the runnable that was woken or spawned last, while its memory is warm.
    next: Cell<Option<Runnable>>,
    /// How often in a row the next slot went first.
    streak: Cell<u32>,
    pace: Pace,
    /// The worker has queued tasks of its own since it last looked around.
    has_queued: Cell<bool>,
    parker: Parker,
    searching: Cell<bool>,
    /// The worker is waking a batch: siblings are notified when all of it is queued.
    in_batch: Cell<bool>,
    /// Before its next poll it sees to it that there is a keeper (K4): it was the keeper, or was
    /// taken from the list of sleepers, perhaps to become the keeper.
    owes_keeper: Cell<bool>,
    /// The next poll is not a plain one: a watchdog watches the polls, or `owes_keeper`. One look
    /// for all, since every poll has it.
    is_careful: Cell<bool>,
    /// The worker is throttled, and has seen at the end of a nap that siblings have left work.
    may_take: Cell<bool>,
    /// State of a small random number generator, for the first victim of a search.
    random: Cell<u64>,
    /// Since when the worker has found nothing to do.
    idle_since: Cell<Option<Instant>>,
    patience: Patience,
    contention: Contention,
    owner: Owner,
    given: Option<HooksRef>,
    /// Wake-ups that are not yet in the counters.
    wake_ups: Cell<u64>,
    /// When to tidy, if a heap is untidy.
    tidy_at: Cell<Option<Instant>>,
    /// The timer slack of the worker's thread.
    slack: Cell<Duration>,
    /// Wakers of the events that the I/O poll has returned; kept for the memory of the list.
    wakers: Cell<Vec<Waker>>,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, queue: Queue<Runnable>, parker: Parker) -> Worker {
        let owner = shared.heaps[index].acquire();
        let given = shared.given.get();
        let is_watched = shared.remotes[index].watch.is_some();
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
            in_batch: Cell::new(false),
            owes_keeper: Cell::new(false),
            is_careful: Cell::new(is_watched),
            may_take: Cell::new(false),
            random: Cell::new(0x9E37_79B9_7F4A_7C15 ^ (index as u64 + 1)),
            idle_since: Cell::new(None),
            patience: Patience::new(),
            contention: Contention::default(),
            owner,
            given,
            wake_ups: Cell::new(0),
            tidy_at: Cell::new(None),
            slack: Cell::default(),
            wakers: Cell::default(),
        }
    }

    #[inline]
    pub(crate) fn remote(&self) -> &Remote {
        &self.shared.remotes[self.index]
    }

    /// The heap for tasks that this worker spawns.
    #[inline]
    pub(crate) fn heap(&self) -> (&Heap, &Owner) {
        (&self.shared.heaps[self.index], &self.owner)
    }

    /// The settings of the runtime's builder; the worker holds them while it runs.
    #[inline]
    pub(crate) fn given(&self) -> Option<&HooksAndRoot> {
        self.given.as_deref()
    }

    /// Takes a task that this worker has spawned or woken. The former task of the next slot goes to
    /// the queue, where thieves see it.
    pub(crate) fn push_next(&self, task: Runnable) {
        if !NEXT_SLOT {
            return self.push_back(task);
        }
        self.has_queued.set(true);
        if let Some(former) = self.next.replace(Some(task)) {
            self.push_back(former);
        }
    }

    /// Takes a task that was woken on this worker.
    pub(crate) fn wake(&self, task: Runnable) {
        self.wake_ups.set(self.wake_ups.get() + 1);
        self.push_next(task);
    }

    /// Adds the wake-ups to the counters, where other threads see them. The worker does so when it
    /// looks around and when it sleeps: for each wake-up, it cost a fiftieth of row `spawn-inside`.
    fn publish_wake_ups(&self) {
        Counters::add_many(&self.remote().counters.wake_ups, self.wake_ups.replace(0));
    }

    /// Takes a task that has yielded, or has lost the next slot.
    pub(crate) fn push_back(&self, task: Runnable) {
        self.has_queued.set(true);
        // P1.
        self.queue.push(task);
        // P0.
        if self.shared.sleepers.is_wake_up_due() && !self.in_batch.get() && self.has_work_for_sibling() {
            self.shared.notify();
        }
    }

    /// Whether there is more here than this worker takes next: a lone task wakes no sibling.
    fn has_work_for_sibling(&self) -> bool {
        !LONE_TASK || self.queue.len() > 1 || !self.is_next_empty()
    }

    /// P0 before a poll, which may be long: a sleeper may have missed what is queued here.
    #[inline]
    fn notify_if_idle(&self, popped: bool) {
        if !self.queue.is_empty() && self.shared.sleepers.is_wake_up_due_fenced(popped) {
            self.shared.notify();
        }
    }

    /// Wakes a batch, and notifies when all of it is queued. Otherwise a sibling that is woken for
    /// the first task may have polled it and sleep again before the third is queued, and so on:
    /// with 64 connections on too few processors, that was one wake-up in eight requests, and is
    /// one in a thousand.
    fn wake_batch(&self, wake: impl FnOnce() -> usize) -> usize {
        // Neither of the two callers lets a panic out.
        self.in_batch.set(BATCH_NOTIFY);
        let woken = wake();
        self.in_batch.set(false);
        if woken != 0 && self.has_work_for_sibling() {
            self.notify_if_idle(false);
        }
        woken
    }

    /// Wakes the tasks whose timers are due.
    #[inline]
    fn fire_timers(&self) -> usize {
        let fired = self.wake_batch(|| self.shared.timers.fire(self.index));
        if fired != 0 {
            Counters::add_many(&self.remote().counters.timers_fired, fired as u64);
        }
        fired
    }

    /// Moves the task of the next slot to the queue, where thieves see it, since another task is
    /// polled first. Returns whether there was one.
    #[inline]
    fn flush_next_slot(&self) -> bool {
        let Some(task) = self.next.take() else { return false };
        self.push_back(task);
        true
    }

    /// Called during a poll that is about to block: siblings can take all that waits here.
    pub(super) fn flush_and_notify(&self) {
        self.flush_next_slot();
        self.notify_if_idle(false);
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
        let _counted = Installed::new(&self.remote().counters);
        raw::begin_spare_handles(self.shared.remotes.len());
        self.slack.set(parker::timer_slack());
        // Pairs with the store in `Runtime::end`: the worker sees what was done before `closed` was
        // set.
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
        loop {
            self.cancel_queued();
            // S4: tasks that this worker has spawned while the runtime was being closed.
            for task in TaskRef::all(&self.shared.heaps[self.index]) {
                task.shut_down(CancelReason::Shutdown);
            }
            // Tasks that destructors have woken meanwhile: a runnable in the queue would keep the
            // runtime, and with it the queue.
            self.cancel_queued();
            // The destructors of a context that ends here may spawn and wake, too.
            if !give_back_spare_handles() {
                break;
            }
        }
    }

    /// Drops the runnables of this worker, which cancels the tasks.
    fn cancel_queued(&self) {
        while let Some(task) = self.next.take().or_else(|| self.queue.pop()) {
            drop(task);
        }
    }

    /// F1 and F2.
    #[inline]
    fn stop_searching(&self) {
        if self.searching.replace(false) && self.shared.sleepers.end_search() && self.shared.has_work() {
            self.shared.notify();
        }
    }

    fn poll(&self, task: Runnable, popped: bool) {
        if let Some(since) = self.idle_since.take() {
            self.patience.waited(since.elapsed());
        }
        self.notify_if_idle(popped);
        self.stop_searching();
        Counters::add(&self.remote().counters.polls);
        let again = if self.is_careful.get() { self.poll_with_care(task) } else { task.run() };
        if let Some(again) = again {
            self.push_back(again);
        }
    }

    /// A poll before which, or around which, there is something to do.
    #[inline(never)]
    fn poll_with_care(&self, task: Runnable) -> Option<Runnable> {
        let watch = self.remote().watch.as_ref();
        self.is_careful.set(watch.is_some());
        if self.owes_keeper.replace(false) {
            // K4: this poll may be long.
            self.shared.hand_over_time();
        }
        match watch {
            Some(watch) => watch.run(task),
            None => task.run(),
        }
    }

    fn owe_keeper(&self) {
        self.owes_keeper.set(true);
        self.is_careful.set(true);
    }

    #[inline]
    fn is_next_first(&self) -> bool {
        self.streak.get() < NEXT_SLOT_STREAK || self.queue.is_empty()
    }

    /// The next task to be polled, from this worker or from elsewhere. The flag is true if the task
    /// was popped from a queue, which is a locked operation, and nothing was pushed since: then the
    /// pop stands for the fence of P0.
    fn find(&self) -> Option<(Runnable, bool)> {
        if self.pace.count() {
            self.publish_wake_ups();
            self.fire_timers();
            self.poll_io();
            if let Some(task) = self.take_injected() {
                return Some((task, !self.flush_next_slot()));
            }
        }
        if let Some(found) = self.find_own(self.is_next_first()) {
            return Some(found);
        }
        // The destructors of a context that ends here may have woken or spawned tasks.
        while give_back_spare_handles() {
            if let Some(found) = self.find_own(true) {
                return Some(found);
            }
        }
        if self.contention.is_throttled() && !self.may_take.replace(false) {
            return None;
        }
        self.take_injected().or_else(|| self.search()).map(|task| (task, true))
    }

    /// The next task from this worker's next slot and queue. None is left there if there is no
    /// answer.
    #[inline]
    fn find_own(&self, next_first: bool) -> Option<(Runnable, bool)> {
        if next_first && let Some(task) = self.next.take() {
            self.streak.set(self.streak.get().saturating_add(1));
            return Some((task, false));
        }
        self.streak.set(0);
        if let Some(task) = self.queue.pop() {
            return Some((task, !self.flush_next_slot()));
        }
        // A thief may have emptied the queue since it was to go first.
        self.next.take().map(|task| (task, false))
    }

    /// Takes this worker's share of the injector. The share goes behind what is queued here, as in
    /// one queue that is served in order.
    ///
    /// Out of line: a worker looks at the injector seldom, and the path to its own queue stays
    /// short.
    #[inline(never)]
    fn take_injected(&self) -> Option<Runnable> {
        // The worker has looked around, or has nothing to do: the last poll is some time ago.
        record::pause();
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
        // One call takes at most a block of the injector.
        while let left @ 1.. = goal.saturating_sub(self.queue.len())
            && injector.steal_batch_with_limit(&self.queue, left).is_success()
        {}
        // While the batch was moved, no sibling could see it in a queue.
        if !self.searching.get() {
            self.notify_if_idle(false);
        }
        Some(task)
    }

    /// Looks in the queues of all siblings, unless enough workers search already.
    #[cold]
    fn search(&self) -> Option<Runnable> {
        self.pace.pause();
        if self.idle_since.get().is_none() {
            let now = Instant::now();
            self.idle_since.set(Some(now));
            self.contention.check(now, &self.shared.throttle);
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
        // A worker that can become the keeper hears of events in the poll, and does not search on.
        if limit.is_zero() || (self.shared.has_driver() && self.shared.sleepers.has_no_keeper()) {
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
            if self.fire_timers() != 0
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
            // To steal means to pin an epoch, which costs a fence, and now and then a look at the
            // pins of all threads.
            if victim == self.index || remotes[victim].stealer.is_empty() {
                continue;
            }
            // A few tries: if the queue stays contended, other thieves succeed.
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

    /// Parks until there is something to do: announces the sleep, looks once more, sleeps.
    fn park(&self) {
        debug_assert!(self.is_next_empty(), "the next slot is seen by no other worker");
        let shared = &*self.shared;
        // A waker that is no task's may have run a task on this thread.
        if self.fire_timers() != 0 || give_back_spare_handles() {
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
            || (!keeper && shared.sleepers.has_no_keeper())
            || shared.closed.load(Relaxed)
            || shared.timers.jump(|| shared.has_work());
        if !stay {
            let deadline = match &until {
                // In virtual time no sleep of the machine's is so long: see `jump`.
                Some(ParkUntil::Until(deadline, _)) if shared.timers.clock().as_manual().is_none() => {
                    *deadline
                }
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
            self.owe_keeper();
        }
        self.got_up(shared.sleepers.retract(self.index));
        self.wake_io_waiters();
        if stay && !self.searching.get() && shared.has_work() {
            // The work that was seen must be found: search, even if enough siblings do.
            self.searching.set(shared.sleepers.start_search());
        }
    }

    /// The worker is up; `woken` by another thread, which has counted it as searching.
    fn got_up(&self, woken: bool) {
        self.searching.set(woken);
        if woken {
            self.owe_keeper();
        }
    }

    /// Naps instead of parking, while the worker is throttled. The siblings that are not throttled
    /// are notified of all work. After its nap, this worker looks whether they have left some, and
    /// whether one of them is the keeper.
    #[cold]
    fn nap(&self) {
        let shared = &*self.shared;
        self.stop_searching();
        if give_back_spare_handles() {
            return;
        }
        let tidied = self.tidy();
        if tidied == Tidied::Partly {
            return;
        }
        let polls = shared.poll_count();
        shared.sleepers.start_nap();
        self.sleep(Some(Instant::now() + NAP), false, tidied);
        shared.sleepers.end_nap();
        let idle = shared.poll_count() == polls && !shared.has_work();
        self.contention.end_nap(Instant::now(), idle, &shared.throttle);
        if shared.sleepers.has_no_keeper() {
            self.fire_timers();
            self.poll_io();
        }
        self.may_take.set(shared.has_work());
    }

    /// Sleeps until the worker is unparked, or until the deadline. Meanwhile a tidy heap is left at
    /// rest.
    fn sleep(&self, deadline: Option<Instant>, keeper: bool, tidied: Tidied) {
        Counters::add(&self.remote().counters.parks);
        self.publish_wake_ups();
        record::pause();
        self.shared.idle_condvar.notify();
        let at_rest = tidied == Tidied::Done;
        if at_rest {
            // SAFETY: the owner is this heap's, which the shared part keeps.
            unsafe { self.heap().0.rest(&self.owner, 0) }
        }
        let tidy = self.next_tidy(keeper);
        self.sleep_until(deadline.into_iter().chain(tidy).min(), keeper);
        if at_rest {
            // The owner resumes before this thread takes or frees a slot.
            self.heap().0.resume(&self.owner);
        }
    }

    /// If it is time to: reclaims remote frees, and frees memory that is not needed. It does a part
    /// at a time, so that no work waits for it. Done if the heap can be left at rest.
    fn tidy(&self) -> Tidied {
        match self.tidy_at.get() {
            Some(at) if Instant::now() >= at => {}
            _ => return Tidied::NotYet,
        }
        let (heap, owner) = self.heap();
        // SAFETY: the owner is this heap's, which the shared part keeps.
        let own = if heap.is_untidy() { unsafe { heap.tidy(owner) } } else { Tidied::NotYet };
        if own == Tidied::Partly || self.shared.tidy_shared_heaps() {
            return Tidied::Partly;
        }
        self.tidy_at.set(None);
        own
    }

    /// When to get up to tidy: not at all, if this worker's heap is tidy and, for the keeper, the
    /// shared heaps are. To be called after W3.
    fn next_tidy(&self, keeper: bool) -> Option<Instant> {
        let untidy = self.heap().0.is_untidy() || keeper && self.shared.is_shared_heap_untidy();
        let at = untidy.then(|| self.tidy_at.get().unwrap_or_else(|| Instant::now() + TIDY_AFTER));
        self.tidy_at.set(at);
        at
    }

    /// Sleeps: the keeper in the I/O poll, if there is one.
    ///
    /// The system adds the timer slack to a sleep, and mostly all of it. So the worker asks for
    /// that much less. If the system ends the sleep earlier, the worker sleeps again for what is
    /// left.
    fn sleep_until(&self, deadline: Option<Instant>, keeper: bool) {
        let deadline = deadline.map(|at| match at.checked_sub(self.slack.get()) {
            Some(asked) if FINE_TIMERS && asked > Instant::now() => asked,
            _ => at,
        });
        if keeper && let Some(driver) = self.shared.running_driver() {
            let mut wakers = self.wakers.take();
            self.parker.poll(|state| {
                let limit = || match state.start_poll() {
                    true => deadline.map(|at| at.saturating_duration_since(Instant::now())),
                    false => Some(Duration::ZERO),
                };
                driver.wait(limit, &mut wakers);
            });
            self.wakers.set(wakers);
            return;
        }
        self.parker.park(deadline);
    }

    /// Looks at the I/O poll without waiting, unless another worker is in it.
    #[inline]
    fn poll_io(&self) {
        if let Some(driver) = self.shared.running_driver() {
            let mut wakers = self.wakers.take();
            driver.try_poll(&mut wakers);
            self.wakers.set(wakers);
            self.wake_io_waiters();
        }
    }

    /// Wakes the tasks whose events the I/O poll has returned. The worker must be up: the
    /// notification of siblings may pick this worker itself.
    #[inline]
    fn wake_io_waiters(&self) {
        let mut wakers = self.wakers.take();
        if !wakers.is_empty() {
            let woken = self.wake_batch(|| driver::wake_all(&mut wakers));
            Counters::add_many(&self.remote().counters.io_wake_ups, woken as u64);
        }
        self.wakers.set(wakers);
    }
}

/// The worker finds no further task, for now. Returns whether a context has ended thereby, and
/// destructors have run.
#[inline]
fn give_back_spare_handles() -> bool {
    let last = raw::give_back_spare_handles();
    last.is_some_and(|last| {
        panic::swallow(|| drop(last));
        true
    })
}

#[cfg(all(test, not(loom)))]
mod tests;
