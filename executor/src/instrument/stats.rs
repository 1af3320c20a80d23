//! What a runtime has done and is doing: numbers, as plain data.
//!
//! Pure data has public fields and is `#[non_exhaustive]`, so that fields can be added: nothing
//! about it can be done but reading it. Types that stand for something that lives (a task, a
//! runtime, a report that keeps tasks) have getters.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::task::TaskState;
use crate::util::histogram::{AtomicHistogram, BUCKETS, upper};

/// Numbers of a runtime, each exact by itself; made by [`Handle::stats`](crate::Handle::stats).
///
/// [`prometheus`](Self::prometheus) is their text for a monitoring system.
#[doc(alias = "RuntimeMetrics")]
#[doc(alias = "metrics")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// What only grows, from the start of the runtime.
    pub totals: Totals,
    /// Tasks that have not ended, blocking closures included.
    pub tasks: usize,
    /// The same by state; counted one after the other, so that the sum may differ.
    pub states: States,
    /// Timers that are set.
    pub timers: usize,
    /// Tasks in the injector: spawned or woken by threads that are no workers, and not yet taken by
    /// one.
    pub injected: usize,
    /// Threads of the blocking pool.
    pub blocking_threads: usize,
    /// Most threads of the blocking pool; see
    /// [`Builder::max_blocking_threads`](crate::runtime::Builder::max_blocking_threads).
    pub max_blocking_threads: usize,
    /// Blocking closures that wait for a thread.
    pub blocking_queued: usize,
    /// The numbers of each worker.
    pub workers: Vec<WorkerStats>,
    /// Times, if the runtime is [inspected](crate::runtime::Builder::inspect).
    pub times: Option<Times>,
}

/// Numbers that only grow; part of [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Tasks that were spawned, blocking closures included.
    pub spawned: u64,
    /// Tasks that have ended.
    pub finished: Finished,
    /// Polls by workers.
    pub polls: u64,
    /// How often a worker has stolen tasks from another.
    pub steals: u64,
    /// How often a worker has parked.
    pub parks: u64,
    /// Wake-ups of tasks that were idle. A wake-up of a task that is runnable or running is none. A
    /// worker adds its own when it looks around, after 61 polls at most, or sleeps.
    #[doc(alias = "wakes")]
    pub wake_ups: u64,
    /// How often a leaf on a worker found the [budget](crate::task::budget) of its poll spent.
    #[doc(alias = "budget_forced_yield_count")]
    pub budget_yields: u64,
    /// Timers that were due and have woken their task.
    pub timers_fired: u64,
    /// Tasks that were woken by an event of a socket or a signal.
    pub io_events: u64,
    /// Blocking closures that a thread of the pool has taken.
    pub blocking_taken: u64,
    /// Blocking closures that found all threads of the pool busy and none to be started.
    pub blocking_held_up: u64,
}

/// Tasks that have ended, by how they ended; part of [`Totals`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished {
    /// The task returned.
    pub returned: u64,
    /// The task panicked.
    pub panicked: u64,
    /// The task was cancelled.
    pub cancelled: u64,
}

impl Finished {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.returned + self.panicked + self.cancelled
    }
}

/// Tasks that have not ended, by [state](TaskState); part of [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct States {
    /// Tasks that wait for a wake-up.
    pub idle: usize,
    /// Tasks that wait for a worker.
    pub scheduled: usize,
    /// Tasks that are being polled.
    pub running: usize,
}

impl States {
    pub(crate) fn count(&mut self, state: TaskState) {
        match state {
            TaskState::Idle => self.idle += 1,
            TaskState::Scheduled => self.scheduled += 1,
            TaskState::Running => self.running += 1,
            TaskState::Done => {}
        }
    }
}

/// Numbers of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Tasks that the worker has polled, each poll counted.
    pub polls: u64,
    /// How often the worker has stolen tasks from another.
    pub steals: u64,
    /// How often the worker has parked.
    pub parks: u64,
    /// Tasks in the worker's queue.
    pub queued: usize,
    /// How long the worker has polled, if the runtime is
    /// [inspected](crate::runtime::Builder::inspect).
    pub busy: Option<Duration>,
}

/// Times of an [inspected](crate::runtime::Builder::inspect) runtime; part of [`Stats`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// From the wake-up or spawn of a task to its poll by a worker.
    #[doc(alias = "scheduled_duration")]
    pub schedule_latency: Histogram,
    /// Polls by workers.
    pub poll: Histogram,
    /// From the spawn of a blocking closure to its begin.
    pub blocking_wait: Histogram,
}

/// How many times were how long; part of [`Times`].
///
/// A value is known to an eighth of itself, and 18 minutes and more count as 18 minutes.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    sum: u64,
}

impl Histogram {
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a AtomicHistogram>) -> Histogram {
        let mut counts = Box::new([0; BUCKETS]);
        let sum = parts.into_iter().fold(0, |sum: u64, part| sum.wrapping_add(part.add_to(&mut counts)));
        Histogram { counts, sum }
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// Their mean; zero if there are none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.count()).unwrap_or(0))
    }

    /// The time that this share of all is not longer than: 0.5 for the median, 1.0 for the longest.
    /// Zero if none was recorded. Rounded up, by an eighth at most.
    ///
    /// # Panics
    /// If the share is not between 0 and 1.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = heirloom::Runtime::builder().workers(1).inspect(true).build()?;
    /// runtime.block_on(runtime.spawn(async {})).unwrap();
    /// runtime.wait_until_idle();
    /// let times = runtime.stats().times.unwrap();
    /// assert_eq!(times.poll.count(), 1);
    /// assert!(times.poll.quantile(0.5) <= times.poll.quantile(1.0));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "percentile")]
    pub fn quantile(&self, share: f64) -> Duration {
        assert!((0.0..=1.0).contains(&share), "a share is between 0 and 1, not {share}");
        let rank = (share * self.count() as f64).ceil().max(1.0) as u64;
        let nth = |(upper, count): (Duration, u64), before: &mut u64| {
            *before += count;
            (*before >= rank).then_some(upper)
        };
        let mut before = 0;
        self.buckets().find_map(|bucket| nth(bucket, &mut before)).unwrap_or_default()
    }

    /// The buckets with something in them, in ascending order: the longest time that counts there,
    /// and how many do.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let all = self.counts.iter().enumerate().filter(|(_, count)| **count != 0);
        all.map(|(bucket, count)| (Duration::from_nanos(upper(bucket)), *count))
    }

    /// How many times were no longer than this many nanoseconds; exact for a power of two less one.
    pub(crate) fn count_up_to(&self, nanoseconds: u64) -> u64 {
        let within = self.counts.iter().enumerate().take_while(|(bucket, _)| upper(*bucket) <= nanoseconds);
        within.map(|(_, count)| count).sum()
    }
}

/// The count, the median, and the ends of the distribution.
impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("mean", &self.mean())
            .field("median", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.quantile(1.0))
            .finish()
    }
}
