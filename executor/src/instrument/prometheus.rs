//! The numbers of a runtime as text, in the format that Prometheus and its relatives read.
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Write};

use super::stats::{Histogram, Stats};

impl Stats {
    /// The numbers in the text format of Prometheus, version 0.0.4, for an endpoint `/metrics`. All
    /// names begin with `heirloom_`.
    ///
    /// The text stands by itself: the text of the service's own metrics can come before or behind
    /// it. Times are in seconds, in a bucket for each power of two of nanoseconds.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = heirloom::Runtime::builder().workers(1).build()?;
    /// runtime.block_on(runtime.spawn(async {})).unwrap();
    /// runtime.wait_until_idle();
    /// let text = runtime.stats().prometheus().to_string();
    /// assert!(text.contains("\nheirloom_tasks_finished_total{how=\"returned\"} 1\n"));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "openmetrics")]
    pub fn prometheus(&self) -> impl Display + '_ {
        Exposition(self)
    }
}

struct Exposition<'a>(&'a Stats);

impl Display for Exposition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.0;
        let totals = &stats.totals;
        let mut text = Text { name: "", f };

        text.counter("tasks_spawned", "Tasks that were spawned", &[("", totals.spawned)])?;
        let finished = [
            ("how=\"returned\"", totals.finished.returned),
            ("how=\"panicked\"", totals.finished.panicked),
            ("how=\"cancelled\"", totals.finished.cancelled),
        ];
        text.counter("tasks_finished", "Tasks that have ended, by how", &finished)?;
        text.counter("wake_ups", "Wake-ups of idle tasks", &[("", totals.wake_ups)])?;
        text.counter("budget_yields", "Leaves that found the budget spent", &[("", totals.budget_yields)])?;
        text.counter("timers_fired", "Timers that were due", &[("", totals.timers_fired)])?;
        text.counter(
            "io_events",
            "Tasks woken by an event of a socket or signal",
            &[("", totals.io_events)],
        )?;
        text.counter("blocking_taken", "Blocking closures that have begun", &[("", totals.blocking_taken)])?;
        let held_up = [("", totals.blocking_held_up)];
        text.counter("blocking_held_up", "Blocking closures that found all threads busy", &held_up)?;

        let states = [
            ("state=\"idle\"", stats.states.idle as u64),
            ("state=\"scheduled\"", stats.states.scheduled as u64),
            ("state=\"running\"", stats.states.running as u64),
        ];
        text.gauge("tasks", "Tasks that have not ended, by state", &states)?;
        text.gauge("timers", "Timers that are set", &[("", stats.timers as u64)])?;
        text.gauge("injected", "Tasks in the injector", &[("", stats.injected as u64)])?;
        text.gauge(
            "blocking_threads",
            "Threads of the blocking pool",
            &[("", stats.blocking_threads as u64)],
        )?;
        let most = [("", stats.max_blocking_threads as u64)];
        text.gauge("blocking_threads_max", "Most threads of the blocking pool", &most)?;
        text.gauge(
            "blocking_queued",
            "Blocking closures without a thread",
            &[("", stats.blocking_queued as u64)],
        )?;

        let labels: Vec<_> = (0..stats.workers.len()).map(|index| format!("worker=\"{index}\"")).collect();
        let workers = || labels.iter().map(String::as_str).zip(&stats.workers);
        let polls: Vec<_> = workers().map(|(label, worker)| (label, worker.polls)).collect();
        text.counter("polls", "Polls by each worker", &polls)?;
        let steals: Vec<_> = workers().map(|(label, worker)| (label, worker.steals)).collect();
        text.counter("steals", "How often each worker has stolen", &steals)?;
        let parks: Vec<_> = workers().map(|(label, worker)| (label, worker.parks)).collect();
        text.counter("parks", "How often each worker has parked", &parks)?;
        let queued: Vec<_> = workers().map(|(label, worker)| (label, worker.queued as u64)).collect();
        text.gauge("queued", "Tasks in the queue of each worker", &queued)?;

        let Some(times) = &stats.times else { return Ok(()) };
        let busy: Vec<_> =
            workers().map(|(label, worker)| (label, worker.busy.unwrap_or_default().as_secs_f64())).collect();
        text.counter("busy_seconds", "How long each worker has polled", &busy)?;
        text.histogram("schedule_latency_seconds", "From runnable to polled", &times.schedule_latency)?;
        text.histogram("poll_seconds", "Polls by workers", &times.poll)?;
        text.histogram(
            "blocking_wait_seconds",
            "Waits of blocking closures for a thread",
            &times.blocking_wait,
        )
    }
}

/// Writes families of metrics.
struct Text<'a, 'f> {
    name: &'static str,
    f: &'a mut fmt::Formatter<'f>,
}

impl Text<'_, '_> {
    fn head(&mut self, name: &'static str, kind: &str, suffix: &str, help: &str) -> fmt::Result {
        self.name = name;
        writeln!(self.f, "# HELP heirloom_{name}{suffix} {help}.\n# TYPE heirloom_{name}{suffix} {kind}")
    }

    fn sample(&mut self, suffix: &str, labels: &str, value: impl Display) -> fmt::Result {
        write!(self.f, "heirloom_{}{suffix}", self.name)?;
        if !labels.is_empty() {
            write!(self.f, "{{{labels}}}")?;
        }
        writeln!(self.f, " {value}")
    }

    fn family<V: Display>(
        &mut self,
        kind: &str,
        suffix: &str,
        name: &'static str,
        help: &str,
        samples: &[(&str, V)],
    ) -> fmt::Result {
        self.head(name, kind, suffix, help)?;
        samples.iter().try_for_each(|(labels, value)| self.sample(suffix, labels, value))
    }

    fn counter<V: Display>(&mut self, name: &'static str, help: &str, samples: &[(&str, V)]) -> fmt::Result {
        self.family("counter", "_total", name, help, samples)
    }

    fn gauge(&mut self, name: &'static str, help: &str, samples: &[(&str, u64)]) -> fmt::Result {
        self.family("gauge", "", name, help, samples)
    }

    fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) -> fmt::Result {
        self.head(name, "histogram", "", help)?;
        let mut label = String::new();
        for exponent in FIRST..=LAST {
            let upper = 1_u64 << exponent;
            label.clear();
            write!(label, "le=\"{}\"", upper as f64 / 1e9)?;
            self.sample("_bucket", &label, histogram.count_up_to(upper - 1))?;
        }
        self.sample("_bucket", "le=\"+Inf\"", histogram.count())?;
        self.sample("_sum", "", histogram.sum().as_secs_f64())?;
        self.sample("_count", "", histogram.count())
    }
}

/// The buckets of the text: half a microsecond to 34 seconds.
const FIRST: u32 = 9;
const LAST: u32 = 35;
