//! Runtimes, sets and handles that are in each other's way.

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use heirloom::runtime::Hooks;
use heirloom::task::LocalSet;
use heirloom::{Context, Runtime, context_var, sleep, spawn, task};
use heirloom_tests::{
    Gate, Log, OnDrop, PATIENCE, Probe, Step, idle, quiet_panic, runtime, wait_until, watchdog,
};

#[test]
fn a_long_poll_after_a_timer_does_not_delay_the_next_timer() {
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        // The first task blocks its worker once its timer has fired; the second one's timer is due
        // meanwhile.
        let (entered, inside) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let blocked = runtime.spawn(async move {
            sleep(Duration::from_millis(20)).await;
            entered.send(()).unwrap();
            released.recv().unwrap();
        });
        let second = runtime.spawn(async move { sleep(Duration::from_millis(60)).await });
        inside.recv().unwrap();
        runtime.block_on(second).unwrap();
        release.send(()).unwrap();
        runtime.block_on(blocked).unwrap();
    });
}

#[test]
fn two_runtimes_that_own_each_other_may_be_dropped_by_a_task() {
    watchdog(PATIENCE, || {
        let (a, b) = (runtime(1), runtime(1));
        let (of_a, owner) = (a.handle().clone(), b.handle().clone());
        let probe = Arc::new(());
        let kept = Arc::clone(&probe);
        owner
            .spawn(async move {
                let _a = (a, kept);
                pending::<()>().await
            })
            .detach();
        of_a.spawn(async move { drop(b) }).detach();
        while Arc::strong_count(&probe) > 1 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_destructor_run_by_a_task_that_drops_a_runtime_may_not_block_either() {
    struct Blocks(heirloom::Handle, std::sync::mpsc::Sender<bool>);
    impl Drop for Blocks {
        fn drop(&mut self) {
            let handle = self.0.clone();
            let refused =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.block_on(async {}))).is_err();
            self.1.send(refused).unwrap();
        }
    }
    watchdog(PATIENCE, || {
        let (inner, outer) = (runtime(1), runtime(1));
        let (send, receive) = std::sync::mpsc::channel();
        let blocks = Blocks(inner.handle().clone(), send);
        inner
            .spawn(async move {
                let _blocks = blocks;
                pending::<()>().await
            })
            .detach();
        inner.wait_until_idle();
        outer.block_on(outer.spawn(async move { drop(inner) })).unwrap();
        assert!(receive.recv().unwrap(), "it would have blocked a worker");
    });
}

#[test]
fn a_runtime_that_has_ended_is_idle() {
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        let handle = runtime.handle().clone();
        drop(runtime);
        handle.wait_until_idle();
    });
}

#[test]
fn a_blocking_closure_may_neither_wait_for_its_runtime_nor_hang_ending_it() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let handle = runtime.handle().clone();
        let waits = runtime.spawn_blocking(move || handle.wait_until_idle());
        let error = runtime.block_on(waits).unwrap_err();
        assert!(error.panic_message().unwrap().contains("waits for itself"));

        let owner = runtime.handle().clone();
        let ends = owner.spawn_blocking(move || runtime.shutdown(Duration::MAX).still_running().len());
        // Its own closure is all that is left.
        assert_eq!(heirloom::block_on(ends).unwrap(), 1);
    });
}

#[test]
fn several_may_run_one_local_set_at_once() {
    watchdog(PATIENCE, || {
        let set = LocalSet::new();
        let (send_first, first) = futures::channel::oneshot::channel::<u32>();
        let (send_second, second) = futures::channel::oneshot::channel::<u32>();
        let task = set.spawn_local(async move { first.await.unwrap() });
        heirloom::block_on(async {
            let mut both = FuturesUnordered::new();
            both.push(Box::pin(set.run_until(async { task.await.unwrap() }))
                as std::pin::Pin<Box<dyn Future<Output = u32>>>);
            both.push(Box::pin(set.run_until(async { second.await.unwrap() })));
            assert!(futures::poll!(both.next()).is_pending());
            send_second.send(2).unwrap();
            assert_eq!(both.next().await, Some(2));
            let other = spawn(async move { send_first.send(1).unwrap() });
            assert_eq!(both.next().await, Some(1));
            other.await.unwrap();
        });
    });
}

/// Panics when its last waker goes.
struct Bomb(AtomicUsize);

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(self.0.load(Ordering::Relaxed) == 0, "a waker that panics when it goes");
    }
}

#[test]
fn a_waker_that_panics_when_dropped_does_not_lose_a_cancellation() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let (probe, watch) = Probe::new([Step::Wait]);
        let mut handle = runtime.spawn(probe);
        let waker = Waker::from(Arc::new(Bomb(AtomicUsize::new(1))));
        let polled = std::pin::Pin::new(&mut handle).poll(&mut std::task::Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Pending));
        drop(waker);
        let begun = Instant::now();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(handle))).is_err());
        while watch.drops() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "the cancellation was lost");
            std::thread::yield_now();
        }
        runtime.wait_until_idle();
        assert_eq!(runtime.stats().tasks, 0);
    });
}

/// Hooks whose destructor panics.
struct Unhooked;

impl Hooks for Unhooked {}

impl Drop for Unhooked {
    fn drop(&mut self) {
        quiet_panic("hooks that panic when they go");
    }
}

/// A runtime without threads any more, kept by one task that is kept by a waker.
fn kept_by_a_waker() -> Waker {
    let runtime = Runtime::builder().workers(1).hooks(Arc::new(Unhooked)).build().unwrap();
    let place = Arc::new(Mutex::new(None));
    let waker = Arc::clone(&place);
    let waiting = poll_fn(move |cx| {
        *waker.lock().unwrap() = Some(cx.waker().clone());
        Poll::<()>::Pending
    });
    runtime.spawn(waiting).detach();
    runtime.wait_until_idle();
    drop(runtime);
    let waker = place.lock().unwrap().take();
    waker.unwrap()
}

#[test]
fn what_a_runtime_leaves_behind_may_panic_in_a_wakers_drop() {
    watchdog(PATIENCE, || {
        let waker = kept_by_a_waker();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(waker))).is_ok());
    });
}

#[test]
fn what_a_runtime_leaves_behind_harms_no_worker_of_another() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let (release, released) = futures::channel::oneshot::channel::<()>();
        let mut joined = runtime.spawn(released);
        // The last that is left of the other runtime goes when this one's worker tells the joiner.
        let waker = kept_by_a_waker();
        let polled = std::pin::Pin::new(&mut joined).poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(waker);
        release.send(()).unwrap();
        // From here, not from the worker: the lone worker must still be there to take it.
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
        assert!(runtime.block_on(joined).unwrap().is_ok());
    });
}

thread_local! {
    static SET: RefCell<Option<LocalSet>> = const { RefCell::new(None) };
}

/// Drops this thread's set.
struct DropsTheSet;

impl Wake for DropsTheSet {
    fn wake(self: Arc<Self>) {
        drop(SET.take());
    }
}

#[test]
fn a_set_may_be_dropped_by_the_waker_that_one_of_its_tasks_wakes() {
    watchdog(PATIENCE, || {
        let set = LocalSet::new();
        let (probe, watch) = Probe::new([Step::Wait]);
        let handle = set.spawn_local(probe);
        {
            let mut run = Box::pin(set.run_until(pending::<()>()));
            let waker = Waker::from(Arc::new(DropsTheSet));
            assert!(run.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
            // The future that runs a set borrows it, and its drop removes its waker, unless it is
            // forgotten. (Not lost, for a leak checker.)
            static KEPT: AtomicUsize = AtomicUsize::new(0);
            KEPT.store((&raw const *run).addr(), Ordering::SeqCst);
            std::mem::forget(run);
        }
        SET.set(Some(set));
        handle.detach();
        watch.wake();
        assert!(SET.take().is_none(), "no waker was called");
        watch.assert_counts(1, 1);
    });
}

/// Calls a closure, once.
struct Calls(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        let call = self.0.lock().unwrap().take();
        if let Some(call) = call {
            call();
        }
    }
}

context_var! { static TENANT: u32; }

/// A task of a set waits for the first of two siblings in a runtime. When that ends, the second is
/// next, and the waker of the future that runs the set is called, which does the deed. Returns what
/// happened, in order.
fn a_set_waits_while_a_sibling_is_next(deed: impl FnOnce(Runtime) + Send + 'static) -> Vec<String> {
    let runtime = runtime(1);
    let handle = runtime.handle().clone();
    let (log, gates) = (Log::new(), [Gate::new(), Gate::new()]);
    let context = Context::empty().with_var(&TENANT, 7);
    let [first, second] = ["first", "second"].map(|name| {
        let gate = &gates[usize::from(name == "second")];
        let (opened, log) = (gate.opened(), log.clone());
        let end = OnDrop::new({
            let log = log.clone();
            move || log.push(format!("{name} dropped"))
        });
        task::Builder::new().name(name).context(context.clone()).on(&handle).spawn(async move {
            let _end = end;
            opened.await;
            log.push(format!("{name} polled, {:?}", TENANT.get()));
        })
    });
    idle(&runtime);
    let set = LocalSet::new();
    set.spawn_local(async move { drop(first.await) }).detach();
    let told = Gate::new();
    let calls = Arc::new(Calls(Mutex::new(Some(Box::new({
        let (log, told) = (log.clone(), told.clone());
        move || {
            let current = task::current().map(|task| task.name().map(str::to_owned));
            log.push(format!("told in {current:?}"));
            deed(runtime);
            log.push("done".to_owned());
            told.open();
        }
    })))));
    {
        let waker = Waker::from(calls);
        let mut run = std::pin::pin!(set.run_until(pending::<()>()));
        assert!(run.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        // The second goes to the queue, and the first into the next slot.
        handle
            .spawn(async move {
                gates[1].open();
                gates[0].open();
            })
            .detach();
        told.wait();
    }
    assert!(wait_until(|| second.is_finished()));
    log.take()
}

#[test]
fn the_thread_that_runs_a_set_is_told_outside_of_the_next_task() {
    watchdog(PATIENCE, || {
        let kept = Arc::new(Mutex::new(None));
        let keep = kept.clone();
        let log = a_set_waits_while_a_sibling_is_next(move |runtime| {
            TENANT.set(8);
            *keep.lock().unwrap() = Some(runtime);
        });
        let expected =
            ["first polled, Some(7)", "first dropped", "told in None", "done", "second polled, Some(7)"];
        assert_eq!(log[..5], expected);
    });
}

#[test]
fn the_thread_that_runs_a_set_may_end_the_runtime_that_wakes_it() {
    watchdog(PATIENCE, || {
        let log = a_set_waits_while_a_sibling_is_next(drop);
        let expected = ["first polled, Some(7)", "first dropped", "told in None", "second dropped", "done"];
        assert_eq!(log, expected);
    });
}
