//! Rows about time: many sleeps, limits that are not reached, timers that are not waited for.

use std::future::ready;
use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::poll;

use super::plan::{Plan, started, timed};
use super::tools::{Countdown, process_time};
use crate::harness::Sample;
use crate::peers::Timers;
use crate::stats::{Random, Spread};

/// Tasks that sleep at once.
const SLEEPERS: u32 = 100_000;

/// How late sleepers were, all together.
#[derive(Debug, Default)]
struct Lateness {
    nanos: AtomicU64,
    early: AtomicU64,
}

/// 100,000 tasks that sleep for 1 to 100 ms each, spawned by a task. Processor time per timer, mean
/// lateness (both in nanoseconds), and how many woke too early.
pub fn sleeps<E: Timers>(plan: &Plan) -> Vec<f64> {
    let (countdown, lateness): (_, &'static Lateness) = (Countdown::leaked(), Box::leak(Box::default()));
    let sleepers = plan.many(SLEEPERS);
    let used = started::<E, _>(|peer| {
        let sleep_all = |count: u32| {
            peer.run(async move {
                // The same durations for all peers, round by round.
                let mut random = Random::new(1);
                countdown.expect(count);
                for _ in 0..count {
                    let micros = 1_000 + random.next_u64() % 99_001;
                    peer.detach(async move {
                        let due = Instant::now() + Duration::from_micros(micros);
                        E::sleep(Duration::from_micros(micros)).await;
                        match Instant::now().checked_duration_since(due) {
                            Some(late) => lateness.nanos.fetch_add(late.as_nanos() as u64, Ordering::Relaxed),
                            None => lateness.early.fetch_add(1, Ordering::Relaxed),
                        };
                        countdown.done();
                    });
                }
                countdown.finished().await;
            });
        };
        sleep_all(sleepers / 100);
        lateness.nanos.store(0, Ordering::Relaxed);
        let before = process_time();
        sleep_all(sleepers);
        process_time() - before
    });
    let per_timer = |nanos: u64| nanos as f64 / f64::from(sleepers);
    vec![
        per_timer(used.as_nanos() as u64),
        per_timer(lateness.nanos.load(Ordering::Relaxed)),
        lateness.early.load(Ordering::Relaxed) as f64,
    ]
}

/// Sleeps of a sample of [`short_sleeps`].
const SHORT_SLEEPS: u32 = 200;
const SHORT: Duration = Duration::from_micros(100);

/// One task sleeps for 100 µs, again and again, while the runtime does nothing else. The median of
/// its lateness and the processor time per sleep, both in nanoseconds.
pub fn short_sleeps<E: Timers>(plan: &Plan) -> Vec<f64> {
    let sleeps = plan.many(SHORT_SLEEPS);
    started::<E, _>(|peer| {
        peer.run(async move {
            let mut late = Vec::new();
            let before = process_time();
            for _ in 0..sleeps {
                let due = Instant::now() + SHORT;
                E::sleep(SHORT).await;
                // A peer that is early is late by nothing here: row `timers` counts such.
                late.push(Instant::now().saturating_duration_since(due).as_nanos() as f64);
            }
            let used = process_time() - before;
            let per_sleep = used.as_nanos() as f64 / late.len() as f64;
            vec![Spread::of(late).map_or(f64::NAN, |late| late.median), per_sleep]
        })
    })
}

/// How often a batch does it.
const TIMES: u32 = 10_000;
/// A limit that is never reached.
const LIMIT: Duration = Duration::from_secs(1);

/// A limit around a future that is ready.
pub fn limit_ready<E: Timers>(plan: &Plan) -> Vec<f64> {
    timed::<E>(plan, |peer| {
        peer.run(async {
            let start = Instant::now();
            for _ in 0..TIMES {
                black_box(E::timeout(LIMIT, ready(black_box(1u64))).await);
            }
            Sample { ops: TIMES.into(), elapsed: start.elapsed() }
        })
    })
}

/// A limit around a future that yields once.
pub fn limit_yields<E: Timers>(plan: &Plan) -> Vec<f64> {
    timed::<E>(plan, |peer| {
        peer.run(async {
            let start = Instant::now();
            for _ in 0..TIMES {
                black_box(E::timeout(LIMIT, E::yield_now()).await);
            }
            Sample { ops: TIMES.into(), elapsed: start.elapsed() }
        })
    })
}

/// A timer that is polled once, so that it is registered, and dropped.
pub fn cancel<E: Timers>(plan: &Plan) -> Vec<f64> {
    timed::<E>(plan, |peer| {
        peer.run(async {
            let start = Instant::now();
            for _ in 0..TIMES {
                let timer = pin!(E::sleep(LIMIT));
                assert!(poll!(timer).is_pending());
            }
            Sample { ops: TIMES.into(), elapsed: start.elapsed() }
        })
    })
}
