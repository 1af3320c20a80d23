//! The store, for async code: one connection, whose calls run on the pool for blocking ones.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_lock::Mutex;
use event_listener::{Event, EventListener};
use heirloom::spawn_blocking;

use crate::policy::Policy;
use crate::store::{self, Claimed, Counts, Effect, Failed, Lease, NewJob, Store, now};

/// A handle, to be cloned.
///
/// One connection is enough: every step of the queue writes, SQLite has one writer at a time, and
/// more connections would only wait for each other inside of it, each on a thread. Here tasks wait,
/// for an async lock, and in turn. The task that has its turn sends the lock's guard to the pool
/// together with the call. So no worker thread ever blocks, at most one thread of the pool does,
/// and a caller that is cancelled in the midst of a call cannot leave the connection half-way: the
/// call ends on the pool and lets the next one in.
#[derive(Clone)]
pub(crate) struct Database {
    store: Arc<Mutex<Store>>,
    enqueued: Arc<Event>,
}

impl Database {
    pub(crate) async fn open(
        path: PathBuf,
        application: &'static str,
        policy: Policy,
    ) -> crate::Result<Database> {
        let store = spawn_blocking(move || Store::open(&path, application, policy)).await??;
        Ok(Database { store: Arc::new(Mutex::new(store)), enqueued: Arc::new(Event::new()) })
    }

    /// Calls the closure with the store, in the caller's context.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Store) -> rusqlite::Result<R> + Send + 'static,
    ) -> crate::Result<R> {
        let mut store = self.store.lock_arc().await;
        Ok(spawn_blocking(move || call(&mut store)).await??)
    }

    /// The number that a query comes to.
    pub(crate) async fn number(&self, query: &'static str) -> crate::Result<i64> {
        self.call(move |store| store.connection().query_row(query, [], |row| row.get(0))).await
    }

    pub(crate) async fn counts(&self) -> crate::Result<Counts> {
        self.call(|store| store.counts()).await
    }

    /// Listens for jobs that are enqueued from now on through this handle or a clone.
    pub(crate) fn enqueued(&self) -> EventListener {
        self.enqueued.listen()
    }

    /// Enqueues a job of the request that the caller's context names. When the number is here, the
    /// job is on the disk.
    pub(crate) async fn enqueue(&self, job: NewJob) -> crate::Result<i64> {
        let id = self.call(move |store| store::enqueue(store.connection(), now(), &job)).await?;
        self.enqueued.notify(usize::MAX);
        Ok(id)
    }

    pub(crate) async fn claim(&self, most: usize) -> crate::Result<Claimed> {
        self.call(move |store| store.claim(now(), most)).await
    }

    pub(crate) async fn complete(&self, lease: Lease, effect: Effect) -> crate::Result<bool> {
        self.call(move |store| store.complete(lease, effect)).await
    }

    pub(crate) async fn fail(&self, lease: Lease, error: String, pause: Duration) -> crate::Result<Failed> {
        self.call(move |store| store.fail(lease, now(), &error, pause)).await
    }

    pub(crate) async fn give_back(&self, lease: Lease) -> crate::Result<bool> {
        self.call(move |store| store.give_back(lease, now())).await
    }
}
