//! The one place where threads are started.
#![forbid(unsafe_code)]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::util::panic::discard;

/// A user's function that threads call.
pub(crate) type ThreadHook = Arc<dyn Fn() + Send + Sync>;

/// The options that all threads of a runtime share.
#[derive(Clone)]
pub(crate) struct Threads {
    pub(crate) name: String,
    pub(crate) stack_size: Option<usize>,
    pub(crate) on_start: Option<ThreadHook>,
    pub(crate) on_stop: Option<ThreadHook>,
}

impl Threads {
    /// Starts a thread that runs `body` between the two hooks, or returns the error of the
    /// operating system. `kind` is part of the thread's name.
    pub(crate) fn start(
        &self,
        kind: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        // With a NUL in the name the standard library panics.
        if self.name.contains('\0') {
            let message = "the name of a thread must not contain a NUL";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut builder = thread::Builder::new().name(format!("{}-{kind}", self.name));
        if let Some(bytes) = self.stack_size {
            builder = builder.stack_size(bytes);
        }
        let (on_start, on_stop) = (self.on_start.clone(), self.on_stop.clone());
        // With a stack size too large to be rounded up to pages the standard library panics.
        let started = catch_unwind(AssertUnwindSafe(|| {
            builder.spawn(move || {
                run_hook(on_start);
                body();
                run_hook(on_stop);
            })
        }));
        started.unwrap_or_else(|panic| {
            discard(panic);
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the stack size is out of range"))
        })
    }
}

/// Runs a hook, and discards a panic.
fn run_hook(hook: Option<ThreadHook>) {
    if let Some(hook) = hook
        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook()))
    {
        discard(panic);
    }
}
