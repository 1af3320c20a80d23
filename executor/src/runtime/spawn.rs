//! The free functions that run things.
#![forbid(unsafe_code)]

use std::future::Future;
use std::panic::Location;

use heirloom_context::Context;

use crate::eager;
use crate::runtime::block_on;
use crate::runtime::default_runtime;
use crate::runtime::handle::{Handle, launch_blocking, parts, with_current};
use crate::runtime::launch_here;
use crate::task::join_handle::{AbortHandle, JoinHandle};

/// Runs a future on the calling thread, in a copy of its context, and returns the output.
///
/// The future need be neither `Send` nor `'static`. What it spawns runs on the runtime this thread belongs to, else on
/// a process-wide one, the default runtime, that starts at first use: as many workers as the
/// process may use processors, or `HEIRLOOM_WORKERS` of them; its root context is empty.
/// [`Builder::build_default`](crate::Builder::build_default) makes another default runtime before
/// the first use.
///
/// The future itself is no task, here as in [`Runtime::block_on`](crate::Runtime::block_on): hooks
/// are not told of it, and a foreign [ambient state](crate::Builder::ambient) is, as ever, the
/// thread's. What it spawns, also into a [`LocalSet`](crate::LocalSet), has both.
///
/// What the future sets is gone afterwards.
///
/// # Panics
/// On a worker thread, that is inside a task: use `.await` there, or `spawn_blocking`.
///
/// ```
/// assert_eq!(heirloom::block_on(async { 6 * 7 }), 42);
/// ```
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    block_on::run(future)
}

/// Spawns a task: `future` runs concurrently, on whichever worker has time.
///
/// It starts from what it [inherits](Context::inherited) of the caller's context, and with the caller's
/// [deadline](crate::deadline), both taken now. After that neither sees the other's writes.
///
/// May be called anywhere: outside of any runtime it goes to the default one. If the runtime has ended, the handle
/// resolves as cancelled. **Dropping the handle cancels the task**; see [`JoinHandle`].
///
/// # Panics
/// If a variable's `Derive` function does.
///
/// ```
/// use heirloom::context_var;
/// context_var! { static REQUEST_ID: u64; }
///
/// heirloom::block_on(async {
///     REQUEST_ID.set(7);
///     let child = heirloom::spawn(async {
///         let inherited = REQUEST_ID.get();
///         REQUEST_ID.set(8);
///         inherited
///     });
///     assert_eq!(child.await.unwrap(), Some(7));
///     assert_eq!(REQUEST_ID.get(), Some(7));
/// });
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let place = Location::caller();
    launch_here(future, || parts(place, Context::inherited()))
}

/// Spawns a task in `context`, taken as given. [`Context::empty`] is a fresh one. The deadline is the caller's.
///
/// So are the [ambient states](heirloom_context::Ambient) of the runtime, tracing's current span
/// for one: they are captured on this thread, at this call, and a context holds none. Where another
/// one is to go with the context, put it in force around this call.
///
/// ```
/// use heirloom::{Context, context_var};
/// context_var! { static REQUEST_ID: u64; }
///
/// heirloom::block_on(async {
///     REQUEST_ID.set(7);
///     let fresh = heirloom::spawn_in(Context::empty(), async { REQUEST_ID.get() });
///     assert_eq!(fresh.await.unwrap(), None);
/// });
/// ```
#[track_caller]
pub fn spawn_in<F>(context: Context, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let place = Location::caller();
    launch_here(future, || parts(place, context))
}

/// Spawns a task that belongs to nobody: a connection pool, a keep-alive, a refresher, an accept loop.
///
/// It starts in the runtime's root context, so that it keeps nothing of the request that happened to start it; it has
/// no deadline; and dropping the answer does nothing. [Eagerly](crate::run_eagerly), too, it is not run here: it goes to the
/// default runtime.
///
/// ```
/// use heirloom::context_var;
/// context_var! { static REQUEST_ID: u64; }
///
/// heirloom::block_on(async {
///     REQUEST_ID.set(7);
///     let (send, receive) = futures::channel::oneshot::channel();
///     heirloom::spawn_background(async move { send.send(REQUEST_ID.get()) });
///     assert_eq!(receive.await.unwrap(), None);
/// });
/// ```
#[track_caller]
pub fn spawn_background<F>(future: F) -> AbortHandle
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if eager::is_eager() {
        // The current one may have nobody else to run it.
        return default_runtime().spawn_background(future);
    }
    Handle::current_or_default().spawn_background(future)
}

/// Runs a closure that blocks on a pool of threads for such. It inherits like a task.
///
/// The pool grows up to its cap; beyond that closures wait. Dropping the handle cancels a closure that has not begun, which then
/// goes when its turn comes, or earlier if many wait; one that has begun runs on. If there is no thread and none can be started, it is cancelled with
/// [`NoThread`](crate::CancelReason::NoThread).
///
/// A closure that waits for other closures holds its thread meanwhile. If as many as the
/// [cap](crate::Builder::max_blocking_threads) do so, what they wait for is never begun, and they
/// wait for ever.
///
/// ```
/// use heirloom::context_var;
/// context_var! { static REQUEST_ID: u64; }
///
/// heirloom::block_on(async {
///     REQUEST_ID.set(7);
///     assert_eq!(heirloom::spawn_blocking(|| REQUEST_ID.get()).await.unwrap(), Some(7));
/// });
/// ```
#[track_caller]
pub fn spawn_blocking<F, R>(f: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let parts = parts(Location::caller(), Context::inherited());
    with_current(|shared| launch_blocking(shared, f, parts))
}
