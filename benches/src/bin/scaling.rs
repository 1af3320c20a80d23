//! What does an operation share between workers, and how does that grow with their number?
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    heirloom_benches::scaling::main()
}
