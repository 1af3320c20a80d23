//! At what size should a flat context turn into a persistent map? (`footprint` has the bytes for
//! the same sizes.)
#![forbid(unsafe_code)]

use std::process::ExitCode;

use heirloom_benches::context::{cli, threshold};

fn main() -> ExitCode {
    let about = "Measures setting and reading at the sizes around the flat threshold.";
    cli::main("threshold", about, threshold::rows(), &[])
}
