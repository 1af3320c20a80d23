//! Runtimes for tests, under the watchdog.

use std::future::Future;
use std::time::Duration;

use heirloom::Runtime;
use heirloom::runtime::ShutdownReport;

use crate::gate::{Countdown, Gate};
use crate::watchdog::{PATIENCE, watchdog};

/// A runtime with so many workers.
pub fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).thread_name("tested").build().expect("a runtime")
}

/// Runs `body` with a runtime of its own, under the watchdog; the runtime is dropped at the end.
#[track_caller]
pub fn with_runtime<R: Send + 'static>(
    workers: usize,
    body: impl FnOnce(&Runtime) -> R + Send + 'static,
) -> R {
    watchdog(PATIENCE, move || body(&runtime(workers)))
}

/// Runs the future that `body` makes as the root of a runtime of its own, on a thread that is no
/// worker, under the watchdog.
#[track_caller]
pub fn run<F: Future>(workers: usize, body: impl FnOnce() -> F + Send + 'static) -> F::Output
where
    F::Output: Send + 'static,
{
    watchdog(PATIENCE, move || runtime(workers).block_on(body()))
}

/// Runs the future as a task of a runtime of its own, on a worker, under the watchdog, and passes a
/// panic on.
#[track_caller]
pub fn in_a_worker<F>(workers: usize, future: F) -> F::Output
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    watchdog(PATIENCE, move || {
        let runtime = runtime(workers);
        match runtime.block_on(runtime.spawn(future)) {
            Ok(output) => output,
            Err(error) => match error.into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => panic!("the task was cancelled: {error}"),
            },
        }
    })
}

/// Workers that are kept busy until this is dropped or released.
#[derive(Debug)]
pub struct Occupied {
    gate: Gate,
}

impl Occupied {
    /// Gives the workers back.
    pub fn release(self) {}
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// Keeps so many workers inside a poll each. With all of them, what is spawned afterwards stays
/// queued.
pub fn occupy(runtime: &Runtime, workers: usize) -> Occupied {
    let (gate, arrivals) = (Gate::new(), Countdown::new(workers));
    for _ in 0..workers {
        let (gate, arrivals) = (gate.clone(), arrivals.clone());
        let task = runtime.spawn(async move {
            arrivals.arrive();
            gate.wait();
        });
        task.detach();
    }
    arrivals.wait();
    Occupied { gate }
}

/// Waits until no task of the runtime is queued or being polled.
pub fn idle(runtime: &Runtime) {
    runtime.wait_until_idle();
}

/// Ends the runtime: drains for at most `limit`, then cancels.
pub fn shut_down(runtime: Runtime, limit: Duration) -> ShutdownReport {
    runtime.shutdown(limit)
}
