//! The options of a task.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::Location;

use heirloom_context::{Context, ContextCell, ContextFutureExt};

use crate::runtime::handle::{self, Handle};
use crate::runtime::local;
use crate::scheduler::shared::{Workers, launch};
use crate::task::cell::{Begin, Parts};
use crate::task::join_handle::JoinHandle;

/// Options of a task: a name, a context other than the inherited one, a runtime.
///
/// Options of a runtime are in [`runtime::Builder`](crate::runtime::Builder).
///
/// ```
/// use heirloom::{Context, context_var, task};
/// context_var! { static TENANT: u32; static REQUEST_ID: u64; }
///
/// heirloom::block_on(async {
///     TENANT.set(1);
///     REQUEST_ID.set(7);
///     let read = || async { (TENANT.get(), REQUEST_ID.get()) };
///
///     let given = Context::empty().with_var(&TENANT, 2);
///     let only = task::Builder::new().name("audit").context(given.clone()).spawn(read());
///     assert_eq!(only.await.unwrap(), (Some(2), None));
///
///     let over = task::Builder::new().overlay(given).spawn(read());
///     assert_eq!(over.await.unwrap(), (Some(2), Some(7)));
/// });
/// ```
#[derive(Default)]
#[must_use]
pub struct Builder {
    name: Option<Cow<'static, str>>,
    context: InitialContext,
    runtime: Option<Handle>,
    inline: bool,
}

/// The context that a task starts with.
#[derive(Default)]
enum InitialContext {
    #[default]
    Inherited,
    Given(Context),
    Overlay(Context),
    Cell(ContextCell),
}

impl Builder {
    /// The default options: no name, the inherited context, the current runtime.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The task's name in errors, dumps and reports.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The task's context, taken as it is, instead of the inherited one.
    pub fn context(mut self, context: Context) -> Self {
        self.context = InitialContext::Given(context);
        self
    }

    /// Bindings that replace those of the same variables in the inherited context.
    pub fn overlay(mut self, context: Context) -> Self {
        self.context = InitialContext::Overlay(context);
        self
    }

    /// A live context that the task shares: each poll of the task enters the cell. While another
    /// task or thread is in the cell, this one waits.
    pub fn cell(mut self, cell: ContextCell) -> Self {
        self.context = InitialContext::Cell(cell);
        self
    }

    /// The runtime to spawn on, instead of the current one.
    pub fn on(mut self, runtime: &Handle) -> Self {
        self.runtime = Some(runtime.clone());
        self
    }

    /// Whether the task's first poll is a part of the call that spawns it: on this thread, in the
    /// task's own context. A body that does not suspend has ended when `spawn` returns, and was
    /// never queued. One that suspends then runs as any other task.
    ///
    /// It saves the queue and the change of thread where a body mostly has its answer at once, such
    /// as one that looks into a cache before it asks the network. The spawner waits for the poll.
    ///
    /// A task that is spawned so in the first poll of another one also starts inline, up to a few
    /// levels; deeper ones are queued. Nothing is promised about the order of tasks. A [blocking
    /// closure](Self::spawn_blocking) is queued all the same.
    ///
    /// ```
    /// use heirloom::{context_var, task};
    /// context_var! { static KEY: u32; }
    ///
    /// # heirloom::block_on(async {
    /// KEY.set(7);
    /// let cached = task::Builder::new().start_inline(true).spawn(async { KEY.get() });
    /// assert!(cached.is_finished());
    /// assert_eq!(cached.await.unwrap(), Some(7));
    /// # });
    /// ```
    #[doc(alias = "eager")]
    #[doc(alias = "eager_start")]
    #[doc(alias = "UNDISPATCHED")]
    #[doc(alias = "spawn_immediate")]
    pub fn start_inline(mut self, inline: bool) -> Self {
        self.inline = inline;
        self
    }

    #[track_caller]
    fn parts(&mut self) -> (Parts, Option<ContextCell>) {
        let (context, cell) = match std::mem::take(&mut self.context) {
            InitialContext::Inherited => (Context::inherited(), None),
            InitialContext::Given(context) => (context, None),
            InitialContext::Overlay(over) => (Context::inherited().overlaid(&over), None),
            InitialContext::Cell(cell) => (Context::empty(), Some(cell)),
        };
        let mut parts = Parts { name: self.name.take(), ..handle::parts(Location::caller(), context) };
        if self.inline && parts.begin == Begin::Queued {
            parts.begin = Begin::Polled;
        }
        (parts, cell)
    }

    fn runtime(&mut self) -> Handle {
        self.runtime.take().unwrap_or_else(Handle::current_or_default)
    }

    /// Spawns a task; see [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn<F>(mut self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`
        F::Output: Send + 'static,
    {
        let (parts, cell) = self.parts();
        let runtime = self.runtime();
        match cell {
            None => launch::<_, Workers>(runtime.shared(), future, || parts),
            Some(cell) => launch::<_, Workers>(runtime.shared(), future.in_cell(cell), || parts),
        }
    }

    /// Spawns a task that stays on this thread; see [`spawn_local`](crate::spawn_local).
    ///
    /// # Panics
    /// Outside of a [`LocalSet`](crate::task::LocalSet).
    #[track_caller]
    pub fn spawn_local<F>(mut self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        let (parts, cell) = self.parts();
        match cell {
            None => local::spawn_into_current(future, parts),
            Some(cell) => local::spawn_into_current(future.in_cell(cell), parts),
        }
    }

    /// Runs a blocking closure; see [`spawn_blocking`](crate::spawn_blocking).
    ///
    /// # Panics
    /// If a [`cell`](Self::cell) was given: no other task could enter it while the closure blocks.
    #[track_caller]
    pub fn spawn_blocking<F, R>(mut self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.inline = false;
        let (parts, cell) = self.parts();
        assert!(
            cell.is_none(),
            "a blocking closure must not have a cell: run it in the cell's snapshot instead"
        );
        handle::launch_blocking(self.runtime().shared(), f, parts)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).finish_non_exhaustive()
    }
}
