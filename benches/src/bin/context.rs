//! What does the context cost, beside opentelemetry's, tokio's task locals, persistent maps and a
//! reference count?
#![forbid(unsafe_code)]

use std::process::ExitCode;

use heirloom_benches::context::{self, cli};

fn main() -> ExitCode {
    let about = "Measures the context against its peers, round by round, and its goals.";
    cli::main("context", about, context::rows(), &context::goals::goals())
}
