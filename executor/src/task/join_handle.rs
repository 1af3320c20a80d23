//! Waiting for a task, cancelling it, and why it has no output.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use crate::eager;
use crate::task::Id;
use crate::task::budget::Claim;
use crate::task::cell::{self, Header, Outcome, TaskRef};
#[cfg(debug_assertions)]
use crate::task::mistakes;
use crate::task::output;
use crate::task::record;
use crate::task::state::{AfterRelease, Wake};
use crate::util::tagged::Tagged;

/// Waits for a spawned task, and owns it: **dropping the handle cancels the task.**
///
/// <div class="warning">
///
/// `let _ = spawn(f);` drops the handle, and so cancels the task, mostly before its first poll; and
/// so does a `?` or `return` between the spawn and the await. [`detach`](Self::detach) lets a task
/// run on without a handle. `(&mut handle).await` waits and keeps the handle. Debug builds
/// [report](crate::runtime::Builder::report_mistakes) a task that is cancelled before its first
/// poll because its handle was dropped.
///
/// </div>
///
/// Cancelling is a request: dropping the handle does not wait for the task. To wait, call
/// [`abort`](Self::abort), then await the handle: it is ready, with an error that is
/// [cancelled](JoinError::is_cancelled), when the future has been dropped. The runtime drops the
/// future of a cancelled task, in the task's context, and never inside a `wake`.
///
/// An output that is not taken is dropped in the task's context if the handle was dropped before
/// the task ended, else by the thread that drops the handle. The payload of a panic is dropped
/// likewise, and the panic is [reported](crate::runtime::PanicPolicy). (Handles in outputs of
/// handles may form a chain of any length: beyond a few levels, the outputs are dropped one after
/// the other, not one inside the other.)
///
/// # Panics
/// If it is polled again after it was ready. [Eagerly](crate::run_eagerly) and on a worker, if the
/// task has not ended: the worker would wait for a task that perhaps only it can run.
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
#[doc(alias = "Task")]
#[doc(alias = "Deferred")]
#[doc(alias = "Job")]
#[doc(alias = "AbortOnDropHandle")]
#[must_use = "dropping a join handle cancels its task, and `let _ =` drops it: await it, keep it, or `detach` it"]
pub struct JoinHandle<T> {
    /// The handle's reference of the task, with the tags below. One word: a processor is slow to
    /// read at once what was written as two.
    task: NonNull<Header>,
    of: PhantomData<T>,
}

/// Tag: the output was taken.
const TAKEN: usize = 1;
/// Tag: the handle was pending in an earlier poll, so that it needs no unit of the budget.
const WAITED: usize = 2;

// SAFETY: a handle gives access to no part of the task but the output, which it moves out.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: `&JoinHandle` gives no access to the output.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Unpin for JoinHandle<T> {}

// The panics of tasks are caught by the thread that polls them; a handle sees no state that one
// left half done.
impl<T> std::panic::UnwindSafe for JoinHandle<T> {}
impl<T> std::panic::RefUnwindSafe for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    /// `task` is the join handle's reference of a task with this output.
    pub(crate) unsafe fn new(task: TaskRef) -> Self {
        JoinHandle { task: task.into_raw(), of: PhantomData }
    }

    /// The task, without the tags.
    #[inline]
    fn raw(&self) -> NonNull<Header> {
        // SAFETY: without the tags it is the address of a header, which is not null.
        unsafe { NonNull::new_unchecked(self.word().ptr()) }
    }

    #[inline]
    fn word(&self) -> Tagged<Header, 2> {
        Tagged::from_raw(self.task.as_ptr())
    }

    #[inline]
    fn set_tag(&mut self, tag: usize) {
        // SAFETY: not null without the tag, nor with it.
        self.task = unsafe { NonNull::new_unchecked(self.word().with(tag).into_raw()) };
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the handle's reference keeps the header.
        unsafe { self.raw().as_ref() }
    }

    fn task(&self) -> ManuallyDrop<TaskRef> {
        // SAFETY: the handle has a reference, and keeps it: the copy is not dropped.
        ManuallyDrop::new(unsafe { TaskRef::from_raw(self.raw()) })
    }

    #[inline]
    fn is_taken(&self) -> bool {
        self.word().has(TAKEN)
    }

    /// Lets the task run on without a handle. From its next poll on it has no deadline.
    ///
    /// ```
    /// # heirloom::block_on(async {
    /// heirloom::spawn(async { /* no other task waits for this */ }).detach();
    /// # });
    /// ```
    #[doc(alias = "forget")]
    #[inline]
    pub fn detach(self) {
        ManuallyDrop::new(self).release(true);
    }

    /// Cancels the task. Await the handle to wait for its end.
    ///
    /// ```
    /// # heirloom::block_on(async {
    /// let handle = heirloom::spawn(std::future::pending::<()>());
    /// handle.abort();
    /// assert!(handle.await.unwrap_err().is_cancelled());
    /// # });
    /// ```
    #[doc(alias = "cancel")]
    pub fn abort(&self) {
        self.task().cancel(None);
    }

    /// A handle that can cancel the task, and does not own it.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle { task: TaskRef::clone(&self.task()) }
    }

    /// Whether the task has ended: awaiting the handle is ready at once.
    pub fn is_finished(&self) -> bool {
        self.header().state.is_done()
    }

    /// The task's identity.
    pub fn id(&self) -> Id {
        self.header().about.id()
    }

    /// The name given by [`task::Builder::name`](crate::task::Builder::name).
    ///
    /// ```
    /// # heirloom::block_on(async {
    /// let handle = heirloom::task::Builder::new().name("audit").spawn(async {});
    /// assert_eq!(handle.name(), Some("audit"));
    /// # });
    /// ```
    pub fn name(&self) -> Option<&str> {
        self.header().about.name().map(|name| &**name)
    }

    /// Takes the output.
    #[inline]
    fn take(&mut self) -> Result<T, JoinError> {
        debug_assert!(self.header().state.is_done() && !self.is_taken());
        let task = self.raw();
        // SAFETY: this is the join handle, and the task is done.
        unsafe { task.as_ref().joiner.forget(&task.as_ref().state) };
        self.set_tag(TAKEN);
        // SAFETY: the task is done, so the output, a `T`, is this handle's. It is taken once:
        // `TAKEN` was not set, and is now.
        match unsafe { cell::output_of::<T>(task).read() } {
            Outcome::Returned(output) => Ok(output),
            Outcome::Panicked(panic) => {
                let message = panic.message().map(str::to_owned);
                Err(self.error(Kind::Panicked { payload: Mutex::new(panic.into_payload()), message }))
            }
            Outcome::Cancelled => Err(self.error(Kind::Cancelled(self.header().about.reason()))),
        }
    }

    #[cold]
    fn error(&self, kind: Kind) -> JoinError {
        JoinError { kind, id: self.id(), name: self.header().about.name().cloned() }
    }

    /// Cancels the task as a consequence of something else: the drop of the handle is no mistake.
    pub(crate) fn discard(self) {
        ManuallyDrop::new(self).release(false);
    }

    /// The task, if it would be lost by a drop of the handle.
    #[cfg(debug_assertions)]
    fn would_be_lost(&self) -> Option<TaskRef> {
        let task = self.raw();
        // SAFETY: the handle's reference keeps the task, and the table is the task's.
        let reports = || unsafe { (task.as_ref().vtable.reports_mistakes)(task) };
        let lost = !self.word().has(WAITED) && mistakes::would_be_lost(self.header()) && reports();
        lost.then(|| TaskRef::clone(&self.task()))
    }

    /// Gives up the handle's reference: the task is detached, or else cancelled.
    #[inline]
    fn release(&mut self, detach: bool) {
        let task = self.raw();
        // The waker of the task that awaited the handle. It is dropped last, for its destructor is
        // foreign code.
        let mut _waker = None;
        loop {
            // SAFETY: the handle's reference keeps the task until a transition has given it up; and
            // the table is the one that the task was made with.
            unsafe {
                match task.as_ref().state.release_handle(detach) {
                    // None if the task has ended meanwhile: then the closer has the waker.
                    AfterRelease::TakeWaker => _waker = task.as_ref().joiner.withdraw(&task.as_ref().state),
                    AfterRelease::Released(Wake::Schedule) => return (task.as_ref().vtable.schedule)(task),
                    AfterRelease::Released(Wake::Nothing | Wake::Free) => return,
                    AfterRelease::DropOutput => {
                        // Dropped also if the output's destructor panics.
                        let owned = TaskRef::from_raw(task);
                        if !self.is_taken() {
                            task.as_ref().joiner.forget(&task.as_ref().state);
                            output::drop_output::<T>(owned);
                        }
                        return;
                    }
                }
            }
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.is_taken(), "a `JoinHandle` must not be polled again after it was ready");
        let mut claim = Claim::new(self.word().has(WAITED));
        let polled = claim.spend(cx, |cx| {
            let header = self.header();
            if !header.state.is_done() {
                if eager::is_eager() {
                    eager::refuse_to_join();
                }
                // SAFETY: this is the join handle.
                if unsafe { header.joiner.register(&header.state, cx.waker()) } {
                    eager::suspends("JoinHandle");
                    record::waits_for(|| header.as_leaf());
                    return Poll::Pending;
                }
            }
            Poll::Ready(self.take())
        });
        if polled.is_pending() {
            self.set_tag(WAITED);
        }
        polled
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        let lost = self.would_be_lost();
        self.release(false);
        #[cfg(debug_assertions)]
        lost.iter().for_each(mistakes::report_lost);
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).field("finished", &self.is_finished()).finish()
    }
}

/// Cancels a task; made by [`JoinHandle::abort_handle`] and
/// [`spawn_background`](crate::spawn_background).
///
/// Dropping it does nothing.
#[derive(Clone)]
pub struct AbortHandle {
    task: TaskRef,
}

impl AbortHandle {
    /// Cancels the task: it ends at its next point of suspension, by the drop of its future.
    pub fn abort(&self) {
        self.task.cancel(None);
    }

    /// Cancels the task and says why. The first reason stays.
    ///
    /// ```
    /// use heirloom::task::CancelReason;
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

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.task.header().state.is_done()
    }

    /// The task's identity.
    pub fn id(&self) -> Id {
        self.task.header().about.id()
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
    /// [`JoinHandle::abort`] or [`AbortHandle::abort`] was called.
    Aborted,
    /// Its join handle was dropped.
    HandleDropped,
    /// Its runtime was shut down.
    Shutdown,
    /// Its runtime had ended when it was spawned.
    RuntimeGone,
    /// Its deadline was over.
    DeadlineElapsed,
    /// Another task of its group had failed.
    SiblingFailed,
    /// The blocking pool had no thread, and none could be started.
    NoThread,
    /// A reason that the caller of [`AbortHandle::abort_with`] or
    /// [`CancelToken::cancel`](crate::CancelToken::cancel) gave.
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

/// Why a task has no output: it panicked or was cancelled.
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

    /// The message of the panic, if its payload is text. To keep an error beyond its process, keep
    /// this: the number of a task, in the text of the error, says nothing there.
    pub fn panic_message(&self) -> Option<&str> {
        match &self.kind {
            Kind::Panicked { message, .. } => message.as_deref(),
            Kind::Cancelled(_) => None,
        }
    }

    /// The payload of the panic, for [`resume_unwind`](std::panic::resume_unwind).
    ///
    /// # Errors
    /// The error itself if the task did not panic.
    #[doc(alias = "try_into_panic")]
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.kind {
            Kind::Panicked { payload, .. } => {
                Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner))
            }
            Kind::Cancelled(_) => Err(self),
        }
    }

    /// The name given by [`task::Builder::name`](crate::task::Builder::name).
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

/// So that `handle.await??` works in functions that return an [`io::Result`].
impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        io::Error::other(error)
    }
}
