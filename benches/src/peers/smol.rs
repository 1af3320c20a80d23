//! smol's global executor. It reads `SMOL_THREADS` once, starts its threads at the first spawn, and
//! never ends them.

use std::env;
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::{Executor, Timers};

/// The variable that says how many threads the global executor has.
const THREADS: &str = "SMOL_THREADS";

/// smol's global executor.
#[derive(Clone, Copy, Debug)]
pub struct Smol;

/// Lets the global executor have so many threads, by starting this program anew if its environment
/// says otherwise: a process cannot change its own environment safely. To be called at the head of
/// `main`. Returns the error if that fails.
pub fn want_threads(workers: usize) -> io::Result<()> {
    if has_threads(workers) {
        return Ok(());
    }
    let mut again = Command::new(env::current_exe()?);
    Err(again.args(env::args_os().skip(1)).env(THREADS, workers.to_string()).exec())
}

fn has_threads(workers: usize) -> bool {
    env::var(THREADS).is_ok_and(|threads| threads == workers.to_string())
}

impl Executor for Smol {
    const NAME: &'static str = "smol";

    type Join<T: Send + 'static> = ::smol::Task<T>;

    fn start(workers: usize) -> Self {
        assert!(has_threads(workers), "smol takes its number of threads from {THREADS}: set it to {workers}");
        Smol
    }

    #[inline]
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output> {
        ::smol::spawn(f)
    }

    #[inline]
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
        ::smol::spawn(f).detach();
    }

    fn block_on<F: Future>(&self, f: F) -> F::Output {
        ::smol::block_on(f)
    }
}

impl Timers for Smol {}
