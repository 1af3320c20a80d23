//! What runs around a task: hooks, and the ambient states of other libraries.
//!
//! # Terms
//!
//! * A *hook* is a method of [`Hooks`], which a program gives to the builder of a runtime.
//! * An *ambient state* is a thread-local of another library that is to be in force in a task, such
//!   as tracing's current span ([`heirloom_context::Ambient`]). It is captured by the spawner and
//!   set around each poll and the drop.
//! * A hook is *overridden* if its type does not use the provided method of the trait, which does
//!   nothing. The runtime finds this out with the first call of the hook.
//! * A *record* is what a runtime that is inspected keeps of each task ([`record`]).
//! * A *hooked* future is a task's future in the wrapper that does all this ([`Hooked`]).
//!
//! # States
//!
//! A hook is **unknown** before its first call, then **overridden** or **provided**. A runtime
//! **wraps** the futures of its tasks if it has ambient states, a hook that is not provided, or is
//! inspected. Otherwise no future is wrapped, and none of this costs anything. A future that was
//! wrapped, for which no state was captured, no hook is called and no record is kept, runs without
//! the wrapper: the memory of its task is larger, and nothing else differs.
//!
//! # Transitions
//!
//! | step | event | function | effect |
//! | --- | --- | --- | --- |
//! | HK1 | a task is spawned | `prepare` of `Wrapper`, or of `AmbientsOnly` where there is nothing else | makes the record, takes the hooks that are called around polls, and captures the ambient states that go with the task's kind; says whether the wrapper is needed |
//! | HK2 | the task exists | `Wrapper::spawned` | calls `on_spawn`, on the spawner's thread |
//! | HK3 | the task is polled | `Hooked::poll` | the record is told of the begin, and of the end of a poll that was pending; within, `before_poll`, the future with the ambient states in force, and its drop if it is ready; `after_poll` |
//! | HK4 | the task ends | `Hooked::drop` | drops the future, if it is there, with the ambient states in force; then `on_done`, and the record is told |
//! | HK5 | a hook was called the first time | `RuntimeHooks::learn` | unknown -> overridden or provided |
//! | HK6 | the runtime ends | `HooksSlot::take` | the runtime's hooks go with the last use |
//! | HK7 | a call polls a future on its own thread | `wrap_call` | captures the ambient states that go with calls; HK3 and HK4 put them in force |
//! | HK8 | a wake-up has made an idle task runnable | `VTable::schedule` | the record is told; `Shared::tell_of_wake_up` calls `on_wake`, on the thread that wakes, before the task is queued |
//!
//! # Why nothing is lost
//!
//! HK3 calls `after_poll` and HK4 calls `on_done` from destructors, so a panic of the future skips
//! neither. A panic of a hook is caught. HK5 compares the type of the hook with that of the last
//! provided method that ran on this thread, so a hook that calls the same hook of another type is
//! told apart from it. Bits are only cleared, and what is learnt depends on the type alone, so no
//! order between threads matters.
//!
//! HK8 costs other tasks nothing, as all of this: a task's table of functions says at its spawn
//! whether its wake-ups are told (`VTable::schedule`). The thread that wakes holds the runnable,
//! and with it the task, until the hook has returned; wakers are called under no lock of this
//! crate. The runtime's hooks are looked up at each call, so after HK6 none is called.
#![deny(unsafe_code)]

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::future::Future;
use std::mem::needs_drop;
use std::ops::Deref;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};

use heirloom_context::{AmbientSnapshot, Ambients, Context, Crossing, CrossingKind};

use crate::task::cell::{BeginsWith, OnSpawn, Runnable, Unpublished};
use crate::task::{self, TaskMeta, record};
use crate::util::early::Early;
use crate::util::panic::{Unclaimed, swallow};

/// Observes the tasks of a runtime; added by [`Builder::hooks`](crate::runtime::Builder::hooks).
///
/// All hooks except [`on_spawn`](Self::on_spawn) and [`on_wake`](Self::on_wake) are called on the
/// thread that runs the task, with the task's context current: variables read as in the task, and
/// [`Context::current`] is a snapshot of all of them. No snapshot is made unless a hook asks for
/// it. A panic in a hook is caught (the panic hook has reported it), and changes nothing. A hook
/// that is not overridden costs nothing: the runtime finds this out with the first call.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use heirloom::runtime::Hooks;
/// use heirloom::task::TaskMeta;
/// use heirloom::Runtime;
///
/// #[derive(Default)]
/// struct Polls(AtomicUsize);
///
/// impl Hooks for Polls {
///     fn before_poll(&self, _task: &TaskMeta) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let polls = Arc::new(Polls::default());
/// let runtime = Runtime::builder().hooks(polls.clone()).build()?;
/// runtime.block_on(runtime.spawn(heirloom::yield_now())).unwrap();
/// assert_eq!(polls.0.load(Ordering::Relaxed), 2);
/// # Ok(()) }
/// ```
pub trait Hooks: Any + Send + Sync {
    /// A task was spawned, in `context`; called by the spawner.
    fn on_spawn(&self, task: &TaskMeta, context: &Context) {
        let _ = (task, context);
        note_provided::<Self>(Hook::Spawn);
    }

    /// A task is about to be polled.
    fn before_poll(&self, task: &TaskMeta) {
        let _ = task;
        note_provided::<Self>(Hook::Before);
    }

    /// A task was polled. Also called if the poll panicked.
    fn after_poll(&self, task: &TaskMeta) {
        let _ = task;
        note_provided::<Self>(Hook::After);
    }

    /// A task has ended: its future was dropped. Also called if the future's destructor panicked.
    fn on_done(&self, task: &TaskMeta) {
        let _ = task;
        note_provided::<Self>(Hook::Done);
    }

    /// A wake-up has made an idle task runnable; called by the thread that wakes the task, before
    /// the task is queued. So this call precedes the poll that the wake-up leads to.
    ///
    /// **Which wake-ups.** Those that
    /// [`Totals::wake_ups`](crate::runtime::Totals::wake_ups) counts: of a task that waits, by its
    /// waker, by a leaf, or by the end of a task that it joins. An idle task that is cancelled is
    /// woken to end, and a dump of stacks wakes each task that it asks. A wake-up that changes
    /// nothing is not told: the task is runnable already, or has ended. Nor is one during the
    /// task's own poll, such as that of [`yield_now`](crate::yield_now): the task is not idle, and
    /// is queued again after the poll. A new task is queued without a wake-up.
    ///
    /// **Where.** On any thread: a worker, a thread of another library, a thread that is about to
    /// end or that ends the runtime. The context of that thread is current, not the task's: in a
    /// task that sends to the woken task, it is the sender's. A task that ends has left its context
    /// when it wakes its joiner. After the end of the runtime no hook is called.
    ///
    /// **What the hook must not do.** No lock of this crate is held; one of the code that calls the
    /// waker may be, so a hook that locks what such code locks deadlocks. The task waits until the
    /// hook returns. A hook that wakes another idle task is called again for that task, inside the
    /// first call; the woken task itself is not idle any more.
    ///
    /// Of a [`LocalSet`](crate::task::LocalSet) it is told to the first runtime inside of which the
    /// set has got a task, without a count in the totals. Not called for blocking closures.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use heirloom::Runtime;
    /// use heirloom::runtime::Hooks;
    /// use heirloom::task::TaskMeta;
    ///
    /// #[derive(Default)]
    /// struct WakeUps(AtomicUsize);
    ///
    /// impl Hooks for WakeUps {
    ///     fn on_wake(&self, _task: &TaskMeta) {
    ///         self.0.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let wake_ups = Arc::new(WakeUps::default());
    /// let runtime = Runtime::builder().workers(1).hooks(wake_ups.clone()).build()?;
    /// let (send, receive) = futures::channel::oneshot::channel();
    /// let task = runtime.spawn(receive);
    /// runtime.wait_until_idle();
    /// send.send(5).unwrap();
    /// assert_eq!(runtime.block_on(task).unwrap(), Ok(5));
    /// assert_eq!(wake_ups.0.load(Ordering::Relaxed), 1);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "wake-up")]
    fn on_wake(&self, task: &TaskMeta) {
        let _ = task;
        note_provided::<Self>(Hook::Wake);
    }
}

/// The hooks, as bits of [`OverriddenHooks`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Spawn = 1,
    Before = 2,
    After = 4,
    Done = 8,
    Wake = 16,
}

impl Hook {
    const ALL: &[Hook] = &[Hook::Spawn, Hook::Before, Hook::After, Hook::Done, Hook::Wake];
}

thread_local! {
    /// The last provided method that ran on this thread: the type and the hook that it does not
    /// override. Without drop glue, so that it answers during thread teardown.
    static LAST_PROVIDED: Cell<Option<(TypeId, Hook)>> = const { Cell::new(None) };
}

fn note_provided<T: ?Sized + 'static>(hook: Hook) {
    LAST_PROVIDED.set(Some((TypeId::of::<T>(), hook)));
}

/// A runtime's hooks, and which of them are overridden.
pub(crate) struct RuntimeHooks {
    hooks: Arc<dyn Hooks>,
    overridden: Arc<OverriddenHooks>,
}

/// The [`Hook`]s that are overridden or unknown; and, shifted by [`UNKNOWN_SHIFT`], the unknown
/// ones.
///
/// Relaxed, without a partner: what is learnt depends on the type alone, and a call of a provided
/// method does nothing.
struct OverriddenHooks(AtomicU16);

/// One bit per hook.
const UNKNOWN_SHIFT: usize = Hook::ALL.len();

impl OverriddenHooks {
    #[inline]
    fn any(&self, hooks: &[Hook]) -> bool {
        let bits = hooks.iter().fold(0, |bits, hook| bits | *hook as u16);
        self.0.load(Relaxed) & bits != 0
    }
}

impl RuntimeHooks {
    pub(crate) fn new(hooks: Arc<dyn Hooks>) -> RuntimeHooks {
        let unknown = AtomicU16::new((1 << (2 * UNKNOWN_SHIFT)) - 1);
        RuntimeHooks { hooks, overridden: Arc::new(OverriddenHooks(unknown)) }
    }

    #[inline]
    fn call(&self, hook: Hook, f: impl FnOnce(&dyn Hooks)) {
        let overridden = self.overridden.0.load(Relaxed);
        if overridden & hook as u16 == 0 {
            return;
        }
        swallow(|| f(&*self.hooks));
        if overridden & (hook as u16) << UNKNOWN_SHIFT != 0 {
            self.learn(hook);
        }
    }

    /// HK8.
    pub(crate) fn woken(&self, task: &TaskMeta) {
        self.call(Hook::Wake, |hooks| hooks.on_wake(task));
    }

    /// HK5, after the first call of a hook.
    #[cold]
    fn learn(&self, hook: Hook) {
        let hooks: &dyn Any = &*self.hooks;
        let known = (hook as u16) << UNKNOWN_SHIFT;
        let provided = LAST_PROVIDED.get() == Some((hooks.type_id(), hook));
        self.overridden.0.fetch_and(!if provided { known | hook as u16 } else { known }, Relaxed);
    }
}

/// The hooks that a runtime's builder was given, and the context in which background tasks start.
pub(crate) struct HooksAndRoot {
    pub(crate) root: Context,
    pub(crate) hooks: Option<Arc<RuntimeHooks>>,
}

/// The hooks of a runtime, until it ends (HK6); and its ambient states, which are statics. A
/// handle, or a task that has ended, keeps the runtime's shared part, but nothing that the user
/// gave to the builder.
///
/// A worker keeps a [`HooksRef`] while it runs, and so reads it without the lock.
pub(crate) struct HooksSlot {
    inner: Mutex<Option<HooksRef>>,
    /// Whether there was anything from the start.
    is_set: bool,
    /// Whether there was anything from the start that futures are wrapped for: what a spawn of a
    /// runtime without looks at.
    wraps: bool,
    /// Tasks have records.
    pub(crate) inspected: bool,
    pub(crate) ambients: Ambients,
    overridden: Option<Arc<OverriddenHooks>>,
}

/// A counted reference. The last one drops the hooks, and catches a panic of their destructors.
#[derive(Clone)]
pub(crate) struct HooksRef(Option<Arc<HooksAndRoot>>);

impl Deref for HooksRef {
    type Target = HooksAndRoot;

    #[inline]
    fn deref(&self) -> &HooksAndRoot {
        self.0.as_ref().expect("taken by the drop only")
    }
}

impl Drop for HooksRef {
    fn drop(&mut self) {
        let inner = self.0.take();
        swallow(|| drop(inner));
    }
}

impl HooksSlot {
    pub(crate) fn new(inner: HooksAndRoot, ambients: Ambients, inspected: bool) -> HooksSlot {
        let overridden = inner.hooks.as_ref().map(|hooks| Arc::clone(&hooks.overridden));
        let is_set = overridden.is_some() || !inner.root.is_empty();
        let inner = Mutex::new(is_set.then(|| HooksRef(Some(Arc::new(inner)))));
        let wraps = inspected || overridden.is_some() || !ambients.is_empty();
        HooksSlot { inner, is_set, wraps, inspected, ambients, overridden }
    }

    /// Whether there was nothing from the start.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_set
    }

    /// Whether the futures of tasks are wrapped, by [`Wrapper`].
    #[inline]
    pub(crate) fn wraps_tasks(&self) -> bool {
        self.wraps && (self.inspected || !self.ambients.is_empty() || self.has_hooks())
    }

    /// Whether there are hooks that are overridden or unknown.
    #[inline]
    pub(crate) fn has_hooks(&self) -> bool {
        self.overridden.as_ref().is_some_and(|overridden| overridden.any(Hook::ALL))
    }

    /// Whether wake-ups are told (HK8).
    #[inline]
    pub(crate) fn tells_of_wake_ups(&self) -> bool {
        self.overridden.as_ref().is_some_and(|overridden| overridden.any(&[Hook::Wake]))
    }

    /// `None` if nothing was given, and after the end of the runtime.
    pub(crate) fn get(&self) -> Option<HooksRef> {
        self.lock().clone()
    }

    /// HK6. The runtime has ended.
    #[must_use = "it is to be dropped when the lock is released"]
    pub(crate) fn take(&self) -> Option<HooksRef> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HooksRef>> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wraps the future of a task that is being spawned in ambient states, where there are no hooks.
pub(crate) struct AmbientsOnly<'a>(pub(crate) &'a Ambients);

impl AmbientsOnly<'_> {
    /// The states are captured where they stay: a copy of what was just written would make the
    /// processor wait, which is half of what a spawn costs.
    #[inline(always)]
    fn capture<F>(&self, hooked: &mut Hooked<F>, kind: CrossingKind, task: &Unpublished<'_>) {
        let crossing = Crossing::at(kind, task.spawned_at).named(task.name());
        self.0.capture_into(&mut hooked.ambients, &crossing);
    }
}

impl<F: Future> OnSpawn<F> for AmbientsOnly<'_> {
    type Stored = Hooked<F>;

    #[inline(always)]
    fn store(&self, future: F) -> Hooked<F> {
        Hooked::new(future)
    }

    /// HK1.
    #[inline(always)]
    fn prepare(&self, hooked: &mut Hooked<F>, kind: CrossingKind, task: &mut Unpublished<'_>) -> bool {
        self.capture(hooked, kind, task);
        hooked.ambients.is_empty()
    }

    #[inline(always)]
    fn tells_of_wake_ups(&self) -> bool {
        false
    }

    #[inline(always)]
    fn spawned(&self, _: &Runnable) {}
}

/// Wraps the future of a task that is being spawned, and calls what is to be called then.
pub(crate) struct Wrapper<'a> {
    ambients: AmbientsOnly<'a>,
    hooks: Option<&'a Arc<RuntimeHooks>>,
    inspected: bool,
    /// From HK1 to HK2: the task's context, if the hook `on_spawn` is called.
    context: Cell<Option<Context>>,
}

impl<'a> Wrapper<'a> {
    #[inline]
    pub(crate) fn new(slot: &'a HooksSlot, hooks: Option<&'a Arc<RuntimeHooks>>) -> Self {
        let (ambients, inspected) = (AmbientsOnly(&slot.ambients), slot.inspected);
        Wrapper { ambients, hooks, inspected, context: Cell::new(None) }
    }

    fn overriding(&self, wanted: &[Hook]) -> Option<&'a Arc<RuntimeHooks>> {
        self.hooks.filter(|hooks| hooks.overridden.any(wanted))
    }
}

impl<F: Future> OnSpawn<F> for Wrapper<'_> {
    type Stored = Hooked<F>;

    #[inline]
    fn store(&self, future: F) -> Hooked<F> {
        Hooked::new(future)
    }

    /// HK1.
    #[inline]
    fn prepare(&self, hooked: &mut Hooked<F>, kind: CrossingKind, task: &mut Unpublished<'_>) -> bool {
        if self.inspected {
            record::add(task, kind);
            hooked.recorded = true;
        }
        hooked.hooks = self.overriding(&[Hook::Before, Hook::After, Hook::Done]).cloned();
        self.ambients.capture(hooked, kind, task);
        if self.overriding(&[Hook::Spawn]).is_some() {
            self.context.set(Some(task.live.snapshot()));
        }
        hooked.ambients.is_empty() && hooked.hooks.is_none() && !hooked.recorded
    }

    #[inline]
    fn tells_of_wake_ups(&self) -> bool {
        self.inspected || self.overriding(&[Hook::Wake]).is_some()
    }

    /// HK2.
    #[inline]
    fn spawned(&self, task: &Runnable) {
        if let Some(hooks) = self.hooks
            && let Some(context) = self.context.take()
        {
            task.with_meta(|task| hooks.call(Hook::Spawn, |hooks| hooks.on_spawn(task, &context)));
        }
    }
}

/// HK7. Wraps the future of a call that polls it on the caller's thread, which is no task: in the
/// ambient states that go with such calls, without hooks.
#[inline]
pub(crate) fn wrap_call<F>(ambients: Option<&Ambients>, crossing: &Crossing<'_>, future: F) -> Hooked<F> {
    let mut hooked = Hooked::new(future);
    if let Some(ambients) = ambients {
        ambients.capture_into(&mut hooked.ambients, crossing);
    }
    hooked
}

pin_project_lite::pin_project! {
    /// A task's future that is polled and dropped with captured ambient states in force, and with
    /// hooks called around.
    ///
    /// The future comes first, so that a task which turns out to need none of this runs as one of
    /// the future alone ([`OnSpawn::prepare`]).
    #[repr(C)]
    pub(crate) struct Hooked<F> {
        // Gone when it has returned in ambient states, and while it is being dropped.
        #[pin]
        future: Early<F>,
        // Before the states, whose end may be in a further cache line.
        hooks: Option<Arc<RuntimeHooks>>,
        // The task has a record.
        recorded: bool,
        ambients: AmbientSnapshot,
    }

    impl<F> PinnedDrop for Hooked<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let recorded = *this.recorded;
            if this.ambients.is_empty() && this.hooks.is_none() && !recorded {
                return;
            }
            // HK4. The future is gone also if its destructor panics.
            let hooks = this.hooks;
            let _done = OnDrop(|| {
                call_hook(hooks, Hook::Done, |hooks, task| hooks.on_done(task));
                if recorded {
                    record::task_ends();
                }
                // This may be the last count: then the user's destructors run here.
                let hooks = hooks.take();
                swallow(|| drop(hooks));
            });
            if needs_drop::<F>() && this.future.as_mut().is_there() {
                let _entered = this.ambients.enter();
                this.future.drop_now();
            }
        }
    }
}

impl<F> Hooked<F> {
    /// Until HK1 this is the future alone.
    #[inline(always)]
    pub(crate) fn new(future: F) -> Hooked<F> {
        Hooked {
            future: Early::new(future),
            ambients: AmbientSnapshot::empty(),
            hooks: None,
            recorded: false,
        }
    }
}

// SAFETY: the future is the first field of `Early`, which is the first field here; both types are
// `repr(C)`.
#[allow(unsafe_code)]
unsafe impl<F: Future> BeginsWith<F> for Hooked<F> {}

/// Calls a hook with the current task.
#[inline]
fn call_hook(hooks: &Option<Arc<RuntimeHooks>>, hook: Hook, f: impl FnOnce(&dyn Hooks, &TaskMeta)) {
    if let Some(hooks) = hooks
        && hooks.overridden.any(&[hook])
    {
        task::current::with_current(|task| {
            if let Some(task) = task {
                hooks.call(hook, |hooks| f(hooks, task));
            }
        });
    }
}

/// Calls a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    #[inline]
    fn drop(&mut self) {
        (self.0)();
    }
}

impl<F: Future> Future for Hooked<F> {
    type Output = F::Output;

    /// HK3.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        // Not through a shared reference, which would be one to the future, too: what the future
        // has borrowed of itself may be borrowed exclusively.
        let recorded = *self.as_mut().project().recorded;
        // The frames of the future lie below this variable.
        let base = Cell::new(recorded);
        if recorded {
            record::poll_begins(ptr::from_ref(&base).addr(), cx.waker());
        }
        let polled = self.poll_in_ambients(cx);
        if recorded && polled.is_pending() {
            record::poll_ends();
        }
        polled
    }
}

impl<F: Future> Hooked<F> {
    /// HK3, but for the record. A future that is ready in ambient states is dropped at once, so
    /// that they are put in force once for both.
    #[inline(always)]
    fn poll_in_ambients(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let hooks = &*this.hooks;
        let _polled = hooks.as_ref().map(|_| {
            call_hook(hooks, Hook::Before, |hooks, task| hooks.before_poll(task));
            OnDrop(|| call_hook(hooks, Hook::After, |hooks, task| hooks.after_poll(task)))
        });
        let drops = needs_drop::<F>() && !this.ambients.is_empty();
        let _entered = this.ambients.enter();
        let future = this.future.as_mut().get();
        let polled = future.expect("a task is not polled when its future has returned").poll(cx);
        match polled {
            Poll::Ready(output) if drops => {
                let output = Unclaimed::new(output);
                this.future.drop_now();
                Poll::Ready(output.into_inner())
            }
            polled => polled,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Runtime, spawn, yield_now};

    /// Whether a hook is overridden is learnt once.
    #[test]
    fn a_hook_that_is_not_overridden_is_not_called_again() {
        struct Ends;
        impl Hooks for Ends {
            fn on_done(&self, _: &TaskMeta) {}
        }
        struct Idle;
        impl Hooks for Idle {}
        for (hooks, overridden) in
            [(Arc::new(Ends) as Arc<dyn Hooks>, Hook::Done as u16), (Arc::new(Idle), 0)]
        {
            let runtime = Runtime::builder().workers(1).hooks(hooks).build().unwrap();
            let given = &runtime.handle().shared().given;
            assert!(given.wraps_tasks());
            for _ in 0..2 {
                // The outer task waits for the inner one, which wakes it.
                runtime.block_on(runtime.spawn(async { spawn(yield_now()).await })).unwrap().unwrap();
            }
            runtime.wait_until_idle();
            assert_eq!(given.overridden.as_ref().unwrap().0.load(Relaxed), overridden);
            assert_eq!(given.wraps_tasks(), overridden != 0);
        }
    }
}
