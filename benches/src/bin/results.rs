//! Writes RESULTS.md and the charts from the kept runs.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::process::ExitCode;

use clap::Command;
use heirloom_benches::cli::flag;
use heirloom_benches::results;

fn main() -> ExitCode {
    let arguments = Command::new("results")
        .about("Writes benches/RESULTS.md and the charts in docs from the newest kept run of each program.")
        .arg(flag("smoke", "Write nothing; end with code 1 if a file is not what would be written"))
        .get_matches();
    match write(arguments.get_flag("smoke")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

fn write(smoke: bool) -> io::Result<()> {
    for (path, text) in results::drawn()? {
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        if smoke {
            return Err(io::Error::other(format!("{} is not up to date", path.display())));
        }
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}
