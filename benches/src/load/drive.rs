//! One round: an executor is started, put under load, watched, and stopped.
//!
//! ```text
//!   start ── warm-up ──┬────────── measured ──────────┬── drain ── stop
//!                      │ histograms are emptied,      │ no new requests; those that were
//!                      │ counters are read            │ begun end, and count
//! ```
//!
//! The thread that calls [`round`] drives nothing: it sleeps, and now and then reads counters.
//! Clients of a closed loop are tasks; requests of an open loop are spawned by a thread that does
//! only this.

use std::io;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

use super::check::{self, Own, Rules};
use super::executor::{Inspection, Loadable};
use super::interrupt::Interrupt;
use super::machine;
use super::outcome::{Round, Timeline};
use super::probe::probed;
use super::record::{self, Metric, Tally, Totals, count, record};
use super::scenario::Scenario;
use super::schedule::Schedule;

/// How requests are started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Each of so many clients starts the next request when its last one has ended.
    Closed {
        /// How many.
        clients: usize,
    },
    /// Requests start at a fixed rate.
    Open {
        /// Requests a second.
        per_second: f64,
        /// At so many in flight, requests wait to be started; their time runs all the same.
        most_in_flight: u64,
    },
}

/// What to do in a round.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How requests are started.
    pub load: Load,
    /// Worker threads.
    pub workers: usize,
    /// How the executor is inspected.
    pub inspection: Inspection,
    /// How long to run before measuring.
    pub warm_up: Duration,
    /// How long to measure.
    pub measured: Duration,
    /// How often to look.
    pub tick: Duration,
    /// How long to wait for what was begun; in a closed loop, how long to wait without any of it
    /// ending.
    pub drain: Duration,
    /// What holds for all tasks.
    pub rules: &'static Rules,
}

/// What can be told while a round runs.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// Measured so far, warm-up excluded.
    pub measured: Duration,
    /// Requests that ended, a second, since the last look.
    pub per_second: f64,
    /// Requests begun and not ended.
    pub in_flight: u64,
    /// Violations in this round.
    pub violations: u64,
}

/// What clients, the generator and requests share.
#[derive(Debug)]
pub struct Shared<E> {
    /// What runs the requests.
    pub executor: E,
    /// What holds for all of them.
    pub rules: &'static Rules,
    /// No request is to be started any more.
    pub stop: AtomicBool,
    /// Clients that have not ended, or the generator.
    pub sources: AtomicUsize,
    /// Requests that were due when the generator ended and had not been started.
    pub behind: AtomicU64,
}

/// One request, from beginning to end.
async fn request<S: Scenario, E: Loadable>(executor: E, mut own: Own, begun: Instant) {
    own.bind();
    let units = S::request(executor, own).await;
    record(Metric::EndToEnd, begun.elapsed());
    count(Tally::Units, units);
    count(Tally::Finished, 1);
}

/// A client of a closed loop.
async fn client<S: Scenario, E: Loadable>(shared: Arc<Shared<E>>, first: u64, step: u64) {
    let mut number = first;
    while !shared.stop.load(Relaxed) {
        let own = Own::request(shared.rules, number);
        // A client belongs to no request.
        own.check_scribble(None, "in a client, between requests");
        count(Tally::Started, 1);
        let begun = Instant::now();
        let executor = shared.executor;
        executor.spawn(probed(own.is_timed(), request::<S, E>(executor, own, begun))).await;
        number += step;
    }
    shared.sources.fetch_sub(1, SeqCst);
}

/// The generator of an open loop.
fn generate<S: Scenario, E: Loadable>(shared: &Shared<E>, per_second: f64, most_in_flight: u64) {
    machine::wake_this_thread_in_time();
    let schedule = Schedule::new(Instant::now(), per_second);
    let started_before = record::totals().get(Tally::Started);
    let finished_before = record::totals().get(Tally::Finished);
    // How often the sum over all threads is asked for: often enough to overshoot by little.
    let look_every = (most_in_flight / 8).clamp(1, 256);
    let mut number = 0;
    while !shared.stop.load(Relaxed) {
        let due = schedule.intended(number);
        let Some(late) = Instant::now().checked_duration_since(due) else {
            let left = due.saturating_duration_since(Instant::now());
            thread::sleep(left.min(Duration::from_millis(10)));
            continue;
        };
        if number % look_every == 0 {
            let finished = record::totals().get(Tally::Finished) - finished_before;
            if number.saturating_sub(finished) >= most_in_flight {
                thread::sleep(Duration::from_micros(200));
                continue;
            }
        }
        record(Metric::Generator, late);
        count(Tally::Started, 1);
        let own = Own::request(shared.rules, number);
        let executor = shared.executor;
        executor.detach(probed(own.is_timed(), request::<S, E>(executor, own, due)));
        number += 1;
    }
    debug_assert!(record::totals().get(Tally::Started) - started_before >= number);
    shared.behind.store(schedule.due_by(Instant::now()).saturating_sub(number), SeqCst);
    shared.sources.fetch_sub(1, SeqCst);
}

/// Runs one round.
///
/// # Errors
/// If the executor or the generator cannot be started.
pub fn round<S: Scenario, E: Loadable>(
    plan: &Plan,
    interrupt: &Interrupt,
    look: &mut dyn FnMut(Live),
) -> io::Result<Round> {
    drop(record::take_histograms());
    let _ = check::take_violations();
    record::forget_workers();
    let peak_is_ours = machine::forget_peak().is_ok();
    let before = record::totals();
    let Plan { workers, inspection, .. } = *plan;
    let executor = catch_unwind(|| E::start_inspected(workers, inspection))
        .map_err(|_| io::Error::other(format!("{} refuses to start with {workers} workers", E::LABEL)))?;
    let shared = Arc::new(Shared {
        executor,
        rules: plan.rules,
        stop: AtomicBool::new(false),
        sources: AtomicUsize::new(0),
        behind: AtomicU64::new(0),
    });
    let generator = S::start(&shared, plan)?;

    let mut watch = Watch { executor: &executor, interrupt, look, tick: plan.tick, before };
    let warm_until = Instant::now() + plan.warm_up;
    watch.until(warm_until, None);

    drop(record::take_histograms());
    let mut timeline = Timeline::new(machine::memory(), &record::totals(), record::worker_threads());
    let begun = Instant::now();
    let start = Reading::of(&executor);
    watch.until(begun + plan.measured, Some((begun, &mut timeline)));
    let end = Reading::of(&executor);
    let window = begun.elapsed();

    shared.stop.store(true, Relaxed);
    let drained = watch.drain(&shared.sources, plan.load, plan.drain);
    let all = record::totals().since(&before);
    let memory = machine::memory();
    executor.stop();
    if let Some(generator) = generator {
        let _ = generator.join();
    }
    let mut histograms = record::take_histograms();
    let schedule_latency = end.observed.schedule_latency_since(&start.observed);
    histograms.record_buckets(Metric::Schedule, &schedule_latency);
    Ok(Round {
        window,
        measured: end.totals.since(&start.totals),
        all,
        histograms,
        unfinished: if drained { 0 } else { all.get(Tally::Started) - all.get(Tally::Finished) },
        behind: shared.behind.load(SeqCst),
        processor_time: end
            .processor_time
            .zip(start.processor_time)
            .map(|(end, start)| end.saturating_sub(start)),
        others_time: others(&start, &end),
        observed: (start.observed, end.observed),
        peak_memory: memory.map(|memory| if peak_is_ours { memory.peak } else { timeline.most_memory() }),
        timeline,
        violations: check::take_violations(),
        alarms: executor.alarms(),
        interrupted: interrupt.is_raised(),
    })
}

/// Starts clients, or the generator.
///
/// # Errors
/// If the generator cannot be started.
pub fn start<S: Scenario, E: Loadable>(
    shared: &Arc<Shared<E>>,
    load: Load,
) -> io::Result<Option<thread::JoinHandle<()>>> {
    match load {
        Load::Closed { clients } => {
            shared.sources.store(clients, SeqCst);
            for first in 0..clients as u64 {
                shared.executor.detach(client::<S, E>(Arc::clone(shared), first, clients as u64));
            }
            Ok(None)
        }
        Load::Open { per_second, most_in_flight } => {
            shared.sources.store(1, SeqCst);
            let shared = Arc::clone(shared);
            let body = move || generate::<S, E>(&shared, per_second, most_in_flight);
            thread::Builder::new().name("generator".to_owned()).spawn(body).map(Some)
        }
    }
}

/// What is read at the beginning and at the end of measuring.
struct Reading {
    totals: Totals,
    processor_time: Option<Duration>,
    everybodys_time: Option<Duration>,
    observed: super::executor::Observed,
}

impl Reading {
    fn of<E: Loadable>(executor: &E) -> Reading {
        Reading {
            totals: record::totals(),
            processor_time: machine::processor_time(),
            everybodys_time: machine::everybodys_time(),
            observed: executor.observe(),
        }
    }
}

/// What others used between two readings.
fn others(start: &Reading, end: &Reading) -> Option<Duration> {
    let all = end.everybodys_time?.saturating_sub(start.everybodys_time?);
    Some(all.saturating_sub(end.processor_time?.saturating_sub(start.processor_time?)))
}

/// The thread that looks on.
struct Watch<'a, E> {
    executor: &'a E,
    interrupt: &'a Interrupt,
    look: &'a mut dyn FnMut(Live),
    tick: Duration,
    before: Totals,
}

impl<E: Loadable> Watch<'_, E> {
    /// Looks on until then, or until there is a signal.
    fn until(&mut self, end: Instant, mut timeline: Option<(Instant, &mut Timeline)>) {
        let mut last = (Instant::now(), record::totals());
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.interrupt.is_raised() {
                return;
            }
            // No look so soon after another that what it sees means nothing.
            thread::sleep(if left < self.tick * 3 / 2 { left } else { self.tick });
            let now = Instant::now();
            let totals = record::totals();
            let mine = totals.since(&self.before);
            let in_flight = mine.get(Tally::Started).saturating_sub(mine.get(Tally::Finished));
            let measured = timeline.as_mut().map(|(begun, timeline)| {
                let at = now.duration_since(*begun);
                timeline.add(at, &totals, in_flight, &self.executor.observe());
                at
            });
            let ended = totals.since(&last.1).get(Tally::Finished) as f64;
            (self.look)(Live {
                measured: measured.unwrap_or_default(),
                per_second: ended / now.duration_since(last.0).as_secs_f64(),
                in_flight,
                violations: mine.get(Tally::Violations),
            });
            last = (now, totals);
        }
    }

    /// Waits until all sources and requests have ended; says whether they did.
    ///
    /// Clients of a closed loop have begun a known number of requests: as long as some end, the
    /// rest is waited for. What an open loop has heaped up may take any time.
    fn drain(&self, sources: &AtomicUsize, load: Load, limit: Duration) -> bool {
        let patient = matches!(load, Load::Closed { .. });
        let mut since = Instant::now();
        let mut ended = 0;
        loop {
            let mine = record::totals().since(&self.before);
            if sources.load(SeqCst) == 0 && mine.get(Tally::Started) == mine.get(Tally::Finished) {
                return true;
            }
            let interrupted = self.interrupt.is_raised();
            if patient && !interrupted && mine.get(Tally::Finished) > ended {
                (since, ended) = (Instant::now(), mine.get(Tally::Finished));
            }
            if since.elapsed() >= if interrupted { limit / 5 } else { limit } {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
