//! What the behaviour suites stand on: futures and wakers that count, drop ledgers, gates, a
//! watchdog, and a view of the process from outside.
//!
//! Everything counts events. Nothing here sleeps to put threads in order: a test waits at a
//! [`Gate`], at a [`Countdown`], or until a runtime is idle. Whatever might hang runs under the
//! [`watchdog()`].
#![forbid(unsafe_code)]

mod duplex;
mod gate;
mod ledger;
mod probe;
mod process;
mod runtimes;
mod scale;
mod waker;
mod watchdog;

pub use duplex::{End, duplex};
pub use gate::{Countdown, Gate};
pub use ledger::{Counted, Ledger, Log, OnDrop};
pub use probe::{MARK, Probe, SCRIPTED, Step, Watch};
pub use process::{
    Child, cpu_time, in_child, in_child_by, in_child_with_limit, naps, open_descriptors, resident_bytes,
    say_as_child, threads, threads_named, wait_until,
};
pub use runtimes::{Occupied, idle, in_a_worker, occupy, run, runtime, shut_down, with_runtime};
pub use scale::scaled;
pub use waker::{CountingWaker, Fault, poll_once, poll_with};
pub use watchdog::{PATIENCE, outside, quiet_panic, watchdog};
