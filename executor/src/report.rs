//! What is said on standard error.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Write};

/// Writes a line. If standard error takes none, nobody hears of it: `eprintln!` would panic, and take the worker along.
pub(crate) fn complain(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "heirloom: {what}");
}
