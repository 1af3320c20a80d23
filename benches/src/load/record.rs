//! What is recorded, per thread, and added up at the end of a round.
//!
//! A thread that records for the first time gets a slot of its own, which a list keeps beyond the
//! thread's end. Tallies are atomics with one writer. Histograms are behind a lock that only their
//! own thread takes, and, once a round, the thread that collects: it is never contended while
//! measuring. What a value costs is that lock and one addition, some 20 ns; so only tasks that are
//! timed (see [`probe`](super::probe)) and whole requests record any.

use std::array;
use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// A duration that is recorded as a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// From the start of a request, in an open loop from its *intended* start, to its end.
    EndToEnd,
    /// From the spawn call to the first poll.
    FirstPoll,
    /// From the first wake-up since the last poll to the next poll.
    WakeToPoll,
    /// From spawn or wake-up to poll, of all tasks, measured by the executor itself.
    Schedule,
    /// How long a poll takes.
    Poll,
    /// How late a timer fires.
    Lateness,
    /// How late the generator of an open loop starts a request: part of end-to-end, and not the
    /// executor's fault.
    Generator,
}

impl Metric {
    /// How many there are.
    pub const COUNT: usize = 7;
    /// All of them, in the order of reports.
    pub const ALL: [Metric; Metric::COUNT] = [
        Metric::EndToEnd,
        Metric::FirstPoll,
        Metric::WakeToPoll,
        Metric::Schedule,
        Metric::Poll,
        Metric::Lateness,
        Metric::Generator,
    ];

    /// Its name in reports.
    pub fn title(self) -> &'static str {
        match self {
            Metric::EndToEnd => "end to end",
            Metric::FirstPoll => "spawn to first poll",
            Metric::WakeToPoll => "wake to poll",
            Metric::Schedule => "schedule latency",
            Metric::Poll => "poll time",
            Metric::Lateness => "timer lateness",
            Metric::Generator => "generator lateness",
        }
    }

    /// What it is, for a reader who sees it for the first time.
    pub fn meaning(self) -> &'static str {
        match self {
            Metric::EndToEnd => {
                "From the start of a request, in an open loop from when it was due, to its end."
            }
            Metric::FirstPoll => "How long a new task waits for a worker.",
            Metric::WakeToPoll => "How long a task that was woken waits for a worker.",
            Metric::Schedule => {
                "From spawn or wake-up to poll, of all tasks, measured by the executor: rounded up by an eighth at most."
            }
            Metric::Poll => "How long a task keeps its worker at a time.",
            Metric::Lateness => "How long after its time a sleep ended.",
            Metric::Generator => {
                "How late requests were started: part of end to end, and not the executor's fault."
            }
        }
    }

    /// Its name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Metric::EndToEnd => "end_to_end",
            Metric::FirstPoll => "spawn_to_first_poll",
            Metric::WakeToPoll => "wake_to_poll",
            Metric::Schedule => "schedule_latency",
            Metric::Poll => "poll",
            Metric::Lateness => "timer_lateness",
            Metric::Generator => "generator_lateness",
        }
    }
}

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// Requests that were started.
    Started,
    /// Requests that ended.
    Finished,
    /// What those that ended were worth, in the scenario's unit.
    Units,
    /// Comparisons of a context with what the task knows of itself.
    Checks,
    /// Those that failed.
    Violations,
    /// Operations that ran into their time limit, as they were meant to.
    TimedOut,
    /// Timers that fired before their time.
    Early,
}

/// How many [`Tally`]s there are.
const TALLIES: usize = 7;

/// Sums of all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals([u64; TALLIES]);

impl Totals {
    /// Some, the others being zero.
    #[cfg(test)]
    pub fn of(tallies: &[(Tally, u64)]) -> Totals {
        let mut totals = Totals::default();
        tallies.iter().for_each(|&(tally, value)| totals.0[tally as usize] = value);
        totals
    }

    /// One of them.
    pub fn get(&self, tally: Tally) -> u64 {
        self.0[tally as usize]
    }

    /// What came on top of `earlier`.
    pub fn since(&self, earlier: &Totals) -> Totals {
        Totals(array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    /// Adds those of another round.
    pub fn add(&mut self, other: &Totals) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    fn add_slot(&mut self, slot: &Slot) {
        for (sum, tally) in self.0.iter_mut().zip(&slot.tallies) {
            *sum += tally.load(Relaxed);
        }
    }
}

/// A distribution of each metric.
#[derive(Clone, Debug, Default)]
pub struct Histograms([Option<Histogram<u64>>; Metric::COUNT]);

impl Histograms {
    /// Values above an hour count as one.
    const MOST: u64 = 3600 * 1_000_000_000;

    fn of(&mut self, metric: Metric) -> &mut Histogram<u64> {
        // Three digits of every value: a quarter of a megabyte each, of which only what is used
        // becomes resident.
        let new = || Histogram::new_with_bounds(1, Self::MOST, 3).expect("bounds that are in order");
        self.0[metric as usize].get_or_insert_with(new)
    }

    /// Records nanoseconds.
    pub fn record(&mut self, metric: Metric, ns: u64) {
        self.of(metric).saturating_record(ns.clamp(1, Self::MOST));
    }

    /// Records durations, each of them so many times.
    pub fn record_buckets(&mut self, metric: Metric, buckets: &[(Duration, u64)]) {
        for &(value, count) in buckets {
            self.of(metric).saturating_record_n(nanos(value).clamp(1, Self::MOST), count);
        }
    }

    /// The distribution of a metric; `None` if nothing was recorded.
    pub fn get(&self, metric: Metric) -> Option<&Histogram<u64>> {
        self.0[metric as usize].as_ref().filter(|histogram| !histogram.is_empty())
    }

    /// Adds those of another thread or round.
    pub fn add(&mut self, other: &Histograms) {
        for metric in Metric::ALL {
            if let Some(more) = other.get(metric) {
                self.of(metric).add(more).expect("all have the same bounds");
            }
        }
    }
}

/// One thread's.
#[repr(align(128))]
struct Slot {
    tallies: [AtomicU64; TALLIES],
    /// Whether a timed task was ever polled here: then it is a worker.
    polls: AtomicBool,
    /// Linux's number of the thread.
    thread: Option<u32>,
    histograms: Mutex<Histograms>,
}

#[derive(Default)]
struct Slots {
    alive: Vec<Arc<Slot>>,
    /// The tallies of threads that are gone.
    gone: Totals,
}

static SLOTS: Mutex<Option<Slots>> = Mutex::new(None);

thread_local! {
    static SLOT: Arc<Slot> = register();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register() -> Arc<Slot> {
    let thread = fs::read_link("/proc/thread-self").ok();
    let slot = Arc::new(Slot {
        tallies: Default::default(),
        polls: AtomicBool::new(false),
        thread: thread.and_then(|path| path.file_name()?.to_str()?.parse().ok()),
        histograms: Mutex::default(),
    });
    lock(&SLOTS).get_or_insert_default().alive.push(Arc::clone(&slot));
    slot
}

fn with_slot(f: impl FnOnce(&Slot)) {
    // A thread that is being torn down records nothing: no executor polls there.
    let _ = SLOT.try_with(|slot| f(slot));
}

/// Counts on this thread.
pub fn count(tally: Tally, by: u64) {
    with_slot(|slot| {
        // This thread alone writes it.
        let tally = &slot.tallies[tally as usize];
        tally.store(tally.load(Relaxed) + by, Relaxed);
    });
}

/// Records a duration on this thread.
pub fn record(metric: Metric, value: Duration) {
    with_slot(|slot| lock(&slot.histograms).record(metric, nanos(value)));
}

/// Records a poll on this thread, and what came before it.
pub fn record_poll(took: Duration, before: Option<(Metric, Duration)>) {
    with_slot(|slot| {
        slot.polls.store(true, Relaxed);
        let mut histograms = lock(&slot.histograms);
        histograms.record(Metric::Poll, nanos(took));
        if let Some((metric, value)) = before {
            histograms.record(metric, nanos(value));
        }
    });
}

fn nanos(value: Duration) -> u64 {
    u64::try_from(value.as_nanos()).unwrap_or(u64::MAX)
}

/// The tallies of all threads, since the beginning.
pub fn totals() -> Totals {
    let slots = lock(&SLOTS);
    let mut sum = Totals::default();
    if let Some(slots) = &*slots {
        sum = slots.gone;
        slots.alive.iter().for_each(|slot| sum.add_slot(slot));
    }
    sum
}

/// The tallies of this thread: other tests count on theirs.
#[cfg(test)]
pub fn own_totals() -> Totals {
    let mut sum = Totals::default();
    with_slot(|slot| sum.add_slot(slot));
    sum
}

/// Takes the histograms of all threads, and forgets threads that are gone.
pub fn take_histograms() -> Histograms {
    let mut sum = Histograms::default();
    if let Some(Slots { alive, gone }) = &mut *lock(&SLOTS) {
        alive.retain(|slot| {
            sum.add(&std::mem::take(&mut *lock(&slot.histograms)));
            let lives = Arc::strong_count(slot) > 1;
            if !lives {
                gone.add_slot(slot);
            }
            lives
        });
    }
    sum
}

/// Forgets which threads are workers: those of an executor that cannot be stopped are none while
/// another one runs.
pub fn forget_workers() {
    if let Some(slots) = &*lock(&SLOTS) {
        slots.alive.iter().for_each(|slot| slot.polls.store(false, Relaxed));
    }
}

/// Linux's numbers of the threads that live and have polled timed tasks since workers were last
/// forgotten, in the order in which they came.
pub fn worker_threads() -> Vec<u32> {
    let is_worker = |slot: &&Arc<Slot>| Arc::strong_count(slot) > 1 && slot.polls.load(Relaxed);
    match &*lock(&SLOTS) {
        Some(slots) => slots.alive.iter().filter(is_worker).filter_map(|slot| slot.thread).collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::alone;
    use std::thread;

    #[test]
    fn percentiles_of_all_threads_are_merged() {
        let mut one = Histograms::default();
        let mut other = Histograms::default();
        (1..=500).for_each(|ns| one.record(Metric::Poll, ns));
        (501..=1000).for_each(|ns| other.record(Metric::Poll, ns));
        one.add(&other);
        let poll = one.get(Metric::Poll).unwrap();
        assert_eq!((poll.len(), poll.value_at_quantile(0.5), poll.max()), (1000, 500, 1000));
        assert_eq!(poll.value_at_quantile(0.99), 990);
        assert!(one.get(Metric::EndToEnd).is_none());
    }

    #[test]
    fn what_takes_longer_than_an_hour_counts_as_an_hour_and_nothing_as_a_nanosecond() {
        let mut histograms = Histograms::default();
        histograms.record(Metric::Poll, u64::MAX);
        histograms.record(Metric::Poll, 0);
        let poll = histograms.get(Metric::Poll).unwrap();
        assert_eq!(poll.len(), 2);
        assert!(poll.max() >= Histograms::MOST && poll.min() == 1);
    }

    #[test]
    fn a_bucket_counts_as_so_many_values() {
        let mut histograms = Histograms::default();
        histograms.record_buckets(Metric::Schedule, &[]);
        assert!(histograms.get(Metric::Schedule).is_none());
        let ns = Duration::from_nanos;
        histograms.record_buckets(Metric::Schedule, &[(ns(10), 98), (ns(500), 1), (Duration::MAX, 1)]);
        let schedule = histograms.get(Metric::Schedule).unwrap();
        assert_eq!((schedule.len(), schedule.value_at_quantile(0.5)), (100, 10));
        assert_eq!(schedule.value_at_quantile(0.99), 500);
        assert!(schedule.max() >= Histograms::MOST);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_is_a_worker_once_it_has_polled_until_workers_are_forgotten() {
        let _alone = alone();
        let poll = || {
            let path = fs::read_link("/proc/thread-self").unwrap();
            let this: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            record_poll(Duration::from_nanos(1), None);
            let before = worker_threads().contains(&this);
            forget_workers();
            (before, worker_threads().contains(&this))
        };
        assert_eq!(thread::spawn(poll).join().unwrap(), (true, false));
    }

    #[test]
    fn tallies_outlive_their_thread() {
        let _alone = alone();
        let before = totals();
        thread::spawn(|| count(Tally::Early, 3)).join().unwrap();
        take_histograms();
        count(Tally::Early, 2);
        assert_eq!(totals().since(&before).get(Tally::Early), 5);
    }
}
