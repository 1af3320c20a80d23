//! How many bytes does a context hold, and how many does each further snapshot with one value
//! replaced add?
//!
//! A program of its own, since it counts through the allocator, and counting costs time.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, Command};
use heirloom_benches::context::subjects::{self, Payload, order};
use heirloom_benches::context::threshold::SIZES;
use heirloom_benches::report;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Snapshots that are kept; each replaces one value of the same base.
const KEPT: usize = 256;

/// What `build` leaves allocated: bytes, and blocks. What it returns is kept until both are read.
fn kept<R>(build: impl FnOnce() -> R) -> (f64, f64) {
    let region = Region::new(COUNTED);
    let result = build();
    let change = region.change();
    drop(result);
    // Bytes moved by `realloc` are already in the two sums.
    let bytes = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
    (bytes, change.allocations as f64 - change.deallocations as f64)
}

/// The same per snapshot, over the memory for the list that keeps them.
fn per_snapshot<R>(n: usize, mut replace: impl FnMut(usize) -> R) -> (f64, f64) {
    let mut list = Vec::with_capacity(KEPT);
    let picks: Vec<usize> = order(n).into_iter().cycle().take(KEPT).collect();
    let (bytes, blocks) = kept(|| list.extend(picks.iter().map(|&at| replace(at))));
    (bytes / KEPT as f64, blocks / KEPT as f64)
}

fn print(smoke: bool) -> io::Result<()> {
    let header = [
        "",
        "heirloom: bytes (blocks)",
        "imbl: bytes (blocks)",
        "heirloom, per snapshot with one replaced",
        "imbl, likewise",
    ];
    let cell = |(bytes, blocks): (f64, f64)| format!("{bytes:.0} ({blocks:.1})");
    let mut rows = Vec::new();
    let sizes = [1, 8].into_iter().chain(SIZES);
    for n in sizes.take(if smoke { 2 } else { usize::MAX }) {
        // Once before it counts: variables and thread-locals come into being on first use.
        let (context, vars) = (subjects::context::<u64>(n), u64::pool().bound(n));
        let map = subjects::imbl::<u64>(n);
        rows.push(vec![
            format!("{n}"),
            cell(kept(|| subjects::context::<u64>(n))),
            cell(kept(|| subjects::imbl::<u64>(n))),
            cell(per_snapshot(n, |at| context.with_var(vars[at], 1))),
            cell(per_snapshot(n, |at| map.update(at as u64, Arc::new(1)))),
        ]);
    }
    write!(io::stdout(), "{}", report::table(&header.map(str::to_owned), &rows))
}

fn main() -> ExitCode {
    let smoke = Arg::new("smoke")
        .long("smoke")
        .action(ArgAction::SetTrue)
        .help("The two smallest sizes: does it run?");
    let arguments =
        Command::new("footprint").about("Counts the bytes of contexts, by size.").arg(smoke).get_matches();
    match print(arguments.get_flag("smoke")) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cannot write the table: {error}");
            ExitCode::from(1)
        }
        _ => ExitCode::SUCCESS,
    }
}
