//! How many bytes does a parked task take, and an idle connection, beside other executors'?
//!
//! A program of its own, since it counts through the allocator, and counting costs time.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::process::ExitCode;

use heirloom_benches::executor::parked;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    parked::main(&parked::peers(), || {
        let stats = COUNTED.stats();
        // Bytes moved by `realloc` are already in the two sums.
        stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
    })
}
