//! The promises that the crate's documentation prints: a test of the same name for each, and a file
//! for each test.
//!
//! `one_allocation_per_task_at_most` stands in the `allocations` binary, which counts allocations.

use heirloom::context_var;
use heirloom_tests::Counted;

mod bounded_time;
mod completion;
mod contexts;
mod dropped_runtime;
mod idle_cpu;
mod one_drop;
mod panics;
mod shutdown;
mod sleepers;
mod teardown;
mod threads;
mod wake_ups;
mod wakers;

context_var! {
    static NUMBER: usize;
    static VALUE: Counted;
}
