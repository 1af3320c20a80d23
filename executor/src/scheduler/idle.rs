//! Who sleeps, who searches, whom to wake. See the [protocol](super); its step numbers stand in the comments.
#![forbid(unsafe_code)]

use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicUsize, fence};
use crate::sync::{Mutex, fence_after_locked, lock, weakened};

#[derive(Debug)]
pub(crate) struct Idle {
    workers: usize,
    /// Copies of what the list says, and of who searches, to be read without the lock.
    sleepers: AtomicUsize,
    searching: AtomicUsize,
    /// One sleeper naps, to look at what its siblings have queued; see [`adaptive`](super::adaptive).
    watched: AtomicBool,
    list: Mutex<Vec<(usize, As)>>,
    /// The parked worker that keeps the time, plus one; zero: nobody does.
    keeper: AtomicUsize,
    /// One sleeper naps, to look whether there is a keeper.
    deputy: AtomicBool,
    /// How often a keeper has got up.
    turns: AtomicUsize,
}

/// As what a worker sleeps. The later ones are woken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum As {
    /// It keeps the time.
    Keeper,
    /// It [stands back](super::crowd), and naps.
    Back,
    Any,
}

impl Idle {
    pub(crate) fn new(workers: usize) -> Idle {
        Idle {
            workers,
            sleepers: AtomicUsize::new(0),
            searching: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            list: Mutex::new(Vec::with_capacity(workers)),
            keeper: AtomicUsize::new(0),
            deputy: AtomicBool::new(false),
            turns: AtomicUsize::new(0),
        }
    }

    /// P2 to P4. There may be work for one more: whom to unpark.
    #[must_use]
    pub(crate) fn notify(&self) -> Option<usize> {
        // P2: pairs with W3 and F2.
        if !weakened("notify fence") {
            fence(SeqCst);
        }
        // P3.
        if self.searching.load(Relaxed) > 0 || self.sleepers.load(Relaxed) == 0 {
            return None;
        }
        self.call()
    }

    /// A glance at whether it would be worth [notifying](Self::notify) somebody of what a worker has queued for itself.
    #[inline]
    pub(crate) fn is_somebody_free(&self) -> bool {
        self.sleepers.load(Relaxed) > 0 && self.searching.load(Relaxed) == 0 && !self.watched.load(Relaxed)
    }

    /// The same before a poll, of what the worker has queued before: not too early, for whoever has missed that is seen.
    /// `locked`: a locked operation came after what was queued.
    #[inline]
    pub(crate) fn glance(&self, locked: bool) -> bool {
        // Pairs with W3.
        if locked {
            fence_after_locked();
        } else if !weakened("glance fence") {
            fence(SeqCst);
        }
        self.is_somebody_free()
    }

    /// N1. Makes the caller, which has [announced](Self::announce) itself, the watcher, if there is none.
    pub(crate) fn start_watch(&self) -> bool {
        !self.watched.swap(true, Relaxed)
    }

    /// N2. The watcher is up. After this it must look at every queue.
    pub(crate) fn end_watch(&self) {
        self.watched.store(false, Relaxed);
        // Pairs with W3 of whoever relied on the watch, and with the fence in `glance`.
        if !weakened("watch fence") {
            fence(SeqCst);
        }
    }

    /// P4, whether somebody searches or not.
    #[must_use]
    pub(crate) fn call(&self) -> Option<usize> {
        let mut list = lock(&self.list);
        let (worker, _) = list.pop()?;
        self.sleepers.store(list.len(), Relaxed);
        self.searching.fetch_add(1, Relaxed);
        Some(worker)
    }

    /// Whether one more may search.
    pub(crate) fn start_search(&self) -> bool {
        // A guess is enough: a searcher too many costs a little time, and is counted like any other.
        if self.searching.load(Relaxed) * 2 >= self.workers {
            return false;
        }
        self.searching.fetch_add(1, Relaxed);
        true
    }

    /// F1 and F2. A searcher has found work. True if it was the last: it must look whether there is more.
    #[must_use]
    pub(crate) fn end_search(&self) -> bool {
        let last = self.searching.fetch_sub(1, Relaxed) == 1;
        if last {
            // F2: pairs with P2.
            if !weakened("search fence") {
                fence(SeqCst);
            }
        }
        last
    }

    /// W1 to W3. After this the worker must look at every queue before it parks. Whether one sleeps that does not stand back.
    pub(crate) fn announce(&self, worker: usize, was_searching: bool, manner: As) -> bool {
        let others = {
            let mut list = lock(&self.list);
            debug_assert!(list.iter().all(|(listed, _)| *listed != worker), "listed twice");
            let others = list.iter().any(|(_, manner)| *manner != As::Back);
            // W1. Who slept first is woken last; so are the keeper and, before that, who stands back.
            let place = list.iter().rposition(|(_, listed)| *listed <= manner).map_or(0, |place| place + 1);
            list.insert(if manner == As::Keeper { 0 } else { place }, (worker, manner));
            self.sleepers.store(list.len(), Relaxed);
            others
        };
        // W2.
        if was_searching {
            self.searching.fetch_sub(1, Relaxed);
        }
        // W3: pairs with P2.
        if !weakened("announce fence") {
            fence(SeqCst);
        }
        others
    }

    /// P3 and P4 by a worker that stands back, has announced itself, and has seen work: whom to unpark in its place.
    #[must_use]
    pub(crate) fn pass_on(&self) -> Option<usize> {
        if self.searching.load(Relaxed) > 0 {
            return None;
        }
        let mut list = lock(&self.list);
        let place = list.iter().rposition(|(_, manner)| *manner != As::Back)?;
        let (worker, _) = list.remove(place);
        self.sleepers.store(list.len(), Relaxed);
        self.searching.fetch_add(1, Relaxed);
        Some(worker)
    }

    /// Whether there is a worker that does not sleep, besides the one that asks.
    pub(crate) fn is_another_up(&self) -> bool {
        self.sleepers.load(Relaxed) + 1 < self.workers
    }

    /// A worker goes on. True if somebody has woken it: it counts as searching then.
    #[must_use]
    pub(crate) fn retract(&self, worker: usize) -> bool {
        let mut list = lock(&self.list);
        match list.iter().position(|(listed, _)| *listed == worker) {
            None => true,
            Some(place) => {
                list.remove(place);
                self.sleepers.store(list.len(), Relaxed);
                false
            }
        }
    }

    /// K1. Makes a worker the keeper, if there is none.
    pub(crate) fn keep(&self, worker: usize) -> bool {
        self.keeper.compare_exchange(0, worker + 1, SeqCst, SeqCst).is_ok()
    }

    /// K2. To be asked after [`announce`](Self::announce) by a worker that is not the keeper: whether there is none, so
    /// that it must not park.
    pub(crate) fn is_unkept(&self) -> bool {
        // Pairs, through the lock on the list, with the store in `give_up`.
        self.keeper.load(SeqCst) == 0 && !weakened("keeper look")
    }

    /// K3. The keeper is up.
    pub(crate) fn give_up(&self) {
        // One writer at a time: the keeper.
        self.turns.store(self.turns.load(Relaxed).wrapping_add(1), Relaxed);
        self.keeper.store(0, SeqCst);
    }

    /// K4. A worker that was the keeper is about to poll: whom to unpark, so that there is another.
    #[must_use]
    pub(crate) fn hand_over(&self) -> Option<usize> {
        if self.keeper.load(SeqCst) == 0 && !self.deputy.load(SeqCst) { self.call() } else { None }
    }

    /// How often a keeper has got up so far.
    pub(crate) fn turns(&self) -> usize {
        self.turns.load(Relaxed)
    }

    /// D1. Makes the caller the deputy, if there is none.
    pub(crate) fn start_deputy(&self) -> bool {
        !self.deputy.swap(true, SeqCst)
    }

    /// D2. The deputy is up.
    pub(crate) fn end_deputy(&self) {
        // Before it looks for a keeper. Pairs with the loads in `hand_over`.
        if !weakened("deputy gets up") {
            self.deputy.store(false, SeqCst);
        }
    }

    /// The worker that keeps the time, for a thread that has changed what the keeper looks at after
    /// it has [announced](Self::announce) itself.
    pub(crate) fn keeper_to_tell(&self) -> Option<usize> {
        // Pairs with W3: either the keeper is seen here, or it sees the change.
        if !weakened("tell fence") {
            fence(SeqCst);
        }
        self.keeper()
    }

    /// Who keeps the time.
    pub(crate) fn keeper(&self) -> Option<usize> {
        self.keeper.load(SeqCst).checked_sub(1)
    }

    /// How many sleep.
    pub(crate) fn sleepers(&self) -> usize {
        lock(&self.list).len()
    }
}
