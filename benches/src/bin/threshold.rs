//! At what size should a flat context turn into a persistent map? (`footprint` has the bytes for the same sizes.)
#![forbid(unsafe_code)]

use std::process::ExitCode;

use heirloom_benches::cli::{self, Options};
use heirloom_benches::context::threshold;

fn main() -> ExitCode {
    let options =
        Options::parse("threshold", "Measures setting and reading at the sizes around the flat threshold.");
    cli::run(&options, threshold::rows(), &[])
}
