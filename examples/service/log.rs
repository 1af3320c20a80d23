//! Log lines that name their request: every variable that may be shown is in each line, and no
//! caller passes any.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heirloom::{Context, context_var, remaining};

context_var! {
    /// Where lines of this server go. Without `debug`, so it is in no line itself.
    pub(crate) static OUTPUT: Output;
}

/// Where lines go.
#[derive(Clone)]
pub(crate) enum Output {
    /// To the terminal.
    Terminal,
    /// Into memory, the first few of them; the others are counted.
    Memory(Arc<Kept>),
}

#[derive(Default)]
pub(crate) struct Kept {
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    first: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Kept {
    const MOST: usize = 1_000;

    /// How many lines there were for an event.
    pub(crate) fn count(&self, event: &str) -> usize {
        self.lines().counts.get(event).copied().unwrap_or_default()
    }

    /// Those that contain `part`, of the first that were written.
    pub(crate) fn with(&self, part: &str) -> Vec<String> {
        self.lines().first.iter().filter(|line| line.contains(part)).cloned().collect()
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output {
    fn line(&self, event: &'static str, line: String) {
        match self {
            Output::Terminal => eprintln!("{line}"),
            Output::Memory(kept) => {
                let mut lines = kept.lines();
                *lines.counts.entry(event).or_default() += 1;
                if lines.first.len() < Kept::MOST {
                    lines.first.push(line);
                }
            }
        }
    }
}

/// Writes a line: the event, what is known from the context, how much time is left, and what else
/// there is to say, as `key=value`.
pub(crate) fn log(event: &'static str, more: &[(&str, &dyn std::fmt::Display)]) {
    let Some(output) = OUTPUT.get() else { return };
    let mut line = format!("event={event}");
    // Writing to a string cannot fail.
    for entry in Context::current().iter() {
        if let Some(text) = entry.debug_text() {
            let _ = write!(line, " {}={text}", entry.name().to_lowercase());
        }
    }
    if let Some(left) = remaining() {
        let _ = write!(line, " left_ms={}", left.as_millis());
    }
    for (key, value) in more {
        let _ = write!(line, " {key}={:?}", value.to_string());
    }
    output.line(event, line);
}
