//! The free functions that run futures and closures.
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

/// Runs a future on the calling thread, in a copy of the thread's context, and returns its output.
///
/// The future need be neither `Send` nor `'static`. Variables that it sets are set for itself and
/// for what it spawns; the caller does not see them.
///
/// Tasks that the future spawns run on the [current](crate::Handle::current) runtime of this
/// thread, else on the **default runtime**. There is one per process. It starts at first use, with
/// a worker for each processor that the process may use, or `HEIRLOOM_WORKERS` of them, and an
/// empty root context. [`Builder::build_default`](crate::runtime::Builder::build_default) starts it
/// with other options, before the first use. A program's `main` with
/// [`#[heirloom::main]`](macro@crate::main) ends it; what is spawned on it later is cancelled.
///
/// The future itself is no task, here as in [`Runtime::block_on`](crate::Runtime::block_on): hooks
/// are not called for it, and it sees the [ambient states](crate::runtime::Builder::ambient) of the
/// thread, and those that [go with such a call](heirloom_context::Ambient#crossings). Tasks that it
/// spawns, also into a [`LocalSet`](crate::task::LocalSet), have both.
///
/// # Panics
/// On a worker thread, that is inside a task: use `.await` there, or `spawn_blocking`.
///
/// Inside the future of another `block_on` this call works, since that future is no task: it blocks
/// its own thread and no worker. What else that thread should poll waits meanwhile, so `.await` is
/// better there too, and the same code panics when it is moved into a task. Debug builds
/// [report](crate::runtime::Builder::report_mistakes) the first such call. (Under the [eager
/// flag](crate::run_eagerly) a call is a nested eager one, everywhere.)
///
/// ```
/// assert_eq!(heirloom::block_on(async { 6 * 7 }), 42);
/// ```
#[doc(alias = "run")]
#[doc(alias = "runBlocking")]
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    block_on::run(future)
}

/// Spawns a task: `future` runs concurrently, on any worker.
///
/// The task starts with what it [inherits](Context::inherited) of the caller's context, and with
/// the caller's [deadline](crate::deadline). Both are taken by this call; later, neither the task
/// nor the caller sees what the other sets.
///
/// <div class="warning">
///
/// **Dropping the handle cancels the task.** Await the handle, keep it, or
/// [`detach`](JoinHandle::detach) it; `let _ = spawn(f)` drops it. See [`JoinHandle`].
///
/// </div>
///
/// It may be called on any thread. The task runs on the [current](Handle::current) runtime, else on
/// the [default](crate::block_on) one. If the runtime has ended, the handle resolves as cancelled.
///
/// # Panics
/// If the `Derive` function of a variable panics.
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
#[doc(alias = "go")]
#[doc(alias = "launch")]
#[doc(alias = "async")]
#[doc(alias = "create_task")]
#[doc(alias = "ensure_future")]
#[doc(alias = "start_soon")]
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
    F::Output: Send + 'static,
{
    let place = Location::caller();
    launch_here(future, || parts(place, Context::inherited()))
}

/// Spawns a task in `context`, which is taken as it is; [`Context::empty`] is a fresh one. Else as
/// [`spawn`].
///
/// The deadline is the caller's, and so are the [ambient states](heirloom_context::Ambient) of the
/// runtime, such as the current span of `tracing`. They are captured by this call, on this thread;
/// a context holds none. If the task is to have another ambient state, put it in force around this
/// call.
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
#[doc(alias = "withContext")]
#[track_caller]
pub fn spawn_in<F>(context: Context, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
    F::Output: Send + 'static,
{
    let place = Location::caller();
    launch_here(future, || parts(place, context))
}

/// Spawns a task that has no owner: a connection pool, a keep-alive, a refresher, an accept loop.
///
/// The task starts in the [root context](crate::runtime::Builder::root_context) of its runtime, so
/// that it keeps nothing of the request in which it was started. It has no deadline. Dropping the
/// [`AbortHandle`] does not cancel it. In [code that is run eagerly](crate::run_eagerly) the task
/// goes to the default runtime.
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
#[doc(alias = "daemon")]
#[doc(alias = "GlobalScope")]
#[doc(alias = "spawn_system_task")]
#[track_caller]
pub fn spawn_background<F>(future: F) -> AbortHandle
where
    F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
    F::Output: Send + 'static,
{
    if eager::is_eager() {
        // The current runtime may have no worker but the one that runs this code.
        return default_runtime().spawn_background(future);
    }
    Handle::current_or_default().spawn_background(future)
}

/// Runs a closure that blocks, on a thread of the runtime's blocking pool. The closure inherits as
/// a task does.
///
/// The pool grows up to its [limit](crate::runtime::Builder::max_blocking_threads); beyond it,
/// closures wait in a queue. Dropping the handle cancels the closure if it has not started; it is
/// then dropped when it reaches the head of the queue, or earlier if many wait. A closure that has
/// started runs to completion. If the pool has no thread and none can be started, the closure is
/// cancelled with [`NoThread`](crate::task::CancelReason::NoThread).
///
/// A closure that waits for another closure keeps its thread meanwhile. If all threads of the pool
/// are kept so, the closures wait for ever.
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
#[doc(alias = "block_in_place")]
#[doc(alias = "unblock")]
#[doc(alias = "to_thread")]
#[doc(alias = "run_in_executor")]
#[doc(alias = "run_sync")]
#[track_caller]
pub fn spawn_blocking<F, R>(f: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let parts = parts(Location::caller(), Context::inherited());
    with_current(|shared| launch_blocking(shared, f, parts))
}
