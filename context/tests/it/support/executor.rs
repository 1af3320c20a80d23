//! Three executors behind one small interface: a queue on the calling thread, the same queue on
//! four threads, and tokio.
//!
//! None of them knows contexts. `spawn` does what any executor can do with the public interface: it
//! takes what a child inherits at the call and pins the future to it.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
#[cfg(not(miri))]
use std::sync::LazyLock;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::task::{Context as Poller, Poll, Wake, Waker};

use futures::FutureExt;
use futures::channel::oneshot;
use heirloom_context::{Context, ContextFutureExt};

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor to run a case on.
#[derive(Clone)]
pub(crate) enum Executor {
    /// One queue, run by the thread that waits for the root task.
    Queue(Arc<Queue>),
    /// The thread pool of `futures`, four threads: a task is polled by whichever takes it first.
    #[cfg(not(miri))]
    Pool(&'static futures::executor::ThreadPool),
    /// tokio's multi-thread runtime, four workers.
    #[cfg(not(miri))]
    Tokio(&'static tokio::runtime::Runtime),
}

// One of each for the whole binary: to start threads for every case would cost more than the cases.
#[cfg(not(miri))]
static POOL: LazyLock<futures::executor::ThreadPool> =
    LazyLock::new(|| futures::executor::ThreadPool::builder().pool_size(4).create().expect("a pool"));
#[cfg(not(miri))]
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().expect("a runtime")
});

/// The result of a spawned task. A panic of the task goes on in the awaiting task.
pub(crate) struct Handle<T> {
    result: oneshot::Receiver<std::thread::Result<T>>,
}

impl<T> Future for Handle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<T> {
        match std::task::ready!(self.result.poll_unpin(poller)).expect("the task was dropped by its executor")
        {
            Ok(output) => Poll::Ready(output),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Executor {
    /// Calls `case` with each executor in turn, each time on a thread with an empty root context.
    pub(crate) fn each(case: impl Fn(&Executor) + Sync) {
        for executor in Executor::all() {
            super::on_a_fresh_thread(|| case(&executor));
        }
    }

    fn all() -> Vec<Executor> {
        vec![
            Executor::Queue(Arc::default()),
            #[cfg(not(miri))]
            Executor::Pool(&POOL),
            #[cfg(not(miri))]
            Executor::Tokio(&RUNTIME),
        ]
    }

    /// Runs `future` as a task that starts from what a child of this thread inherits, and waits for
    /// it.
    pub(crate) fn run<F>(&self, future: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let handle = self.spawn(future);
        match self {
            Executor::Queue(queue) => queue.run_until(handle),
            #[cfg(not(miri))]
            _ => super::block_on(handle),
        }
    }

    /// A task that starts from what it inherits here and now.
    pub(crate) fn spawn<F>(&self, future: F) -> Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn_in(Context::inherited(), future)
    }

    /// A task that starts from `context`, taken as given.
    pub(crate) fn spawn_in<F>(&self, context: Context, future: F) -> Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn_plain(future.in_context(context))
    }

    /// A task without any adaptor: what it sets lands in the root context of the thread that
    /// happens to poll it.
    pub(crate) fn spawn_plain<F>(&self, future: F) -> Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (sender, result) = oneshot::channel();
        let job: Job = Box::pin(AssertUnwindSafe(future).catch_unwind().map(move |result| {
            // No task waits for one whose handle is gone.
            let _ = sender.send(result);
        }));
        match self {
            Executor::Queue(queue) => queue.push(job),
            #[cfg(not(miri))]
            Executor::Pool(pool) => pool.spawn_ok(job),
            #[cfg(not(miri))]
            Executor::Tokio(runtime) => drop(runtime.spawn(job)),
        }
        Handle { result }
    }

    /// What a blocking pool does: `f` on another thread, in a copy of what a child inherits here
    /// and now.
    pub(crate) fn spawn_blocking<R: Send + 'static>(
        &self,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> Handle<R> {
        let (sender, result) = oneshot::channel();
        let f = Context::inherited().wrap_once(f);
        std::thread::spawn(move || {
            let _ = sender.send(std::panic::catch_unwind(AssertUnwindSafe(f)));
        });
        Handle { result }
    }
}

/// Tasks that are ready, in order.
#[derive(Default)]
pub(crate) struct Queue {
    ready: Mutex<VecDeque<Arc<Task>>>,
    more: Condvar,
}

struct Task {
    job: Mutex<Option<Job>>,
    // The queue holds its tasks; the other way round would be a cycle.
    queue: Weak<Queue>,
}

impl Queue {
    fn push(self: &Arc<Self>, job: Job) {
        Arc::new(Task { job: Mutex::new(Some(job)), queue: Arc::downgrade(self) }).wake();
    }

    fn next(&self) -> Arc<Task> {
        let mut ready = self.ready.lock().unwrap();
        loop {
            if let Some(task) = ready.pop_front() {
                return task;
            }
            ready = self.more.wait(ready).unwrap();
        }
    }

    fn run_until<T>(&self, mut root: Handle<T>) -> T {
        loop {
            if let Poll::Ready(output) = root.poll_unpin(&mut Poller::from_waker(Waker::noop())) {
                return output;
            }
            self.next().step();
        }
    }
}

impl Task {
    fn step(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut slot = self.job.lock().unwrap();
        let Some(job) = slot.as_mut() else { return };
        if job.as_mut().poll(&mut Poller::from_waker(&waker)).is_ready() {
            let finished = slot.take();
            drop(slot);
            drop(finished);
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let Some(queue) = self.queue.upgrade() else { return };
        queue.ready.lock().unwrap().push_back(self);
        queue.more.notify_one();
    }
}
