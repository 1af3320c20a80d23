//! Rows about spawning: tasks that do nothing, from inside and from outside, awaited and not.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::plan::{NEVER, Plan, repeated, started, timed};
use super::tools::{Countdown, Work, block_on_for, process_time};
use crate::harness::Sample;
use crate::peers::Executor;

/// Tasks of a batch.
const TASKS: u32 = 10_000;

/// A task spawns `TASKS` others, which do nothing but count themselves off, and waits for the last.
pub fn inside<E: Executor>(plan: &Plan) -> Vec<f64> {
    let countdown = Countdown::leaked();
    timed::<E>(plan, |peer| {
        peer.run(async move {
            let start = Instant::now();
            flood(peer, countdown);
            countdown.finished().await;
            Sample { ops: TASKS.into(), elapsed: start.elapsed() }
        })
    })
}

fn flood<E: Executor>(peer: E, countdown: &'static Countdown) {
    countdown.expect(TASKS);
    for _ in 0..TASKS {
        peer.detach(async { countdown.done() });
    }
}

/// The same by a thread that is no worker.
pub fn outside<E: Executor>(plan: &Plan) -> Vec<f64> {
    let countdown = Countdown::leaked();
    timed::<E>(plan, |peer| flooded_from_outside(peer, countdown))
}

fn flooded_from_outside<E: Executor>(peer: E, countdown: &'static Countdown) -> Sample {
    let start = Instant::now();
    flood(peer, countdown);
    peer.block_on(countdown.finished());
    Sample { ops: TASKS.into(), elapsed: start.elapsed() }
}

/// Tasks that yield all the time in [`outside_busy`]: enough that each worker always has several.
const YIELDING: u32 = 8;
/// Tasks that work and yield all the time in [`outside_working`], as in tokio's own benchmark.
const WORKING: u32 = 4;

/// The same while every worker has tasks that yield without end.
pub fn outside_busy<E: Executor>(plan: &Plan) -> Vec<f64> {
    outside_beside::<E>(plan, YIELDING, None)
}

/// The same while every worker has tasks that compute for 10 µs and yield, without end.
pub fn outside_working<E: Executor>(plan: &Plan) -> Vec<f64> {
    outside_beside::<E>(plan, WORKING, Some(Work::of_micros(10)))
}

/// A peer that has not finished after [`Plan::patience`] is given up on.
fn outside_beside<E: Executor>(plan: &Plan, yielders: u32, work: Option<Work>) -> Vec<f64> {
    let sample = started::<E, _>(|peer| {
        let (countdown, yielding) = (Countdown::leaked(), Countdown::leaked());
        let stop: &'static AtomicBool = Box::leak(Box::default());
        yielding.expect(yielders);
        for _ in 0..yielders {
            peer.detach(async move {
                // Only says when to end.
                while !stop.load(Ordering::Relaxed) {
                    if let Some(work) = work {
                        work.run();
                    }
                    E::yield_now().await;
                }
                yielding.done();
            });
        }
        let mut given_up = false;
        let sample = repeated(plan, || {
            let start = Instant::now();
            if !given_up {
                flood(peer, countdown);
                given_up = block_on_for(countdown.finished(), plan.patience()).is_none();
            }
            // Once given up on, it has taken the time of a sample: there is no further batch.
            let elapsed = if given_up { plan.patience() } else { start.elapsed() };
            Sample { ops: TASKS.into(), elapsed }
        });
        stop.store(true, Ordering::Relaxed);
        // With the yielding tasks gone, every peer polls the other tasks.
        peer.block_on(yielding.finished());
        peer.block_on(countdown.finished());
        if given_up { NEVER } else { sample.ns() }
    });
    vec![sample]
}

/// A task spawns `TASKS` others, keeps their handles, and awaits them in order.
pub fn join_all<E: Executor>(plan: &Plan) -> Vec<f64> {
    timed::<E>(plan, |peer| {
        peer.run(async move {
            let mut handles = Vec::with_capacity(TASKS as usize);
            let start = Instant::now();
            for _ in 0..TASKS {
                handles.push(peer.spawn(async {}));
            }
            for handle in handles {
                handle.await;
            }
            Sample { ops: TASKS.into(), elapsed: start.elapsed() }
        })
    })
}

/// Tasks of a batch that are awaited one by one, inside and outside.
const ONE_BY_ONE: [u32; 2] = [10_000, 1_000];

async fn one_by_one<E: Executor>(peer: E, tasks: u32) -> Sample {
    let start = Instant::now();
    for _ in 0..tasks {
        peer.spawn(async {}).await;
    }
    Sample { ops: tasks.into(), elapsed: start.elapsed() }
}

/// A task spawns another and awaits it, over and over.
pub fn one_by_one_inside<E: Executor>(plan: &Plan) -> Vec<f64> {
    timed::<E>(plan, |peer| peer.run(one_by_one(peer, ONE_BY_ONE[0])))
}

/// A thread that is no worker does. Also: the processor time of the whole process per task.
pub fn one_by_one_outside<E: Executor>(plan: &Plan) -> Vec<f64> {
    started::<E, _>(|peer| {
        let tasks = plan.many(ONE_BY_ONE[1]);
        let mut used = Duration::ZERO;
        let mut ops = 0;
        let sample = repeated(plan, || {
            let before = process_time();
            let sample = peer.block_on(one_by_one(peer, tasks));
            used += process_time() - before;
            ops += sample.ops;
            sample
        });
        vec![sample.ns(), Sample { elapsed: used, ops }.ns()]
    })
}

/// Links of a chain.
const LINKS: u32 = 1_000;

/// A task that spawns the next one and ends.
struct Link<E> {
    peer: E,
    left: u32,
    end: &'static Countdown,
}

impl<E: Executor> Future for Link<E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.left {
            0 => self.end.done(),
            left => self.peer.detach(Link { left: left - 1, peer: self.peer, end: self.end }),
        }
        Poll::Ready(())
    }
}

impl<E: Executor> Unpin for Link<E> {}

/// A chain of `LINKS` tasks of which each spawns the next.
pub fn chain<E: Executor>(plan: &Plan) -> Vec<f64> {
    let end = Countdown::leaked();
    timed::<E>(plan, |peer| {
        peer.run(async move {
            end.expect(1);
            let start = Instant::now();
            peer.detach(Link { peer, left: LINKS, end });
            end.finished().await;
            Sample { ops: LINKS.into(), elapsed: start.elapsed() }
        })
    })
}
