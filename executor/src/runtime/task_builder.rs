//! Tasks with options.
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

/// Spawns a task with a name, or in a context other than the inherited one.
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
    start: Start,
    runtime: Option<Handle>,
    eager: bool,
}

#[derive(Default)]
enum Start {
    #[default]
    Inherit,
    Given(Context),
    Overlay(Context),
    Cell(ContextCell),
}

impl Builder {
    /// No name; inherits.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// What the task is called in errors, dumps and reports.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The task's context, taken as given.
    pub fn context(mut self, context: Context) -> Self {
        self.start = Start::Given(context);
        self
    }

    /// Bindings that win over what the task inherits.
    pub fn overlay(mut self, context: Context) -> Self {
        self.start = Start::Overlay(context);
        self
    }

    /// A live context that the task shares: each of its polls enters the cell. While somebody else is inside, the task
    /// waits.
    pub fn cell(mut self, cell: ContextCell) -> Self {
        self.start = Start::Cell(cell);
        self
    }

    /// The runtime to spawn on, rather than the current one.
    pub fn on(mut self, runtime: &Handle) -> Self {
        self.runtime = Some(runtime.clone());
        self
    }

    /// Polls the task a first time here, before `spawn` returns, in the task's own context. A body that never suspends is
    /// finished then, and was never queued; one that does goes on like any other.
    ///
    /// It saves the queue, and the switch to another thread, where the body mostly has its answer at hand: a cache that is
    /// asked before the network. In return the spawner waits for that poll.
    ///
    /// Tasks that begin one another in their first polls do so a few levels deep; those further in are queued. Other
    /// tasks are queued or running as they were: nothing is promised about order. A
    /// [blocking closure](Self::spawn_blocking) takes no notice of it.
    ///
    /// ```
    /// use heirloom::{context_var, task};
    /// context_var! { static KEY: u32; }
    ///
    /// # heirloom::block_on(async {
    /// KEY.set(7);
    /// let cached = task::Builder::new().eager(true).spawn(async { KEY.get() });
    /// assert!(cached.is_finished());
    /// assert_eq!(cached.await.unwrap(), Some(7));
    /// # });
    /// ```
    pub fn eager(mut self, eager: bool) -> Self {
        self.eager = eager;
        self
    }

    #[track_caller]
    fn parts(&mut self) -> (Parts, Option<ContextCell>) {
        let (context, cell) = match std::mem::take(&mut self.start) {
            Start::Inherit => (Context::inherited(), None),
            Start::Given(context) => (context, None),
            Start::Overlay(over) => (Context::inherited().overlaid(&over), None),
            Start::Cell(cell) => (Context::empty(), Some(cell)),
        };
        let mut parts = Parts { name: self.name.take(), ..handle::parts(Location::caller(), context) };
        if self.eager && parts.begin == Begin::Queued {
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
        F: Future + Send + 'static,
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
    /// Outside of a [`LocalSet`](crate::LocalSet).
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
    /// If a [`cell`](Self::cell) was given: a closure that blocks would keep everybody else out of it.
    #[track_caller]
    pub fn spawn_blocking<F, R>(mut self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.eager = false;
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
