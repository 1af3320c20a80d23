//! How fast is Heirloom beside other executors, with contexts on?
#![forbid(unsafe_code)]

use std::process::ExitCode;

use heirloom_benches::executor::cli::{self, Summary};
use heirloom_benches::executor::plan::WORKERS;
use heirloom_benches::executor::{self, row};
use heirloom_benches::peers::smol;

fn main() -> ExitCode {
    if let Err(error) = smol::want_threads(WORKERS) {
        eprintln!("cannot start anew with the environment that smol needs: {error}");
        return ExitCode::from(1);
    }
    let about = "Measures Heirloom beside other executors, round by round, and its goals.";
    cli::main("executors", about, row::ROWS, executor::contenders(), Summary::Goals)
}
