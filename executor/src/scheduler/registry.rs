//! All tasks of a runtime that are not done, to be cancelled at shutdown.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::{Acquire, Release};

use crossbeam_utils::CachePadded;
use slab::Slab;

use crate::sync::{Mutex, lock};
use crate::task::cell::{Header, TaskRef};

/// In several parts, so that workers do not fight for one lock.
pub(crate) struct Registry {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
}

struct Shard {
    tasks: Slab<TaskRef>,
    /// No further tasks: the runtime is being shut down.
    closed: bool,
}

impl Registry {
    pub(crate) fn new(shards: usize) -> Registry {
        let shard = |_| CachePadded::new(Mutex::new(Shard { tasks: Slab::new(), closed: false }));
        Registry { shards: (0..shards).map(shard).collect() }
    }

    /// Takes the registry's reference of a task; gives it back if the registry is closed.
    pub(crate) fn insert(&self, shard: usize, task: TaskRef) -> Result<(), TaskRef> {
        let shard = shard % self.shards.len();
        let mut part = lock(&self.shards[shard]);
        if part.closed {
            return Err(task);
        }
        let entry = part.tasks.vacant_entry();
        let place = (shard as u64) << 32 | entry.key() as u64;
        // Pairs with the acquire load in `remove`, by whoever runs the task.
        task.header().place_in_registry.store(place, Release);
        entry.insert(task);
        Ok(())
    }

    /// Takes a task out, if it is in. Its reference is then the caller's.
    pub(crate) fn remove(&self, task: &Header) -> Option<TaskRef> {
        let place = task.place_in_registry.load(Acquire);
        if place == u64::MAX {
            return None;
        }
        lock(&self.shards[(place >> 32) as usize]).tasks.try_remove(place as u32 as usize)
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        for shard in &self.shards {
            lock(shard).closed = true;
        }
    }

    /// Further references of all tasks that are in.
    pub(crate) fn tasks(&self) -> Vec<TaskRef> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(lock(shard).tasks.iter().map(|(_, task)| task.clone()));
        }
        all
    }

    /// How many are in.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).tasks.len()).sum()
    }
}
