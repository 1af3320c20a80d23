//! The operations.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{Context, JoinHandle, Runtime, context_var, sleep, spawn, yield_now};

context_var! {
    static FIRST: u64;
    static SECOND: u64;
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name, for the command line and the tables.
    pub name: &'static str,
    /// What is counted once per operation.
    pub what: &'static str,
    /// How many rounds are a run in which counts settle.
    pub rounds: usize,
    /// What a time per operation is to say.
    pub timed: Timed,
    /// Does it for so many rounds, and returns how many operations that were.
    pub run: fn(&Runtime, usize, usize) -> u64,
}

/// How an operation is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Each worker does it.
    PerWorker,
    /// A thread outside has it done.
    Overall,
    /// Most of the time is waiting, or other work.
    No,
}

/// All operations.
pub const ALL: &[Operation] = &[
    Operation {
        name: "spawn-inside",
        what: "each worker spawns 16 tasks that do nothing, and joins them: a task",
        rounds: 20,
        timed: Timed::PerWorker,
        run: spawn_inside,
    },
    Operation {
        name: "spawn-context",
        what: "the same, all from one context with two variables: a task",
        rounds: 20,
        timed: Timed::PerWorker,
        run: spawn_context,
    },
    Operation {
        name: "spawn-outside",
        what: "a thread outside spawns 64 tasks, and joins them: a task",
        rounds: 20,
        timed: Timed::Overall,
        run: spawn_outside,
    },
    Operation {
        name: "yield",
        what: "on each worker a task yields: a yield",
        rounds: 200,
        timed: Timed::PerWorker,
        run: yields,
    },
    Operation {
        name: "wake-across",
        what: "tokens, one per worker, go round a ring of tasks, four per worker: a wake-up",
        rounds: 50,
        timed: Timed::PerWorker,
        run: wake_across,
    },
    Operation {
        name: "wake-parked",
        what: "a thread outside wakes a task while all workers are parked: a wake-up",
        rounds: 100,
        timed: Timed::No,
        run: wake_parked,
    },
    Operation {
        name: "steal",
        what: "one task spawns four tasks of 5 µs per worker, and joins them: a steal",
        rounds: 30,
        timed: Timed::No,
        run: steal,
    },
    Operation {
        name: "timer-cancel",
        what: "on each worker a timer is set and dropped, with a yield every 16: a timer",
        rounds: 200,
        timed: Timed::PerWorker,
        run: timer_cancel,
    },
    Operation {
        name: "timer-fire",
        what: "four tasks per worker sleep for a millisecond: a timer that fires",
        rounds: 20,
        timed: Timed::No,
        run: timer_fire,
    },
    Operation {
        name: "event",
        what: "on each worker a byte goes to and fro over a socket: an event",
        rounds: 40,
        timed: Timed::PerWorker,
        run: event,
    },
];

/// Has each worker begin one of `workers` tasks, and waits for the ends of all of them.
///
/// The tasks block their workers until all have begun, so that no worker has two of them.
fn on_each_worker<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    workers: usize,
    task: impl Fn(usize) -> F,
) {
    let barrier = Arc::new(Barrier::new(workers));
    let begun = |index| {
        let (barrier, task) = (barrier.clone(), task(index));
        async move {
            barrier.wait();
            task.await;
        }
    };
    let all: Vec<_> = (0..workers).map(|index| runtime.spawn(begun(index))).collect();
    runtime.block_on(join_all(all));
}

async fn join_all(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.await.expect("no task panics");
    }
}

async fn spawns(rounds: usize) {
    for _ in 0..rounds {
        join_all((0..16).map(|_| spawn(async {})).collect()).await;
    }
}

fn spawn_inside(runtime: &Runtime, workers: usize, rounds: usize) -> u64 {
    on_each_worker(runtime, workers, |_| spawns(rounds));
    (workers * rounds * 16) as u64
}

fn spawn_context(runtime: &Runtime, workers: usize, rounds: usize) -> u64 {
    Context::empty().run(|| {
        FIRST.set(1);
        SECOND.set(2);
        spawn_inside(runtime, workers, rounds)
    })
}

fn spawn_outside(runtime: &Runtime, _: usize, rounds: usize) -> u64 {
    for _ in 0..rounds {
        let tasks = (0..64).map(|_| runtime.spawn(async {})).collect();
        runtime.block_on(join_all(tasks));
    }
    (rounds * 64) as u64
}

fn yields(runtime: &Runtime, workers: usize, rounds: usize) -> u64 {
    on_each_worker(runtime, workers, |_| async move {
        for _ in 0..rounds {
            yield_now().await;
        }
    });
    (workers * rounds) as u64
}

/// A task of a ring: tokens come to it, and it passes them on. In cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Place {
    tokens: AtomicUsize,
    waker: AtomicWaker,
}

impl Place {
    fn give(&self) {
        self.tokens.fetch_add(1, SeqCst);
        self.waker.wake();
    }

    fn take(&self) -> impl Future<Output = ()> + '_ {
        let take = || self.tokens.fetch_update(SeqCst, SeqCst, |tokens| tokens.checked_sub(1)).is_ok();
        poll_fn(move |cx| {
            if take() {
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            if take() { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

fn wake_across(runtime: &Runtime, workers: usize, rounds: usize) -> u64 {
    let ring: Arc<[Place]> = (0..4 * workers).map(|_| Place::default()).collect();
    let hops = Arc::new(AtomicU64::new(0));
    let most = (rounds * workers) as u64;
    let over = Arc::new(AtomicBool::new(false));
    let member = |index: usize| {
        let (ring, hops, over) = (ring.clone(), hops.clone(), over.clone());
        runtime.spawn(async move {
            loop {
                ring[index].take().await;
                if over.load(Relaxed) || hops.fetch_add(1, Relaxed) >= most {
                    over.store(true, Relaxed);
                    return ring.iter().for_each(Place::give);
                }
                ring[(index + 1) % ring.len()].give();
            }
        })
    };
    let tasks: Vec<_> = (0..ring.len()).map(member).collect();
    // The tokens begin on different workers.
    on_each_worker(runtime, workers, |index| {
        let ring = ring.clone();
        async move { ring[4 * index].give() }
    });
    runtime.block_on(join_all(tasks));
    most
}

fn wake_parked(runtime: &Runtime, _: usize, rounds: usize) -> u64 {
    let place = Arc::new(Place::default());
    let done = Arc::new(AtomicUsize::new(0));
    let task = {
        let (place, done, waiting) = (place.clone(), done.clone(), thread::current());
        runtime.spawn(async move {
            for _ in 0..rounds {
                place.take().await;
                done.fetch_add(1, SeqCst);
                waiting.unpark();
            }
        })
    };
    for round in 0..rounds {
        // Until all workers are parked. A search takes 50 µs at most.
        thread::sleep(Duration::from_micros(300));
        place.give();
        while done.load(SeqCst) == round {
            thread::park();
        }
    }
    runtime.block_on(join_all(vec![task]));
    rounds as u64
}

fn steals(runtime: &Runtime) -> u64 {
    runtime.stats().workers.iter().map(|worker| worker.steals).sum()
}

/// Five microseconds at least. Where workers share a processor, the thread lets the others run.
async fn work() {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_micros(5) {
        thread::yield_now();
    }
}

fn steal(runtime: &Runtime, workers: usize, rounds: usize) -> u64 {
    let before = steals(runtime);
    let bursts = async move {
        for _ in 0..rounds {
            join_all((0..4 * workers).map(|_| spawn(work())).collect()).await;
        }
    };
    runtime.block_on(join_all(vec![runtime.spawn(bursts)]));
    steals(runtime) - before
}

fn timer_cancel(runtime: &Runtime, workers: usize, rounds: usize) -> u64 {
    on_each_worker(runtime, workers, |_| async move {
        for round in 0..rounds {
            {
                let mut timer = pin!(sleep(Duration::from_secs(5)));
                poll_fn(|cx| {
                    assert!(timer.as_mut().poll(cx).is_pending(), "five seconds are long");
                    Poll::Ready(())
                })
                .await;
            }
            if round % 16 == 0 {
                yield_now().await;
            }
        }
    });
    (workers * rounds) as u64
}

async fn sleeps(rounds: usize) {
    for _ in 0..rounds {
        sleep(Duration::from_millis(1)).await;
    }
}

fn timer_fire(runtime: &Runtime, workers: usize, rounds: usize) -> u64 {
    on_each_worker(runtime, workers, |_| async move {
        join_all((0..4).map(|_| spawn(sleeps(rounds))).collect()).await;
    });
    (4 * workers * rounds) as u64
}

async fn connected() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let here = TcpStream::connect(listener.local_addr()?).await?;
    let (there, _) = listener.accept().await?;
    here.set_nodelay(true)?;
    there.set_nodelay(true)?;
    Ok((here, there))
}

fn event(runtime: &Runtime, workers: usize, rounds: usize) -> u64 {
    on_each_worker(runtime, workers, |_| async move {
        let (mut here, mut there) = connected().await.expect("two sockets of this machine");
        let echo = spawn(async move {
            let mut byte = [0];
            while let Ok(1) = there.read(&mut byte).await {
                there.write_all(&byte).await.expect("the other end is open");
            }
        });
        let mut byte = [0];
        for _ in 0..rounds {
            here.write_all(&byte).await.expect("the other end is open");
            here.read_exact(&mut byte).await.expect("the other end is open");
        }
        drop(here);
        echo.await.expect("no task panics");
    });
    (2 * workers * rounds) as u64
}
