//! What the scenarios ask of an executor beyond what the other benches do, and which executors can do it.

use std::future::Future;

use crate::peers::{AsyncExecutor, Heirloom, Smol, Timers, Tokio};

/// Ours. The scenarios bind variables themselves, one set a request.
pub type Ours = Heirloom<0>;

/// tokio as `#[tokio::main]` starts it.
pub type TokioMain = Tokio<true>;

/// An executor with timers and a pool for what blocks.
pub trait Loadable: Timers {
    /// Its name on the command line and in reports.
    const LABEL: &'static str = Self::NAME;

    /// Whether a spawned task inherits its spawner's context: then every task is checked.
    const CARRIES: bool = false;

    /// Runs a closure that blocks.
    fn blocking<F: FnOnce() + Send + 'static>(f: F) -> impl Future<Output = ()> + Send;

    /// What it tells of itself.
    fn observe(&self) -> Observed {
        Observed::default()
    }
}

/// What an executor tells of itself; `None` where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Polls of all workers so far.
    pub polls: Option<u64>,
    /// Steals of all workers so far.
    pub steals: Option<u64>,
    /// Parks of all workers so far.
    pub parks: Option<u64>,
    /// Tasks that wait for a worker now.
    pub queued: Option<u64>,
}

impl Loadable for Ours {
    const LABEL: &'static str = "heirloom";
    const CARRIES: bool = true;

    async fn blocking<F: FnOnce() + Send + 'static>(f: F) {
        let _ = heirloom::spawn_blocking(f).await;
    }

    fn observe(&self) -> Observed {
        let stats = self.handle().stats();
        let workers = &stats.workers;
        let queued = stats.injected + workers.iter().map(|worker| worker.queued).sum::<usize>();
        Observed {
            polls: Some(workers.iter().map(|worker| worker.polls).sum()),
            steals: Some(workers.iter().map(|worker| worker.steals).sum()),
            parks: Some(workers.iter().map(|worker| worker.parks).sum()),
            queued: Some(queued as u64),
        }
    }
}

impl Loadable for TokioMain {
    async fn blocking<F: FnOnce() + Send + 'static>(f: F) {
        let _ = tokio::task::spawn_blocking(f).await;
    }

    fn observe(&self) -> Observed {
        let metrics = self.handle().metrics();
        let parks = (0..metrics.num_workers()).map(|worker| metrics.worker_park_count(worker)).sum();
        // Steals, polls and the workers' own queues are behind an unstable flag.
        Observed { parks: Some(parks), ..Observed::default() }
    }
}

impl Loadable for Smol {
    fn blocking<F: FnOnce() + Send + 'static>(f: F) -> impl Future<Output = ()> + Send {
        smol::unblock(f)
    }
}

impl Loadable for AsyncExecutor {
    // The pool that smol's users and async-executor's share.
    fn blocking<F: FnOnce() + Send + 'static>(f: F) -> impl Future<Output = ()> + Send {
        smol::unblock(f)
    }
}
