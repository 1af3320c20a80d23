//! Calls that run async code synchronously.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use crate::eager::Signal;
use crate::eager::frame::{Driver, Frame, LeftBehind};
use crate::runtime::block_on::Outside;
use crate::runtime::local::EagerCall;
use crate::task::budget;

/// Runs async code synchronously: on this thread, to its end, without any runtime.
///
/// The future runs in a copy of the current context, and what it sets is gone afterwards, as with
/// [`block_on`](crate::block_on). But under the *eager flag*, which the leaf operations of this crate read: they block
/// where they would suspend. So a library that is written once, as async functions, has a synchronous front end as well.
///
/// | operation | under the flag |
/// | --- | --- |
/// | [`sleep`](crate::sleep()), [`interval`](crate::interval()) | blocks the thread |
/// | sockets and signals | block the thread |
/// | [`spawn`](crate::spawn()), [`spawn_local`](crate::spawn_local), groups | runs the future here, in its own inherited context, to its end; a panic becomes its [`JoinError`](crate::JoinError). The handle is finished |
/// | [`spawn_blocking`](crate::spawn_blocking) | runs the closure here |
/// | [`spawn_background`](crate::spawn_background) | as ever, on the default runtime |
/// | [`wait_for`](crate::wait_for()) | ends in time: whatever blocks inside blocks for no longer |
/// | joining a task spawned before, a token, a foreign future | the thread is parked until it is woken |
/// | [`yield_now`](crate::yield_now) | is ready, after the operating system had its chance to run another thread |
/// | [`block_on`](crate::block_on) | is a nested eager call |
///
/// The flag belongs to the call. The caller has it neither before nor after, nor if this panics; tasks spawned before do
/// not have it, wherever they run; a nested eager call changes nothing.
///
/// # Cost
///
/// Of a call: a copy of the context, and no allocation unless a waker is kept. Inside, nothing is
/// paid per level of the call tree: a future that never suspends is polled once, and once more for
/// every 128 leaves that it completes, so that a limit around them is looked at
/// ([cooperative budget](crate::task::budget)).
///
/// # Deadlines
///
/// The [deadline](crate::deadline()) around the call is seen inside, but can end nothing but a `wait_for` in there: this
/// function returns nothing but the output. A task that was spawned inside a `wait_for` of the call and is pending when
/// time is up goes on as an ordinary task, until its handle is dropped.
///
/// # What hangs
///
/// Whatever waits for something that comes after it on this thread:
///
/// * a spawned child that waits for its parent to do something, since the parent goes on when the child has ended: to send
///   into a channel, to leave a [`ContextCell`](crate::context::ContextCell);
/// * the same with a child that never ends by itself, such as a server that waits for its clients: use
///   [`spawn_background`](crate::spawn_background);
/// * a branch of `join!` or `select!` that blocks, in a `sleep` or on a socket, until another
///   branch does something;
/// * a loop over leaves of another crate that are always ready, or over nothing at all: no limit is
///   looked at in there. Wrap such a leaf in [`cooperative`](crate::task::budget::cooperative).
///
/// A child that is run here cannot be ended from elsewhere before it is woken: not by aborting its group, nor by the end of
/// its runtime, which waits for it as for any poll. A limit ends it in time, if it stands around the spawn *and* the await
/// (`wait_for(async { spawn(f).await }, d)`): in `wait_for(spawn(f), d)` the child has ended before the limit begins.
///
/// On a worker, what has been spawned and woken there is shown to its siblings before the thread is blocked. A runtime with one
/// worker has none: there, whatever must run on it for the call to go on never does.
///
/// Recursion takes the stack that plain functions would take.
///
/// # Panics
///
/// If the future does. On a worker thread, which is blocked meanwhile: if a task is joined that was spawned elsewhere and
/// has not ended, since nobody but this worker may be there to run it.
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
/// /// The synchronous front end.
/// fn fetch_blocking(key: u32) -> String {
///     heirloom::run_eagerly(fetch(key))
/// }
///
/// assert_eq!(fetch_blocking(7), "value 7");
/// ```
pub fn run_eagerly<F: Future>(future: F) -> F::Output {
    match run(future, Driver::Waits) {
        Ok(output) => output,
        Err(_) => unreachable!("a call that waits waits for its output"),
    }
}

/// Runs async code synchronously if that is possible without waiting: [`run_eagerly`] that never parks and never blocks the
/// thread.
///
/// The future is polled until it is done or would wait: once, and once more for every 128 leaves
/// that it completes. Under the eager flag, as far as that goes without waiting: children that are
/// spawned run here.
///
/// That is about the leaves that are awaited. A blocking function that is called inside, such as a nested [`run_eagerly`] or
/// [`block_on`](crate::block_on), blocks all the same.
///
/// # Errors
///
/// [`WouldSuspend`] if the future was not ready, which names the leaf that would have suspended; if there are several,
/// the first. The future is dropped then, and so is what it has spawned that was not ready either. A spawned child that
/// would have suspended, or a closure for [`spawn_blocking`](crate::spawn_blocking), makes it an error also if nobody waits
/// for it.
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
pub fn try_run_eagerly<F: Future>(future: F) -> Result<F::Output, WouldSuspend> {
    run(future, Driver::Refuses)
}

fn run<F: Future>(future: F, driver: Driver) -> Result<F::Output, WouldSuspend> {
    let _outside = Outside::enter(crate::clock::execution().with_eager(true));
    let _budget = budget::full();
    let call = Frame::call(driver);
    let _set = call.is_outermost().then_some(EagerCall);
    let _left = (driver == Driver::Refuses).then(LeftBehind::begin);
    let signal = Signal::new();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = signal.with_waker(|cx| future.as_mut().poll(cx)) {
            return if call.is_doomed() { Err(WouldSuspend::of(&call)) } else { Ok(output) };
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

    /// What would have suspended, by the name of what the caller has called, such as `"sleep"`; `"foreign future"` for one
    /// that is not of this crate.
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
