//! Rows about what a context adds to a spawn and to a poll, in units of the least that any executor
//! pays.
//!
//! An addition is the difference of two numbers that are much larger and noisy. So a sample
//! alternates, without and with, and again, on one runtime, and takes the median of the neighbours'
//! differences. What it is divided by is timed in between. There is one worker: with two, the time
//! per operation is half of what an addition costs, or more when they disturb each other, and flips
//! between the two.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use opentelemetry::context::FutureExt as _;

use super::message::YIELDING;
use super::plan::Plan;
use super::tools::Countdown;
use crate::context::carry::bare_swaps;
use crate::context::typed::{self, TASK_LOCAL_KEYS};
use crate::harness::{Sample, repeat};
use crate::peers::{Executor, Inheriting, Tokio};
use crate::stats::Spread;

/// Worker threads in these rows.
const WORKERS: usize = 1;
/// Without and with: so many times.
const PAIRS: u32 = 15;
/// Tasks of a batch that spawns.
const TASKS: u32 = 10_000;
/// How often a unit is repeated to be timed.
const UNITS: u64 = 20_000;

/// Something that tasks do, and the unit in which an addition to it is told.
pub trait Batch {
    /// Does it once: tasks that `C` gives what their spawner has.
    fn once<E: Executor, C: Carrier>(peer: E, countdown: &'static Countdown) -> Sample;

    /// The unit.
    fn unit() -> Sample;
}

/// A task spawns others that do nothing; per task, in uncontended clones and drops of an `Arc`.
#[derive(Debug)]
pub enum Spawns {}

impl Batch for Spawns {
    fn once<E: Executor, C: Carrier>(peer: E, countdown: &'static Countdown) -> Sample {
        peer.run(C::carry(async move {
            countdown.expect(TASKS);
            let start = Instant::now();
            for _ in 0..TASKS {
                peer.detach(C::carry(async { countdown.done() }));
            }
            countdown.finished().await;
            Sample { ops: TASKS.into(), elapsed: start.elapsed() }
        }))
    }

    fn unit() -> Sample {
        let shared = Arc::new(1u64);
        repeat(UNITS, || shared.clone())
    }
}

/// Tasks that yield; per yield, in swaps of a pointer with a thread-local's, and back again.
#[derive(Debug)]
pub enum Polls {}

impl Batch for Polls {
    fn once<E: Executor, C: Carrier>(peer: E, countdown: &'static Countdown) -> Sample {
        let [tasks, times] = YIELDING;
        peer.run(C::carry(async move {
            countdown.expect(tasks);
            let start = Instant::now();
            for _ in 0..tasks {
                peer.detach(C::carry(async move {
                    for _ in 0..times {
                        E::yield_now().await;
                    }
                    countdown.done();
                }));
            }
            countdown.finished().await;
            Sample { ops: (tasks * times).into(), elapsed: start.elapsed() }
        }))
    }

    fn unit() -> Sample {
        bare_swaps(UNITS)
    }
}

/// What `with` takes longer than `without`, in units of the batch.
fn extra<B: Batch>(plan: &Plan, without: &dyn Fn() -> Sample, with: &dyn Fn() -> Sample) -> f64 {
    let (mut differences, mut units) = (Vec::new(), Vec::new());
    without();
    with();
    for pair in 0..plan.many(PAIRS) {
        units.push(B::unit().ns());
        // Which of the two comes first alternates, too.
        let difference = if pair % 2 == 0 {
            let plain = without().ns();
            with().ns() - plain
        } else {
            let carried = with().ns();
            carried - without().ns()
        };
        differences.push(difference);
    }
    let median = |values: Vec<f64>| Spread::of(values).map_or(f64::NAN, |values| values.median);
    median(differences) / median(units)
}

/// A way to give a task what its spawner has.
pub trait Carrier: 'static {
    /// Makes a future that has it, for a spawn that is about to come.
    fn carry<F: Future<Output: Send> + Send + 'static>(
        f: F,
    ) -> impl Future<Output = F::Output> + Send + 'static;
}

/// Nothing is done: nothing is carried, or, with ours, the context is.
#[derive(Debug)]
pub enum Silent {}

impl Carrier for Silent {
    #[inline]
    fn carry<F: Future<Output: Send> + Send + 'static>(
        f: F,
    ) -> impl Future<Output = F::Output> + Send + 'static {
        f
    }
}

/// One `Arc`, cloned by hand, and dropped with the task.
#[derive(Debug)]
pub enum ByHand {}

impl Carrier for ByHand {
    #[inline]
    fn carry<F: Future<Output: Send> + Send + 'static>(
        f: F,
    ) -> impl Future<Output = F::Output> + Send + 'static {
        static CARRIED: LazyLock<Arc<u64>> = LazyLock::new(|| Arc::new(1));
        let own = Arc::clone(&CARRIED);
        async move {
            let output = f.await;
            drop(own);
            output
        }
    }
}

/// opentelemetry's current context, put on by hand.
#[derive(Debug)]
pub enum ByOtel {}

impl Carrier for ByOtel {
    #[inline]
    fn carry<F: Future<Output: Send> + Send + 'static>(
        f: F,
    ) -> impl Future<Output = F::Output> + Send + 'static {
        f.with_current_context()
    }
}

/// Task locals, each put on by hand.
#[derive(Debug)]
pub enum ByTaskLocals<const COUNT: usize> {}

macro_rules! scopes {
    ($f:expr;) => { $f };
    ($f:expr; $first:literal $($rest:literal)*) => { TASK_LOCAL_KEYS[$first].scope(1, scopes!($f; $($rest)*)) };
}

macro_rules! by_task_locals {
    ($count:literal: $($key:literal)*) => {
        impl Carrier for ByTaskLocals<$count> {
            #[inline]
            fn carry<F: Future<Output: Send> + Send + 'static>(
                f: F,
            ) -> impl Future<Output = F::Output> + Send + 'static {
                scopes!(f; $($key)*)
            }
        }
    };
}

by_task_locals! { 1: 0 }
by_task_locals! { 8: 0 1 2 3 4 5 6 7 }
by_task_locals! {
    32: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
}

/// 1, 8 and 32 variables that tasks inherit, over none.
pub fn inherited<E: Inheriting, B: Batch>(plan: &Plan) -> Vec<f64> {
    let countdown = Countdown::leaked();
    let peer = E::start(WORKERS);
    let with = |variables| E::with_bound(variables, || B::once::<_, Silent>(peer, countdown));
    let figures = [1, 8, 32].map(|variables| extra::<B>(plan, &|| with(0), &|| with(variables))).to_vec();
    peer.stop();
    figures
}

/// tokio with something carried, over tokio with nothing.
fn on_tokio<const CASES: usize>(
    extras: [&dyn Fn(Tokio<true>, &'static Countdown) -> f64; CASES],
) -> Vec<f64> {
    let (peer, countdown) = (Tokio::<true>::start(WORKERS), Countdown::leaked());
    let figures = extras.iter().map(|extra| extra(peer, countdown)).collect();
    peer.stop();
    figures
}

/// tokio carrying by `C`, over tokio carrying nothing.
fn extra_of<B: Batch, C: Carrier>(plan: &Plan, peer: Tokio<true>, countdown: &'static Countdown) -> f64 {
    extra::<B>(plan, &|| B::once::<_, Silent>(peer, countdown), &|| B::once::<_, C>(peer, countdown))
}

/// One `Arc` by hand, for any number of variables.
pub fn by_hand<B: Batch>(plan: &Plan) -> Vec<f64> {
    on_tokio([&|peer, countdown| extra_of::<B, ByHand>(plan, peer, countdown); 3])
}

/// opentelemetry's context with 1, 8 and 32 values.
pub fn opentelemetry<B: Batch>(plan: &Plan) -> Vec<f64> {
    let with = |values, peer, countdown| {
        let _attached = typed::otel::<u64>(values).attach();
        extra_of::<B, ByOtel>(plan, peer, countdown)
    };
    on_tokio([
        &|peer, countdown| with(1, peer, countdown),
        &|peer, countdown| with(8, peer, countdown),
        &|peer, countdown| with(32, peer, countdown),
    ])
}

/// 1, 8 and 32 task locals.
pub fn task_locals<B: Batch>(plan: &Plan) -> Vec<f64> {
    on_tokio([
        &|peer, countdown| extra_of::<B, ByTaskLocals<1>>(plan, peer, countdown),
        &|peer, countdown| extra_of::<B, ByTaskLocals<8>>(plan, peer, countdown),
        &|peer, countdown| extra_of::<B, ByTaskLocals<32>>(plan, peer, countdown),
    ])
}
