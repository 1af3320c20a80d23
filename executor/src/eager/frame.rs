//! The frame: which driver polls the eager code of this thread, and until when its leaves may
//! block. Terms and steps as in the [protocol](super::protocol).
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::task::Context;
use std::time::Instant;

use heirloom_context::raw;

use super::signal::{self, DriverSignal};
use crate::clock::{deadline, earlier, now};
use crate::task::budget;
use crate::task::cell::TaskRef;
use crate::task::join_handle::CancelReason;
use crate::util::thread_state::{self, ThreadKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EagerDriver {
    /// Another executor, on which the flag was set by hand.
    Foreign,
    /// It waits until there is a reason for another poll.
    Waiting,
    /// It never waits, and lets no leaf block.
    Refusing,
}

#[derive(Clone, Copy)]
struct FrameState {
    driver: EagerDriver,
    /// The poll is inside a `wait_for` that is inside the driver's call.
    limited: bool,
    /// The deadline around the call has passed.
    overdue: bool,
    /// The earliest instant at which a pending `wait_for` is to be polled again.
    wake_at: Option<Instant>,
    /// The first leaf that would have suspended a refusing call.
    leaf: Option<&'static str>,
    /// The refusing call has started a child that it cannot finish.
    has_unfinished: bool,
}

impl FrameState {
    const NO_DRIVER: FrameState = FrameState {
        driver: EagerDriver::Foreign,
        limited: false,
        overdue: false,
        wake_at: None,
        leaf: None,
        has_unfinished: false,
    };
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static FRAME: Cell<FrameState> = const { Cell::new(FrameState::NO_DRIVER) };
}

/// A worker lets its siblings have what waits for this thread.
fn before_blocking() {
    if let Some(before_blocking) = thread_state::with(|state| state.before_blocking.get()) {
        before_blocking();
    }
}

fn change<R>(f: impl FnOnce(&mut FrameState) -> R) -> R {
    let mut frame = FRAME.get();
    let result = f(&mut frame);
    FRAME.set(frame);
    result
}

/// What a leaf that is not ready has to do.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// As without the flag: store the waker and be pending.
    Suspend,
    /// Block the thread until the leaf is ready or this instant is reached, and look again; if the
    /// leaf is still not ready, ask again. `None`: without a limit.
    Block(Option<Instant>),
    /// Be pending at once, without storing a waker: the time is up, or the driver refuses to block.
    Pending,
}

/// EA1: the answer to a leaf that can block under the eager flag, such as a socket, and that has
/// looked and is not ready. `leaf` is what the user has called, such as `"sleep"`, for
/// [`WouldSuspend`](super::WouldSuspend).
///
/// Without the flag it is one load and a branch. The instants are those of `time::now`.
///
/// ```text
/// loop {
///     if let Some(result) = self.try_now() {
///         return Poll::Ready(result);
///     }
///     match eager::not_ready(cx, "TcpStream::read") {
///         NotReady::Suspend => return self.register(cx),
///         NotReady::Block(until) => self.block(until), // spurious returns are fine
///         NotReady::Pending => return Poll::Pending,
///     }
/// }
/// ```
#[inline]
pub(crate) fn not_ready(cx: &Context<'_>, leaf: &'static str) -> NotReady {
    if raw::execution().eager() { answer_leaf(deadline(), cx, leaf) } else { NotReady::Suspend }
}

#[cold]
fn answer_leaf(deadline: Option<Instant>, cx: &Context<'_>, leaf: &'static str) -> NotReady {
    let frame = FRAME.get();
    let until = deadline.filter(|_| frame.limited || !frame.overdue);
    if until.is_none_or(|until| until > now()) {
        if frame.driver != EagerDriver::Refusing {
            before_blocking();
            return NotReady::Block(until);
        }
        note_leaf(leaf);
    }
    // With any other waker, an executor between the driver and the leaf waits in its own way, and
    // must be woken.
    if frame.driver != EagerDriver::Foreign && signal::is_lent(cx.waker()) {
        NotReady::Pending
    } else {
        NotReady::Suspend
    }
}

/// EA2: called by a leaf that is woken by a task or thread, such as a channel, when it has stored
/// its waker and is pending. A waiting driver waits for the wake-up; a refusing one notes the first
/// name.
#[inline]
pub(crate) fn suspends(leaf: &'static str) {
    if raw::execution().eager() {
        note_leaf(leaf);
    }
}

/// For an operation that blocks without a limit: true if the driver refuses it. The name is noted
/// then.
pub(crate) fn refuses(leaf: &'static str) -> bool {
    let refuses = raw::execution().eager() && FRAME.get().driver == EagerDriver::Refusing;
    if refuses {
        note_leaf(leaf);
    }
    refuses
}

#[cold]
fn note_leaf(leaf: &'static str) {
    change(|frame| frame.leaf = frame.leaf.or(Some(leaf)));
}

/// For a join handle, under the flag, whose task has not ended. A worker must not wait for it: this
/// worker may be the only thread that can run it.
#[cold]
pub(crate) fn refuse_to_join() {
    let waits = FRAME.get().driver != EagerDriver::Refusing;
    let in_time = deadline().is_none_or(|deadline| deadline > now());
    assert!(
        !(waits && in_time && thread_state::with(|state| matches!(state.kind.get(), ThreadKind::Worker(_)))),
        "a task that is queued or running elsewhere must not be joined inside `run_eagerly` on a worker: the worker \
         that waits may be the only one that could run it. Spawn it inside `run_eagerly`, or `.await` it outside"
    );
}

/// For a `wait_for`, under the flag: the current deadline, if it is that of the code around the
/// call, so that no `wait_for` inside the call enforces it.
pub(crate) fn unenforced() -> Option<Instant> {
    let frame = FRAME.get();
    deadline().filter(|_| frame.driver != EagerDriver::Foreign && !frame.limited)
}

/// For a `wait_for`, under the flag: the frame is limited until the answer is dropped.
pub(crate) fn limited() -> LimitGuard {
    LimitGuard { outer: change(|frame| std::mem::replace(&mut frame.limited, true)) }
}

#[must_use]
pub(crate) struct LimitGuard {
    outer: bool,
}

impl Drop for LimitGuard {
    fn drop(&mut self) {
        change(|frame| frame.limited = self.outer);
    }
}

/// EA3: for a `wait_for`, under the flag, that is pending and is to be polled again at this
/// instant. False if `cx` is not the driver's: then the `wait_for` needs a timer of its own.
#[must_use]
pub(crate) fn wake_at(cx: &Context<'_>, at: Instant) -> bool {
    change(|frame| {
        if frame.driver == EagerDriver::Foreign || !signal::is_lent(cx.waker()) {
            return false;
        }
        frame.wake_at = earlier(frame.wake_at, Some(at));
        true
    })
}

thread_local! {
    /// The pending children of the refusing calls of this thread, those of inner calls behind those
    /// of outer ones.
    static UNFINISHED: RefCell<Vec<TaskRef>> = const { RefCell::new(Vec::new()) };
    /// Its length. Without drop glue, so that a call without such children does not touch the list.
    static UNFINISHED_COUNT: Cell<usize> = const { Cell::new(0) };
}

/// EA6: a refusing call has started a child that is pending. The call returns an error, and the
/// child ends with it.
pub(crate) fn keep_unfinished(task: TaskRef) {
    change(|frame| frame.has_unfinished = true);
    let mut task = Some(task);
    let _ = UNFINISHED.try_with(|tasks| tasks.borrow_mut().extend(task.take()));
    match task {
        None => UNFINISHED_COUNT.set(UNFINISHED_COUNT.get() + 1),
        // During thread teardown there is no list.
        Some(task) => task.cancel(Some(REASON)),
    }
}

const REASON: CancelReason = CancelReason::Other(Cow::Borrowed("it would have suspended an eager call"));

/// A refusing call, until it is dropped: then the call's pending children are cancelled.
pub(crate) struct UnfinishedTasks {
    /// How many children the outer calls have in the list.
    outer: usize,
}

impl UnfinishedTasks {
    pub(crate) fn new() -> UnfinishedTasks {
        UnfinishedTasks { outer: UNFINISHED_COUNT.get() }
    }
}

impl Drop for UnfinishedTasks {
    fn drop(&mut self) {
        if UNFINISHED_COUNT.replace(self.outer) != self.outer {
            let own = UNFINISHED.try_with(|tasks| tasks.borrow_mut().split_off(self.outer));
            own.iter().flatten().for_each(|task| task.cancel(Some(REASON)));
        }
    }
}

/// The frame of a driver, until it is dropped. Then the frame of the driver around it is back.
#[must_use]
pub(crate) struct Frame {
    outer: FrameState,
    /// The driver is a call. Otherwise it is a task inside one, which shares the call's notes.
    is_call: bool,
    thread: PhantomData<*const ()>,
}

impl Frame {
    /// The frame of a task that is spawned inside a call. Outside of one the task waits as a call
    /// does.
    pub(crate) fn of_task() -> Frame {
        let outer = FRAME.get();
        let driver = if outer.driver == EagerDriver::Foreign { EagerDriver::Waiting } else { outer.driver };
        FRAME.set(FrameState { driver, wake_at: None, ..outer });
        Frame { outer, is_call: false, thread: PhantomData }
    }

    /// The frame of a call.
    pub(crate) fn of_call(driver: EagerDriver) -> Frame {
        let state = FrameState { driver, ..FrameState::NO_DRIVER };
        Frame { outer: FRAME.replace(state), is_call: true, thread: PhantomData }
    }

    /// Whether this thread has no driver around this one.
    pub(crate) fn is_outermost(&self) -> bool {
        self.outer.driver == EagerDriver::Foreign
    }

    pub(crate) fn refuses(&self) -> bool {
        FRAME.get().driver == EagerDriver::Refusing
    }

    /// The leaf that would have suspended the call; `None` if it is of another crate.
    pub(crate) fn leaf(&self) -> Option<&'static str> {
        FRAME.get().leaf
    }

    pub(crate) fn has_unfinished(&self) -> bool {
        FRAME.get().has_unfinished
    }

    /// EA4, after a poll that was pending: waits until there is a reason for another poll. False if
    /// there will be none: the driver refuses to wait, or the time is up and a `wait_for` around
    /// the driver ends.
    #[must_use]
    pub(crate) fn wait(&self, signal: &DriverSignal) -> bool {
        let (frame, wake_at) = change(|frame| (*frame, frame.wake_at.take()));
        let refuses = frame.driver == EagerDriver::Refusing;
        // A poll that has only spent its budget waits for nothing.
        if refuses && (!budget::is_spent() || frame.leaf.is_some() || frame.has_unfinished) {
            return false;
        }
        let mut until = wake_at;
        if let Some(deadline) = deadline()
            && (frame.limited || !frame.overdue)
        {
            if deadline <= now() {
                // EA5.
                change(|frame| frame.overdue = true);
                return !frame.limited;
            }
            until = earlier(until, Some(deadline));
        }
        if !refuses {
            before_blocking();
            signal.wait(until);
        }
        true
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let inner = FRAME.replace(self.outer);
        if !self.is_call {
            change(|outer| (outer.leaf, outer.has_unfinished) = (inner.leaf, inner.has_unfinished));
        }
    }
}
