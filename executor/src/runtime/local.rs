//! Local sets: tasks that stay on their thread.
//!
//! A set is the scheduler of its tasks ([`LocalScheduler`]). Its *runners* are the futures of
//! `run_until` that are being awaited; its queue holds the woken tasks. The set is *current* on its
//! thread while one of its runners is polled.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use futures_task::{LocalFutureObj, LocalSpawn, SpawnError};

use crate::eager::inline;
use crate::instrument::hooks::Wrapper;
use crate::runtime::end_of_eager_call;
use crate::runtime::handle::{parts, with_current_or_configured};
use crate::scheduler::shared::{ListedTasks, Shared, Workers};
use crate::slab::{self, Heap, Owner, SPARE, STOCK};
use crate::task::Schedule;
use crate::task::cell::{self, Begin, Header, OnSpawn, Parts, Runnable, Spawned, TaskRef};
use crate::task::join_handle::{CancelReason, JoinHandle};
use crate::util::panic::swallow;
use crate::util::room;
use crate::util::sync::{Mutex, MutexGuard, lock};
use crate::util::waker_set::WakerSet;

/// Polls of tasks in one poll of a runner. After that, other futures on the thread run.
///
/// The value is that of `scheduler::budget::LOOK_AROUND`.
const BATCH: usize = 61;

/// A set of tasks that are not `Send`: all of them run on the thread that has the set, while the
/// set is [run](Self::run_until).
///
/// The rules are those of other tasks: [`spawn_local`](Self::spawn_local) inherits, and dropping a
/// join handle cancels. Dropping the set cancels all its tasks, before the drop returns; tasks that
/// their destructors spawn into it are cancelled too.
///
/// The tasks belong to the set: no runtime counts them in its [`stats`](crate::Runtime::stats) or
/// ends them. Still, what a runtime does around its own tasks ([ambient
/// states](crate::runtime::Builder::ambient), [hooks](crate::runtime::Builder::hooks), the [panic
/// policy](crate::runtime::Builder::on_panic)) it also does around local tasks that are spawned and
/// run inside its `block_on` or inside a task of it. Outside of any runtime the default one does,
/// if it was [configured](crate::runtime::Builder::build_default). If the first such runtime is
/// [inspected](crate::runtime::Builder::inspect), its [dumps](crate::Runtime::dump) list the set's
/// tasks.
///
/// When a set has no task left to poll, it returns the memory of ended tasks except for 2 MiB; when
/// it is not run, it returns nearly all of it. Its tasks [lie in pages](crate::Runtime#memory), as
/// those of a runtime do.
///
/// A set is not a future: it is run by [`run_until`](Self::run_until) or
/// [`block_on`](Self::block_on).
///
/// ```
/// use std::rc::Rc;
///
/// let set = heirloom::task::LocalSet::new();
/// let shared = Rc::new(5);
/// let value = set.block_on(async {
///     let theirs = Rc::clone(&shared);
///     heirloom::spawn_local(async move { *theirs + 1 }).await.unwrap()
/// });
/// assert_eq!(value, 6);
/// ```
#[doc(alias = "LocalExecutor")]
#[doc(alias = "LocalPool")]
pub struct LocalSet {
    shared: Arc<LocalShared>,
    /// `None` only while the set is dropped.
    owner: Option<Owner>,
    /// The set is being dropped: what is spawned is cancelled.
    ending: Cell<bool>,
    /// Polls of runners that are in progress, inside one another.
    depth: Cell<usize>,
    /// The heap is at rest.
    rests: Cell<bool>,
    /// The tasks stay on this thread.
    not_send: PhantomData<*const ()>,
}

// A panic inside a set is caught there, and leaves no state half done.
impl std::panic::UnwindSafe for LocalSet {}
impl std::panic::RefUnwindSafe for LocalSet {}

struct LocalShared {
    queue: Mutex<LocalQueue>,
    heap: Heap,
    /// The first runtime inside of which a task was spawned, if that one is inspected or has hooks:
    /// its dumps list the tasks, and its hooks are told of wake-ups.
    seen_by: OnceLock<Weak<Shared>>,
}

impl ListedTasks for LocalShared {
    fn heap(&self) -> &Heap {
        &self.heap
    }
}

#[derive(Default)]
struct LocalQueue {
    tasks: VecDeque<Runnable>,
    /// The wakers of all runners.
    runners: WakerSet,
    /// The set is gone, and all its tasks have ended.
    dead: bool,
}

impl LocalQueue {
    fn pop(&mut self) -> Option<Runnable> {
        let task = self.tasks.pop_front();
        room::trim(&mut self.tasks);
        task
    }
}

impl LocalShared {
    fn lock(&self) -> MutexGuard<'_, LocalQueue> {
        lock(&self.queue)
    }
}

/// The scheduler of a set's tasks.
struct LocalScheduler;

impl Schedule for LocalScheduler {
    type Shared = LocalShared;

    fn schedule(shared: &LocalShared, task: Runnable) {
        LocalScheduler::launch(shared, task);
    }

    unsafe fn wake(task: NonNull<Header>) {
        // SAFETY: the reference of the wake-up is the runnable's: that is the contract of `wake`.
        // The thread of the set may end the task, and drop the set, before `launch` returns. `keep`
        // is a second reference, which keeps the page, and so the shared part that `launch`
        // borrows, until the end of this block.
        unsafe {
            let task = Runnable::from_raw(task);
            let keep = task.reference();
            LocalScheduler::launch(slab::shared_of(keep.as_raw().cast()), task);
        }
    }

    unsafe fn wake_and_tell(task: NonNull<Header>) {
        // SAFETY: the reference of the wake-up keeps the task, and its page, which keeps the shared
        // part, until `wake` gives the reference up.
        unsafe {
            let shared: *const LocalShared = slab::shared_of(task.cast());
            if let Some(runtime) = (*shared).seen_by.get().and_then(Weak::upgrade) {
                runtime.tell_of_wake_up(task);
            }
            Self::wake(task);
        }
    }

    fn launch(shared: &LocalShared, task: Runnable) {
        let mut queue = shared.lock();
        if queue.dead {
            drop(queue);
            // The task has ended, so this drops no future.
            return drop(task);
        }
        queue.tasks.push_back(task);
        let wakers = queue.runners.take();
        drop(queue);
        // A waker that panics must neither keep the others from being called, nor panic in the code
        // that wakes the task.
        wakers.into_iter().for_each(|waker| swallow(|| waker.wake()));
    }

    /// The policy is that of the runtime in which the set is run.
    fn aborts_on_panic(_: &LocalShared) -> bool {
        with_current_or_configured(|runtime| runtime.is_some_and(|runtime| Workers::aborts_on_panic(runtime)))
    }

    #[cfg(debug_assertions)]
    fn reports_mistakes(_: &LocalShared) -> bool {
        with_current_or_configured(|runtime| runtime.is_none_or(|runtime| Workers::reports_mistakes(runtime)))
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: `CURRENT` is set only while a function further up on this thread borrows the set
        // and holds a `CurrentSetGuard`. The task has ended, and its page holds a `LocalShared`:
        // that is the contract of `free`.
        unsafe {
            let current = CURRENT.get().as_ref();
            let own = current.and_then(|set| Some((&set.shared.heap, set.owner.as_ref()?)));
            slab::free::<LocalShared>(task.cast(), own);
        }
    }
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static CURRENT: Cell<*const LocalSet> = const { Cell::new(ptr::null()) };
}

/// A set is current, and its heap is in use, until this is dropped.
struct PollGuard<'a> {
    set: &'a LocalSet,
    _current: CurrentSetGuard,
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        self.set.depth.set(self.set.depth.get() - 1);
        // While the set is run it keeps this many empty pages, so that a load in bursts finds its
        // pages again.
        self.set.rest_heap(SPARE);
    }
}

/// A set is current until this is dropped; then the one that was current before.
struct CurrentSetGuard(*const LocalSet);

impl CurrentSetGuard {
    fn new(set: &LocalSet) -> CurrentSetGuard {
        CurrentSetGuard(CURRENT.replace(set))
    }
}

impl Drop for CurrentSetGuard {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl LocalSet {
    /// An empty set.
    pub fn new() -> LocalSet {
        let shared =
            Arc::new(LocalShared { queue: Mutex::default(), heap: Heap::new(), seen_by: OnceLock::new() });
        let owner = Some(shared.heap.acquire());
        LocalSet {
            owner,
            ending: Cell::new(false),
            depth: Cell::new(0),
            rests: Cell::new(false),
            shared,
            not_send: PhantomData,
        }
    }

    /// The owner of the heap, which is in use from now on.
    fn owner(&self) -> &Owner {
        let owner = self.owner.as_ref().expect("taken by the drop only");
        if self.rests.replace(false) {
            self.shared.heap.resume(owner);
        }
        owner
    }

    fn begin_poll(&self) -> PollGuard<'_> {
        self.owner();
        self.depth.set(self.depth.get() + 1);
        PollGuard { set: self, _current: CurrentSetGuard::new(self) }
    }

    /// Puts the heap at rest with `keep` empty pages, unless it is in use or has no more than
    /// these.
    fn rest_heap(&self, keep: usize) {
        if self.depth.get() == 0 && self.shared.heap.exceeds(keep) {
            let owner = self.owner();
            self.rests.set(true);
            // SAFETY: the owner came from `own` of this heap, in `new`; the heap lives in `shared`,
            // which `self` keeps.
            unsafe { self.shared.heap.rest(owner, keep) }
        }
    }

    /// Spawns a task into the set. It runs when the set is run.
    #[track_caller]
    pub fn spawn_local<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        self.spawn_with(future, parts(Location::caller(), heirloom_context::Context::inherited()))
    }

    fn spawn_with<F>(&self, future: F, mut parts: Parts) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        parts.kind = heirloom_context::CrossingKind::Local;
        let runtime =
            with_current_or_configured(|runtime| runtime.filter(|it| it.given.wraps_tasks()).cloned());
        let Some(runtime) = runtime else { return self.start_task(future, parts, &()) };
        self.shared.seen_by.get_or_init(|| {
            if runtime.given.inspected {
                let shared = Arc::downgrade(&self.shared);
                runtime.list(shared);
            }
            Arc::downgrade(&runtime)
        });
        runtime.with_hooks(|hooks| {
            let wrapper = Wrapper::new(&runtime.given, hooks);
            self.start_task(future, parts, &wrapper)
        })
    }

    fn start_task<F, O>(&self, future: F, parts: Parts, on_spawn: &O) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        O: OnSpawn<F, Stored: 'static>,
    {
        let begin = parts.begin;
        // SAFETY: the slot has this class and comes from this set's heap. The set is not `Send`,
        // and runs, cancels and shuts down its tasks on this thread only. Other threads put
        // runnables into the queue; a runnable that another thread drops, because the set is dead,
        // belongs to a task that has ended. The join handle is `Send` only if the output is.
        let Spawned { runnable, join } = unsafe {
            let slot = self.shared.heap.take(self.owner(), cell::class::<O::Stored>(), &self.shared);
            cell::spawn::<F, LocalScheduler, O>(slot, future, parts, on_spawn)
        };
        on_spawn.spawned(&runnable);
        if self.ending.get() {
            // Dropping a runnable cancels its task.
            drop(runnable);
        } else if begin == Begin::Queued {
            LocalScheduler::launch(&self.shared, runnable);
        } else {
            let _poll = self.begin_poll();
            inline::start_task(runnable, begin, |task| LocalScheduler::launch(&self.shared, task));
        }
        join
    }

    /// Runs the set's tasks while `future` is awaited, and returns the output of `future`. Inside,
    /// the function [`spawn_local`] spawns into this set.
    ///
    /// Cancel-safe: the tasks stay in the set.
    pub async fn run_until<F: Future>(&self, future: F) -> F::Output {
        // Dropped last: it leaves the heap at rest.
        let mut runner = Runner { set: self, key: None };
        let mut future = pin!(RootFuture { future: Some(future), set: self });
        poll_fn(|cx| {
            let _poll = self.begin_poll();
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            self.poll_tasks(&mut runner, cx);
            Poll::Pending
        })
        .await
    }

    /// [`run_until`](Self::run_until) on the calling thread; see [`block_on`](crate::block_on).
    ///
    /// # Panics
    /// On a worker thread.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        crate::block_on(self.run_until(future))
    }

    fn poll_tasks(&self, runner: &mut Runner<'_>, cx: &mut Context<'_>) {
        // The waker is registered before the queue is read: a task that is pushed afterwards finds
        // the waker.
        runner.register(cx.waker());
        for _ in 0..BATCH {
            let Some(task) = self.shared.lock().pop() else { return };
            if let Some(woken) = task.run() {
                self.shared.lock().tasks.push_back(woken);
            }
        }
        // The queue may hold more; other futures run first.
        cx.waker().wake_by_ref();
    }
}

pin_project_lite::pin_project! {
    /// The future that a runner awaits. The set is current while it is dropped: its destructors may
    /// spawn there.
    struct RootFuture<'a, F> {
        // `None` only while it is being dropped.
        #[pin]
        future: Option<F>,
        set: &'a LocalSet,
    }

    impl<F> PinnedDrop for RootFuture<'_, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _poll = this.set.begin_poll();
            this.future.set(None);
        }
    }
}

impl<F: Future> RootFuture<'_, F> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.as_pin_mut().expect("taken by the drop only").poll(cx)
    }
}

/// A future of `run_until`, with its waker under `key`.
struct Runner<'a> {
    set: &'a LocalSet,
    key: Option<usize>,
}

impl Runner<'_> {
    fn register(&mut self, waker: &Waker) {
        // A comparison runs no code of the waker, so it may be made under the lock.
        if self.set.shared.lock().runners.has(self.key, waker) {
            return;
        }
        let waker = waker.clone();
        let former = self.set.shared.lock().runners.register(&mut self.key, waker);
        drop(former);
    }
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.set.shared.lock().runners.remove(key);
            drop(waker);
        }
        self.set.rest_heap(STOCK);
    }
}

impl Default for LocalSet {
    fn default() -> Self {
        LocalSet::new()
    }
}

impl Drop for LocalSet {
    fn drop(&mut self) {
        self.ending.set(true);
        {
            // What destructors of tasks and wakers spawn here is cancelled.
            let _poll = self.begin_poll();
            for task in TaskRef::all(&self.shared.heap) {
                task.shut_down(CancelReason::RuntimeGone);
            }
            let mut queue = self.shared.lock();
            queue.dead = true;
            let rest = (std::mem::take(&mut queue.tasks), queue.runners.take());
            drop(queue);
            drop(rest);
        }
        // SAFETY: the owner came from `own` of this heap, in `new`; the heap lives in `shared`,
        // which `self` keeps. All tasks that still have a slot have ended: they were shut down
        // above, and later ones when they were spawned.
        unsafe { self.shared.heap.end(self.owner.take()) }
    }
}

impl fmt::Debug for LocalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSet")
            .field("tasks", &TaskRef::all(&self.shared.heap).len())
            .finish_non_exhaustive()
    }
}

/// For generic code. The tasks are detached.
impl LocalSpawn for LocalSet {
    #[inline]
    fn spawn_local_obj(&self, future: LocalFutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.spawn_local(future).detach();
        Ok(())
    }
}

/// Spawns a task that stays on this thread, into the [`LocalSet`] that is being run here. The rules
/// are those of [`spawn`](crate::spawn()).
///
/// # Panics
/// Outside of a local set, unless it is [run eagerly](crate::run_eagerly).
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    spawn_into_current(future, parts(Location::caller(), heirloom_context::Context::inherited()))
}

#[track_caller]
pub(crate) fn spawn_into_current<F>(future: F, parts: Parts) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    // SAFETY: set only while a function further up on this thread borrows the set and holds a
    // `CurrentSetGuard`.
    match unsafe { CURRENT.get().as_ref() } {
        Some(set) => set.spawn_with(future, parts),
        None if parts.begin == Begin::Driven => set_of_eager_call().spawn_with(future, parts),
        None => panic!("`spawn_local` must be called inside `LocalSet::run_until` or `LocalSet::block_on`"),
    }
}

/// Whether a set is being run on this thread.
#[cfg(all(feature = "stacks", not(loom)))]
pub(crate) fn is_run_here() -> bool {
    !CURRENT.get().is_null()
}

thread_local! {
    /// The set for local tasks that an eager call spawns outside of a set. It ends with the
    /// outermost call.
    static EAGER_CALL_SET: RefCell<Option<Rc<LocalSet>>> = const { RefCell::new(None) };
    // Without drop glue, so that a call without a set does not touch the other one.
    static HAS_EAGER_CALL_SET: Cell<bool> = const { Cell::new(false) };
}

fn set_of_eager_call() -> Rc<LocalSet> {
    HAS_EAGER_CALL_SET.set(true);
    let set = EAGER_CALL_SET.try_with(|set| Rc::clone(set.borrow_mut().get_or_insert_default()));
    // During thread teardown the set ends with the spawn.
    set.unwrap_or_default()
}

/// The outermost eager call of this thread, until it is dropped: then the call's local tasks are
/// cancelled.
pub(crate) struct EagerCallGuard;

impl Drop for EagerCallGuard {
    fn drop(&mut self) {
        if HAS_EAGER_CALL_SET.replace(false) {
            let set = EAGER_CALL_SET.try_with(|set| set.borrow_mut().take());
            drop(set);
        }
        end_of_eager_call();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A queue must not keep the memory of its longest burst; as in `blocking::tests`.
    #[test]
    fn a_burst_of_local_tasks_leaves_a_short_queue() {
        let burst = if cfg!(miri) { 3_000 } else { 100_000 };
        let set = LocalSet::new();
        for _ in 0..burst {
            set.spawn_local(async {}).detach();
        }
        let room = || set.shared.lock().tasks.capacity();
        assert!(room() >= burst);
        set.block_on(set.spawn_local(async {})).unwrap();
        assert!(room() <= 1024, "room for {}", room());
    }
}
