//! Which runtime, and which worker, this thread belongs to.

use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::shared::Shared;
use super::worker::Worker;
use crate::time;
use crate::util::thread_state::{self, ThreadKind};

/// Restores the thread's former runtime when it is dropped.
pub(crate) struct RuntimeGuard<'a> {
    runtime: *const (),
    worker: *const (),
    kind: ThreadKind,
    before_blocking: Option<fn()>,
    _timers: time::TimersGuard<'a>,
    _runtime: PhantomData<&'a Arc<Shared>>,
}

impl Drop for RuntimeGuard<'_> {
    fn drop(&mut self) {
        thread_state::with(|state| {
            state.runtime.set(self.runtime);
            state.worker.set(self.worker);
            state.kind.set(self.kind);
            state.before_blocking.set(self.before_blocking);
        });
    }
}

fn enter_as<'a>(
    runtime: &'a Arc<Shared>,
    worker: *const Worker,
    shard: usize,
    kind: Option<ThreadKind>,
) -> RuntimeGuard<'a> {
    let timers = time::enter(&runtime.timers, shard);
    thread_state::with(|state| RuntimeGuard {
        runtime: state.runtime.replace(ptr::from_ref(runtime).cast()),
        worker: state.worker.replace(worker.cast()),
        kind: state.kind.replace(kind.unwrap_or(state.kind.get())),
        before_blocking: state.before_blocking.get(),
        _timers: timers,
        _runtime: PhantomData,
    })
}

/// The thread belongs to a runtime until the guard is dropped: to its tasks and its timers.
pub(crate) fn enter(runtime: &Arc<Shared>) -> RuntimeGuard<'_> {
    enter_as(runtime, ptr::null(), runtime.remotes.len(), None)
}

/// The thread runs a blocking closure of a runtime until the guard is dropped.
pub(crate) fn enter_pool(runtime: &Arc<Shared>) -> RuntimeGuard<'_> {
    let pool = ThreadKind::Pool(Arc::as_ptr(runtime).cast());
    enter_as(runtime, ptr::null(), runtime.remotes.len(), Some(pool))
}

/// The thread is a worker until the guard is dropped.
pub(crate) fn enter_worker(worker: &Worker) -> RuntimeGuard<'_> {
    let kind = ThreadKind::Worker(ptr::from_ref(worker).cast());
    let entered = enter_as(&worker.shared, worker, worker.index, Some(kind));
    thread_state::with(|state| state.before_blocking.set(Some(before_blocking)));
    entered
}

/// Calls `f` with this thread's worker, if it is one of `shared`'s.
#[inline]
pub(crate) fn with_worker<R>(shared: *const Shared, f: impl FnOnce(Option<&Worker>) -> R) -> R {
    let worker = thread_state::with(|state| state.worker.get()).cast::<Worker>();
    // SAFETY: the field is set while a `RuntimeGuard` borrows the worker, on this thread.
    f(unsafe { worker.as_ref() }.filter(|worker| ptr::eq(&*worker.shared, shared)))
}

/// A number of this thread, other than zero.
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
    thread_state::with(|state| matches!(state.kind.get(), ThreadKind::Worker(_)))
}

/// The task that this worker polls is about to block the thread: siblings can take what only this
/// worker could run.
#[cold]
fn before_blocking() {
    if let ThreadKind::Worker(worker) = thread_state::with(|state| state.kind.get()) {
        // SAFETY: the field is set while a `RuntimeGuard` borrows the worker, on this thread.
        unsafe { &*worker.cast::<Worker>() }.flush_and_notify();
    }
}

/// Whether this thread is a worker, or runs a blocking closure of `runtime`: then it must not wait
/// until the runtime is idle.
pub(crate) fn is_inside(runtime: &Arc<Shared>) -> bool {
    match thread_state::with(|state| state.kind.get()) {
        ThreadKind::User => false,
        ThreadKind::Worker(_) => true,
        ThreadKind::Pool(of) => ptr::eq(of.cast(), Arc::as_ptr(runtime)),
    }
}

/// Whether this thread belongs to `runtime`.
pub(crate) fn is_current(runtime: &Arc<Shared>) -> bool {
    with_runtime(|current| current.is_some_and(|current| Arc::ptr_eq(current, runtime)))
}

/// The runtime this thread belongs to, until its guard is dropped; or null.
#[inline]
pub(crate) fn runtime() -> *const Arc<Shared> {
    thread_state::with(|state| state.runtime.get()).cast()
}

/// Calls `f` with the runtime this thread belongs to.
#[inline]
pub(crate) fn with_runtime<R>(f: impl FnOnce(Option<&Arc<Shared>>) -> R) -> R {
    // SAFETY: the field is set while a `RuntimeGuard` borrows the handle, on this thread.
    f(unsafe { runtime().as_ref() })
}
