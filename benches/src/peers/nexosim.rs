//! nexosim's executor, through the door it leaves open for benchmarks.
//!
//! It belongs to a simulator: tasks are put in from outside before it runs, it runs until none can go on, and nothing can
//! be spawned by a task or woken from outside meanwhile. So it takes part only where a fixed set of tasks runs to its end.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

/// nexosim's executor.
pub struct Nexosim(::nexosim::dev_hooks::Executor);

impl fmt::Debug for Nexosim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Nexosim").finish_non_exhaustive()
    }
}

impl Nexosim {
    /// What it is called in tables and on the command line.
    pub const NAME: &'static str = "nexosim";

    /// Starts it with so many worker threads, which park until it is told to run.
    pub fn start(workers: usize) -> Self {
        Nexosim(::nexosim::dev_hooks::Executor::new(workers))
    }

    /// Spawns all tasks, runs them to their end, and says how long both took together.
    pub fn run_all<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        tasks: impl IntoIterator<Item = F>,
    ) -> Duration {
        let start = Instant::now();
        for task in tasks {
            self.0.spawn_and_forget(task);
        }
        self.0.run();
        start.elapsed()
    }
}
