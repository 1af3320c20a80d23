//! Tasks that stay on their thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_task::{LocalFutureObj, LocalSpawn, SpawnError};

use crate::eager::inline;
use crate::instrument::hooks::accompany;
use crate::runtime::end_of_eager_call;
use crate::runtime::handle::{parts, with_ruling};
use crate::scheduler::shared::Workers;
use crate::slab::{self, Heap, Owner, SPARE, STOCK};
use crate::task::Schedule;
use crate::task::cell::{self, Begin, Header, Parts, Runnable, Spawned, TaskRef};
use crate::task::join_handle::{CancelReason, JoinHandle};
use crate::util::panic::swallow;
use crate::util::room;
use crate::util::waker_set::WakerSet;

/// Polls in a row before the others on the thread get a turn.
///
/// As `scheduler::limits::LOOK_AROUND`.
const BATCH: usize = 61;

/// A set of tasks that are not `Send`: all of them run on the thread that has the set, while it is being
/// [run](Self::run_until).
///
/// The rules are those of other tasks: [`spawn_local`](Self::spawn_local) inherits, dropping a handle cancels. Dropping
/// the set cancels all its tasks, here and now; what their destructors spawn into it is cancelled
/// as well.
///
/// The tasks are the set's: no runtime counts them in its [`stats`](crate::Runtime::stats), lists them, or ends them. But what a
/// runtime does around its own tasks ([ambient states](crate::Builder::ambient), [hooks](crate::Builder::hooks),
/// the [panic policy](crate::Builder::on_panic)) it does around those that are spawned, and run, in its `block_on` or in a
/// task of it. Outside of any runtime the default one does, if it was
/// [configured](crate::Builder::build_default).
///
/// The memory of tasks that are over goes back when the set has polled what there was to poll, but
/// for 2 MiB; and but for little, when it is not being run. Its tasks [stand in
/// pages](crate::Runtime#memory), too.
///
/// A set is no future: it is run by [`run_until`](Self::run_until) or [`block_on`](Self::block_on).
///
/// ```
/// use std::rc::Rc;
///
/// let set = heirloom::LocalSet::new();
/// let shared = Rc::new(5);
/// let value = set.block_on(async {
///     let theirs = Rc::clone(&shared);
///     heirloom::spawn_local(async move { *theirs + 1 }).await.unwrap()
/// });
/// assert_eq!(value, 6);
/// ```
pub struct LocalSet {
    shared: Arc<Shared>,
    /// There until the set is dropped.
    owner: Option<Owner>,
    /// It is being dropped: what is spawned is cancelled.
    ending: Cell<bool>,
    /// Polls of it that are in progress, one in the other.
    depth: Cell<usize>,
    /// Its heap is at rest.
    rests: Cell<bool>,
    /// Its tasks are this thread's.
    not_send: PhantomData<*const ()>,
}

// Whatever panics inside a set is caught there; it sees no half-done state.
impl std::panic::UnwindSafe for LocalSet {}
impl std::panic::RefUnwindSafe for LocalSet {}

struct Shared {
    queue: Mutex<Queue>,
    heap: Heap,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Runnable>,
    /// Whoever runs the set; all of them, if several do.
    runners: WakerSet,
    /// The set is gone, and all its tasks are over.
    dead: bool,
}

impl Queue {
    fn pop(&mut self) -> Option<Runnable> {
        let task = self.tasks.pop_front();
        room::trim(&mut self.tasks);
        task
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No user code runs under this lock, so nothing is half done when it is poisoned.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scheduler of a set's tasks.
struct Local;

impl Schedule for Local {
    type Shared = Shared;

    fn schedule(shared: &Shared, task: Runnable) {
        Local::launch(shared, task);
    }

    unsafe fn wake(task: NonNull<Header>) {
        // SAFETY: says the caller. Whoever runs the set may end the task, and the set, while we are in here; so the task is
        // kept, and given up when nobody borrows what it keeps.
        unsafe {
            let task = Runnable::from_raw(task);
            let keep = task.reference();
            Local::launch(slab::shared_of(keep.as_raw().cast()), task);
        }
    }

    fn launch(shared: &Shared, task: Runnable) {
        let mut queue = shared.lock();
        if queue.dead {
            drop(queue);
            // The task is over, so this drops nothing of its own.
            return drop(task);
        }
        queue.tasks.push_back(task);
        let wakers = queue.runners.take();
        drop(queue);
        // One that panics must not keep the others, nor harm whoever wakes the task.
        wakers.into_iter().for_each(|waker| swallow(|| waker.wake()));
    }

    /// The policy is that of the runtime in which the set is run.
    fn panicked(_: &Shared) {
        with_ruling(|runtime| {
            if let Some(runtime) = runtime {
                Workers::panicked(runtime);
            }
        });
    }

    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: says the caller. The set is current while it is borrowed by `run_until` further up on this thread.
        unsafe {
            let current = CURRENT.get().as_ref();
            let mine = current.and_then(|set| Some((&set.shared.heap, set.owner.as_ref()?)));
            slab::free::<Shared>(task.cast(), mine);
        }
    }
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static CURRENT: Cell<*const LocalSet> = const { Cell::new(ptr::null()) };
}

/// A set is current, and the owner of its heap, until this is dropped.
struct Polled<'a> {
    set: &'a LocalSet,
    _entered: Entered,
}

impl Drop for Polled<'_> {
    fn drop(&mut self) {
        self.set.depth.set(self.set.depth.get() - 1);
        // So many empty pages stay while the set is run: a load in bursts finds its pages again.
        self.set.rest(SPARE);
    }
}

/// Puts back the set that was current before.
struct Entered(*const LocalSet);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl LocalSet {
    /// An empty set.
    pub fn new() -> LocalSet {
        let shared = Arc::new(Shared { queue: Mutex::default(), heap: Heap::new() });
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

    /// The owner of the heap.
    fn owner(&self) -> &Owner {
        let owner = self.owner.as_ref().expect("taken by the drop only");
        if self.rests.replace(false) {
            self.shared.heap.resume(owner);
        }
        owner
    }

    fn enter(&self) -> Polled<'_> {
        self.owner();
        self.depth.set(self.depth.get() + 1);
        Polled { set: self, _entered: Entered(CURRENT.replace(self)) }
    }

    /// Leaves the heap at rest, with so many empty pages, unless it is in use or not worth it.
    fn rest(&self, keep: usize) {
        if self.depth.get() == 0 && self.shared.heap.exceeds(keep) {
            let owner = self.owner();
            self.rests.set(true);
            // SAFETY: the owner is this heap's, which the shared part keeps.
            unsafe { self.shared.heap.rest(owner, keep) }
        }
    }

    /// Spawns a task into the set; it runs when the set does.
    #[track_caller]
    pub fn spawn_local<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        self.launch(future, parts(Location::caller(), heirloom_context::Context::inherited()))
    }

    fn launch<F>(&self, future: F, parts: Parts) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        let runtime = with_ruling(|runtime| runtime.filter(|it| it.given.accompanies()).cloned());
        let Some(runtime) = runtime else { return self.begin(future, parts, |_| {}) };
        runtime.with_given(|company| {
            let (accompanied, spawned) = accompany(company, future, &parts);
            self.begin(accompanied, parts, spawned)
        })
    }

    fn begin<F>(&self, future: F, parts: Parts, spawned: impl FnOnce(&Runnable)) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        let begin = parts.begin;
        // SAFETY: a slot of this class, from this set's heap. The set stays on this thread, and runs, cancels and shuts
        // its tasks down here alone. (Other threads may only put runnables into its queue; one that is dropped elsewhere,
        // once the set is dead, belongs to a task that is over.) The join handle is not `Send` unless the output is, and
        // that is moved to another thread only by a handle that is.
        let Spawned { runnable, join } = unsafe {
            let slot = self.shared.heap.take(self.owner(), cell::class::<F>(), &self.shared);
            cell::spawn::<F, Local>(slot, future, parts)
        };
        spawned(&runnable);
        if self.ending.get() {
            // Dropped, it is cancelled.
            drop(runnable);
        } else if begin == Begin::Queued {
            Local::launch(&self.shared, runnable);
        } else {
            let _polled = self.enter();
            inline::begin(runnable, begin, |task| Local::launch(&self.shared, task));
        }
        join
    }

    /// Runs the set's tasks while `future` is awaited, and returns its output. The free
    /// [`spawn_local`] works inside.
    ///
    /// Cancel-safe: tasks stay in the set.
    pub async fn run_until<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(Inside { future: Some(future), set: self });
        let mut runner = Runner { set: self, shared: &self.shared, key: None };
        poll_fn(|cx| {
            let _polled = self.enter();
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
        // First the waker, then the tasks: whoever pushes one that is not seen finds the waker.
        runner.register(cx.waker());
        for _ in 0..BATCH {
            let Some(task) = self.shared.lock().pop() else { return };
            if let Some(again) = task.run() {
                self.shared.lock().tasks.push_back(again);
            }
        }
        // There may be more; the others have a turn first.
        cx.waker().wake_by_ref();
    }
}

pin_project_lite::pin_project! {
    /// What a set is run for. It is dropped inside the set too: its destructors may spawn there.
    struct Inside<'a, F> {
        // `None` only while it is being dropped.
        #[pin]
        future: Option<F>,
        set: &'a LocalSet,
    }

    impl<F> PinnedDrop for Inside<'_, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = Entered(CURRENT.replace(*this.set));
            this.future.set(None);
        }
    }
}

impl<F: Future> Inside<'_, F> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.as_pin_mut().expect("taken by the drop only").poll(cx)
    }
}

/// One who runs a set, until it is dropped.
struct Runner<'a> {
    set: &'a LocalSet,
    shared: &'a Shared,
    key: Option<usize>,
}

impl Runner<'_> {
    fn register(&mut self, waker: &Waker) {
        // Comparing runs no code of the waker's.
        if self.shared.lock().runners.has(self.key, waker) {
            return;
        }
        let waker = waker.clone();
        let former = self.shared.lock().runners.register(&mut self.key, waker);
        drop(former);
    }
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.shared.lock().runners.remove(key);
            drop(waker);
        }
        self.set.rest(STOCK);
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
            // What destructors spawn here is refused; that of wakers too.
            let this: &LocalSet = self;
            let _entered = Entered(CURRENT.replace(this));
            for task in TaskRef::all(&self.shared.heap) {
                task.shut_down(CancelReason::RuntimeGone);
            }
            let mut queue = self.shared.lock();
            queue.dead = true;
            let rest = (std::mem::take(&mut queue.tasks), queue.runners.take());
            drop(queue);
            drop(rest);
        }
        // SAFETY: the owner is this heap's, which the shared part keeps. Whatever tasks are left are over.
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

/// For generic code. Tasks are detached.
impl LocalSpawn for LocalSet {
    fn spawn_local_obj(&self, future: LocalFutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.spawn_local(future).detach();
        Ok(())
    }
}

/// Spawns a task that stays on this thread, into the [`LocalSet`] that is being run here. The rules are those of
/// [`spawn`](crate::spawn()).
///
/// # Panics
/// Outside of a local set, unless it is [run eagerly](crate::run_eagerly).
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    launch_current(future, parts(Location::caller(), heirloom_context::Context::inherited()))
}

#[track_caller]
pub(crate) fn launch_current<F>(future: F, parts: Parts) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    // SAFETY: set while the set is borrowed by `run_until` further up on this thread.
    match unsafe { CURRENT.get().as_ref() } {
        Some(set) => set.launch(future, parts),
        None if parts.begin == Begin::Driven => of_call().launch(future, parts),
        None => panic!("`spawn_local` must be called inside `LocalSet::run_until` or `LocalSet::block_on`"),
    }
}

thread_local! {
    /// For what is run eagerly outside of a set. It ends with the call.
    static OF_CALL: RefCell<Option<Rc<LocalSet>>> = const { RefCell::new(None) };
    // Without drop glue, so that asking costs nothing.
    static HAS_SET: Cell<bool> = const { Cell::new(false) };
}

fn of_call() -> Rc<LocalSet> {
    HAS_SET.set(true);
    let known = OF_CALL.try_with(|set| Rc::clone(set.borrow_mut().get_or_insert_default()));
    // In a thread that is being torn down it ends with the spawn.
    known.unwrap_or_default()
}

/// The outermost eager call of this thread, until it is dropped: cancels what has not ended.
pub(crate) struct EagerCall;

impl Drop for EagerCall {
    fn drop(&mut self) {
        if HAS_SET.replace(false) {
            let set = OF_CALL.try_with(|set| set.borrow_mut().take());
            drop(set);
        }
        end_of_eager_call();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// As `blocking::tests::a_burst_of_closures_leaves_a_short_queue`.
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
