//! Which runtime, and which worker, this thread belongs to.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::shared::Shared;
use super::worker::Worker;
use crate::time;
use crate::util::tagged::Tagged;
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

/// Tag of the pointer to the current runtime: the runtime was entered by an [`OwnedEntry`], which
/// may be left at any time.
const OWNED: usize = 1;
type RuntimeWord = Tagged<Arc<Shared>, 1>;

/// Makes a runtime current, for a guard that a user holds: it may be dropped too late, or never.
///
/// Entries and [`RuntimeGuard`] form a stack: each keeps what was current before. An `RuntimeGuard`
/// is left in order, for it is a local variable of this crate, and puts back what it keeps. So what
/// it keeps must be valid for as long:
///
/// * An entry that is left while it is current is on top of the stack: no `RuntimeGuard` and no
///   other entry that will be put back keeps it. It puts back what was current before, and is
///   freed. What was current before is valid, since an `RuntimeGuard` below would have made another
///   one current when it was dropped.
/// * Any other entry changes nothing when it is left, and what it points to is kept for good: an
///   `RuntimeGuard` or an entry may yet put it back. A forgotten one is kept as well.
pub(crate) struct OwnedEntry {
    /// From a box, so that its address tells it from all others that exist.
    runtime: NonNull<Arc<Shared>>,
    entered: ManuallyDrop<RuntimeGuard<'static>>,
}

impl OwnedEntry {
    pub(crate) fn new(runtime: Arc<Shared>) -> OwnedEntry {
        let runtime = NonNull::from(Box::leak(Box::new(runtime)));
        // SAFETY: the box is freed by `leave` alone, after it has dropped `entered`.
        let lent = unsafe { runtime.as_ref() };
        // A worker stays one, for its own runtime.
        let worker = thread_state::with(|state| state.worker.get()).cast();
        let entered = ManuallyDrop::new(enter_as(lent, worker, lent.remotes.len(), None));
        thread_state::with(|state| state.runtime.set(tagged(runtime)));
        OwnedEntry { runtime, entered }
    }

    /// Makes current what was so before. If this entry is not current itself, nothing changes, and
    /// the answer is false.
    #[must_use]
    pub(crate) fn leave(self) -> bool {
        let is_current = thread_state::with(|state| state.runtime.get()) == tagged(self.runtime);
        if is_current {
            drop(ManuallyDrop::into_inner(self.entered));
            // SAFETY: made by `new` from a box; `self` is taken, and no pointer to it is left on
            // the stack. References to it are made by `runtime` alone, which keeps none.
            drop(unsafe { Box::from_raw(self.runtime.as_ptr()) });
        } else {
            // A static keeps them, so that a search for leaks finds them.
            static KEPT: Mutex<Vec<AtomicPtr<Arc<Shared>>>> = Mutex::new(Vec::new());
            let kept = AtomicPtr::new(self.runtime.as_ptr());
            KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
        is_current
    }
}

fn tagged(runtime: NonNull<Arc<Shared>>) -> *const () {
    RuntimeWord::new(runtime.as_ptr(), OWNED).into_raw().cast_const().cast()
}

/// The runtime this thread belongs to.
pub(crate) enum CurrentRuntime<'a> {
    /// Of an [`RuntimeGuard`], which is not dropped before its borrower returns.
    Borrowed(&'a Arc<Shared>),
    /// Of an [`OwnedEntry`], which the borrower's callees may leave.
    Owned(Arc<Shared>),
}

impl Deref for CurrentRuntime<'_> {
    type Target = Arc<Shared>;

    #[inline]
    fn deref(&self) -> &Arc<Shared> {
        match self {
            CurrentRuntime::Borrowed(runtime) => runtime,
            CurrentRuntime::Owned(runtime) => runtime,
        }
    }
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

/// The runtime this thread belongs to.
///
/// # Safety
/// The answer is dropped before the function returns in which this thread got the runtime: it is
/// not stored, nor returned to a caller that may be that function.
#[inline]
pub(crate) unsafe fn runtime<'a>() -> Option<CurrentRuntime<'a>> {
    let runtime = thread_state::with(|state| state.runtime.get()).cast::<Arc<Shared>>();
    let word = RuntimeWord::from_raw(runtime.cast_mut());
    if word.has(OWNED) {
        #[cold]
        fn owned(runtime: *const Arc<Shared>) -> CurrentRuntime<'static> {
            // SAFETY: the box of an entry that is not left, or is kept for good.
            CurrentRuntime::Owned(Arc::clone(unsafe { &*runtime }))
        }
        return Some(owned(word.ptr()));
    }
    // SAFETY: set for as long as a `RuntimeGuard` borrows the handle, on this thread.
    unsafe { runtime.as_ref() }.map(CurrentRuntime::Borrowed)
}

/// Calls `f` with the runtime this thread belongs to.
#[inline]
pub(crate) fn with_runtime<R>(f: impl FnOnce(Option<&Arc<Shared>>) -> R) -> R {
    // SAFETY: dropped before this function returns, which what has entered the runtime called.
    f(unsafe { runtime() }.as_deref())
}
