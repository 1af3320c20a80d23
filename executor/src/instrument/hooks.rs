//! What goes with a task: foreign ambient states around it, and hooks that watch it.
//!
//! A runtime with neither wraps nothing, so neither costs anything where it is not used.
#![forbid(unsafe_code)]

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};

use heirloom_context::{AmbientSnapshot, Ambients, Context};

use crate::task::cell::{Parts, Runnable};
use crate::task::{self, TaskMeta};
use crate::util::panic::discard;

/// Watches the tasks of a runtime; added by [`Builder::hooks`](crate::Builder::hooks).
///
/// All but [`on_spawn`](Self::on_spawn) are called with the task's context current, by whichever
/// thread runs the task: variables read as in the task, and [`Context::current`] is a snapshot of
/// all. Nothing is made for a hook that does not ask. A panic in a hook is caught (the panic hook
/// has reported it), and changes nothing. A hook that is not overridden costs nothing: the runtime
/// finds that out by the first call.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use heirloom::{Hooks, Runtime, TaskMeta};
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
        provided::<Self>(Hook::Spawn);
    }

    /// A task is about to be polled.
    fn before_poll(&self, task: &TaskMeta) {
        let _ = task;
        provided::<Self>(Hook::Before);
    }

    /// A task was polled, also if the poll panicked.
    fn after_poll(&self, task: &TaskMeta) {
        let _ = task;
        provided::<Self>(Hook::After);
    }

    /// A task is over: its future is gone, also if its destructor panicked.
    fn on_done(&self, task: &TaskMeta) {
        let _ = task;
        provided::<Self>(Hook::Done);
    }
}

/// As bits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Spawn = 1,
    Before = 2,
    After = 4,
    Done = 8,
}

impl Hook {
    const ALL: [Hook; 4] = [Hook::Spawn, Hook::Before, Hook::After, Hook::Done];
}

thread_local! {
    /// The last provided hook that was called on this thread: its type has not overridden it. Without
    /// drop glue, so that it answers during thread teardown.
    static PROVIDED: Cell<Option<(TypeId, Hook)>> = const { Cell::new(None) };
}

fn provided<T: ?Sized + 'static>(hook: Hook) {
    PROVIDED.set(Some((TypeId::of::<T>(), hook)));
}

/// Hooks, and which of them are worth a call.
pub(crate) struct Watcher {
    hooks: Arc<dyn Hooks>,
    wanted: Arc<Wanted>,
}

/// The [`Hook`]s that do something, as far as is known; and, [`ASKED`] higher, those that nothing
/// is known of yet. Relaxed: what is known depends on the type alone, and a call too many does
/// nothing.
struct Wanted(AtomicU8);

const ASKED: u32 = 4;

impl Wanted {
    #[inline]
    fn any<const N: usize>(&self, hooks: [Hook; N]) -> bool {
        let bits = hooks.into_iter().fold(0, |bits, hook| bits | hook as u8);
        self.0.load(Relaxed) & bits != 0
    }
}

impl Watcher {
    pub(crate) fn new(hooks: Arc<dyn Hooks>) -> Watcher {
        Watcher { hooks, wanted: Arc::new(Wanted(AtomicU8::new(u8::MAX))) }
    }

    #[inline]
    fn call(&self, hook: Hook, f: impl FnOnce(&dyn Hooks)) {
        let wanted = self.wanted.0.load(Relaxed);
        if wanted & hook as u8 == 0 {
            return;
        }
        call(|| f(&*self.hooks));
        if wanted & (hook as u8) << ASKED != 0 {
            self.learn(hook);
        }
    }

    /// After the first call of a hook.
    #[cold]
    fn learn(&self, hook: Hook) {
        let hooks: &dyn Any = &*self.hooks;
        let known = (hook as u8) << ASKED;
        // A hook of the same name that this one calls in turn has another type.
        let idle = PROVIDED.get() == Some((hooks.type_id(), hook));
        self.wanted.0.fetch_and(!if idle { known | hook as u8 } else { known }, Relaxed);
    }
}

/// What the builder was given that goes with tasks.
pub(crate) struct Company {
    pub(crate) root: Context,
    pub(crate) ambients: Ambients,
    /// Those of them that go with background tasks.
    pub(crate) background: Ambients,
    pub(crate) hooks: Option<Arc<Watcher>>,
}

/// A company, until the runtime ends: then it is [taken](Self::take) away, and goes when the last
/// of those that use it is done. A task that is over, and a handle, keep the runtime's shared part,
/// but nothing of its user's.
///
/// A worker keeps the company for as long as it runs, and so reads it without the lock.
pub(crate) struct Given {
    company: Mutex<Option<Kept>>,
    // None of these changes.
    something: bool,
    ambients: bool,
    wanted: Option<Arc<Wanted>>,
}

/// A counted reference of a company. The last one drops it, and lets no panic of a destructor out.
#[derive(Clone)]
pub(crate) struct Kept(Option<Arc<Company>>);

impl Deref for Kept {
    type Target = Company;

    #[inline]
    fn deref(&self) -> &Company {
        self.0.as_ref().expect("taken by the drop only")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let company = self.0.take();
        call(|| drop(company));
    }
}

impl Given {
    pub(crate) fn new(company: Company) -> Given {
        let ambients = !company.ambients.is_empty();
        let wanted = company.hooks.as_ref().map(|hooks| Arc::clone(&hooks.wanted));
        let something = ambients || wanted.is_some() || !company.root.is_empty();
        let company = Mutex::new(something.then(|| Kept(Some(Arc::new(company)))));
        Given { company, something, ambients, wanted }
    }

    /// Whether there was nothing from the start.
    #[inline]
    pub(crate) fn is_nothing(&self) -> bool {
        !self.something
    }

    /// Whether tasks are [accompanied](accompany).
    #[inline]
    pub(crate) fn accompanies(&self) -> bool {
        self.something && (self.ambients || self.wanted.as_ref().is_some_and(|wanted| wanted.any(Hook::ALL)))
    }

    /// What was given; `None` also after the end.
    pub(crate) fn get(&self) -> Option<Kept> {
        self.lock().clone()
    }

    /// The runtime has ended.
    #[must_use = "it is dropped under no lock"]
    pub(crate) fn take(&self) -> Option<Kept> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.company.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future with what goes along with it; and what is to be called when it is a task.
#[inline]
pub(crate) fn accompany<'a, F>(
    company: Option<&'a Company>,
    future: F,
    parts: &Parts,
) -> (Accompanied<F>, impl FnOnce(&Runnable) + use<'a, F>) {
    let ambients = company.map(|it| if parts.background { &it.background } else { &it.ambients });
    let ambients = ambients.filter(|ambients| !ambients.is_empty()).map(Ambients::capture);
    let hooks = company.and_then(|company| company.hooks.as_ref());
    let watch =
        hooks.filter(|hooks| hooks.wanted.any([Hook::Spawn])).map(|hooks| (hooks, parts.live.snapshot()));
    let spawned = |task: &Runnable| {
        if let Some((hooks, context)) = watch {
            task.with_meta(|task| hooks.call(Hook::Spawn, |hooks| hooks.on_spawn(task, &context)));
        }
    };
    let hooks = hooks.filter(|hooks| hooks.wanted.any([Hook::Before, Hook::After, Hook::Done])).cloned();
    (Accompanied { future: Some(future), company: Taken { ambients, hooks } }, spawned)
}

/// Calls a hook, whatever it does.
#[inline]
pub(crate) fn call(f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        discard(panic);
    }
}

pin_project_lite::pin_project! {
    /// A future that is polled, and dropped, with captured ambient states in force, and watched.
    pub(crate) struct Accompanied<F> {
        // `None` only while it is being dropped.
        #[pin]
        future: Option<F>,
        company: Taken,
    }

    impl<F> PinnedDrop for Accompanied<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.company.is_idle() {
                return;
            }
            // Also after a destructor that panics: the future is gone all the same.
            let _done = Finally(|| {
                watch(&this.company.hooks, Hook::Done, |hooks, task| hooks.on_done(task));
                // They may be the last.
                let hooks = this.company.hooks.take();
                call(|| drop(hooks));
            });
            around(&this.company.ambients, || this.future.set(None));
        }
    }
}

/// What goes along with one task.
struct Taken {
    ambients: Option<AmbientSnapshot>,
    hooks: Option<Arc<Watcher>>,
}

impl Taken {
    /// Whether there is nothing to be done around the future.
    #[inline]
    fn is_idle(&self) -> bool {
        self.ambients.is_none() && self.hooks.is_none()
    }
}

#[inline]
fn around<R>(ambients: &Option<AmbientSnapshot>, f: impl FnOnce() -> R) -> R {
    match ambients {
        Some(ambients) => ambients.around(f),
        None => f(),
    }
}

/// Calls a hook of the current task.
#[inline]
fn watch(hooks: &Option<Arc<Watcher>>, hook: Hook, f: impl FnOnce(&dyn Hooks, &TaskMeta)) {
    if let Some(hooks) = hooks
        && hooks.wanted.any([hook])
    {
        task::current::with_current(|task| {
            if let Some(task) = task {
                hooks.call(hook, |hooks| f(hooks, task));
            }
        });
    }
}

/// Calls a closure when it is dropped.
struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Drop for Finally<F> {
    #[inline]
    fn drop(&mut self) {
        (self.0)();
    }
}

impl<F: Future> Future for Accompanied<F> {
    type Output = F::Output;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("taken by the drop only");
        let Taken { ambients, hooks } = this.company;
        let watched = hooks.as_ref().is_some_and(|hooks| hooks.wanted.any([Hook::Before, Hook::After]));
        if ambients.is_none() && !watched {
            return poll(future, cx);
        }
        poll_inside(future, ambients, hooks, cx)
    }
}

/// One copy of the future's code, whatever is around it.
#[inline(never)]
fn poll<F: Future>(future: Pin<&mut F>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
    future.poll(cx)
}

#[inline(never)]
fn poll_inside<F: Future>(
    future: Pin<&mut F>,
    ambients: &Option<AmbientSnapshot>,
    hooks: &Option<Arc<Watcher>>,
    cx: &mut TaskContext<'_>,
) -> Poll<F::Output> {
    watch(hooks, Hook::Before, |hooks, task| hooks.before_poll(task));
    let _polled = Finally(|| watch(hooks, Hook::After, |hooks, task| hooks.after_poll(task)));
    around(ambients, || poll(future, cx))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Runtime, yield_now};

    /// The kind: what is not overridden is looked up once.
    #[test]
    fn a_hook_that_is_not_overridden_is_not_called_again() {
        struct Ends;
        impl Hooks for Ends {
            fn on_done(&self, _: &TaskMeta) {}
        }
        struct Idle;
        impl Hooks for Idle {}
        for (hooks, wanted) in [(Arc::new(Ends) as Arc<dyn Hooks>, Hook::Done as u8), (Arc::new(Idle), 0)] {
            let runtime = Runtime::builder().workers(1).hooks(hooks).build().unwrap();
            let given = &runtime.handle().shared().given;
            assert!(given.accompanies());
            for _ in 0..2 {
                runtime.block_on(runtime.spawn(yield_now())).unwrap();
            }
            runtime.wait_until_idle();
            assert_eq!(given.wanted.as_ref().unwrap().0.load(Relaxed), wanted);
            assert_eq!(given.accompanies(), wanted != 0);
        }
    }
}
