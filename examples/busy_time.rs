//! Shows a timing context: how long a part of a program computes, as against how long it is open.
//! What counts is the processor time of its polls, in its own task and in those it spawns, whatever
//! else runs meanwhile, in this program or beside it.

use std::future::poll_fn;
use std::hint::spin_loop;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use heirloom::context::ContextFutureExt;
use heirloom::{JoinHandle, context_var, sleep, spawn};
use rustix::time::{ClockId, clock_gettime};

/// Adds up the processor time of polls. Several tasks may add to it at once.
#[derive(Default)]
struct Stopwatch {
    nanoseconds: AtomicU64,
    /// The one of the part of the program that this part belongs to.
    outer: Option<Arc<Stopwatch>>,
}

context_var! {
    static STOPWATCH: Arc<Stopwatch>;
}

impl Stopwatch {
    fn add(&self, time: Duration) {
        self.nanoseconds.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    fn busy(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Relaxed))
    }
}

/// How long this thread has computed. Unlike an [`Instant`], it stands still while the system runs
/// another thread on the processor.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("it counts from 0")
}

/// Reports how long each poll of the future computes. A poll is on one thread from its begin to its
/// end, though the next one may be on another.
async fn timed<F: Future>(future: F, report: impl Fn(Duration)) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let begun = processor_time();
        let polled = future.as_mut().poll(cx);
        report(processor_time() - begun);
        polled
    })
    .await
}

/// Runs the future as a part of the program with a stopwatch of its own, and returns what that
/// shows at the end.
async fn measured<F: Future>(future: F) -> (F::Output, Duration) {
    let stopwatch = Arc::new(Stopwatch { outer: STOPWATCH.get(), ..Stopwatch::default() });
    let output = timed(future, |time| stopwatch.add(time)).with_var(&STOPWATCH, Arc::clone(&stopwatch)).await;
    (output, stopwatch.busy())
}

/// Spawns a task that counts for the part of the program that spawns it, and for those around that:
/// the task is polled by itself, so no other stopwatch counts its time. It finds its stopwatch in
/// the context it inherits.
fn spawn_measured<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn(timed(future, |time| {
        let mut next = STOPWATCH.get();
        while let Some(stopwatch) = next {
            stopwatch.add(time);
            next = stopwatch.outer.clone();
        }
    }))
}

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Uses so much processor time.
fn compute(time: Duration) {
    let begun = processor_time();
    while processor_time() - begun < time {
        spin_loop();
    }
}

const PAUSES: u32 = 3;

/// Waits far more than it computes.
async fn leisurely(effort: Duration) {
    for _ in 0..PAUSES {
        sleep(milliseconds(50)).await;
        compute(effort);
    }
}

struct Measured {
    name: &'static str,
    open: Duration,
    busy: Duration,
}

impl Measured {
    fn print(&self) {
        println!(
            "{:<38}open {:>5.1} ms, busy {:>5.1} ms",
            self.name,
            self.open.as_secs_f64() * 1e3,
            self.busy.as_secs_f64() * 1e3
        );
    }
}

async fn measure(name: &'static str, work: impl Future<Output = ()>) -> Measured {
    let begun = Instant::now();
    let ((), busy) = measured(work).await;
    let measured = Measured { name, open: begun.elapsed(), busy };
    measured.print();
    measured
}

#[heirloom::main]
pub(crate) async fn main() {
    // As many threads as processors compete with what is measured: a poll takes twice as long as
    // it computes, or longer.
    let over = Arc::new(AtomicBool::new(false));
    let crowd = (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            while !over.load(Relaxed) {
                spin_loop()
            }
        })
    });
    let crowd: Vec<_> = crowd.collect();
    // Two at once, on stopwatches of their own.
    let light = spawn(measure("15 ms of work in three portions", leisurely(milliseconds(5))));
    let heavy = spawn(measure("45 ms of work, at the same time", leisurely(milliseconds(15))));
    let (light, heavy) = (light.await.expect("no panic"), heavy.await.expect("no panic"));
    for (measured, worked) in [(&light, milliseconds(15)), (&heavy, milliseconds(45))] {
        let paused = PAUSES * milliseconds(50);
        assert!(measured.busy >= worked, "all of its own work counts");
        assert!(measured.busy < worked * 5 / 4, "and nothing that others do meanwhile");
        assert!(measured.busy + paused < measured.open, "nor its pauses");
    }
    over.store(true, Relaxed);
    for thread in crowd {
        thread.join().expect("no panic");
    }

    // A part that spawns.
    let with_tasks = measure("10 ms itself, 2 x 10 ms in tasks", async {
        let tasks = [10, 10].map(|effort| spawn_measured(async move { compute(milliseconds(effort)) }));
        compute(milliseconds(10));
        for task in tasks {
            task.await.expect("no panic");
        }
        sleep(milliseconds(20)).await;
    })
    .await;
    assert!(with_tasks.busy >= milliseconds(30), "the tasks count for the part that spawned them");

    // A part within a part: it counts for both, once.
    let mut inner = None;
    let outer = measure("10 ms itself, 20 ms in the next line", async {
        compute(milliseconds(10));
        let database = measure("  of it 10 ms itself, 10 ms in a task", async {
            compute(milliseconds(10));
            spawn_measured(async { compute(milliseconds(10)) }).await.expect("no panic");
        });
        inner = Some(database.await);
    })
    .await;
    let inner = inner.expect("it is over");
    assert!(inner.busy >= milliseconds(20));
    assert!(outer.busy >= inner.busy + milliseconds(10));
}
