//! The two calls that run async code synchronously. Terms and steps as in the [protocol of
//! eager calls](crate::eager::protocol).
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use heirloom_context::{Crossing, CrossingKind};

use crate::eager::DriverSignal;
use crate::eager::frame::{EagerDriver, Frame, UnfinishedTasks};
use crate::runtime::block_on::{RootGuard, in_ambients};
use crate::runtime::handle::with_current_or_configured;
use crate::runtime::local::EagerCallGuard;
use crate::task::budget;

/// Runs async code synchronously: on this thread, to its end, without any runtime.
///
/// The future runs in a copy of the current context, and what it sets is gone afterwards, as with
/// [`block_on`](crate::block_on). In addition it runs under the *eager flag*, which the leaf
/// operations of this crate read: where they would suspend, they block. So a library that is
/// written once, as async functions, has a synchronous interface as well.
///
/// | operation | under the flag |
/// | --- | --- |
/// | [`sleep`](crate::sleep()), [`interval`](crate::interval()) | blocks the thread |
/// | sockets and signals | block the thread |
/// | [`spawn`](crate::spawn()), [`spawn_local`](crate::spawn_local), groups | runs the future here, in its own inherited context, to its end; a panic becomes its [`JoinError`](crate::task::JoinError). The handle is finished |
/// | [`spawn_blocking`](crate::spawn_blocking) | runs the closure here |
/// | [`spawn_background`](crate::spawn_background) | spawns on the default runtime, as without the flag |
/// | [`wait_for`](crate::wait_for()) | ends in time: what blocks inside blocks no longer than the limit |
/// | joining a task spawned before, a token, a foreign future | the thread is parked until it is woken |
/// | [`yield_now`](crate::yield_now) | is ready, after the operating system had its chance to run another thread |
/// | [`block_on`](crate::block_on) | is a nested eager call |
///
/// The flag belongs to the call. The caller has it neither before nor after the call, nor when the
/// call panics. Tasks that were spawned before do not have it, wherever they run. A nested eager
/// call changes nothing.
///
/// # Cost
///
/// A call costs a copy of the context, and no allocation unless a waker is kept. Inside, there is
/// no cost per level of the call tree: a future that never suspends is polled once, and once more
/// for every 128 leaves that it completes, so that a limit around the leaves can end ([cooperative
/// budget](crate::task::budget)).
///
/// # Deadlines
///
/// Code inside the call sees the [deadline](crate::deadline()) around the call. That deadline ends
/// a `wait_for` inside, and nothing else: this function always returns the output. A task that was
/// spawned inside a `wait_for` of the call and is pending when the time is up continues as an
/// ordinary task, until its handle is dropped.
///
/// # What hangs
///
/// Code that waits for something that comes after it on this thread:
///
/// * a spawned child that waits for an act of its parent (a message into a channel, the release of
///   a [`ContextCell`](crate::context::ContextCell)): the parent continues when the child has
///   ended;
/// * a child that never ends by itself, such as a server that waits for its clients: use
///   [`spawn_background`](crate::spawn_background);
/// * a branch of `join!` or `select!` that blocks, in a `sleep` or on a socket, until another
///   branch does something;
/// * a loop over leaves of another crate that are always ready, or a loop without any leaf: no
///   limit can end it. Wrap such a leaf in [`cooperative`](crate::task::budget::cooperative).
///
/// A child that runs here can be ended by another thread only when it is woken. An abort of its
/// group has no effect before, and the shutdown of its runtime waits for it as for any poll. A
/// limit ends the child in time if it is around the spawn *and* the await (`wait_for(async {
/// spawn(f).await }, d)`): in `wait_for(spawn(f), d)` the child has ended before the limit begins.
///
/// On a worker, tasks that were spawned and woken there are offered to the other workers before the
/// thread is blocked. In a runtime with one worker there is no other: what must run on it for the
/// call to continue never runs.
///
/// Recursion takes the stack that plain functions would take.
///
/// # Panics
///
/// If the future does. On a worker thread, which is blocked meanwhile: if a task is joined that was
/// spawned elsewhere and has not ended, since this worker may be the only one that can run it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// async fn fetch(key: u32) -> String {
///     heirloom::sleep(Duration::from_millis(1)).await; // a reply takes its time
///     format!("value {key}")
/// }
///
/// /// The synchronous interface.
/// fn fetch_blocking(key: u32) -> String {
///     heirloom::run_eagerly(fetch(key))
/// }
///
/// assert_eq!(fetch_blocking(7), "value 7");
/// ```
#[doc(alias = "now_or_never")]
#[track_caller]
pub fn run_eagerly<F: Future>(future: F) -> F::Output {
    match run(future, EagerDriver::Waiting) {
        Ok(output) => output,
        Err(_) => unreachable!("a waiting call returns when its future is ready"),
    }
}

/// Runs async code synchronously if that is possible without waiting: [`run_eagerly`] that never
/// parks and never blocks the thread.
///
/// The future is polled until it is done or would wait: once, and once more for every 128 leaves
/// that it completes. It runs under the eager flag, so children that it spawns run here.
///
/// The promise covers the leaves that are awaited. A blocking function that is called inside, such
/// as a nested [`run_eagerly`] or [`block_on`](crate::block_on), does block.
///
/// # Errors
///
/// [`WouldSuspend`] if the future was not ready. The error names the leaf that would have
/// suspended, or the first of several. The future is dropped then, and so are the spawned children
/// that were not ready. A child that would have suspended, or a closure for
/// [`spawn_blocking`](crate::spawn_blocking), makes the call an error even if it is not awaited.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use heirloom::{sleep, try_run_eagerly};
///
/// assert_eq!(try_run_eagerly(async { 6 * 7 }), Ok(42));
///
/// let error = try_run_eagerly(sleep(Duration::from_secs(3600))).unwrap_err();
/// assert_eq!(error.leaf(), "sleep");
/// ```
#[doc(alias = "now_or_never")]
#[track_caller]
pub fn try_run_eagerly<F: Future>(future: F) -> Result<F::Output, WouldSuspend> {
    run(future, EagerDriver::Refusing)
}

#[track_caller]
fn run<F: Future>(future: F, driver: EagerDriver) -> Result<F::Output, WouldSuspend> {
    let crossing = Crossing::new(CrossingKind::Eager);
    let _root = RootGuard::install(crate::clock::execution().with_eager(true));
    let _budget = budget::full();
    let call = Frame::of_call(driver);
    let _outermost = call.is_outermost().then_some(EagerCallGuard);
    let _unfinished = (driver == EagerDriver::Refusing).then(UnfinishedTasks::new);
    let signal = DriverSignal::new();
    let future = with_current_or_configured(|runtime| in_ambients(runtime, &crossing, future));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = signal.with_waker(|cx| future.as_mut().poll(cx)) {
            return if call.has_unfinished() { Err(WouldSuspend::of(&call)) } else { Ok(output) };
        }
        if !call.wait(&signal) {
            return Err(WouldSuspend::of(&call));
        }
        budget::renew();
    }
}

/// A future was not ready in [`try_run_eagerly`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WouldSuspend {
    leaf: Option<&'static str>,
}

impl WouldSuspend {
    #[cold]
    fn of(call: &Frame) -> WouldSuspend {
        WouldSuspend { leaf: call.leaf() }
    }

    /// The leaf that would have suspended, by the name of the function that made it, such as
    /// `"sleep"`; `"foreign future"` for a leaf of another crate.
    #[must_use]
    pub fn leaf(&self) -> &'static str {
        self.leaf.unwrap_or("foreign future")
    }
}

impl fmt::Display for WouldSuspend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` would have suspended the call", self.leaf())
    }
}

impl Error for WouldSuspend {}
