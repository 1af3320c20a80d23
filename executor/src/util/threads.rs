//! The one place where threads are started.
#![forbid(unsafe_code)]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::util::panic::discard;

/// A user's function that threads call.
pub(crate) type ThreadHook = Arc<dyn Fn() + Send + Sync>;

/// Another runtime, of which the threads of a runtime are inside while they run its tasks.
pub(crate) trait Guest: Send + Sync {
    /// Calls `body` inside the guest.
    fn inside(&self, body: &mut dyn FnMut());

    /// Ends the guest, if it belongs to the runtime. `wait` says whether the thread may wait for
    /// the guest's.
    fn end(&self, wait: bool);
}

/// Calls `body` inside the guest, if there is one.
pub(crate) fn inside<R>(guest: Option<&dyn Guest>, body: impl FnOnce() -> R) -> R {
    let Some(guest) = guest else { return body() };
    let (mut body, mut output) = (Some(body), None);
    guest.inside(&mut || output = body.take().map(|body| body()));
    output.expect("a guest calls the body")
}

/// The options that all threads of a runtime share.
#[derive(Clone)]
pub(crate) struct Threads {
    pub(crate) name: String,
    pub(crate) stack_size: Option<usize>,
    pub(crate) on_start: Option<ThreadHook>,
    pub(crate) on_stop: Option<ThreadHook>,
    pub(crate) guest: Option<Arc<dyn Guest>>,
}

impl Threads {
    /// Starts a thread that runs `body` between the two hooks, or returns the error of the
    /// operating system. `kind` is part of the thread's name.
    pub(crate) fn start(
        &self,
        kind: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        // Boxed, so that what the standard library puts around a body is compiled once.
        self.start_boxed(kind, Box::new(body))
    }

    fn start_boxed(&self, kind: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        // With a NUL in the name the standard library panics.
        if self.name.contains('\0') {
            let message = "the name of a thread must not contain a NUL";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut builder = thread::Builder::new().name(format!("{}-{kind}", self.name));
        if let Some(bytes) = self.stack_size {
            builder = builder.stack_size(bytes);
        }
        let Threads { on_start, on_stop, guest, .. } = self.clone();
        // With a stack size too large to be rounded up to pages the standard library panics.
        let started = catch_unwind(AssertUnwindSafe(|| {
            builder.spawn(move || {
                run_hook(on_start);
                inside(guest.as_deref(), body);
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
