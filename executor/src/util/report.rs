//! What is said on standard error.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Write};

/// Writes a line, which is lost if standard error takes none. `eprintln!` would panic then, and
/// take the worker along.
pub(crate) fn complain(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "heirloom: {what}");
}
