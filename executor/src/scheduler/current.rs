//! Which runtime, and which worker, this thread belongs to.

use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::shared::Shared;
use super::worker::Worker;
use crate::time;
use crate::util::thread_state::{self, Owner};

/// Restores what was current before.
pub(crate) struct Entered<'a> {
    runtime: *const (),
    worker: *const (),
    owner: Owner,
    before_blocking: Option<fn()>,
    _timers: time::TimersGuard<'a>,
    _runtime: PhantomData<&'a Arc<Shared>>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        thread_state::with(|state| {
            state.runtime.set(self.runtime);
            state.worker.set(self.worker);
            state.owner.set(self.owner);
            state.before_blocking.set(self.before_blocking);
        });
    }
}

fn replace<'a>(
    runtime: &'a Arc<Shared>,
    worker: *const Worker,
    shard: usize,
    owner: Option<Owner>,
) -> Entered<'a> {
    let timers = time::enter(&runtime.timers, shard);
    thread_state::with(|state| Entered {
        runtime: state.runtime.replace(ptr::from_ref(runtime).cast()),
        worker: state.worker.replace(worker.cast()),
        owner: state.owner.replace(owner.unwrap_or(state.owner.get())),
        before_blocking: state.before_blocking.get(),
        _timers: timers,
        _runtime: PhantomData,
    })
}

/// The thread belongs to a runtime until the answer is dropped: its tasks, its timers.
pub(crate) fn enter(runtime: &Arc<Shared>) -> Entered<'_> {
    replace(runtime, ptr::null(), runtime.remotes.len(), None)
}

/// The thread runs a blocking closure of a runtime until the answer is dropped.
pub(crate) fn enter_pool(runtime: &Arc<Shared>) -> Entered<'_> {
    let pool = Owner::Pool(Arc::as_ptr(runtime).cast());
    replace(runtime, ptr::null(), runtime.remotes.len(), Some(pool))
}

/// The thread is a worker until the answer is dropped.
pub(crate) fn enter_worker(worker: &Worker) -> Entered<'_> {
    let owner = Owner::Worker(ptr::from_ref(worker).cast());
    let entered = replace(&worker.shared, worker, worker.index, Some(owner));
    thread_state::with(|state| state.before_blocking.set(Some(about_to_block)));
    entered
}

/// Calls `f` with this thread's worker, if it is one of `shared`'s.
#[inline]
pub(crate) fn with_worker<R>(shared: *const Shared, f: impl FnOnce(Option<&Worker>) -> R) -> R {
    let worker = thread_state::with(|state| state.worker.get()).cast::<Worker>();
    // SAFETY: set for as long as an `Entered` borrows the worker, on this thread.
    f(unsafe { worker.as_ref() }.filter(|worker| ptr::eq(&*worker.shared, shared)))
}

/// A number of this thread.
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_state::with(|state| {
        if state.number.get() == 0 {
            state.number.set(NEXT.fetch_add(1, Relaxed));
        }
        state.number.get()
    })
}

/// Whether this thread is a worker, of any runtime.
pub(crate) fn is_worker() -> bool {
    thread_state::with(|state| matches!(state.owner.get(), Owner::Worker(_)))
}

/// This worker is about to be blocked by the task that it polls: siblings get what only it could run.
#[cold]
fn about_to_block() {
    if let Owner::Worker(worker) = thread_state::with(|state| state.owner.get()) {
        // SAFETY: set for as long as an `Entered` borrows the worker, on this thread.
        unsafe { &*worker.cast::<Worker>() }.show_all();
    }
}

/// Whether this thread is a worker, or runs a blocking closure of `runtime`: it must not wait for the runtime to rest.
pub(crate) fn is_inside(runtime: &Arc<Shared>) -> bool {
    match thread_state::with(|state| state.owner.get()) {
        Owner::User => false,
        Owner::Worker(_) => true,
        Owner::Pool(of) => ptr::eq(of.cast(), Arc::as_ptr(runtime)),
    }
}

/// Whether this thread belongs to `runtime`.
pub(crate) fn is_current(runtime: &Arc<Shared>) -> bool {
    with_runtime(|current| current.is_some_and(|current| Arc::ptr_eq(current, runtime)))
}

/// The runtime this thread belongs to, for as long as what entered it is not left; or null.
#[inline]
pub(crate) fn runtime() -> *const Arc<Shared> {
    thread_state::with(|state| state.runtime.get()).cast()
}

/// Calls `f` with the runtime this thread belongs to.
#[inline]
pub(crate) fn with_runtime<R>(f: impl FnOnce(Option<&Arc<Shared>>) -> R) -> R {
    // SAFETY: set for as long as an `Entered` borrows the handle, on this thread.
    f(unsafe { runtime().as_ref() })
}
