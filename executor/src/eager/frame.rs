//! Who drives the eager code of this thread, and until when its leaves may block.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::task::Context;
use std::time::Instant;

use heirloom_context::raw;

use super::signal::{self, Signal};
use crate::CancelReason;
use crate::clock::{deadline, earlier, now};
use crate::task::budget;
use crate::task::cell::TaskRef;
use crate::util::thread_state::{self, ThreadKind};

/// Who polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Somebody else's executor, on which the flag was set by hand.
    Nobody,
    /// Whoever waits until there is something to poll again.
    Waits,
    /// Whoever neither waits nor lets anybody block.
    Refuses,
}

#[derive(Clone, Copy)]
struct Here {
    driver: Driver,
    /// What is being polled stands in a `wait_for` that stands in the driver's call.
    limited: bool,
    /// The deadline around the call has passed.
    overdue: bool,
    /// When a `wait_for` that was polled wants to be polled again.
    wake_at: Option<Instant>,
    /// The first leaf that would have suspended a call that refuses.
    leaf: Option<&'static str>,
    /// Something was begun in that call that it cannot bring to an end.
    doomed: bool,
}

impl Here {
    const NOWHERE: Here = Here {
        driver: Driver::Nobody,
        limited: false,
        overdue: false,
        wake_at: None,
        leaf: None,
        doomed: false,
    };
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static HERE: Cell<Here> = const { Cell::new(Here::NOWHERE) };
}

/// A worker lets its siblings have what waits for this thread.
fn before_blocking() {
    if let Some(before_blocking) = thread_state::with(|state| state.before_blocking.get()) {
        before_blocking();
    }
}

fn change<R>(f: impl FnOnce(&mut Here) -> R) -> R {
    let mut here = HERE.get();
    let result = f(&mut here);
    HERE.set(here);
    result
}

/// What a leaf does that is not ready.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// What it always does: leave its waker, and be pending.
    Suspend,
    /// Block the thread until it is ready, but no longer than until this instant, and look again; then, if it is still not
    /// ready, ask again. `None`: for as long as it takes.
    Block(Option<Instant>),
    /// Be pending at once, without leaving a waker: time is up, or nobody may block.
    Pending,
}

/// The seam for leaves that block under the eager flag, such as sockets: what a leaf does that has looked and is not
/// ready. `leaf` is what the user has called, such as `"sleep"`, for [`WouldSuspend`](crate::WouldSuspend).
///
/// One load and a branch without the flag. The instants are those of `time::now`.
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
    if raw::execution().eager() { decide(deadline(), cx, leaf) } else { NotReady::Suspend }
}

#[cold]
fn decide(deadline: Option<Instant>, cx: &Context<'_>, leaf: &'static str) -> NotReady {
    let here = HERE.get();
    let until = deadline.filter(|_| here.limited || !here.overdue);
    let may_block = until.is_none_or(|until| until > now());
    match here.driver {
        Driver::Waits | Driver::Nobody if may_block => {
            before_blocking();
            return NotReady::Block(until);
        }
        Driver::Refuses if may_block => note(leaf),
        _ => {}
    }
    // Somebody between the driver and the leaf may wait in his own way, and must be woken.
    if here.driver != Driver::Nobody && signal::is_borrowed(cx.waker()) {
        NotReady::Pending
    } else {
        NotReady::Suspend
    }
}

/// The seam for leaves that somebody else wakes, such as channels: called by one that has left its waker and is pending.
/// The driver will wait for the wake-up; one that refuses remembers the first name.
#[inline]
pub(crate) fn suspends(leaf: &'static str) {
    if raw::execution().eager() {
        note(leaf);
    }
}

/// For what blocks without asking until when: whether it must not, by that name.
pub(crate) fn refuses(leaf: &'static str) -> bool {
    let refuses = raw::execution().eager() && HERE.get().driver == Driver::Refuses;
    if refuses {
        note(leaf);
    }
    refuses
}

#[cold]
fn note(leaf: &'static str) {
    change(|here| here.leaf = here.leaf.or(Some(leaf)));
}

/// For a join handle, under the flag, whose task has not ended: a worker must not wait for it, since perhaps nobody else
/// can run it.
#[cold]
pub(crate) fn refuse_to_join() {
    let waits = HERE.get().driver != Driver::Refuses;
    let in_time = deadline().is_none_or(|deadline| deadline > now());
    assert!(
        !(waits && in_time && thread_state::with(|state| matches!(state.kind.get(), ThreadKind::Worker(_)))),
        "a task that is queued or running elsewhere must not be joined inside `run_eagerly` on a worker: the worker \
         that waits may be the only one that could run it. Spawn it inside `run_eagerly`, or `.await` it outside"
    );
}

/// For a `wait_for`, under the flag: the current deadline, if no `wait_for` between the driver and here enforces it. It
/// stands around the whole call, where nobody can end anything.
pub(crate) fn unenforced() -> Option<Instant> {
    let here = HERE.get();
    deadline().filter(|_| here.driver != Driver::Nobody && !here.limited)
}

/// For a `wait_for`, under the flag: until the answer is dropped, what is polled has somebody who ends it in time.
pub(crate) fn limited() -> Limited {
    Limited { before: change(|here| std::mem::replace(&mut here.limited, true)) }
}

#[must_use]
pub(crate) struct Limited {
    before: bool,
}

impl Drop for Limited {
    fn drop(&mut self) {
        change(|here| here.limited = self.before);
    }
}

/// For a `wait_for`, under the flag: it is pending, and wants to be polled again at this instant. False if it has to see to
/// that itself, since it is not the driver who waits.
#[must_use]
pub(crate) fn wake_at(cx: &Context<'_>, at: Instant) -> bool {
    change(|here| {
        if here.driver == Driver::Nobody || !signal::is_borrowed(cx.waker()) {
            return false;
        }
        here.wake_at = earlier(here.wake_at, Some(at));
        true
    })
}

thread_local! {
    /// Tasks that were begun in calls that refuse to wait for them.
    static LEFT_BEHIND: RefCell<Vec<TaskRef>> = const { RefCell::new(Vec::new()) };
    /// How many. Without drop glue, so that calls that leave none need not have the list.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The call that refuses to wait has begun a task that is pending: it cannot end well, and the task ends with it.
pub(crate) fn leave_behind(task: TaskRef) {
    change(|here| here.doomed = true);
    let mut task = Some(task);
    let _ = LEFT_BEHIND.try_with(|left| left.borrow_mut().extend(task.take()));
    match task {
        None => COUNT.set(COUNT.get() + 1),
        // In a thread that is being torn down.
        Some(task) => task.cancel(Some(REASON)),
    }
}

const REASON: CancelReason = CancelReason::Other(Cow::Borrowed("it would have suspended an eager call"));

/// A call that refuses to wait, until it is dropped: cancels what it has left behind.
pub(crate) struct LeftBehind {
    /// How many were left by calls further up.
    others: usize,
}

impl LeftBehind {
    pub(crate) fn begin() -> LeftBehind {
        LeftBehind { others: COUNT.get() }
    }
}

impl Drop for LeftBehind {
    fn drop(&mut self) {
        if COUNT.replace(self.others) != self.others {
            let mine = LEFT_BEHIND.try_with(|left| left.borrow_mut().split_off(self.others));
            mine.iter().flatten().for_each(|task| task.cancel(Some(REASON)));
        }
    }
}

/// A driver, until it is dropped.
#[must_use]
pub(crate) struct Frame {
    before: Here,
    /// It begins a call; else a task inside one, which shares what the call has noted.
    is_call: bool,
    thread: PhantomData<*const ()>,
}

impl Frame {
    /// Begins a task that is spawned in a call. Without one it is one.
    pub(crate) fn task() -> Frame {
        let before = HERE.get();
        let driver = if before.driver == Driver::Nobody { Driver::Waits } else { before.driver };
        HERE.set(Here { driver, wake_at: None, ..before });
        Frame { before, is_call: false, thread: PhantomData }
    }

    /// Begins a call.
    pub(crate) fn call(driver: Driver) -> Frame {
        let here = Here { driver, ..Here::NOWHERE };
        Frame { before: HERE.replace(here), is_call: true, thread: PhantomData }
    }

    /// Whether no other driver is further up on this thread.
    pub(crate) fn is_outermost(&self) -> bool {
        self.before.driver == Driver::Nobody
    }

    pub(crate) fn refuses(&self) -> bool {
        HERE.get().driver == Driver::Refuses
    }

    /// What would have suspended the call; `None` if nothing that is ours.
    pub(crate) fn leaf(&self) -> Option<&'static str> {
        HERE.get().leaf
    }

    pub(crate) fn is_doomed(&self) -> bool {
        HERE.get().doomed
    }

    /// After a poll that was pending: waits until there is reason for another one. False if there is nothing to wait for:
    /// nobody may wait, or time is up and somebody further up will notice.
    #[must_use]
    pub(crate) fn wait(&self, signal: &Signal) -> bool {
        let (here, wake_at) = change(|here| (*here, here.wake_at.take()));
        let refuses = here.driver == Driver::Refuses;
        // A poll that has only spent its budget does not wait for anything.
        if refuses && (!budget::is_spent() || here.leaf.is_some() || here.doomed) {
            return false;
        }
        let mut until = wake_at;
        if let Some(deadline) = deadline()
            && (here.limited || !here.overdue)
        {
            if deadline <= now() {
                change(|here| here.overdue = true);
                return !here.limited;
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
        let here = HERE.replace(self.before);
        if !self.is_call {
            change(|outer| (outer.leaf, outer.doomed) = (here.leaf, here.doomed));
        }
    }
}
