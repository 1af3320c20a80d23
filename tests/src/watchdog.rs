//! An end for what does not end by itself.

use std::io::Write;
use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How long an ordinary test may take, in seconds: far more than any needs on a loaded machine.
pub const PATIENCE: u64 = 60;

/// Runs `body` on a thread of its own and hands on what it returns or panics with. If it has not
/// ended after `seconds`, says so and aborts the process: a hang must not cost an hour.
#[track_caller]
pub fn watchdog<R: Send + 'static>(seconds: u64, body: impl FnOnce() -> R + Send + 'static) -> R {
    let place = std::panic::Location::caller();
    let (ended, end) = channel();
    let name = std::thread::current().name().unwrap_or("a test").to_string();
    let thread = std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            // Dropped, not sent: a panic ends the wait as well.
            let _ended = ended;
            body()
        })
        .expect("a thread for the test");
    // An interpreter finds out by itself when no thread can go on, unless one waits with a limit.
    let verdict: Result<(), _> = if cfg!(miri) {
        end.recv().map_err(Into::into)
    } else {
        end.recv_timeout(Duration::from_secs(seconds))
    };
    if verdict == Err(RecvTimeoutError::Timeout) {
        // Not `eprintln!`: what a test prints is captured, and lost when the process aborts.
        let _ = writeln!(std::io::stderr(), "watchdog: {name} ({place}) has not ended after {seconds} s");
        std::process::abort();
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// An ordinary test's [`watchdog`]; its thread belongs to no runtime.
#[track_caller]
pub fn outside<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    watchdog(PATIENCE, body)
}

/// Panics without calling the panic hook, so that a wanted panic prints nothing.
pub fn quiet_panic(message: &'static str) -> ! {
    resume_unwind(Box::new(message))
}
