//! Rows about sharing: recursive fork-join, and tasks that work. The second core must be worth
//! something here.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use super::plan::{Plan, repeated, timed};
use super::tools::{Countdown, Work};
use crate::harness::Sample;
use crate::peers::Executor;

/// Leaves of the tree: with the inner nodes 99,999 tasks.
const LEAVES: u32 = 50_000;
/// Leaves of the tree that works.
const WORKING_LEAVES: u32 = 10_000;

/// A task that spawns its two halves and awaits both; a leaf works.
///
/// Written by hand, since an `async` function cannot spawn itself without boxing, which would be
/// measured too.
struct Fork<E: Executor> {
    peer: E,
    leaves: u32,
    work: Option<Work>,
    halves: Option<[Option<E::Join<()>>; 2]>,
}

impl<E: Executor> Unpin for Fork<E> {}

impl<E: Executor> Future for Fork<E> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Fork { peer, leaves, work, .. } = *self;
        if leaves == 1 {
            if let Some(work) = work {
                work.run();
            }
            return Poll::Ready(());
        }
        let halves = self.halves.get_or_insert_with(|| {
            let half = |leaves| Some(peer.spawn(Fork { peer, leaves, work, halves: None }));
            [half(leaves / 2), half(leaves - leaves / 2)]
        });
        for half in halves {
            if let Some(handle) = half {
                if Pin::new(handle).poll(cx).is_pending() {
                    return Poll::Pending;
                }
                *half = None;
            }
        }
        Poll::Ready(())
    }
}

fn forked<E: Executor>(peer: E, leaves: u32, work: Option<Work>, ops: u32) -> Sample {
    peer.run(async move {
        let start = Instant::now();
        Fork { peer, leaves, work, halves: None }.await;
        Sample { ops: ops.into(), elapsed: start.elapsed() }
    })
}

/// A tree of 99,999 tasks that do nothing; per task.
pub fn fork_join<E: Executor>(plan: &Plan) -> Vec<f64> {
    let leaves = plan.many(LEAVES);
    timed::<E>(plan, |peer| forked(peer, leaves, None, 2 * leaves - 1))
}

/// Tasks of the tree that is written with boxes.
const BOXED: u32 = 92_735;

/// A tree of so many tasks, as async blocks: each is in a box, so that it can spawn its own kind.
fn boxed<E: Executor>(peer: E, tasks: u32) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let below = tasks - 1;
        let halves = [below / 2, below - below / 2];
        let spawned = halves.map(|tasks| (tasks != 0).then(|| peer.spawn(boxed(peer, tasks))));
        for half in spawned.into_iter().flatten() {
            half.await;
        }
    })
}

/// A tree of 92,735 tasks in boxes that do nothing; per task.
pub fn fork_join_boxes<E: Executor>(plan: &Plan) -> Vec<f64> {
    let tasks = plan.many(BOXED);
    timed::<E>(plan, |peer| {
        peer.run(async move {
            let start = Instant::now();
            boxed(peer, tasks).await;
            Sample { ops: tasks.into(), elapsed: start.elapsed() }
        })
    })
}

/// A tree with 10,000 leaves of 1 µs; per leaf.
pub fn fork_join_work<E: Executor>(plan: &Plan) -> Vec<f64> {
    let (leaves, work) = (plan.many(WORKING_LEAVES), Work::of_micros(1));
    timed::<E>(plan, |peer| forked(peer, leaves, Some(work), leaves))
}

/// Tasks that work.
const TASKS: u32 = 10_000;

fn working<E: Executor>(plan: &Plan, micros: u32) -> Vec<f64> {
    let (tasks, work) = (plan.many(TASKS), Work::of_micros(micros));
    let countdown = Countdown::leaked();
    timed::<E>(plan, |peer| {
        peer.run(async move {
            countdown.expect(tasks);
            let start = Instant::now();
            for _ in 0..tasks {
                peer.detach(async move {
                    work.run();
                    countdown.done();
                });
            }
            countdown.finished().await;
            Sample { ops: tasks.into(), elapsed: start.elapsed() }
        })
    })
}

/// 10,000 tasks of 1 µs, spawned by a task; per task.
pub fn work_1us<E: Executor>(plan: &Plan) -> Vec<f64> {
    working::<E>(plan, 1)
}

/// 10,000 tasks of 10 µs, spawned by a task; per task.
pub fn work_10us<E: Executor>(plan: &Plan) -> Vec<f64> {
    working::<E>(plan, 10)
}

/// What is compared with: one thread that does the same work, and nothing else.
fn plainly(plan: &Plan, pieces: u32, micros: u32) -> Vec<f64> {
    let (pieces, work) = (plan.many(pieces), Work::of_micros(micros));
    let batch = || {
        let start = Instant::now();
        for _ in 0..pieces {
            work.run();
        }
        Sample { ops: pieces.into(), elapsed: start.elapsed() }
    };
    vec![repeated(plan, batch).ns()]
}

/// One thread: pieces of 1 µs.
pub fn one_core_1us(plan: &Plan) -> Vec<f64> {
    plainly(plan, TASKS, 1)
}

/// One thread: pieces of 10 µs.
pub fn one_core_10us(plan: &Plan) -> Vec<f64> {
    plainly(plan, TASKS, 10)
}
