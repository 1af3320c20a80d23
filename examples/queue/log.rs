//! Log lines that name their request and their job, which no caller passes.

use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use heirloom::{Context, context_var};

context_var! {
    /// The file that gets the lines; the terminal does where it is unset. Without `debug`, so it is
    /// in no line itself.
    pub(crate) static OUTPUT: Arc<File>;
    /// The request that is being served. A job is part of the request that enqueued it.
    pub(crate) static REQUEST: String, debug = Debug;
    /// The tenant whose request it is.
    pub(crate) static TENANT: String, debug = Debug;
    /// The job that is being run.
    pub(crate) static JOB: i64, debug = Debug;
    /// Which attempt of the job it is, from 1.
    pub(crate) static ATTEMPT: u32, debug = Debug;
}

/// Writes a line: the event, what is known from the context, and what else there is to say.
pub(crate) fn log(event: &str, more: &[(&str, &dyn Display)]) {
    let mut line = format!("event={event:?}");
    // Writing to a string cannot fail.
    for entry in Context::current().iter() {
        if let Some(text) = entry.debug_text() {
            let _ = write!(line, " {}={text}", entry.name().to_lowercase());
        }
    }
    for (key, value) in more {
        let _ = write!(line, " {key}={:?}", value.to_string());
    }
    line.push('\n');
    // In one call, so that the lines of several processes do not mix. A log that is full or closed
    // is no reason to stop the work.
    let _ = match OUTPUT.get() {
        Some(file) => (&*file).write_all(line.as_bytes()),
        None => std::io::stdout().write_all(line.as_bytes()),
    };
}
