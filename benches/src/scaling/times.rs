//! The time of an operation, by number of workers.

use std::num::NonZero;
use std::thread;
use std::time::Instant;

use heirloom::Runtime;
use heirloom_scaling::operation::{Operation, Timed};
use serde_json::{Value, json};

use super::Plan;
use crate::report::{ns, table};
use crate::stats::Spread;

/// The numbers of workers that have a processor each.
fn workers(smoke: bool) -> Vec<usize> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let most = if smoke { processors.min(2) } else { processors };
    let mut workers: Vec<usize> = (0..).map(|power| 1 << power).take_while(|&power| power < most).collect();
    workers.push(most);
    workers
}

/// By how much a run that is timed is longer than one that is counted.
const MORE: usize = 40;

/// Nanoseconds of one operation; where all workers do it, of one worker.
fn time(operation: &Operation, workers: usize, plan: Plan) -> f64 {
    let runtime = Runtime::builder().workers(workers).build().expect("threads for the workers");
    let rounds = plan.rounds(operation);
    (operation.run)(&runtime, workers, rounds);
    let begun = Instant::now();
    let operations = (operation.run)(&runtime, workers, MORE * rounds);
    let side_by_side = if operation.timed == Timed::PerWorker { workers } else { 1 };
    begun.elapsed().as_nanos() as f64 * side_by_side as f64 / operations.max(1) as f64
}

/// The table of all operations that can be timed, and every figure of it.
pub(super) fn measure(operations: &[&Operation], plan: Plan) -> (String, Value) {
    let workers = workers(plan.smoke);
    let mut header = vec!["ns (min..max), by workers".to_owned()];
    header.extend(workers.iter().map(ToString::to_string));
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for operation in operations.iter().filter(|operation| operation.timed != Timed::No) {
        let mut row = vec![operation.name.to_owned()];
        for &workers in &workers {
            let runs: Vec<f64> = (0..plan.runs).map(|_| time(operation, workers, plan)).collect();
            let spread = Spread::of(runs.iter().copied()).expect("one run at least");
            row.push(format!("{} ({}..{})", ns(spread.median), ns(spread.min), ns(spread.max)));
            all.push(json!({ "operation": operation.name, "workers": workers, "ns": runs }));
        }
        rows.push(row);
    }
    let explained = "Time of an operation. Where each worker does it, of one worker: it stays the same if \
                     workers do not hinder one another.";
    (format!("{explained}\n\n{}", table(&header, &rows)), all.into())
}
