//! Fan-out and fan-in: a request spawns 32 tasks that each work for a microsecond or so, and joins
//! them all.

use super::{About, Scenario, work, yield_once};
use crate::load::check::Own;
use crate::load::executor::Loadable;
use crate::load::probe::probed;

/// Tasks per request.
const FAN: u64 = 32;

/// See the module.
#[derive(Debug)]
pub struct Fanout;

impl Scenario for Fanout {
    const ABOUT: About = About {
        name: "fanout",
        text: "a request spawns 32 tasks of 1 to 4 µs of work and joins them",
        unit: "tasks",
        clients_per_worker: 16,
        over_connections: false,
    };

    async fn request<E: Loadable>(executor: E, mut own: Own) -> u64 {
        let mine = own.scribble();
        let mut handles = Vec::with_capacity(FAN as usize);
        for number in 0..FAN {
            let child = own.child(number);
            let timed = child.is_timed();
            handles.push(executor.spawn(probed(timed, branch(child, mine))));
        }
        for handle in handles {
            handle.await;
        }
        own.check_scribble(mine, "after the tasks it fanned out to");
        own.check("after the tasks it fanned out to");
        FAN
    }
}

/// One branch. Every eighth writes something of its own, and suspends before it looks whether that
/// is still there.
async fn branch(mut own: Own, inherited: Option<u64>) {
    own.check("at the start of a branch");
    work(1 + own.pick(4));
    if own.pick(8) == 0 {
        own.check_scribble(inherited, "in a branch that has written nothing yet");
        let mine = own.scribble();
        yield_once().await;
        own.check_scribble(mine, "in a branch, after it suspended");
    }
    own.check("at the end of a branch");
}
