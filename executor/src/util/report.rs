//! Messages on standard error.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Write};

/// Writes a line. An error is ignored: `eprintln!` would panic, and end the worker.
pub(crate) fn complain(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "heirloom: {what}");
}
