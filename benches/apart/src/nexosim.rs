//! nexosim's executor, through the door it leaves open for benchmarks.
//!
//! It belongs to a simulator: tasks are put in before it runs, it runs until none can go on, and
//! nothing can be spawned by a task or woken from outside meanwhile. So it takes part only where a
//! fixed set of tasks runs to its end, and its figures include the spawning of that set, as those
//! of all peers do.

use std::time::Instant;

use heirloom_benches::executor::message::{self, RING, YIELDING, ring};
use heirloom_benches::executor::plan::{Plan, WORKERS};
use heirloom_benches::executor::row::{Contender, Sampler};
use heirloom_benches::harness::Sample;
use nexosim::dev_hooks::Executor;

/// nexosim in the rows it can take part in.
pub fn contender() -> Contender {
    let rows: Vec<(&'static str, Sampler)> = vec![
        ("yield-many", yield_many),
        ("yield-alone", yield_alone),
        ("ring-one", ring_one),
        ("ring-all", ring_all),
    ];
    Contender { name: "nexosim", rows }
}

/// Samples of what runs the tasks that `make` makes, anew for each batch and before the clock
/// starts.
fn sets<F>(plan: &Plan, ops: u32, make: impl Fn() -> Vec<F>) -> Vec<f64>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut executor = Executor::new(WORKERS);
    message::timed_sets(plan, || {
        let tasks = make();
        let start = Instant::now();
        for task in tasks {
            executor.spawn_and_forget(task);
        }
        executor.run();
        Sample { ops: ops.into(), elapsed: start.elapsed() }
    })
}

async fn yielding(times: u32) {
    for _ in 0..times {
        futures_lite::future::yield_now().await;
    }
}

fn yield_many(plan: &Plan) -> Vec<f64> {
    let [tasks, times] = YIELDING;
    sets(plan, tasks * times, || (0..tasks).map(|_| yielding(times)).collect())
}

fn yield_alone(plan: &Plan) -> Vec<f64> {
    let times = message::YIELDS_ALONE;
    sets(plan, times, || vec![yielding(times)])
}

fn ring_one(plan: &Plan) -> Vec<f64> {
    sets(plan, RING[0] * RING[1], || ring(1))
}

fn ring_all(plan: &Plan) -> Vec<f64> {
    sets(plan, RING[0] * RING[1], || ring(RING[0]))
}
