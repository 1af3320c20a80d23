//! Timers: thousands of tasks sleep between 1 and 20 ms, over and over. How late do they wake?

use std::time::{Duration, Instant};

use super::{About, Scenario};
use crate::load::check::Own;
use crate::load::executor::Loadable;
use crate::load::record::{Metric, Tally, count, record};

/// See the module.
#[derive(Debug)]
pub struct Timers;

impl Scenario for Timers {
    const ABOUT: About = About {
        name: "timers",
        text: "thousands of tasks sleep for 1 to 20 ms",
        unit: "timers",
        clients_per_worker: 2000,
        over_connections: false,
    };

    async fn request<E: Loadable>(_: E, mut own: Own) -> u64 {
        let micros = 1000 + own.pick(19_000);
        nap::<E>(own, Duration::from_micros(micros)).await;
        1
    }
}

/// Sleeps, and records how late it wakes.
pub(super) async fn nap<E: Loadable>(mut own: Own, time: Duration) {
    own.check("before a sleep");
    let begun = Instant::now();
    E::sleep(time).await;
    let slept = begun.elapsed();
    match slept.checked_sub(time) {
        Some(late) => record(Metric::Lateness, late),
        None => count(Tally::Early, 1),
    }
    own.check("after a sleep");
}
