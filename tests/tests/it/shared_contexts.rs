//! Values of a context that very many tasks share: when they are dropped, and what their
//! destructors spawn.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Wake, Waker};
use std::time::{Duration, Instant};

use heirloom::{Context, Handle, JoinHandle, Runtime, context_var, spawn, spawn_in, task};
use heirloom_tests::{Gate, PATIENCE, run, runtime, watchdog, with_runtime};

context_var! {
    static VALUE: Arc<OnDrop>;
    static OTHER: Arc<OnDrop>;
}

/// So many handles of a context that workers count them in batches.
const VERY_MANY: usize = 3_000;

/// Calls a function when it is dropped.
struct OnDrop(Option<Box<dyn FnOnce() + Send + Sync>>);

impl OnDrop {
    fn new(call: impl FnOnce() + Send + Sync + 'static) -> Arc<OnDrop> {
        Arc::new(OnDrop(Some(Box::new(call))))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.take().unwrap()();
    }
}

/// A tree of tasks of one context.
fn tree(depth: u32) -> JoinHandle<()> {
    spawn(async move {
        if depth > 0 {
            let (left, right) = (tree(depth - 1), tree(depth - 1));
            left.await.unwrap();
            right.await.unwrap();
        }
    })
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed().as_secs() < PATIENCE / 2, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_context_ends_with_a_tree_of_tasks_on_several_workers() {
    let (depth, rounds) = if cfg!(miri) { (4, 1) } else { (12, 20) };
    for workers in [1, 2, 4] {
        run(workers, move || async move {
            for _ in 0..rounds {
                let ended = Arc::new(AtomicBool::new(false));
                let end = ended.clone();
                let value = OnDrop::new(move || end.store(true, Ordering::SeqCst));
                let context = Context::empty().with_var(&VALUE, value);
                spawn_in(context, async move { tree(depth).await.unwrap() }).await.unwrap();
                wait_until("the value is dropped", || ended.load(Ordering::SeqCst));
            }
        });
    }
}

/// A waker that calls a function.
struct Calls<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        let call = self.0.lock().unwrap().take();
        call.unwrap()();
    }
}

/// Has a context end between two polls of the only worker, with `destructor`: when the context's
/// task has ended, the joiner's waker calls `first` and drops all other handles, and then the
/// worker gives its spare ones back.
fn end_between_two_polls(
    runtime: &Runtime,
    first: impl FnOnce() + Send + 'static,
    destructor: impl FnOnce() + Send + Sync + 'static,
) -> Pin<Box<JoinHandle<()>>> {
    let (gate, handles) = (Gate::new(), Arc::new(Mutex::new(Vec::new())));
    let (opened, made) = (gate.opened(), handles.clone());
    let context = Context::empty().with_var(&VALUE, OnDrop::new(destructor));
    let mut task = Box::pin(runtime.spawn_in(context, async move {
        opened.await;
        made.lock().unwrap().extend((0..VERY_MANY).map(|_| Context::current()));
    }));
    let call = move || {
        first();
        handles.lock().unwrap().clear();
    };
    let waker = Waker::from(Arc::new(Calls(Mutex::new(Some(call)))));
    assert!(task.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    gate.open();
    // Dropped, it would take the waker back.
    task
}

#[test]
fn what_a_destructor_between_two_polls_spawns_is_run() {
    with_runtime(1, |runtime| {
        let ran = Arc::new(AtomicBool::new(false));
        let runs = ran.clone();
        let _task = end_between_two_polls(
            runtime,
            || {},
            || {
                spawn(async move { runs.store(true, Ordering::SeqCst) }).detach();
            },
        );
        wait_until("a task that a destructor has spawned", || ran.load(Ordering::SeqCst));
    });
}

/// A destructor between two polls runs a task of another context, which very many tasks share. The
/// worker finds no further task, and keeps nothing of that context.
#[test]
fn a_destructor_between_two_polls_leaves_no_spare_handles() {
    with_runtime(1, |runtime| {
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let value = OnDrop::new(move || end.store(true, Ordering::SeqCst));
        let context = Context::empty().with_var(&OTHER, value);
        let others = vec![context.clone(); VERY_MANY];
        let ran = Arc::new(AtomicBool::new(false));
        let runs = ran.clone();
        let _task = end_between_two_polls(
            runtime,
            || {},
            move || {
                let forks = async { drop([(); 3].map(|()| Context::current())) };
                task::Builder::new().start_inline(true).context(context).spawn(forks).detach();
                runs.store(true, Ordering::SeqCst);
            },
        );
        wait_until("the destructor runs", || ran.load(Ordering::SeqCst));
        runtime.wait_until_idle();
        drop(others);
        wait_until("the other context ends", || ended.load(Ordering::SeqCst));
    });
}

/// The worker that gives its spare handles back as its runtime ends still belongs to the runtime: a
/// destructor may end the runtime, too, and what it spawns is cancelled.
#[test]
fn a_destructor_in_a_worker_that_ends_finds_its_runtime() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let (ends, gate, inner) = (Gate::new(), Gate::new(), runtime.handle().clone());
        let (begun, opened) = (ends.clone(), gate.clone());
        let ran = Arc::new(AtomicBool::new(false));
        let (runs, found) = (ran.clone(), Arc::new(AtomicBool::new(false)));
        let finds = found.clone();
        let wait = move || {
            begun.open();
            opened.wait();
            // Meanwhile the runtime is told to end.
            std::thread::sleep(Duration::from_millis(50));
        };
        let _task = end_between_two_polls(&runtime, wait, move || {
            finds.store(Handle::current().is_some(), Ordering::SeqCst);
            spawn(async move { runs.store(true, Ordering::SeqCst) }).detach();
            inner.shutdown(Duration::ZERO);
        });
        ends.wait();
        gate.open();
        runtime.shutdown(Duration::ZERO);
        assert!(found.load(Ordering::SeqCst) && !ran.load(Ordering::SeqCst));
    });
}
