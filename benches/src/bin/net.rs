//! How fast are sockets on Heirloom beside others', and what does a request's context cost there?
#![forbid(unsafe_code)]

use std::process::ExitCode;

use heirloom_benches::executor::cli::{self, Summary};
use heirloom_benches::executor::plan::WORKERS;
use heirloom_benches::net::{self, client};
use heirloom_benches::peers::smol;

fn main() -> ExitCode {
    if let Some(code) = client::run_if_asked() {
        return code;
    }
    if let Err(error) = smol::want_threads(WORKERS) {
        eprintln!("cannot start anew with the environment that smol needs: {error}");
        return ExitCode::from(1);
    }
    net::want_descriptors();
    let about =
        "Measures sockets on Heirloom beside others', round by round, the client in a process of its own.";
    cli::main("net", about, net::ROWS, net::contenders(), Summary::Goals)
}
