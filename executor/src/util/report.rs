//! Messages on standard error.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Write};

/// Writes a line to standard error, by one call, so that lines of other threads do not get in
/// between. If that fails, the line is lost: `eprintln!` would panic, and end the worker.
pub(crate) fn complain(what: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("heirloom: {what}\n").as_bytes());
}
