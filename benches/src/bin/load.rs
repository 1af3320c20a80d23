//! What does the executor do on this machine, under load, beside others, and does every task see
//! its own context?
#![forbid(unsafe_code)]

use std::process::ExitCode;

use heirloom_benches::load::{self, executor::EXECUTORS};
use heirloom_benches::net;

fn main() -> ExitCode {
    net::want_descriptors();
    load::main(EXECUTORS, std::env::args_os())
}
