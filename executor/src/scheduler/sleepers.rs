//! Which workers sleep, which search, and which to wake. The step numbers are those of the
//! [protocol](super).
#![forbid(unsafe_code)]

use crate::util::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::util::sync::atomic::{AtomicU32, AtomicUsize, fence};
use crate::util::sync::{Mutex, fence_after_locked, lock, weakened};

/// All of it in one cache line: a worker that parks writes most of the fields, and would wait for
/// each further line.
#[derive(Debug)]
pub(crate) struct Sleepers {
    workers: u32,
    /// The sleepers that can be woken for work. The last one is woken first; the keeper stands at
    /// the bottom.
    list: Mutex<Vec<usize>>,
    /// Length of the list, and number of searching workers, for reads without the lock. The fences
    /// of P2, W3 and F2 order them.
    listed: AtomicUsize,
    searching: AtomicUsize,
    /// Throttled workers that nap. They are not in the list. A count that orders no other memory,
    /// hence relaxed.
    napping: AtomicU32,
    /// Index of the keeper, plus one; zero if there is none.
    keeper: AtomicUsize,
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", not(loom)))]
const _: () = assert!(size_of::<Sleepers>() <= 64);

impl Sleepers {
    pub(crate) fn new(workers: usize) -> Sleepers {
        Sleepers {
            workers: u32::try_from(workers).expect("a worker is a thread"),
            list: Mutex::new(Vec::with_capacity(workers)),
            listed: AtomicUsize::new(0),
            searching: AtomicUsize::new(0),
            napping: AtomicU32::new(0),
            keeper: AtomicUsize::new(0),
        }
    }

    /// P2 to P4. Work was pushed where any worker can take it. Returns the worker to unpark.
    #[must_use]
    pub(crate) fn notify(&self) -> Option<usize> {
        // P2: pairs with W3 and F2.
        if !weakened("notify fence") {
            fence(SeqCst);
        }
        // P3.
        if !self.is_wake_up_due() {
            return None;
        }
        self.wake_one()
    }

    /// P0. Whether work that a worker has queued for itself is worth the fence of
    /// [`notify`](Self::notify).
    #[inline]
    pub(crate) fn is_wake_up_due(&self) -> bool {
        self.listed.load(Relaxed) > 0 && self.searching.load(Relaxed) == 0
    }

    /// P0 before a poll. Sees a sleeper that has missed what was queued before this call. `locked`:
    /// a locked operation lies between the push and this call.
    #[inline]
    pub(crate) fn is_wake_up_due_fenced(&self, locked: bool) -> bool {
        // Pairs with W3.
        if locked {
            fence_after_locked();
        } else if !weakened("poll fence") {
            fence(SeqCst);
        }
        self.is_wake_up_due()
    }

    /// P4. Takes one sleeper from the list. It counts as searching from now on.
    #[must_use]
    pub(crate) fn wake_one(&self) -> Option<usize> {
        let mut list = lock(&self.list);
        let worker = list.pop()?;
        self.listed.store(list.len(), Relaxed);
        self.searching.fetch_add(1, Relaxed);
        Some(worker)
    }

    /// Whether one more worker may search.
    pub(crate) fn start_search(&self) -> bool {
        // An estimate is enough: a surplus searcher costs a little time, and is counted like the
        // others.
        if self.searching.load(Relaxed) * 2 >= self.workers as usize {
            return false;
        }
        self.searching.fetch_add(1, Relaxed);
        true
    }

    /// F1 and F2. A searcher has found work. True for the last searcher, which must then look
    /// whether there is more.
    #[must_use]
    pub(crate) fn end_search(&self) -> bool {
        let last = self.searching.fetch_sub(1, Relaxed) == 1;
        // F2: pairs with P2.
        if last && !weakened("search fence") {
            fence(SeqCst);
        }
        last
    }

    /// W1 to W3. After this call the worker must look at every queue before it parks.
    pub(crate) fn announce(&self, worker: usize, was_searching: bool, keeper: bool) {
        {
            let mut list = lock(&self.list);
            debug_assert!(!list.contains(&worker), "listed twice");
            // W1.
            let index = if keeper { 0 } else { list.len() };
            list.insert(index, worker);
            self.listed.store(list.len(), Relaxed);
        }
        // W2.
        if was_searching {
            self.searching.fetch_sub(1, Relaxed);
        }
        // W3: pairs with P2.
        if !weakened("announce fence") {
            fence(SeqCst);
        }
    }

    /// The worker is up. True if another thread has taken it from the list: then it counts as
    /// searching.
    #[must_use]
    pub(crate) fn retract(&self, worker: usize) -> bool {
        let mut list = lock(&self.list);
        match list.iter().position(|listed| *listed == worker) {
            None => true,
            Some(index) => {
                list.remove(index);
                self.listed.store(list.len(), Relaxed);
                false
            }
        }
    }

    /// A throttled worker naps until [`end_nap`](Self::end_nap).
    pub(crate) fn start_nap(&self) {
        // Under the lock, so that a worker is never counted twice by `are_all_asleep`.
        let _list = lock(&self.list);
        self.napping.fetch_add(1, Relaxed);
    }

    pub(crate) fn end_nap(&self) {
        let _list = lock(&self.list);
        self.napping.fetch_sub(1, Relaxed);
    }

    /// K1. Makes a worker the keeper, if there is none. `SeqCst`, as all operations on `keeper`:
    /// they are rare.
    pub(crate) fn become_keeper(&self, worker: usize) -> bool {
        self.keeper.compare_exchange(0, worker + 1, SeqCst, SeqCst).is_ok()
    }

    /// K2. Whether there is no keeper. A worker that asks after [`announce`](Self::announce) must
    /// not park then.
    pub(crate) fn has_no_keeper(&self) -> bool {
        // Pairs, through the lock of the list, with the store in `stop_keeping`.
        self.keeper.load(SeqCst) == 0 && !weakened("keeper look")
    }

    /// K3. The keeper is up.
    pub(crate) fn stop_keeping(&self) {
        self.keeper.store(0, SeqCst);
    }

    /// K4. A former keeper is about to poll. Returns a worker to unpark, which becomes the keeper.
    #[must_use]
    pub(crate) fn hand_over_time(&self) -> Option<usize> {
        if self.keeper.load(SeqCst) == 0 { self.wake_one() } else { None }
    }

    /// The keeper, for a thread that has changed what the keeper looks at after it has
    /// [announced](Self::announce) its sleep.
    pub(crate) fn keeper_after_change(&self) -> Option<usize> {
        // Pairs with W3: either this thread sees the keeper, or the keeper sees the change.
        if !weakened("keeper fence") {
            fence(SeqCst);
        }
        self.keeper()
    }

    /// The keeper, if there is one.
    pub(crate) fn keeper(&self) -> Option<usize> {
        self.keeper.load(SeqCst).checked_sub(1)
    }

    /// Whether all workers sleep.
    pub(crate) fn are_all_asleep(&self) -> bool {
        let list = lock(&self.list);
        list.len() + self.napping.load(Relaxed) as usize == self.workers as usize
    }

    /// How many sleepers can be woken for work.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn listed(&self) -> usize {
        lock(&self.list).len()
    }
}
