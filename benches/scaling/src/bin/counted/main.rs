//! Does one operation with so many workers, and prints how often a line of memory went from one
//! thread to another, by function. Started by the program `scaling`, which builds it as it must be
//! built:
//!
//! ```text
//! counted OPERATION WORKERS ROUNDS
//! ```
//!
//! The first line of the output is the number of operations. Each further line has three counts
//! and a function; `lines` says what they are.

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod lines;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod run;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod run {
    pub(crate) fn main() -> std::process::ExitCode {
        eprintln!("accesses are recorded on Linux alone, on x86-64 and on aarch64");
        std::process::ExitCode::from(2)
    }
}

fn main() -> std::process::ExitCode {
    run::main()
}
