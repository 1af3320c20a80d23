//! The program `executors` with the peers that stand apart: all in one process, round by round.
#![forbid(unsafe_code)]

mod forte;
mod nexosim;

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
    let mut contenders = executor::contenders();
    contenders.extend([row::without_timers::<forte::Forte>(), nexosim::contender()]);
    let about = "Measures Heirloom beside other executors, round by round, and its goals.";
    cli::main("executors-apart", about, row::ROWS, contenders, Summary::Goals)
}
