//! A service: what one request of a usual one does. It is authenticated, fans out to four backends,
//! each of which is one of several kinds by chance, joins them, and answers; and at every step it
//! reads its context.
//!
//! | of 100 backend calls | do |
//! | --- | --- |
//! | 60 | find something in a cache: some work, one suspension |
//! | 25 | wait for a database: a sleep of 1 to 3 ms under a limit of 250 ms |
//! | 8 | wait for something slow: a sleep of 20 ms under a limit of 4 ms, which it does not keep |
//! | 7 | block a thread for 100 µs, on the pool that is there for that |

use std::time::Duration;

use super::{About, Scenario, work, yield_once};
use crate::load::check::Own;
use crate::load::executor::Loadable;
use crate::load::probe::probed;
use crate::load::record::{Tally, count};

/// Backends per request.
const BACKENDS: u64 = 4;

/// See the module.
#[derive(Debug)]
pub struct Service;

impl Scenario for Service {
    const ABOUT: About = About {
        name: "service",
        text: "requests fan out to 4 backends that work, sleep, time out or block, and read their context",
        unit: "requests",
        clients_per_worker: 64,
        over_connections: false,
    };

    async fn request<E: Loadable>(executor: E, own: Own) -> u64 {
        serve(executor, own).await;
        1
    }
}

/// Serves one request.
pub(super) async fn serve<E: Loadable>(executor: E, mut own: Own) {
    own.check("at the start of a request");
    let mine = own.scribble();
    authenticate(&mut own).await;
    let mut handles = Vec::with_capacity(BACKENDS as usize);
    for number in 0..BACKENDS {
        let child = own.child(number);
        let timed = child.is_timed();
        handles.push(executor.spawn(probed(timed, backend::<E>(child))));
    }
    for handle in handles {
        handle.await;
    }
    own.check_scribble(mine, "after the backends");
    own.check("after the backends");
    work(3);
}

async fn authenticate(own: &mut Own) {
    work(2);
    yield_once().await;
    own.check("after authentication");
}

async fn backend<E: Loadable>(mut own: Own) {
    own.check("at the start of a backend call");
    let mine = own.scribble();
    match own.pick(100) {
        0..60 => {
            work(2);
            yield_once().await;
            work(2);
        }
        60..85 => {
            let time = Duration::from_micros(1000 + own.pick(2000));
            if E::timeout(Duration::from_millis(250), E::sleep(time)).await.is_none() {
                count(Tally::TimedOut, 1);
            }
        }
        85..93 => {
            let slow = E::sleep(Duration::from_millis(20));
            if E::timeout(Duration::from_millis(4), slow).await.is_none() {
                count(Tally::TimedOut, 1);
            }
        }
        _ => {
            let mut within = own.child(0);
            let block = move || {
                within.check("on the pool for what blocks");
                std::thread::sleep(Duration::from_micros(100));
            };
            E::blocking(block).await;
        }
    }
    own.check_scribble(mine, "in a backend call, after it waited");
    own.check("at the end of a backend call");
}
