//! Rows about one parent from which several threads fork at once.
//!
//! ```text
//! thread 0: enters the parent; makes 64 children --+--> drops them            "dropped here"
//! thread 1: enters the parent; makes 64 children --+--> hands them to the     "dropped elsewhere"
//!                                                       other thread's mailbox,
//!                                                       drops what is in its own
//! ```
//!
//! With one spawning thread, a second one does nothing but empty the mailbox. The time is that of
//! the slowest spawning thread, divided by what one of them made.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use heirloom_context::Context;
use opentelemetry::Context as Otel;

use super::carry::BATCH;
use super::{ARC, OTEL, OURS};
use super::{subjects, typed};
use crate::harness::{Case, Contender, Row, Sample};

/// Children in a mailbox beyond which its senders wait.
const FULL: usize = 64 * BATCH;
/// Variables in the parent.
const VARIABLES: usize = 8;

/// How a case is called.
pub fn label(spawners: usize, elsewhere: bool) -> String {
    let threads = if spawners == 1 { "1 thread" } else { "2 threads" };
    format!("{threads}, dropped {}", if elsewhere { "elsewhere" } else { "here" })
}

/// The rows about threads.
pub fn rows() -> Vec<Row> {
    let case = |spawners, elsewhere| {
        Case::new(label(spawners, elsewhere), move || fork_threads(spawners, elsewhere))
    };
    vec![Row {
        name: "fork-threads",
        question: "children of one parent of 8 variables, made on N threads at once; per child on its thread",
        cases: vec![case(1, false), case(2, false), case(1, true), case(2, true)],
    }]
}

/// A mailbox on cache lines of its own.
#[repr(align(128))]
struct Mailbox<T> {
    /// How much is inside, so that a look does not lock.
    len: AtomicUsize,
    inside: Mutex<Vec<T>>,
}

impl<T> Mailbox<T> {
    fn new() -> Self {
        Mailbox { len: AtomicUsize::new(0), inside: Mutex::new(Vec::with_capacity(FULL + BATCH)) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.inside.lock().expect("no thread panics while it holds a mailbox")
    }

    /// Moves all of `batch` in, or says that there is no room now.
    fn put(&self, batch: &mut Vec<T>) -> bool {
        let mut inside = self.lock();
        let room = inside.len() < FULL;
        if room {
            inside.append(batch);
            self.len.store(inside.len(), Ordering::Relaxed);
        }
        room
    }

    /// Drops what is inside, through `empty`, a vector that is reused. Says whether there was
    /// anything.
    fn drop_all(&self, empty: &mut Vec<T>) -> bool {
        // Only a hint: what is missed now is found the next time, or dropped with the mailbox.
        if self.len.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut inside = self.lock();
        std::mem::swap(&mut *inside, empty);
        self.len.store(0, Ordering::Relaxed);
        drop(inside);
        empty.clear();
        true
    }
}

/// Forks on `spawners` threads. `enter` runs what it is given inside the parent, `fork` makes one
/// child there.
fn spawn<T: Send>(
    spawners: usize,
    elsewhere: bool,
    ops: u64,
    enter: impl Fn(&mut dyn FnMut()) + Sync,
    fork: impl Fn() -> T + Sync,
) -> Sample {
    let rounds = ops.div_ceil(BATCH as u64);
    let threads = if elsewhere { 2 } else { spawners };
    let mailboxes: Vec<Mailbox<T>> = (0..2).map(|_| Mailbox::new()).collect();
    let start = Barrier::new(threads);
    let spawning = AtomicUsize::new(spawners);
    let spawner = |own: usize| {
        let mut elapsed = Duration::ZERO;
        enter(&mut || {
            let mut batch = Vec::with_capacity(BATCH);
            let mut empty = Vec::with_capacity(FULL + BATCH);
            start.wait();
            let begin = Instant::now();
            for _ in 0..rounds {
                batch.extend((0..BATCH).map(|_| fork()));
                if elsewhere {
                    // A thread that is done empties no list any more, so then the rest is dropped
                    // here.
                    while !mailboxes[1 - own].put(&mut batch) {
                        if spawners == 2 && spawning.load(Ordering::Relaxed) < 2 {
                            break;
                        }
                        mailboxes[own].drop_all(&mut empty);
                        thread::yield_now();
                    }
                    mailboxes[own].drop_all(&mut empty);
                }
                batch.clear();
            }
            elapsed = begin.elapsed();
            spawning.fetch_sub(1, Ordering::Release);
        });
        elapsed
    };
    let dropper = || {
        let mut empty = Vec::with_capacity(FULL + BATCH);
        start.wait();
        // Pairs with the release above: the last children are in the mailbox, and go with it.
        while spawning.load(Ordering::Acquire) > 0 {
            if !mailboxes[1].drop_all(&mut empty) {
                thread::yield_now();
            }
        }
        Duration::ZERO
    };
    let elapsed = thread::scope(|scope| {
        let (spawner, dropper) = (&spawner, &dropper);
        let handles: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || if thread < spawners { spawner(thread) } else { dropper() }))
            .collect();
        let times = handles.into_iter().map(|handle| handle.join().expect("a measuring thread panicked"));
        times.max().unwrap_or_default()
    });
    Sample { ops: rounds * BATCH as u64, elapsed }
}

fn fork_threads(spawners: usize, elsewhere: bool) -> Vec<Contender> {
    let parent = subjects::context::<u64>(VARIABLES);
    let arc = Arc::new(1u64);
    let otel = typed::otel::<u64>(VARIABLES);
    vec![
        Contender::new(OURS, move |ops| {
            spawn(spawners, elsewhere, ops, |body| parent.run(body), Context::inherited)
        }),
        Contender::new(ARC, move |ops| spawn(spawners, elsewhere, ops, |body| body(), || arc.clone())),
        Contender::new(OTEL, move |ops| {
            let enter = |body: &mut dyn FnMut()| {
                let _attached = otel.clone().attach();
                body();
            };
            spawn(spawners, elsewhere, ops, enter, Otel::current)
        }),
    ]
}
