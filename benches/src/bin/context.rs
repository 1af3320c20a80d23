//! What does the context cost, beside opentelemetry's, tokio's task locals, persistent maps and a reference count?
#![forbid(unsafe_code)]

use std::process::ExitCode;

use heirloom_benches::cli::{self, Options};
use heirloom_benches::context;

fn main() -> ExitCode {
    let options =
        Options::parse("context", "Measures the context against its peers, round by round, and its goals.");
    cli::run(&options, context::rows(), &context::goals::goals())
}
