//! For executors: a task's state, and what an executor does with it.
//!
//! An executor that inherits contexts keeps a [`Live`] in each task, made of [`Context::inherited`]
//! at the spawn call, and calls [`swap`] before and after each poll, and before and after the drop
//! of the task's future. Nothing more is needed.
//!
//! | for | see |
//! | --- | --- |
//! | a task's state, and what is in it | [`Live`] |
//! | installing it, and taking it back | [`swap`] |
//! | deadlines and eager execution | [`Execution`], [`execution`], [`set_execution`] |
//! | whether anything was set since | [`version`], [`version_of`] |
//! | ending a task's context at a chosen moment | [`Live::clear`], [`Live::take_unique`] |
//! | workers that share a context | [`begin_spare_handles`] to [`give_back_spare_handles`] |
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::current::{self, Owned};

/// What an executor stores per task: two words.
///
/// The context (bindings; after the first write also an identity, never reused, and the living
/// guards), and the [execution state](Execution).
pub struct Live {
    state: Owned,
    execution: Execution,
}

impl Live {
    /// A task's state that starts as a copy of `context`.
    pub fn new(context: Context) -> Self {
        Live { state: Owned::snapshot_of(context.into_bindings()), execution: Execution::NONE }
    }

    /// A task's state without anything.
    pub const fn empty() -> Self {
        Live { state: Owned::EMPTY, execution: Execution::NONE }
    }

    /// Whether there is nothing in it: the empty context, never written to, and no
    /// [execution state](Execution) either.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.state.is_empty() && self.execution == Execution::NONE
    }

    /// Drops the context, as dropping this would. The execution state stays.
    #[inline]
    pub fn clear(&mut self) {
        self.state.clear();
    }

    /// Drops the context, which is not installed, but leaves destructors to the caller: if there
    /// may be any to run, they run when the answer is dropped. `None` if the context has other
    /// owners, or is empty. The execution state stays.
    #[inline]
    pub fn take_unique(&mut self) -> Option<DeferredDrop> {
        self.state.take_unique().map(DeferredDrop)
    }

    /// The execution state that is installed with the context.
    pub fn execution(&self) -> Execution {
        self.execution
    }

    /// Changes it, for the next [`swap`].
    pub fn set_execution(&mut self, execution: Execution) {
        self.execution = execution;
    }

    /// A copy of the context, for looking at a task that is not being polled.
    pub fn snapshot(&self) -> Context {
        Context::from_bindings(self.state.bindings())
    }

    /// The context's identity, never reused; `None` before the first write.
    pub fn identity(&self) -> Option<u64> {
        self.state.identity()
    }
}

/// A context without any other owner, which is dropped with this; made by [`Live::take_unique`].
#[must_use = "dropping it runs destructors"]
pub struct DeferredDrop(#[expect(dead_code, reason = "it is dropped")] current::Unique);

impl fmt::Debug for DeferredDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredDrop").finish_non_exhaustive()
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Context> for Live {
    fn from(context: Context) -> Self {
        Live::new(context)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("context", &self.snapshot())
            .field("execution", &self.execution)
            .finish_non_exhaustive()
    }
}

/// Swaps what is current on this thread with `live`: once to install a task's state, once more to
/// take it back.
///
/// The two must be a pair, also when the poll between them panics; if they are not, contexts get
/// mixed up, but nothing worse. A few loads and stores, unless a variable with an `on_change` hook
/// is bound on either side.
///
/// What is installed when a thread ends is dropped then only if a variable was ever written to on
/// that thread, by a task or by anything else: only a write, not a swap, has the thread clean up at
/// its end. So an executor whose thread may end in the middle of a poll, which is no pair, leaks
/// that task's values. A guard that swaps out by unwinding too is all it takes.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::raw;
/// use heirloom::{Context, context_var};
/// context_var! { static TENANT: u32; }
///
/// let mut task = raw::Live::new(Context::empty().with_var(&TENANT, 7));
/// raw::swap(&mut task);
/// assert_eq!(TENANT.get(), Some(7));
/// TENANT.set(8);
/// raw::swap(&mut task);
/// assert_eq!(TENANT.get(), None);
/// assert_eq!(task.snapshot().get(&TENANT), Some(8));
/// ```
#[inline]
pub fn swap(live: &mut Live) {
    current::swap(&mut live.state, &mut live.execution.0);
}

/// This thread is one of so many workers. A worker counts the handles of a context that more than a
/// thousand tasks share in batches, and has what it has counted in advance as **spare handles**, of
/// one context at a time.
///
/// A worker calls [`keep_spare_handles`] before it polls a task, [`settle_spare_handles`] after it
/// has taken the task's state back, before another thread may have the task, and
/// [`give_back_spare_handles`] when it finds no further task. An executor need not call any of
/// them.
///
/// A context ends with its last task all the same. Only if more than a thousand of its tasks end
/// between two looks of a worker for a task, it may end at the second look.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::raw;
/// use heirloom::Context;
///
/// fn work(tasks: Vec<raw::Live>) {
///     raw::begin_spare_handles(2);
///     for mut task in tasks {
///         drop(raw::keep_spare_handles(&task, || true));
///         raw::swap(&mut task);
///         let child = raw::Live::new(Context::inherited());
///         raw::swap(&mut task);
///         drop(raw::settle_spare_handles());
///         drop((task.take_unique(), child));
///     }
///     drop(raw::give_back_spare_handles());
/// }
/// # std::thread::spawn(|| work(vec![raw::Live::empty()])).join().unwrap();
/// ```
pub fn begin_spare_handles(workers: usize) {
    current::begin_spare_handles(workers);
}

/// A worker is about to poll a task: it may keep spare handles of that task's context from now on,
/// and of no other. If a former context ends thereby, destructors run when the answer is dropped.
///
/// Nothing happens unless `now` returns true. It is to say no for a poll inside another one, and is
/// not asked if the context is that of the last call.
#[inline]
pub fn keep_spare_handles(live: &Live, now: impl FnOnce() -> bool) -> Option<DeferredDrop> {
    current::keep_spare_handles(&live.state, now).map(|last| DeferredDrop(last.into()))
}

/// Gives spare handles back, unless the context has very many others. The answer is as that of
/// [`keep_spare_handles`].
#[inline]
pub fn settle_spare_handles() -> Option<DeferredDrop> {
    current::settle_spare_handles().map(|last| DeferredDrop(last.into()))
}

/// Gives all spare handles back. The answer is as that of [`keep_spare_handles`].
#[inline]
pub fn give_back_spare_handles() -> Option<DeferredDrop> {
    current::give_back_spare_handles().map(|last| DeferredDrop(last.into()))
}

/// A number of what is bound on this thread, to be compared with that of an earlier call: while a
/// [snapshot](Context::current) of that time is kept, the numbers are equal only if nothing has
/// changed. `None` in a layer ([`isolated`](crate::ContextFutureExt::isolated)).
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::raw;
/// use heirloom::{Context, context_var};
/// context_var! { static TENANT: u32; }
///
/// TENANT.set(7);
/// let (before, kept) = (raw::version(), Context::current());
/// assert_eq!(raw::version(), before);
/// TENANT.set(8);
/// assert_ne!(raw::version(), before);
/// # drop(kept);
/// ```
#[inline]
pub fn version() -> Option<usize> {
    current::version()
}

/// The [`version`] where this snapshot is current, and nothing was set since.
#[inline]
pub fn version_of(snapshot: &Context) -> usize {
    snapshot.address()
}

/// What follows the call rather than the context: the current deadline, and whether async code is
/// to run synchronously.
///
/// It is captured by no snapshot, and untouched by `run`, `in_context` and layers. Packed into one
/// word.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Execution(u64);

/// Whether leaf operations are to block.
const EAGER: u64 = 1;
/// Whether there is a limit that has not begun.
const LIMIT: u64 = 1 << 1;
const FLAGS: u32 = 2;
/// Above the flags: the deadline, in nanoseconds since [`epoch`] plus one, zero for none; or the
/// limit, in nanoseconds.
const MOST: u64 = u64::MAX >> FLAGS;

/// Instants are counted from far before the first use, so that past ones have a place too.
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    const YEAR: u64 = 365 * 24 * 60 * 60;
    *EPOCH.get_or_init(|| {
        let now = Instant::now();
        // Some platforms cannot tell of instants before their start.
        [40 * YEAR, YEAR, 24 * 60 * 60, 60]
            .into_iter()
            .find_map(|seconds| now.checked_sub(Duration::from_secs(seconds)))
            .unwrap_or(now)
    })
}

impl Execution {
    /// No deadline, not eager.
    pub const NONE: Execution = Execution(0);

    /// When the current time budget ends. `None` also while it has not [begun](Self::limit).
    pub fn deadline(self) -> Option<Instant> {
        if self.0 & LIMIT != 0 {
            return None;
        }
        let nanoseconds = (self.0 >> FLAGS).checked_sub(1)?;
        Some(epoch() + Duration::from_nanos(nanoseconds))
    }

    /// With another deadline, also in place of a [limit](Self::with_limit). Instants more than a
    /// century ahead, or forty years back, are taken for about that; in between nothing is rounded.
    #[must_use]
    pub fn with_deadline(self, deadline: Option<Instant>) -> Self {
        let word = deadline.map_or(0, |instant| {
            let nanoseconds = instant.saturating_duration_since(epoch()).as_nanos();
            u64::try_from(nanoseconds).unwrap_or(u64::MAX).min(MOST - 1) + 1
        });
        Execution(word << FLAGS | self.0 & EAGER)
    }

    /// With a time budget in place of a deadline. It begins when the deadline is first asked for,
    /// and is then replaced by that deadline. So a budget that is never asked for costs no look at
    /// a clock. `None` for one of more than a century.
    #[inline]
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Option<Self> {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        const _: () = assert!(CENTURY.as_nanos() <= MOST as u128);
        (limit <= CENTURY).then_some(Execution((limit.as_nanos() as u64) << FLAGS | LIMIT | self.0 & EAGER))
    }

    /// The time budget that has not begun.
    #[inline]
    pub fn limit(self) -> Option<Duration> {
        (self.0 & LIMIT != 0).then(|| Duration::from_nanos(self.0 >> FLAGS))
    }

    /// Whether leaf operations are to block instead of suspending.
    pub fn eager(self) -> bool {
        self.0 & EAGER != 0
    }

    /// With that changed.
    #[must_use]
    pub fn with_eager(self, eager: bool) -> Self {
        Execution(self.0 & !EAGER | u64::from(eager))
    }
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execution")
            .field("deadline", &self.deadline())
            .field("limit", &self.limit())
            .field("eager", &self.eager())
            .finish()
    }
}

/// The execution state of the call that is running on this thread.
///
/// Code that reads the deadline there, or hands the state to another task, first begins a
/// [limit](Execution::limit) that has not begun; else there are as many beginnings as readers:
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use std::time::{Duration, Instant};
/// use heirloom::context::raw::{self, Execution};
///
/// fn begun() -> Execution {
///     let mut execution = raw::execution();
///     if let Some(limit) = execution.limit() {
///         execution = execution.with_deadline(Instant::now().checked_add(limit));
///         raw::set_execution(execution);
///     }
///     execution
/// }
///
/// raw::set_execution(Execution::NONE.with_limit(Duration::from_secs(1)).unwrap());
/// let deadline = begun().deadline();
/// assert!(deadline.is_some());
/// assert_eq!(begun().deadline(), deadline);
/// ```
#[inline]
pub fn execution() -> Execution {
    Execution(current::execution())
}

/// Replaces it, and returns the former one, to be put back afterwards.
#[inline]
pub fn set_execution(execution: Execution) -> Execution {
    Execution(current::set_execution(execution.0))
}
