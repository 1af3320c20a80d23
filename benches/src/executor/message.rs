//! Rows about tasks that wake each other: yielding, ping-pong, rings, and a wake-up from another
//! thread.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::channel::{mpsc, oneshot};
use futures::task::AtomicWaker;

use super::plan::{Plan, repeated, started, timed};
use super::tools::Countdown;
use crate::harness::Sample;
use crate::peers::Executor;
use crate::stats::Spread;

/// Tasks that yield together, and how often each does.
pub const YIELDING: [u32; 2] = [200, 1_000];
/// How often a task yields that is alone.
pub const YIELDS_ALONE: u32 = 20_000;

/// Spawns `tasks` from a task and waits for all of them: one batch.
pub fn all<E: Executor, F: Future<Output = ()> + Send + 'static>(
    peer: E,
    ops: u32,
    tasks: Vec<F>,
    countdown: &'static Countdown,
) -> Sample {
    peer.run(async move {
        countdown.expect(tasks.len() as u32);
        let start = Instant::now();
        for task in tasks {
            peer.detach(async {
                task.await;
                countdown.done();
            });
        }
        countdown.finished().await;
        Sample { ops: ops.into(), elapsed: start.elapsed() }
    })
}

/// One batch of [`yield_many`].
pub fn yield_batch<E: Executor>(peer: E, countdown: &'static Countdown) -> Sample {
    let task = |_| async {
        for _ in 0..YIELDING[1] {
            E::yield_now().await;
        }
    };
    all(peer, YIELDING[0] * YIELDING[1], (0..YIELDING[0]).map(task).collect(), countdown)
}

/// 200 tasks that yield 1,000 times each; per yield.
pub fn yield_many<E: Executor>(plan: &Plan) -> Vec<f64> {
    let countdown = Countdown::leaked();
    timed::<E>(plan, |peer| yield_batch(peer, countdown))
}

/// A task that yields with nothing else to run; per yield.
pub fn yield_alone<E: Executor>(plan: &Plan) -> Vec<f64> {
    timed::<E>(plan, |peer| {
        peer.run(async {
            let start = Instant::now();
            for _ in 0..YIELDS_ALONE {
                E::yield_now().await;
            }
            Sample { ops: YIELDS_ALONE.into(), elapsed: start.elapsed() }
        })
    })
}

/// Pairs of a batch.
const PAIRS: u32 = 1_000;

/// 1,000 tasks that each spawn a partner, send to it and are sent to, over two oneshots; per pair.
pub fn ping_pong<E: Executor>(plan: &Plan) -> Vec<f64> {
    let countdown = Countdown::leaked();
    timed::<E>(plan, |peer| {
        let pair = |_| async move {
            let (ping, pinged) = oneshot::channel();
            let (pong, ponged) = oneshot::channel();
            peer.detach(async {
                if pinged.await.is_ok() {
                    let _ = pong.send(());
                }
            });
            let _ = ping.send(());
            let _ = ponged.await;
        };
        all(peer, PAIRS, (0..PAIRS).map(pair).collect(), countdown)
    })
}

/// Tasks in a ring, and what each of them receives.
pub const RING: [u32; 2] = [100, 200];

/// The tasks of a ring of which each passes on to the next what it receives, [`RING`]`[1]` times.
/// So many `tokens` are under way at once.
///
/// What is under way at the end is left in the channels, so that no task waits for more than it
/// gets.
pub fn ring(tokens: u32) -> Vec<impl Future<Output = ()> + Send + 'static> {
    let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..RING[0]).map(|_| mpsc::unbounded::<u32>()).unzip();
    for token in 0..tokens {
        senders[token as usize].unbounded_send(token).expect("its receiver is there");
    }
    receivers.rotate_right(1);
    let task = |(next, mut own): (mpsc::UnboundedSender<u32>, mpsc::UnboundedReceiver<u32>)| async move {
        for _ in 0..RING[1] {
            let Some(token) = own.next().await else { return };
            // The last one may find its neighbour gone.
            let _ = next.unbounded_send(token);
        }
    };
    senders.into_iter().zip(receivers).map(task).collect()
}

fn ring_of<E: Executor>(plan: &Plan, tokens: u32) -> Vec<f64> {
    let countdown = Countdown::leaked();
    timed::<E>(plan, |peer| all(peer, RING[0] * RING[1], ring(tokens), countdown))
}

/// A ring of 100 tasks with one token in it; per hop.
pub fn ring_one<E: Executor>(plan: &Plan) -> Vec<f64> {
    ring_of::<E>(plan, 1)
}

/// A ring of 100 tasks with 100 tokens in it; per hop.
pub fn ring_all<E: Executor>(plan: &Plan) -> Vec<f64> {
    ring_of::<E>(plan, RING[0])
}

/// Wake-ups of a sample of [`wake`].
const WAKES: u32 = 200;
/// Before each of them; longer than any peer searches before parking.
const REST: Duration = Duration::from_micros(500);

/// Signals of a thread to a task, numbered from 1.
struct Signals {
    /// The last one that was sent.
    sent: AtomicU32,
    /// When, in nanoseconds after `base`.
    at: AtomicU64,
    base: Instant,
    /// The last one that the task has received.
    received: AtomicU32,
    waiting: AtomicWaker,
}

impl Signals {
    fn now(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }

    fn send(&self) {
        self.at.store(self.now(), Ordering::Relaxed);
        // Pairs with the acquire load in `receive`, which then sees the time.
        self.sent.fetch_add(1, Ordering::Release);
        self.waiting.wake();
    }

    /// Waits for the signal of this number; answers how long ago it was sent.
    async fn receive(&self, number: u32) -> f64 {
        poll_fn(|cx| {
            self.waiting.register(cx.waker());
            // Pairs with the release in `send`.
            if self.sent.load(Ordering::Acquire) < number {
                return Poll::Pending;
            }
            let late = self.now() - self.at.load(Ordering::Relaxed);
            self.received.store(number, Ordering::Release);
            Poll::Ready(late as f64)
        })
        .await
    }
}

/// A thread wakes a task while all workers are parked: nanoseconds from before `wake` to the poll,
/// the median of a sample.
pub fn wake<E: Executor>(plan: &Plan) -> Vec<f64> {
    let wakes = plan.many(WAKES);
    let signals = Arc::new(Signals {
        sent: 0.into(),
        at: 0.into(),
        base: Instant::now(),
        received: 0.into(),
        waiting: AtomicWaker::new(),
    });
    let late = started::<E, _>(|peer| {
        let to_come = signals.clone();
        let receiver = peer.spawn(async move {
            let mut late = Vec::with_capacity(wakes as usize);
            for number in 1..=wakes {
                late.push(to_come.receive(number).await);
            }
            late
        });
        for number in 1..=wakes {
            thread::sleep(REST);
            signals.send();
            while signals.received.load(Ordering::Acquire) < number {
                thread::sleep(REST / 10);
            }
        }
        peer.block_on(receiver)
    });
    vec![Spread::of(late).map_or(f64::NAN, |late| late.median)]
}

/// As [`timed`], for a peer that can only run a set of tasks to its end.
pub fn timed_sets(plan: &Plan, mut batch: impl FnMut() -> Sample) -> Vec<f64> {
    vec![repeated(plan, &mut batch).ns()]
}
