//! Log lines that name their request: every variable that may be shown is in each line, and no
//! caller passes any.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

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
    lines: Mutex<Vec<String>>,
    count: AtomicUsize,
}

impl Kept {
    const MOST: usize = 1_000;

    pub(crate) fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Those that contain `part`, of the first that were written.
    pub(crate) fn with(&self, part: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.contains(part)).cloned().collect()
    }
}

impl Output {
    fn line(&self, line: String) {
        match self {
            Output::Terminal => eprintln!("{line}"),
            Output::Memory(kept) => {
                kept.count.fetch_add(1, Relaxed);
                let mut lines = kept.lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() < Kept::MOST {
                    lines.push(line);
                }
            }
        }
    }
}

/// Writes a line: the event, what is known from the context, how much time is left, and what else
/// there is to say, as `key=value`.
pub(crate) fn log(event: &str, more: &[(&str, &dyn std::fmt::Display)]) {
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
    output.line(line);
}
