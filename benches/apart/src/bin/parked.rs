//! The program `parked` with forte.
#![forbid(unsafe_code)]

#[path = "../forte.rs"]
mod forte;

use std::alloc::System;
use std::process::ExitCode;

use heirloom_benches::executor::parked::{self, Peer};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let mut peers = parked::peers();
    peers.push(Peer::of::<forte::Forte>());
    parked::main(&peers, || {
        let stats = COUNTED.stats();
        stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
    })
}
