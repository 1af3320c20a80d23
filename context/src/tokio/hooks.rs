//! The four hooks, and what they have in common.
#![forbid(unsafe_code)]

use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ::tokio::runtime::{Builder, TaskMeta};
use ::tokio::task::Id;

use super::DETACHED;
use super::places::Places;
use super::table::TaskTable;
use crate::context::Context;
use crate::raw::{self, Execution, Live};
use crate::util::panic;

/// Makes the runtimes that `builder` builds carry contexts: each `tokio::spawn` captures what the
/// spawner's context hands down, and each poll of the task runs in the task's own context.
///
/// Sets `on_task_spawn`, `on_before_task_poll`, `on_after_task_poll` and `on_task_terminate`. Hooks
/// of these kinds that the builder has already are **replaced**, as tokio does it, and never
/// called; those that are set later replace these. Give such hooks to the [`Carry`] instead. [The
/// page of the module](crate::tokio) says what is carried, and what is not.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context_var;
///
/// context_var! { static TENANT: &'static str; }
///
/// let mut builder = tokio::runtime::Builder::new_current_thread();
/// heirloom::context::tokio::carry(&mut builder);
/// builder.build().unwrap().block_on(async {
///     TENANT.set("acme");
///     let child = tokio::spawn(async {
///         assert_eq!(TENANT.get(), Some("acme"));
///         TENANT.set("other");
///     });
///     child.await.unwrap();
///     assert_eq!(TENANT.get(), Some("acme"));
/// });
/// ```
#[doc(alias = "instrument")]
pub fn carry(builder: &mut Builder) -> Carry {
    let shared = Arc::new(HookState {
        tasks: TaskTable::new(),
        places: Places::new(DETACHED.map(String::from).to_vec()),
        on_spawn: OnceLock::new(),
        before_poll: OnceLock::new(),
        after_poll: OnceLock::new(),
        on_terminate: OnceLock::new(),
    });
    let [on_spawn, before, after, on_terminate] = std::array::from_fn(|_| Arc::clone(&shared));
    builder
        .on_task_spawn(move |task| on_spawn.spawned(task))
        .on_before_task_poll(move |task| before.before(task))
        .on_after_task_poll(move |task| after.after(task))
        .on_task_terminate(move |task| on_terminate.terminated(task));
    Carry(shared)
}

/// What [`carry`] has set up on a builder, for all runtimes of that builder. It may be dropped.
///
/// Settings may be made before the runtime is built or later. They are for what is spawned and
/// polled from then on.
#[derive(Clone)]
pub struct Carry(Arc<HookState>);

type Hook = Box<dyn Fn(&TaskMeta<'_>) + Send + Sync>;

struct HookState {
    tasks: TaskTable<Live>,
    places: Places,
    on_spawn: OnceLock<Hook>,
    before_poll: OnceLock<Hook>,
    after_poll: OnceLock<Hook>,
    on_terminate: OnceLock<Hook>,
}

impl Carry {
    /// Tasks that code of these crates spawns start from the root: the empty context, without a
    /// deadline. Replaces the list, which is [`DETACHED`] at first.
    ///
    /// A name is that of the folder of the crate's sources, without a version: that of the package.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::tokio::{DETACHED, carry};
    ///
    /// let mut builder = tokio::runtime::Builder::new_current_thread();
    /// carry(&mut builder).detached(DETACHED.into_iter().chain(["deadpool", "bb8"]));
    /// ```
    pub fn detached<I>(&self, crates: I) -> &Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.0.places.set(crates.into_iter().map(Into::into).collect());
        self
    }

    /// A hook like tokio's `on_task_spawn`. It runs on the spawner's thread in the spawner's
    /// context, before the context is captured.
    ///
    /// # Panics
    /// If there is one already. The hook's own panic reaches the spawner, and the task never runs:
    /// so tokio has it.
    #[track_caller]
    pub fn on_task_spawn(&self, hook: impl Fn(&TaskMeta<'_>) + Send + Sync + 'static) -> &Self {
        self.chain(&self.0.on_spawn, Box::new(hook))
    }

    /// A hook like tokio's `on_before_task_poll`. It runs in the context of the task.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use heirloom::context_var;
    ///
    /// context_var! { static TENANT: usize; }
    /// static POLLS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    ///
    /// let mut builder = tokio::runtime::Builder::new_current_thread();
    /// heirloom::context::tokio::carry(&mut builder).on_before_task_poll(|_| {
    ///     TENANT.get().map(|tenant| POLLS[tenant].fetch_add(1, Relaxed));
    /// });
    /// builder.build().unwrap().block_on(async {
    ///     TENANT.scope(1, || tokio::spawn(tokio::task::yield_now())).await.unwrap();
    /// });
    /// assert_eq!(POLLS[1].load(Relaxed), 2);
    /// ```
    ///
    /// # Panics
    /// If there is one already. The hook's own panic ends the worker: so tokio has it.
    #[track_caller]
    pub fn on_before_task_poll(&self, hook: impl Fn(&TaskMeta<'_>) + Send + Sync + 'static) -> &Self {
        self.chain(&self.0.before_poll, Box::new(hook))
    }

    /// A hook like tokio's `on_after_task_poll`. It runs in the context of the task.
    ///
    /// # Panics
    /// As [`on_before_task_poll`](Self::on_before_task_poll).
    #[track_caller]
    pub fn on_after_task_poll(&self, hook: impl Fn(&TaskMeta<'_>) + Send + Sync + 'static) -> &Self {
        self.chain(&self.0.after_poll, Box::new(hook))
    }

    /// A hook like tokio's `on_task_terminate`. It runs in the context of the task if the task ends
    /// in a poll or by `abort`. If it ends with the runtime, it runs in that of the thread that
    /// shuts down.
    ///
    /// # Panics
    /// If there is one already. Tokio catches the hook's own panic.
    #[track_caller]
    pub fn on_task_terminate(&self, hook: impl Fn(&TaskMeta<'_>) + Send + Sync + 'static) -> &Self {
        self.chain(&self.0.on_terminate, Box::new(hook))
    }

    /// How many tasks there are that were spawned and have not ended: as many as have a context.
    /// For looking at; tasks begin and end meanwhile.
    pub fn tasks(&self) -> usize {
        self.0.tasks.len()
    }

    #[track_caller]
    fn chain(&self, place: &OnceLock<Hook>, hook: Hook) -> &Self {
        if place.set(hook).is_err() {
            panic!("this `Carry` has a hook of that kind already: give it one closure that does both");
        }
        self
    }
}

impl fmt::Debug for Carry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carry").field("tasks", &self.tasks()).finish_non_exhaustive()
    }
}

impl HookState {
    #[inline]
    fn call(place: &OnceLock<Hook>, task: &TaskMeta<'_>) {
        if let Some(hook) = place.get() {
            hook(task);
        }
    }

    fn spawned(&self, task: &TaskMeta<'_>) {
        Self::call(&self.on_spawn, task);
        let live = if self.places.include(task.spawned_at()) { Live::empty() } else { handed_down() };
        if let Err(live) = self.tasks.insert(number(task.id()), live) {
            // The runtime has shut down, and the task with it.
            panic::swallow(|| drop(live));
        }
    }

    #[inline]
    fn before(&self, task: &TaskMeta<'_>) {
        self.tasks.enter(number(task.id()), this_thread(), raw::swap);
        if let Some(hook) = self.before_poll.get() {
            // After a panic of the hook tokio calls neither the poll nor the hook after it.
            let leave = Leave(self, task);
            hook(task);
            mem::forget(leave);
        }
    }

    #[inline]
    fn after(&self, task: &TaskMeta<'_>) {
        if let Some(hook) = self.after_poll.get() {
            let leave = Leave(self, task);
            hook(task);
            mem::forget(leave);
        }
        self.leave(task);
    }

    #[inline]
    fn leave(&self, task: &TaskMeta<'_>) {
        if let Some(mut ended) = self.tasks.leave(number(task.id()), this_thread(), raw::swap) {
            end(&mut ended);
        }
    }

    fn terminated(&self, task: &TaskMeta<'_>) {
        if let Some(mut ended) = self.tasks.end(number(task.id()), this_thread()) {
            end(&mut ended);
        }
        Self::call(&self.on_terminate, task);
    }
}

impl Drop for HookState {
    fn drop(&mut self) {
        for mut left in self.tasks.drain() {
            end(&mut left);
        }
    }
}

/// Ends the poll by unwinding.
struct Leave<'a>(&'a HookState, &'a TaskMeta<'a>);

impl Drop for Leave<'_> {
    #[cold]
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

/// Drops a task's context. Mostly other tasks have handles of it, and no destructor runs.
#[inline]
fn end(live: &mut Live) {
    if let Some(last) = live.take_unique() {
        panic::swallow(|| drop(last));
    }
}

/// What the running code's context hands down to a task, with the deadline.
#[inline]
fn handed_down() -> Live {
    let context = panic::catch(Context::inherited).unwrap_or_else(|payload| {
        panic::discard(payload);
        Context::empty()
    });
    let mut live = Live::new(context);
    let mut execution = raw::execution();
    if execution != Execution::NONE {
        if let Some(limit) = execution.limit() {
            execution = execution.with_deadline(Instant::now().checked_add(limit));
            raw::set_execution(execution);
        }
        live.set_execution(execution.with_eager(false));
    }
    live
}

/// A number of this thread that no other living thread has; not zero.
#[inline]
fn this_thread() -> usize {
    thread_local! {
        static PLACE: u8 = const { 0 };
    }
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

/// The number that tokio's id is. Tokio does not give it away, but hashes it, and nothing else,
/// with the id; and prints it.
#[inline]
fn number(id: Id) -> u64 {
    #[derive(Default)]
    struct Written {
        number: u64,
        other: bool,
    }

    impl Hasher for Written {
        #[inline]
        fn write_u64(&mut self, number: u64) {
            self.other |= self.number != 0;
            self.number = number;
        }

        fn write(&mut self, _bytes: &[u8]) {
            self.other = true;
        }

        fn finish(&self) -> u64 {
            self.number
        }
    }

    #[cold]
    fn printed(id: Id) -> u64 {
        id.to_string().parse().expect("tokio prints an id as a number that is not zero")
    }

    let mut written = Written::default();
    id.hash(&mut written);
    if written.other || written.number == 0 { printed(id) } else { written.number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_id_is_the_one_that_tokio_prints() {
        let runtime = Builder::new_current_thread().build().unwrap();
        for _ in 0..100 {
            let id = runtime.block_on(async { ::tokio::spawn(async { ::tokio::task::id() }).await.unwrap() });
            assert_eq!(number(id).to_string(), id.to_string());
        }
    }
}
