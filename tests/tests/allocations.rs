//! What is allocated, and that it is given back. A binary of its own, because it counts for the whole process; its
//! tests take turns.

use std::alloc::System;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use heirloom::context::{Ambient, Captured};
use heirloom::{
    Context, Hooks, Runtime, TaskMeta, context_var, run_eagerly, sleep, spawn, task, try_run_eagerly,
    wait_for, yield_now,
};
use heirloom_tests::{CountingWaker, Fault, PATIENCE, Probe, Step, poll_with, scaled, watchdog};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

context_var! {
    static NUMBER: u64;
}

const TASKS: usize = scaled(10_000);
const LONG: Duration = Duration::from_secs(3_600);

/// Runs the future as a task of a runtime with one worker twice, the first time to fill caches and queues, and tells how
/// often it allocated the second time, and by how many bytes it has grown.
fn measured<F: Future<Output = ()> + Send + 'static>(
    work: impl Fn() -> F + Send + 'static,
) -> (usize, isize) {
    measured_on(Runtime::builder(), work)
}

fn measured_on<F: Future<Output = ()> + Send + 'static>(
    builder: heirloom::Builder,
    work: impl Fn() -> F + Send + 'static,
) -> (usize, isize) {
    let _turn = turn();
    watchdog(PATIENCE, move || {
        let runtime = builder.workers(1).build().unwrap();
        let once = || {
            runtime.block_on(runtime.spawn(work())).unwrap();
            runtime.wait_until_idle();
        };
        once();
        once();
        let region = Region::new(ALLOCATOR);
        once();
        let change = region.change();
        let grown = change.bytes_allocated as isize - change.bytes_deallocated as isize;
        (change.allocations + change.reallocations, grown)
    })
}

#[test]
fn one_allocation_per_task_at_most() {
    // Spawned and awaited one by one.
    let (allocations, grown) = measured(|| async {
        for _ in 0..TASKS {
            spawn(async { yield_now().await }).await.unwrap();
        }
    });
    assert!(allocations <= TASKS + 50, "{allocations} allocations for {TASKS} tasks");
    assert!(grown.unsigned_abs() < 64 << 10, "{grown} bytes");
    // Many at once. The list of the handles and the growth of queues come on top.
    let (allocations, grown) = measured(|| async {
        let tasks: Vec<_> = (0..TASKS).map(|number| spawn(async move { number })).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert!(allocations <= TASKS + TASKS / 16, "{allocations} allocations for {TASKS} tasks");
    assert!(grown.unsigned_abs() < 256 << 10, "{grown} bytes");
    // In a context that is not empty, with the deadline of a limit, and ended by an abort.
    let (allocations, _) = measured(|| async {
        NUMBER.set(1);
        let spawning = async {
            for number in 0..TASKS {
                let task = spawn(std::future::pending::<()>());
                if number % 2 == 0 {
                    yield_now().await;
                }
                task.abort();
                task.await.unwrap_err();
            }
        };
        wait_for(spawning, LONG).await.unwrap();
    });
    // The error says whose it is, which is an allocation if nobody has asked before. Where tasks stand alone, they have one each besides.
    let each = if cfg!(heirloom_lone_tasks) { 2 } else { 1 };
    assert!(allocations <= each * TASKS + 50, "{allocations} allocations for {TASKS} tasks");
}

/// The kind: what a hook is told, and what goes along with a task, is looked up and not made.
#[test]
fn hooks_and_an_ambient_state_allocate_nothing_per_task_or_poll() {
    struct Idle;
    impl Hooks for Idle {}
    struct Places;
    impl Hooks for Places {
        fn on_spawn(&self, task: &TaskMeta, _: &Context) {
            assert!(task.place().line() > 1);
        }
        fn before_poll(&self, task: &TaskMeta) {
            assert!(task.name().is_none());
        }
        fn after_poll(&self, _: &TaskMeta) {
            assert_eq!(NUMBER.get(), Some(1));
        }
        fn on_done(&self, _: &TaskMeta) {
            assert!(task::current().is_some());
        }
    }
    struct Nothing;
    impl Ambient for Nothing {
        fn capture(&self) -> Captured {
            Box::new(())
        }
        fn around(&self, _: &Captured, f: &mut dyn FnMut()) {
            f();
        }
    }
    let builder = Runtime::builder;
    let [none, idle, places, ambient] = [
        builder(),
        builder().hooks(Arc::new(Idle)),
        builder().hooks(Arc::new(Places)),
        builder().ambient(Arc::new(Nothing)),
    ]
    .map(|builder| {
        measured_on(builder.root_context(Context::empty().with(&NUMBER, 1)), || async {
            NUMBER.set(1);
            for _ in 0..TASKS {
                spawn(async { yield_now().await }).await.unwrap();
            }
        })
        .0
    });
    for (with, what) in [(idle, "hooks that do nothing"), (places, "hooks"), (ambient, "an ambient state")] {
        assert!(with <= none + 50, "{with} allocations with {what}, {none} without");
    }
}

#[test]
fn waits_and_wake_ups_allocate_nothing() {
    let (allocations, grown) = measured(|| async {
        for _ in 0..TASKS {
            wait_for(yield_now(), LONG).await.unwrap();
            yield_now().await;
        }
        sleep(Duration::from_millis(1)).await;
        for _ in 0..TASKS {
            let waker = std::future::poll_fn(|poller| std::task::Poll::Ready(poller.waker().clone())).await;
            waker.wake();
            yield_now().await;
        }
    });
    assert!(allocations <= 20, "{allocations} allocations");
    assert!(grown.unsigned_abs() < 16 << 10, "{grown} bytes");
}

#[test]
fn tasks_of_every_fate_give_everything_back() {
    let (_, grown) = measured(|| async {
        for number in 0..TASKS {
            NUMBER.set(number as u64);
            let (probe, watch) = Probe::new([Step::Wait]);
            let task = spawn(probe);
            match number % 5 {
                0 => drop(task),
                1 => {
                    task.abort();
                    let _ = task.await;
                }
                2 => {
                    yield_now().await;
                    watch.wake();
                    task.await.unwrap();
                }
                3 => {
                    yield_now().await;
                    let waker = watch.waker();
                    drop(task);
                    yield_now().await;
                    drop(waker);
                }
                _ => {
                    heirloom::spawn_in(Context::empty(), async { heirloom_tests::quiet_panic("a fate") })
                        .await
                        .unwrap_err();
                    task.abort();
                }
            }
        }
    });
    assert!(grown.unsigned_abs() < 64 << 10, "{grown} bytes");
}

#[test]
fn joiners_that_are_no_tasks_give_everything_back_however_they_end() {
    // Their wakers stand in a place of their own, which the handle and the closer share: each way
    // in which a handle parts with its waker must give its share back. Enough for 32 bytes each to
    // be seen.
    let (_, grown) = measured(|| async {
        for number in 0..TASKS {
            let (probe, watch) = Probe::new([Step::Wait]);
            let mut task = spawn(probe);
            yield_now().await;
            let (waker, counts) = CountingWaker::create(Fault::None);
            assert!(poll_with(&mut task, &waker).is_pending());
            drop(waker);
            match number % 5 {
                // Told, and takes the output.
                0 => {
                    watch.wake();
                    yield_now().await;
                    assert_eq!(counts.wakes(), 1);
                    assert!(poll_with(&mut task, Waker::noop()).is_ready());
                }
                // Told, and leaves it.
                1 => {
                    watch.wake();
                    yield_now().await;
                    drop(task);
                }
                // Goes before.
                2 => drop(task),
                3 => task.detach(),
                // Changes its waker, for another stranger's and for its task's.
                _ => {
                    let (other, _) = CountingWaker::create(Fault::None);
                    assert!(poll_with(&mut task, &other).is_pending());
                    assert!(counts.is_gone());
                    watch.wake();
                    task.await.unwrap();
                }
            }
            watch.wake();
            yield_now().await;
            assert!(counts.is_gone());
        }
    });
    assert!(grown.unsigned_abs() < 16 << 10, "{grown} bytes");
}

#[test]
fn an_eager_call_allocates_nothing() {
    async fn leaf() -> u64 {
        NUMBER.get().unwrap()
    }
    async fn branch() -> u64 {
        leaf().await + leaf().await
    }
    async fn root() -> u64 {
        branch().await + branch().await
    }
    /// What it allocates, and by how many bytes it grows, on a new thread each time. Other threads allocate now and
    /// then, so the least of some tries counts.
    fn least(before: fn(), work: fn()) -> (usize, isize) {
        let once = move || {
            NUMBER.set(7);
            before();
            let region = Region::new(ALLOCATOR);
            work();
            let change = region.change();
            let grown = change.bytes_allocated as isize - change.bytes_deallocated as isize;
            (change.allocations + change.reallocations, grown)
        };
        (0..10).map(|_| std::thread::spawn(once).join().unwrap()).min().unwrap()
    }
    fn parks() {
        run_eagerly(std::future::poll_fn(|cx| {
            drop(cx.waker().clone());
            std::task::Poll::Ready(())
        }));
        assert!(run_eagerly(wait_for(std::future::pending::<()>(), Duration::from_millis(1))).is_err());
    }
    fn spawns() {
        run_eagerly(async {
            for number in 0..TASKS {
                assert_eq!(spawn(async move { number }).await.unwrap(), number);
            }
        });
    }
    let _turn = turn();
    watchdog(PATIENCE, || {
        // The very first call of a thread, too.
        assert_eq!(least(|| (), || assert_eq!(run_eagerly(root()), 28)), (0, 0));
        let waits = || {
            run_eagerly(async {
                sleep(Duration::from_millis(1)).await;
                yield_now().await;
                assert!(wait_for(sleep(LONG), Duration::from_millis(1)).await.is_err());
            });
            assert_eq!(try_run_eagerly(sleep(LONG)).unwrap_err().leaf(), "sleep");
        };
        assert_eq!(least(|| (), waits), (0, 0));
        // By a foreign leaf, once the thread has something to be parked with.
        assert_eq!(least(parks, parks), (0, 0));
        // Children live in pages, which are kept; unless a sanitizer has each live in a page of its own.
        let (count, grown) = least(spawns, spawns);
        let pages = if cfg!(heirloom_lone_tasks) { TASKS } else { 0 };
        assert!(count <= pages + 20 && grown.unsigned_abs() < 1 << 10, "{count} allocations, {grown} bytes");
    });
}

#[test]
fn runtimes_give_everything_back() {
    let _turn = turn();
    watchdog(PATIENCE, || {
        let cycle = || {
            let runtime = Runtime::builder().workers(2).build().unwrap();
            let (probe, watch) = Probe::new([Step::Wait]);
            runtime.spawn(probe).detach();
            runtime.spawn(sleep(LONG)).detach();
            let waiting = runtime.spawn(std::future::pending::<()>());
            runtime.block_on(runtime.spawn(async {})).unwrap();
            runtime.wait_until_idle();
            let waker = watch.waker();
            drop(runtime);
            drop((waiting, waker));
        };
        (0..10).for_each(|_| cycle());
        let region = Region::new(ALLOCATOR);
        (0..scaled(100)).for_each(|_| cycle());
        let change = region.change();
        let grown = change.bytes_allocated as isize - change.bytes_deallocated as isize;
        // Queues free some of their memory later, in turns of their own.
        assert!(grown < 512 << 10, "{grown} bytes after a hundred runtimes");
    });
}

/// A connection may live for years: what a stream has had must go with the stream.
#[cfg(not(miri))]
#[test]
fn streams_leave_no_memory_with_their_connection() {
    use std::convert::Infallible;

    use heirloom::hyper::{HyperExecutor, HyperIo, ServerExecutor};
    use heirloom_tests::duplex;
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Bytes;
    use hyper::service::service_fn;
    use hyper::{Request, Response, client, server};

    const STREAMS: usize = 10_000;
    let _turn = turn();
    let grown = watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let task = runtime.spawn(async {
            let (near, far) = duplex(4_096);
            let serving = spawn(ServerExecutor::scope(|executor| {
                let service = service_fn(async |_| {
                    yield_now().await;
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                });
                server::conn::http2::Builder::new(executor).serve_connection(HyperIo::new(far), service)
            }));
            let (mut sender, connection) =
                client::conn::http2::handshake(HyperExecutor, HyperIo::new(near)).await.unwrap();
            heirloom::spawn_background(connection);
            let mut ask = async |times| {
                for _ in 0..times {
                    let request = Request::get("http://server/").body(Empty::<Bytes>::new()).unwrap();
                    let response = sender.send_request(request).await.unwrap();
                    response.into_body().collect().await.unwrap();
                }
            };
            ask(STREAMS / 10).await;
            let region = Region::new(ALLOCATOR);
            ask(STREAMS).await;
            let change = region.change();
            drop(serving);
            change.bytes_allocated as isize - change.bytes_deallocated as isize
        });
        runtime.block_on(task).unwrap()
    });
    // A seat that stayed would be 16 bytes.
    assert!(grown < 4 * STREAMS as isize, "{grown} bytes for {STREAMS} streams");
}
