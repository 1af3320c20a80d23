//! Soak: a mix of all the others, for as long as one likes. Does memory grow, do latencies drift,
//! does anything get stuck?

use std::time::Duration;

use super::{About, Scenario, pingpong, service, spawn, timers};
use crate::load::check::Own;
use crate::load::executor::Loadable;

/// See the module.
#[derive(Debug)]
pub struct Soak;

impl Scenario for Soak {
    const ABOUT: About = About {
        name: "soak",
        text: "a mix of the others: half of it service requests, the rest rallies, small storms and sleeps",
        unit: "requests",
        clients_per_worker: 32,
        over_connections: false,
    };

    async fn request<E: Loadable>(executor: E, mut own: Own) -> u64 {
        // Boxed: a request that sleeps need not be as large as one that serves.
        match own.pick(10) {
            0..5 => Box::pin(service::serve(executor, own)).await,
            5..7 => drop(Box::pin(pingpong::rally(executor, own, 10)).await),
            7 => drop(Box::pin(spawn::storm(executor, own, 50)).await),
            _ => {
                let time = Duration::from_micros(1000 + own.pick(50_000));
                Box::pin(timers::nap::<E>(own, time)).await;
            }
        }
        1
    }
}
