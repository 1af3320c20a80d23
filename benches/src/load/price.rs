//! What a context costs on this machine: a few nanoseconds, next to a reference count.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom_context::{Context, ContextVar};

/// Nanoseconds per operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Variables that were bound.
    pub variables: usize,
    /// What a spawned task is given, taken and dropped.
    pub fork: f64,
    /// One variable read.
    pub read: f64,
    /// One variable set.
    pub set: f64,
    /// For comparison: an `Arc` cloned and dropped.
    pub arc: f64,
}

impl Price {
    /// Measures for some milliseconds.
    pub fn measure(variables: usize, each: Duration) -> Price {
        let made: Vec<ContextVar<u64>> = (0..variables).map(|_| ContextVar::new("price")).collect();
        let arc = Arc::new(0u64);
        Context::empty().run(|| {
            made.iter().for_each(|variable| drop(variable.set(1)));
            let held = Context::current();
            let price = |operation: &mut dyn FnMut()| best_of(each, operation);
            let first = made.first();
            Price {
                variables,
                fork: price(&mut || drop(black_box(Context::inherited()))),
                read: first.map_or(0.0, |first| {
                    price(&mut || {
                        black_box(first.get());
                    })
                }),
                set: first.map_or(0.0, |first| price(&mut || drop(held.run(|| first.set(2))))),
                arc: price(&mut || drop(black_box(Arc::clone(&arc)))),
            }
        })
    }
}

/// The best of some samples: an interruption makes a sample slower.
fn best_of(time: Duration, operation: &mut dyn FnMut()) -> f64 {
    const OPERATIONS: u32 = 1000;
    let begun = Instant::now();
    let mut best = f64::MAX;
    while begun.elapsed() < time {
        let from = Instant::now();
        (0..OPERATIONS).for_each(|_| operation());
        best = best.min(from.elapsed().as_nanos() as f64 / f64::from(OPERATIONS));
    }
    best
}
