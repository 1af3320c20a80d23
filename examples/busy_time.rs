//! Shows a timing context: how long a part of a program computes, as against how long it is open.
//! Only the time in which it is being polled counts, in its own task and in those it spawns,
//! whatever else runs meanwhile.

use std::future::poll_fn;
use std::hint::spin_loop;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heirloom::context::ContextFutureExt;
use heirloom::{JoinHandle, context_var, sleep, spawn};

/// Adds up the time in which something is being polled. Several tasks may add to it at once.
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

/// Reports how long each poll of the future takes.
async fn timed<F: Future>(future: F, report: impl Fn(Duration)) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let begun = Instant::now();
        let polled = future.as_mut().poll(cx);
        report(begun.elapsed());
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

/// Keeps a processor busy.
fn compute(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
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
    // Two at once, on stopwatches of their own.
    let light = spawn(measure("15 ms of work in three portions", leisurely(milliseconds(5))));
    let heavy = spawn(measure("45 ms of work, at the same time", leisurely(milliseconds(15))));
    let (light, heavy) = (light.await.expect("no panic"), heavy.await.expect("no panic"));
    for (measured, worked) in [(&light, milliseconds(15)), (&heavy, milliseconds(45))] {
        let paused = PAUSES * milliseconds(50);
        assert!(measured.busy >= worked, "all of its own work counts");
        // Half of the pauses, so that a busy machine may take its time in between.
        assert!(measured.busy + paused / 2 <= measured.open, "its pauses do not, nor what others do in them");
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
