//! Values of a context that very many tasks share: when they are dropped, and what their
//! destructors spawn.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use heirloom::{Context, JoinHandle, context_var, spawn, spawn_in};
use heirloom_tests::{Gate, PATIENCE, run, with_runtime};

context_var! {
    static VALUE: Arc<Spawns>;
}

/// Spawns a task when it is dropped, which counts itself.
struct Spawns(Arc<AtomicUsize>);

impl Drop for Spawns {
    fn drop(&mut self) {
        let ran = Arc::clone(&self.0);
        spawn(async move { ran.fetch_add(1, Ordering::SeqCst) }).detach();
    }
}

fn context(ran: &Arc<AtomicUsize>) -> Context {
    Context::empty().with_var(&VALUE, Arc::new(Spawns(ran.clone())))
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
                let value = Arc::new(Spawns(Arc::default()));
                let weak = Arc::downgrade(&value);
                let context = Context::empty().with_var(&VALUE, value);
                spawn_in(context, async move { tree(depth).await.unwrap() }).await.unwrap();
                wait_until("the value is dropped", || weak.strong_count() == 0);
            }
        });
    }
}

/// A waker that drops what it holds.
struct Drops<T>(Mutex<Option<T>>);

impl<T: Send> Wake for Drops<T> {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

/// The context ends between two polls of a worker: when its task has ended, the joiner's waker
/// drops all other handles, and then the worker gives its spare ones back.
#[test]
fn what_a_destructor_between_two_polls_spawns_is_run() {
    with_runtime(1, |runtime| {
        let (ran, gate) = (Arc::<AtomicUsize>::default(), Gate::new());
        let handles = Arc::new(Drops(Mutex::new(None)));
        let (inside, opened) = (handles.clone(), gate.clone());
        let task = runtime.spawn_in(context(&ran), async move {
            opened.opened().await;
            *inside.0.lock().unwrap() = Some(Vec::from_iter((0..3_000).map(|_| Context::current())));
        });
        let mut task = pin!(task);
        let waker = Waker::from(handles);
        assert!(task.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        gate.open();
        wait_until("a task that a destructor has spawned", || ran.load(Ordering::SeqCst) == 1);
        assert!(matches!(task.poll(&mut TaskContext::from_waker(Waker::noop())), Poll::Ready(Ok(()))));
    });
}
