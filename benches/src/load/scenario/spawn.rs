//! Spawn storm: a request spawns a thousand tasks that do nothing, and ends when all of them have.

use std::sync::Arc;

use futures::channel::oneshot;

use super::{About, Scenario};
use crate::load::check::Own;
use crate::load::executor::Loadable;
use crate::load::probe::probed;

/// Tasks per storm.
pub(super) const STORM: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub struct Spawn;

impl Scenario for Spawn {
    const ABOUT: About = About {
        name: "spawn",
        text: "a storm of 1,000 tasks that do nothing, spawned by one task",
        unit: "tasks",
        clients_per_worker: 1,
        over_connections: false,
    };

    async fn request<E: Loadable>(executor: E, own: Own) -> u64 {
        storm(executor, own, STORM).await
    }
}

/// Spawns `tasks` and waits for the last to end.
pub(super) async fn storm<E: Loadable>(executor: E, mut own: Own, tasks: u64) -> u64 {
    own.check("before the storm");
    let (ended, all_ended) = oneshot::channel::<()>();
    let ended = Arc::new(ended);
    for number in 0..tasks {
        let mut child = own.child(number);
        let timed = child.is_timed();
        let ended = Arc::clone(&ended);
        executor.detach(probed(timed, async move {
            child.check("in a storm's task");
            // The last one that goes tells the spawner.
            drop(ended);
        }));
    }
    drop(ended);
    // Nothing is sent: that the sender is dropped is the message.
    let _ = all_ended.await;
    own.check("after the storm");
    tasks
}
