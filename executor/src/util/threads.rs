//! The one place where threads are started.
#![forbid(unsafe_code)]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::util::panic::discard;

/// A user's function that threads call.
pub(crate) type ThreadHook = Arc<dyn Fn() + Send + Sync>;

/// Settings of all threads of a runtime.
#[derive(Clone)]
pub(crate) struct Threads {
    pub(crate) name: String,
    pub(crate) stack_size: Option<usize>,
    pub(crate) on_start: Option<ThreadHook>,
    pub(crate) on_stop: Option<ThreadHook>,
}

impl Threads {
    /// Starts a thread, or returns the error of the operating system.
    pub(crate) fn start(
        &self,
        kind: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        // The standard library would panic on such a name.
        if self.name.contains('\0') {
            let message = "the name of a thread must not contain a NUL";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut builder = thread::Builder::new().name(format!("{}-{kind}", self.name));
        if let Some(bytes) = self.stack_size {
            builder = builder.stack_size(bytes);
        }
        let (on_start, on_stop) = (self.on_start.clone(), self.on_stop.clone());
        // A stack size that cannot be rounded up to pages makes the standard library panic instead
        // of returning an error.
        let started = catch_unwind(AssertUnwindSafe(|| {
            builder.spawn(move || {
                call(on_start);
                body();
                call(on_stop);
            })
        }));
        started.unwrap_or_else(|panic| {
            discard(panic);
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the stack size is out of range"))
        })
    }
}

fn call(hook: Option<ThreadHook>) {
    if let Some(hook) = hook
        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook()))
    {
        discard(panic);
    }
}
