//! Which runtime, and which worker, this thread belongs to.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::shared::Shared;
use super::worker::Worker;

thread_local! {
    // Both without drop glue, so that they answer during thread teardown.
    static WORKER: Cell<*const Worker> = const { Cell::new(ptr::null()) };
    static RUNTIME: Cell<*const Arc<Shared>> = const { Cell::new(ptr::null()) };
    /// Whose thread this is, whatever it is doing just now.
    static OWNER: Cell<Owner> = const { Cell::new(Owner::User) };
}

/// What kind of thread this is.
#[derive(Clone, Copy)]
enum Owner {
    User,
    /// A worker, of whatever runtime; it is there for as long as what is entered is not left.
    Worker(*const Worker),
    /// A thread of a runtime's blocking pool.
    Pool(*const Shared),
}

/// Puts back what was current before.
pub(crate) struct Entered<'a> {
    runtime: *const Arc<Shared>,
    worker: *const Worker,
    owner: Owner,
    of: std::marker::PhantomData<&'a Arc<Shared>>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        RUNTIME.set(self.runtime);
        WORKER.set(self.worker);
        OWNER.set(self.owner);
    }
}

/// The thread belongs to a runtime until the answer is dropped.
pub(crate) fn enter(runtime: &Arc<Shared>) -> Entered<'_> {
    Entered {
        runtime: RUNTIME.replace(runtime),
        worker: WORKER.replace(ptr::null()),
        owner: OWNER.get(),
        of: std::marker::PhantomData,
    }
}

/// The thread runs a blocking closure of a runtime until the answer is dropped.
pub(crate) fn enter_pool(runtime: &Arc<Shared>) -> Entered<'_> {
    let mut entered = enter(runtime);
    entered.owner = OWNER.replace(Owner::Pool(Arc::as_ptr(runtime)));
    entered
}

/// The thread is a worker until the answer is dropped.
pub(crate) fn enter_worker(worker: &Worker) -> Entered<'_> {
    Entered {
        runtime: RUNTIME.replace(&raw const worker.shared),
        worker: WORKER.replace(worker),
        owner: OWNER.replace(Owner::Worker(worker)),
        of: std::marker::PhantomData,
    }
}

/// Calls `f` with this thread's worker, if it is one of `shared`'s.
#[inline]
pub(crate) fn with_worker<R>(shared: *const Shared, f: impl FnOnce(Option<&Worker>) -> R) -> R {
    // SAFETY: set for as long as an `Entered` borrows the worker, on this thread.
    let worker = unsafe { WORKER.get().as_ref() };
    f(worker.filter(|worker| ptr::eq(&*worker.shared, shared)))
}

/// A number of this thread.
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local! {
        // Without drop glue, so that it answers during thread teardown.
        static MINE: Cell<usize> = const { Cell::new(0) };
    }
    if MINE.get() == 0 {
        MINE.set(NEXT.fetch_add(1, Relaxed));
    }
    MINE.get()
}

/// Whether this thread is a worker, of whatever runtime.
pub(crate) fn is_worker() -> bool {
    matches!(OWNER.get(), Owner::Worker(_))
}

/// This thread is about to be blocked by what it polls: if it is a worker, the others get what only it could run.
#[cold]
pub(crate) fn about_to_block() {
    if let Owner::Worker(worker) = OWNER.get() {
        // SAFETY: set for as long as an `Entered` borrows the worker, on this thread.
        unsafe { &*worker }.show_all();
    }
}

/// Whether this thread is a worker, or runs a blocking closure of `runtime`: it must not wait for that runtime's rest.
pub(crate) fn is_inside(runtime: &Arc<Shared>) -> bool {
    match OWNER.get() {
        Owner::User => false,
        Owner::Worker(_) => true,
        Owner::Pool(of) => ptr::eq(of, Arc::as_ptr(runtime)),
    }
}

/// Whether this thread belongs to `runtime`.
pub(crate) fn is_current(runtime: &Arc<Shared>) -> bool {
    with_runtime(|current| current.is_some_and(|current| Arc::ptr_eq(current, runtime)))
}

/// The runtime this thread belongs to, for as long as what entered it is not left; or null.
#[inline]
pub(crate) fn runtime() -> *const Arc<Shared> {
    RUNTIME.get()
}

/// Calls `f` with the runtime this thread belongs to.
#[inline]
pub(crate) fn with_runtime<R>(f: impl FnOnce(Option<&Arc<Shared>>) -> R) -> R {
    // SAFETY: set for as long as an `Entered` borrows the handle, on this thread.
    f(unsafe { RUNTIME.get().as_ref() })
}
