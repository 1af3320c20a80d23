//! What is shown while it runs: a bar on a terminal, plain lines elsewhere, on standard error.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::drive::Live;
use super::text;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows progress, or nothing.
#[derive(Debug)]
pub enum Progress {
    /// Nothing.
    Quiet,
    /// Lines.
    Lines {
        /// When the last one was written.
        last: Instant,
        /// What is running.
        label: String,
        /// How much was measured in earlier rounds.
        before: Duration,
        /// How much there is to measure.
        total: Duration,
    },
    /// A bar over the whole time to measure.
    Bar {
        /// Milliseconds long.
        bar: ProgressBar,
        /// How much was measured in earlier rounds.
        before: Duration,
    },
}

impl Progress {
    /// Shows the progress of measuring for so long in all.
    pub fn new(quiet: bool, total: Duration) -> Progress {
        let before = Duration::ZERO;
        if quiet {
            Progress::Quiet
        } else if stderr().is_terminal() {
            let style = ProgressStyle::with_template("{prefix:22} {wide_bar} {percent:>3}%  {msg}")
                .expect("a template that is right")
                .progress_chars("━╸─");
            let bar = ProgressBar::new(total.as_millis() as u64).with_style(style);
            Progress::Bar { bar, before }
        } else {
            Progress::Lines { last: Instant::now(), label: String::new(), before, total }
        }
    }

    /// A round begins.
    pub fn begin(&mut self, scenario: &str, executor: &str) {
        let text = format!("{scenario} on {executor}");
        match self {
            Progress::Quiet => {}
            Progress::Lines { label, .. } => *label = text,
            Progress::Bar { bar, .. } => bar.set_prefix(text),
        }
    }

    /// It runs.
    pub fn show(&mut self, live: Live) {
        let state = || {
            let (rate, in_flight) = (text::count(live.per_second), live.in_flight);
            format!("{rate} requests/s, {in_flight} in flight, {} violations", live.violations)
        };
        match self {
            Progress::Quiet => {}
            Progress::Lines { last, label, before, total } => {
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    let done = (*before + live.measured).as_secs_f64() / total.as_secs_f64().max(1e-9);
                    line(&format!("{:3.0}%  {label}: {}", 100.0 * done, state()));
                }
            }
            Progress::Bar { bar, before } => {
                bar.set_position((*before + live.measured).as_millis() as u64);
                bar.set_message(state());
            }
        }
    }

    /// A round has ended.
    pub fn end(&mut self, measured: Duration) {
        match self {
            Progress::Quiet => {}
            Progress::Lines { before, .. } | Progress::Bar { before, .. } => *before += measured,
        }
    }

    /// A scenario has ended: something to read before the report comes.
    pub fn tell(&self, text: &str) {
        match self {
            Progress::Quiet => {}
            Progress::Lines { .. } => line(text),
            Progress::Bar { bar, .. } => bar.println(text),
        }
    }

    /// All is over.
    pub fn finish(self) {
        if let Progress::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

/// A caller that does not read standard error misses nothing.
fn line(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}
