//! User code that may panic: run it, then keep the panic or drop it.
//!
//! | the panic | function |
//! | --- | --- |
//! | is the caller's to deal with | [`catch`] |
//! | concerns no caller: the panic hook has reported it | [`swallow`] |
//! | is that of a future's destructor, and its output's may panic too | [`Unclaimed`] |
//! | is the first of several, and reaches the caller when all calls have run | [`FirstPanic`] |
#![forbid(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What a panic carries.
pub type Payload = Box<dyn Any + Send>;

/// Runs `f`, and returns its panic as an error. What `f` may have left half done is the caller's to
/// know.
#[inline]
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(f))
}

/// Runs `f`, and drops its panic.
#[inline]
pub fn swallow(f: impl FnOnce()) {
    if let Err(payload) = catch(f) {
        discard(payload);
    }
}

/// Drops a panic's payload, whose destructor may panic in its turn.
#[cold]
pub fn discard(payload: Payload) {
    if let Err(second) = catch(|| drop(payload)) {
        std::mem::forget(second);
    }
}

/// An output while the future that has made it is dropped. If that panics, the output's destructor
/// may panic too.
#[derive(Debug)]
pub struct Unclaimed<T>(Option<T>);

impl<T> Unclaimed<T> {
    /// Takes the output.
    #[inline]
    pub const fn new(output: T) -> Self {
        Unclaimed(Some(output))
    }

    /// The output: nothing has panicked.
    #[inline]
    pub fn into_inner(mut self) -> T {
        self.0.take().expect("taken here alone")
    }
}

impl<T> Drop for Unclaimed<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(output) = self.0.take() {
            swallow(|| drop(output));
        }
    }
}

/// Runs several pieces of user code, each whatever the others do, and keeps the first panic.
#[derive(Default, Debug)]
#[must_use = "`resume` passes the panic on"]
pub struct FirstPanic(Option<Payload>);

impl FirstPanic {
    /// No panic so far.
    pub const fn new() -> Self {
        FirstPanic(None)
    }

    /// Runs `f`. Its panic is kept if it is the first, else dropped.
    pub fn run(&mut self, f: impl FnOnce()) {
        if let Err(payload) = catch(f) {
            self.keep(payload);
        }
    }

    /// Keeps a panic that was caught elsewhere, if it is the first; else drops it.
    pub fn keep(&mut self, payload: Payload) {
        match self.0 {
            None => self.0 = Some(payload),
            Some(_) => discard(payload),
        }
    }

    /// The first panic, if there was one.
    pub fn take(&mut self) -> Option<Payload> {
        self.0.take()
    }

    /// Passes the first panic on; drops it if this thread is unwinding already.
    pub fn resume(self) {
        match self.0 {
            None => {}
            Some(payload) if std::thread::panicking() => discard(payload),
            Some(payload) => resume_unwind(payload),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
