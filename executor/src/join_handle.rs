//! Waiting for a task, and ending it.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use crate::sync::weakened;
use crate::task::Id;
use crate::task::budget;
use crate::task::cell::{Outcome, TaskRef};
use crate::task::harness::discard;
use crate::task::state::Leave;

/// Waits for a spawned task, and owns it: **dropping the handle cancels the task.**
///
/// `let _ = spawn(f);` therefore cancels at once. [`detach`](Self::detach) lets a task go on alone; awaiting `&mut
/// handle` does not give it up.
///
/// The future of a cancelled task is dropped by the runtime, in the task's context, never inside a `wake`. Cancelling is
/// a request: dropping the handle does not wait for it. [`abort`](Self::abort), then `.await`, does: the joiner sees
/// [cancelled](JoinError::is_cancelled) only after the future is dropped. An output that nobody claims is dropped in the
/// task's context if the handle went first, else where the handle is dropped. (Handles in outputs of handles may form a
/// chain of any length: beyond a few levels one output is dropped after the other, not inside it.)
///
/// # Panics
/// If it is polled again after it was ready.
///
/// # Cancel safety
/// Dropping a future that awaits `&mut handle` changes nothing.
///
/// ```
/// # heirloom::block_on(async {
/// let handle = heirloom::spawn(async { 6 * 7 });
/// assert_eq!(handle.await.unwrap(), 42);
/// # });
/// ```
#[must_use = "dropping a join handle cancels its task: await it, keep it, or `detach` it"]
pub struct JoinHandle<T> {
    task: TaskRef,
    /// The output was taken.
    taken: bool,
    /// The task is to go on.
    detached: bool,
    of: PhantomData<T>,
}

// SAFETY: a handle gives access to the output alone, by value.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: through `&JoinHandle` there is no access to the output.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    /// `task` is the join handle's reference of a task with this output.
    pub(crate) unsafe fn new(task: TaskRef) -> Self {
        JoinHandle { task, taken: false, detached: false, of: PhantomData }
    }

    /// Lets the task go on alone. From its next poll on it has no deadline.
    ///
    /// ```
    /// # heirloom::block_on(async {
    /// heirloom::spawn(async { /* nobody waits for this */ }).detach();
    /// # });
    /// ```
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Asks for the task's end; await the handle to wait for it.
    ///
    /// ```
    /// # heirloom::block_on(async {
    /// let handle = heirloom::spawn(std::future::pending::<()>());
    /// handle.abort();
    /// assert!(handle.await.unwrap_err().is_cancelled());
    /// # });
    /// ```
    pub fn abort(&self) {
        self.task.cancel(None);
    }

    /// A handle that can end the task, and nothing else.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle { task: self.task.clone() }
    }

    /// Whether the output is there (or was taken).
    pub fn is_finished(&self) -> bool {
        self.task.header().state.is_done()
    }

    /// The task's identity.
    pub fn id(&self) -> Id {
        self.task.header().id
    }

    fn take(&mut self) -> Result<T, JoinError> {
        let mut output: Option<Outcome<T>> = None;
        let header = self.task.header();
        // SAFETY: done, so the output is this handle's; it is a `T`.
        unsafe { (header.vtable.take_output)(self.task.as_raw(), (&raw mut output).cast()) }
        self.taken = true;
        let error = |kind| Err(JoinError { kind, id: header.id, name: header.name.clone() });
        match output.expect("a `JoinHandle` must not be polled again after it was ready") {
            Outcome::Returned(output) => Ok(output),
            Outcome::Panicked(payload) => {
                let message = message(&*payload).map(str::to_owned);
                error(Kind::Panicked { payload: Mutex::new(payload), message })
            }
            Outcome::Cancelled => error(Kind::Cancelled(header.reason())),
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.taken, "a `JoinHandle` must not be polled again after it was ready");
        budget::spend(cx, |cx| {
            if !self.task.header().state.is_done() {
                self.task.header().join.register(Some(cx.waker().clone()));
                // Whoever sets DONE takes the waker afterwards. If it was there before us, DONE is seen here.
                if !self.task.header().state.is_done() || weakened("join look") {
                    return Poll::Pending;
                }
                self.task.header().join.register(None);
            }
            Poll::Ready(self.take())
        })
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let state = &self.task.header().state;
        let leave = if self.detached { state.detach() } else { state.leave() };
        // The waker of whoever awaited: the closer finds nothing, or has it already. It goes last, for its destructor is
        // a stranger's.
        let _waker = self.task.header().join.take();
        match leave {
            Leave::DropOutput if !self.taken => drop_output(&self.task),
            leave => self.task.leave(leave),
        }
    }
}

/// How many outputs are dropped inside one another's destructors, as handles in handles are. What is further in waits
/// until the innermost of these is through, so that a chain of any length needs no more stack than this.
const NESTED: usize = 16;

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static NESTING: Cell<usize> = const { Cell::new(0) };
    static LATER: RefCell<Vec<TaskRef>> = const { RefCell::new(Vec::new()) };
}

/// Drops the output of a finished task, whose handle goes.
fn drop_output(task: &TaskRef) {
    struct Leaving;
    impl Drop for Leaving {
        fn drop(&mut self) {
            NESTING.set(NESTING.get() - 1);
        }
    }
    let nesting = NESTING.get();
    // During thread teardown there may be no list: then they are nested all the same.
    if nesting > NESTED && LATER.try_with(|later| later.borrow_mut().push(task.clone())).is_ok() {
        return;
    }
    NESTING.set(nesting + 1);
    let _leaving = Leaving;
    if nesting < NESTED {
        return task.leave(Leave::DropOutput);
    }
    let drop_one = |task: &TaskRef| catch_unwind(AssertUnwindSafe(|| task.leave(Leave::DropOutput)));
    let mut outcome = drop_one(task);
    while let Some(task) = LATER.try_with(|later| later.borrow_mut().pop()).ok().flatten() {
        // The first panic is passed on, when all are gone.
        match drop_one(&task) {
            Err(panic) if outcome.is_err() => discard(panic),
            Err(panic) => outcome = Err(panic),
            Ok(()) => {}
        }
    }
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).field("finished", &self.is_finished()).finish()
    }
}

/// Ends a task; made by [`JoinHandle::abort_handle`] and [`spawn_background`](crate::spawn_background).
///
/// Dropping it does nothing.
#[derive(Clone)]
pub struct AbortHandle {
    task: TaskRef,
}

impl AbortHandle {
    /// Asks for the task's end.
    pub fn abort(&self) {
        self.task.cancel(None);
    }

    /// Asks for the task's end and says why. The first reason stays.
    ///
    /// ```
    /// use heirloom::CancelReason;
    /// # heirloom::block_on(async {
    /// let handle = heirloom::spawn(std::future::pending::<()>());
    /// handle.abort_handle().abort_with("the user has left");
    /// let error = handle.await.unwrap_err();
    /// assert_eq!(error.reason(), Some(&CancelReason::from("the user has left")));
    /// # });
    /// ```
    pub fn abort_with(&self, reason: impl Into<CancelReason>) {
        self.task.cancel(Some(reason.into()));
    }

    /// Whether the task is over.
    pub fn is_finished(&self) -> bool {
        self.task.header().state.is_done()
    }

    /// The task's identity.
    pub fn id(&self) -> Id {
        self.task.header().id
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle").field("id", &self.id()).field("finished", &self.is_finished()).finish()
    }
}

/// Why a task was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// Somebody called [`abort`](JoinHandle::abort).
    Aborted,
    /// Its join handle was dropped.
    HandleDropped,
    /// Its runtime was shut down.
    Shutdown,
    /// Its runtime was gone when it was spawned.
    RuntimeGone,
    /// Its time was up.
    DeadlineElapsed,
    /// Another task of its group had failed.
    SiblingFailed,
    /// There was no thread to run it on, and none could be started.
    NoThread,
    /// Something else.
    Other(Cow<'static, str>),
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CancelReason::Aborted => "aborted",
            CancelReason::HandleDropped => "its join handle was dropped",
            CancelReason::Shutdown => "its runtime was shut down",
            CancelReason::RuntimeGone => "its runtime is gone",
            CancelReason::DeadlineElapsed => "its time was up",
            CancelReason::SiblingFailed => "another task of its group failed",
            CancelReason::NoThread => "no thread could be started for it",
            CancelReason::Other(reason) => reason,
        })
    }
}

impl From<&'static str> for CancelReason {
    fn from(reason: &'static str) -> Self {
        CancelReason::Other(reason.into())
    }
}

impl From<String> for CancelReason {
    fn from(reason: String) -> Self {
        CancelReason::Other(reason.into())
    }
}

/// Why there is no output: the task panicked or was cancelled.
pub struct JoinError {
    kind: Kind,
    id: Id,
    name: Option<Cow<'static, str>>,
}

enum Kind {
    // A payload is not `Sync`.
    Panicked { payload: Mutex<Box<dyn Any + Send>>, message: Option<String> },
    Cancelled(CancelReason),
}

fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

impl JoinError {
    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.kind, Kind::Panicked { .. })
    }

    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind, Kind::Cancelled(_))
    }

    /// Why the task was cancelled.
    pub fn reason(&self) -> Option<&CancelReason> {
        match &self.kind {
            Kind::Cancelled(reason) => Some(reason),
            Kind::Panicked { .. } => None,
        }
    }

    /// What the panic said, if it was text.
    pub fn panic_message(&self) -> Option<&str> {
        match &self.kind {
            Kind::Panicked { message, .. } => message.as_deref(),
            Kind::Cancelled(_) => None,
        }
    }

    /// The panic's payload, for [`resume_unwind`].
    ///
    /// # Errors
    /// If the task did not panic, the error is given back.
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.kind {
            Kind::Panicked { payload, .. } => {
                Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner))
            }
            Kind::Cancelled(_) => Err(self),
        }
    }

    /// The task's name, if it was given one.
    pub fn task_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The task's identity.
    pub fn id(&self) -> Id {
        self.id
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "task `{name}` ")?,
            None => write!(f, "task {} ", self.id)?,
        }
        match &self.kind {
            Kind::Panicked { message: Some(message), .. } => write!(f, "panicked: {message}"),
            Kind::Panicked { .. } => write!(f, "panicked"),
            Kind::Cancelled(reason) => write!(f, "was cancelled: {reason}"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl Error for JoinError {}
