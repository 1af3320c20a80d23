//! What does a dump of a runtime with 100,000 tasks cost: how long does it take, how much memory,
//! and how long does it hold a worker up?
//!
//! A dump holds a lock that a worker may wait for while it looks at the tasks of one page of 32 KiB
//! ([`Runtime`](heirloom::Runtime#memory)), and takes references of them; all else it does without.
//! How long that is, is judged by processor time, which other programs do not lengthen: no longer
//! than the dump's time for as many tasks as a page has, if all of the dump were done under the
//! lock.
//!
//! Printed beside it, and not judged, is what a worker sees: a task on the one worker reads the
//! clock in a loop and spawns, and the longest time between two readings is what the worker was
//! held up for. The time in which its thread waited for a processor is left out (on Linux), but a
//! busy or virtual machine still adds to it: the same is measured in windows without dumps.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heirloom::{Runtime, context_var, sleep, spawn, yield_now};
use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

context_var! { static REQUEST: usize, debug = Debug; }

const TASKS: usize = 100_000;
const ROUNDS: usize = 20;
const PAGE: usize = 32 * 1024;

fn main() -> ExitCode {
    let runtime = Runtime::builder().workers(1).inspect(true).build().expect("threads");
    let waits = |number| async move {
        REQUEST.set(number);
        sleep(Duration::from_secs(3_600)).await;
    };
    (0..TASKS).for_each(|number| runtime.spawn(waits(number)).detach());
    runtime.wait_until_idle();
    let gaps = Gaps::start(&runtime);

    let mut dumped = Vec::new();
    let (mut longest, mut most_cpu) = (Duration::ZERO, Duration::ZERO);
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let before = COUNTED.stats();
        gaps.take();
        let (begun, cpu_before) = (Instant::now(), cpu());
        let dump = runtime.dump();
        longest = longest.max(begun.elapsed());
        most_cpu = most_cpu.max(cpu() - cpu_before);
        dumped.push(gaps.take());
        let after = COUNTED.stats();
        let allocated = after.bytes_allocated - before.bytes_allocated;
        bytes = allocated.saturating_sub(after.bytes_deallocated - before.bytes_deallocated);
        assert!(dump.len() >= TASKS, "every task is in the dump");
    }
    let window = || {
        gaps.take();
        std::thread::sleep(longest);
        gaps.take()
    };
    let alone = (0..ROUNDS).map(|_| window()).collect();
    let dumped = Spread::of(dumped);
    println!("{TASKS} tasks, {ROUNDS} dumps, a busy worker");
    println!("longest dump              {longest:>10.1?}");
    println!("its processor time        {most_cpu:>10.1?}");
    // A task takes more than its future.
    let per_page = PAGE / size_of_val(&waits(0));
    let locked = most_cpu * per_page as u32 / TASKS as u32;
    println!("a lock is held for        {locked:>10.1?} at the very most, for {per_page} tasks at most");
    println!("bytes per task            {:>10}", bytes / TASKS);
    println!("a worker was held up, in each dump, and in windows as long without");
    println!("  {dumped}\n  {}", Spread::of(alone));
    let text = Instant::now();
    let length = runtime.dump().to_string().len();
    println!("tree as text              {:>10.1?}, {length} bytes", text.elapsed());
    let reached = longest < Duration::from_secs(1) && locked < Duration::from_millis(1);
    // What is built for a smoke test is not optimised.
    if reached || std::env::args().any(|argument| argument == "--smoke") {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What several rounds have measured.
struct Spread {
    least: Duration,
    median: Duration,
    most: Duration,
}

impl Spread {
    fn of(mut rounds: Vec<Duration>) -> Spread {
        rounds.sort_unstable();
        let (least, most) = (rounds[0], rounds[rounds.len() - 1]);
        Spread { least, median: rounds[rounds.len() / 2], most }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { least, median, most } = self;
        write!(f, "{least:.1?} (least), {median:.1?} (median), {most:.1?} (most)")
    }
}

/// The processor time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How long this thread has waited for a processor; zero where the system does not say.
fn run_delay() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// The longest times between two readings of the clock by a task that keeps the worker busy.
struct Gaps(Arc<(AtomicU64, AtomicBool)>);

impl Gaps {
    fn start(runtime: &Runtime) -> Gaps {
        let shared = Arc::new((AtomicU64::new(0), AtomicBool::new(false)));
        let reader = Arc::clone(&shared);
        let reads = async move {
            let mut last = (Instant::now(), run_delay());
            // What may wait for a lock: a slot, a page, the end of a task.
            while !reader.1.load(Relaxed) && spawn(async {}).await.is_ok() {
                yield_now().await;
                let now = (Instant::now(), run_delay());
                let held_up = (now.0 - last.0).saturating_sub(now.1.saturating_sub(last.1));
                reader.0.fetch_max(held_up.as_nanos() as u64, Relaxed);
                last = now;
            }
        };
        runtime.spawn(reads).detach();
        Gaps(shared)
    }

    fn take(&self) -> Duration {
        Duration::from_nanos(self.0.0.swap(0, Relaxed))
    }
}

impl Drop for Gaps {
    fn drop(&mut self) {
        self.0.1.store(true, Relaxed);
    }
}
