//! Which runtime, and which worker, this thread belongs to.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use super::shared::Shared;
use super::worker::Worker;

thread_local! {
    // Both without drop glue, so that they answer during thread teardown.
    static WORKER: Cell<*const Worker> = const { Cell::new(ptr::null()) };
    static RUNTIME: Cell<*const Arc<Shared>> = const { Cell::new(ptr::null()) };
}

/// Puts back what was current before.
pub(crate) struct Entered<'a> {
    runtime: *const Arc<Shared>,
    worker: *const Worker,
    of: std::marker::PhantomData<&'a Arc<Shared>>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        RUNTIME.set(self.runtime);
        WORKER.set(self.worker);
    }
}

/// The thread belongs to a runtime until the answer is dropped.
pub(crate) fn enter(runtime: &Arc<Shared>) -> Entered<'_> {
    Entered {
        runtime: RUNTIME.replace(runtime),
        worker: WORKER.replace(ptr::null()),
        of: std::marker::PhantomData,
    }
}

/// The thread is a worker until the answer is dropped.
pub(crate) fn enter_worker(worker: &Worker) -> Entered<'_> {
    Entered {
        runtime: RUNTIME.replace(&raw const worker.shared),
        worker: WORKER.replace(worker),
        of: std::marker::PhantomData,
    }
}

/// Calls `f` with this thread's worker, if it is one of `shared`'s.
#[inline]
pub(crate) fn with_worker<R>(shared: &Shared, f: impl FnOnce(Option<&Worker>) -> R) -> R {
    // SAFETY: set for as long as an `Entered` borrows the worker, on this thread.
    let worker = unsafe { WORKER.get().as_ref() };
    f(worker.filter(|worker| ptr::eq(&*worker.shared, shared)))
}

/// Whether this thread is a worker, of whatever runtime.
pub(crate) fn is_worker() -> bool {
    !WORKER.get().is_null()
}

/// The runtime this thread belongs to.
pub(crate) fn runtime() -> Option<Arc<Shared>> {
    // SAFETY: set for as long as an `Entered` borrows the handle, on this thread.
    unsafe { RUNTIME.get().as_ref() }.cloned()
}
