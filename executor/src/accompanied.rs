//! What goes with a task: foreign ambient states around it, and hooks that watch it.
//!
//! A runtime with neither wraps nothing, so neither costs anything where it is not used.
#![forbid(unsafe_code)]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use heirloom_context::{AmbientSnapshot, Context};

use crate::task::harness::discard;
use crate::task::{self, TaskMeta};

/// Watches the tasks of a runtime; added by [`Builder::hooks`](crate::Builder::hooks).
///
/// All but [`on_spawn`](Self::on_spawn) are called with the task's context current, by whichever thread runs the task.
/// A panic in a hook is caught (the panic hook has reported it), and changes nothing.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use heirloom::{Context, Hooks, Runtime, TaskMeta};
///
/// #[derive(Default)]
/// struct Polls(AtomicUsize);
///
/// impl Hooks for Polls {
///     fn before_poll(&self, _task: &TaskMeta, _context: &Context) {
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
pub trait Hooks: Send + Sync + 'static {
    /// A task was spawned, in `context`; called by the spawner.
    fn on_spawn(&self, task: &TaskMeta, context: &Context) {
        let _ = (task, context);
    }

    /// A task is about to be polled.
    fn before_poll(&self, task: &TaskMeta, context: &Context) {
        let _ = (task, context);
    }

    /// A task was polled, also if the poll panicked.
    fn after_poll(&self, task: &TaskMeta, context: &Context) {
        let _ = (task, context);
    }

    /// A task is over: its future is gone, also if its destructor panicked.
    fn on_done(&self, task: &TaskMeta, context: &Context) {
        let _ = (task, context);
    }
}

/// Calls a hook, whatever it does.
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
        ambients: AmbientSnapshot,
        hooks: Option<Arc<dyn Hooks>>,
    }

    impl<F> PinnedDrop for Accompanied<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // Also after a destructor that panics: the future is gone all the same.
            let _done = Watched(this.hooks.as_deref(), |hooks, task, context| hooks.on_done(task, context));
            this.ambients.around(|| this.future.set(None));
        }
    }
}

fn watch(hooks: Option<&dyn Hooks>, hook: fn(&dyn Hooks, &TaskMeta, &Context)) {
    if let Some(hooks) = hooks
        && let Some(task) = task::current()
    {
        call(|| hook(hooks, &task, &Context::current()));
    }
}

/// Calls a hook when it is dropped.
struct Watched<'a>(Option<&'a dyn Hooks>, fn(&dyn Hooks, &TaskMeta, &Context));

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        watch(self.0, self.1);
    }
}

impl<F> Accompanied<F> {
    pub(crate) fn new(future: F, ambients: AmbientSnapshot, hooks: Option<Arc<dyn Hooks>>) -> Self {
        Accompanied { future: Some(future), ambients, hooks }
    }
}

impl<F: Future> Future for Accompanied<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("taken by the drop only");
        watch(this.hooks.as_deref(), |hooks, task, context| hooks.before_poll(task, context));
        let _polled = Watched(this.hooks.as_deref(), |hooks, task, context| hooks.after_poll(task, context));
        this.ambients.around(|| future.poll(cx))
    }
}
