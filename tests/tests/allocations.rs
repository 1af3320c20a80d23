//! What is allocated, and that it is given back. A binary of its own, because it counts for the
//! whole process; its tests take turns.

use std::alloc::System;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use heirloom::context::{Ambient, Crossing};
use heirloom::runtime::Hooks;
use heirloom::task::{AbortHandle, LocalSet, TaskMeta};
use heirloom::{
    Context, JoinHandle, Runtime, context_var, run_eagerly, sleep, spawn, spawn_blocking, spawn_local, task,
    try_run_eagerly, wait_for, yield_now,
};
use heirloom_tests::{CountingWaker, Fault, Gate, PATIENCE, Probe, Step, poll_with, scaled, watchdog};
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

/// Runs the future as a task of a runtime with one worker twice, the first time to fill caches and
/// queues, and tells how often it allocated the second time, and by how many bytes it has grown.
fn measured<F: Future<Output = ()> + Send + 'static>(
    work: impl Fn() -> F + Send + 'static,
) -> (usize, isize) {
    measured_on(Runtime::builder(), work)
}

/// How often `work` allocates in the whole process, and by how many bytes it grows.
fn change_by(work: impl FnOnce()) -> (usize, isize) {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    let grown = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    (change.allocations + change.reallocations, grown)
}

fn measured_on<F: Future<Output = ()> + Send + 'static>(
    builder: heirloom::runtime::Builder,
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
        change_by(once)
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
    // The error has the task's identity, which is an allocation if it was not asked for before.
    // Tasks that stand alone have one each besides.
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
            assert!(task.spawned_at().line() > 1);
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
        type State = [usize; 5];
        type Guard<'a> = Box<()>;
        fn capture(&self, _: &Crossing<'_>) -> Option<[usize; 5]> {
            Some([1; 5])
        }
        fn enter(&self, _: &mut [usize; 5]) -> Box<()> {
            Box::new(())
        }
    }
    let builder = Runtime::builder;
    let [none, idle, places, ambient] = [
        builder(),
        builder().hooks(Arc::new(Idle)),
        builder().hooks(Arc::new(Places)),
        builder().ambient(&Nothing),
    ]
    .map(|builder| {
        measured_on(builder.root_context(Context::empty().with_var(&NUMBER, 1)), || async {
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
    /// What it allocates, and by how many bytes it grows, on a new thread each time. Other threads
    /// allocate now and then, so the least of some tries counts.
    fn least(before: fn(), work: fn()) -> (usize, isize) {
        let once = move || {
            NUMBER.set(7);
            before();
            change_by(work)
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
        // Children live in pages, which are kept; unless a sanitizer has each live in a page of its
        // own.
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
    // An entry that stayed would be 16 bytes.
    assert!(grown < 4 * STREAMS as isize, "{grown} bytes for {STREAMS} streams");
}

// What a burst has left goes back when the runtime rests, whichever thread spawned the tasks, ended
// them or gave the last reference up, however late. Tasks of a kibibyte, so that what
// stays is seen.

/// Where tasks stand alone, each takes a page of the allocator's.
const BURST: usize = if cfg!(heirloom_lone_tasks) { 10_000 } else { scaled(30_000) };
const BLOCKING: usize = 2;
/// What may stay: empty pages that are kept, and the capacity of queues.
const LITTLE: isize = 4 << 20;

/// A task of somewhat more than a kibibyte, which has to be polled twice.
async fn large() {
    let block = [1_u8; 1024];
    yield_now().await;
    std::hint::black_box(&block);
}

/// How many bytes there are more than there were.
struct Growth(Region<'static, System>);

impl Growth {
    fn begin() -> Growth {
        Growth(Region::new(ALLOCATOR))
    }

    fn now(&self) -> isize {
        let change = self.0.change();
        change.bytes_allocated as isize - change.bytes_deallocated as isize
    }

    /// Whether there are fewer than `limit` within a second.
    fn falls_below(&self, limit: isize) -> bool {
        let begin = Instant::now();
        // An interpreter's second is over soon, and a sanitizer's machine slow.
        let patience = if cfg!(any(miri, heirloom_lone_tasks)) { PATIENCE } else { 1 };
        while self.now() >= limit {
            if begin.elapsed() > Duration::from_secs(patience) {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }
}

/// On a machine so busy that a second is short, one try of three must do.
fn one_of_three<E: std::fmt::Debug>(goes_back: impl Fn() -> Result<(), E>) {
    let stayed: Vec<_> = (0..3).map_while(|_| goes_back().err()).collect();
    assert!(stayed.len() < 3, "{stayed:?} bytes stay");
}

/// A burst, on a runtime with two workers; then the memory goes back.
fn burst_goes_back<B>(burst: impl Fn(&Runtime) -> B + Send + 'static) {
    let _turn = turn();
    watchdog(PATIENCE, move || {
        let goes_back = || {
            let growth = Growth::begin();
            let runtime = Runtime::builder().workers(2).max_blocking_threads(BLOCKING).build().unwrap();
            // All workers sleep: closures wake none of them.
            runtime.wait_until_idle();
            let kept = burst(&runtime);
            runtime.wait_until_idle();
            let fell = growth.falls_below(LITTLE);
            drop(kept);
            if fell { Ok(()) } else { Err(growth.now()) }
        };
        one_of_three(goes_back);
    });
}

#[test]
fn the_memory_of_a_burst_from_outside_goes_back() {
    burst_goes_back(|runtime| (0..BURST).for_each(|_| runtime.spawn(large()).detach()));
}

#[test]
fn the_memory_of_a_burst_from_inside_goes_back() {
    burst_goes_back(|runtime| {
        let burst = async { (0..BURST).for_each(|_| spawn(large()).detach()) };
        runtime.block_on(runtime.spawn(burst)).unwrap();
    });
}

#[test]
fn the_memory_of_a_burst_of_blocking_closures_goes_back() {
    let closure = || {
        let block = [1_u8; 1024];
        move || _ = std::hint::black_box(block)
    };
    // The threads begin when all is queued.
    let held_up = |runtime: &Runtime| {
        let gate = Gate::new();
        for _ in 0..BLOCKING {
            let gate = gate.clone();
            runtime.spawn_blocking(move || gate.wait()).detach();
        }
        gate
    };
    burst_goes_back(move |runtime| {
        let gate = held_up(runtime);
        (0..BURST).for_each(|_| runtime.spawn_blocking(closure()).detach());
        gate.open();
    });
    burst_goes_back(move |runtime| {
        let gate = held_up(runtime);
        let burst = async move { (0..BURST).for_each(|_| spawn_blocking(closure()).detach()) };
        runtime.block_on(runtime.spawn(burst)).unwrap();
        gate.open();
    });
}

/// The first half's references are dropped while workers are awake or about to sleep; the second
/// half's when the memory of the first has gone back, so that workers sleep for good, or
/// are about to.
fn goes_back_late(spawned: impl Fn(&Runtime) -> Vec<AbortHandle> + Send + 'static) {
    let _turn = turn();
    watchdog(PATIENCE, move || {
        let goes_back = || {
            let growth = Growth::begin();
            let runtime = Runtime::builder().workers(2).build().unwrap();
            let mut kept = spawned(&runtime);
            runtime.wait_until_idle();
            let whole = growth.now();
            kept.truncate(BURST / 2);
            // The last that goes back are two mebibytes of empty pages.
            let half = growth.falls_below(whole / 2 + (1 << 20));
            drop(kept);
            if half && growth.falls_below(LITTLE) { Ok(()) } else { Err((whole, half, growth.now())) }
        };
        one_of_three(goes_back);
    });
}

fn detached(task: JoinHandle<()>) -> AbortHandle {
    let kept = task.abort_handle();
    task.detach();
    kept
}

#[test]
fn the_memory_of_tasks_goes_back_if_their_last_references_are_dropped_late() {
    goes_back_late(move |runtime| (0..BURST).map(|_| detached(runtime.spawn(large()))).collect());
    goes_back_late(move |runtime| {
        let burst = async move { (0..BURST).map(|_| detached(spawn(large()))).collect() };
        runtime.block_on(runtime.spawn(burst)).unwrap()
    });
}

#[test]
fn the_memory_of_a_burst_in_a_local_set_goes_back() {
    let _turn = turn();
    watchdog(PATIENCE, || {
        let growth = Growth::begin();
        let set = LocalSet::new();
        let spawned = async || {
            let tasks: Vec<_> = (0..BURST).map(|_| spawn_local(large())).collect();
            let mut kept = Vec::with_capacity(BURST);
            for task in tasks {
                kept.push(task.abort_handle());
                task.await.unwrap();
            }
            kept
        };
        // The last references are dropped on this thread, when the set is not being run.
        drop(set.block_on(spawned()));
        assert!(growth.now() < LITTLE, "{} bytes", growth.now());
        // On another thread, while it is.
        let left = set.block_on(async {
            let kept = spawned().await;
            let (send, receive) = futures::channel::oneshot::channel();
            let other = std::thread::spawn(move || {
                drop(kept);
                let _ = send.send(());
            });
            receive.await.unwrap();
            other.join().unwrap();
            yield_now().await;
            growth.now()
        });
        assert!(left < LITTLE, "{left} bytes");
        // On another thread, when it is not.
        let kept = set.block_on(spawned());
        std::thread::spawn(move || drop(kept)).join().unwrap();
        assert!(growth.now() < LITTLE, "{} bytes", growth.now());
    });
}

#[test]
fn the_memory_of_a_burst_of_eager_children_goes_back() {
    let _turn = turn();
    watchdog(PATIENCE, || {
        let growth = Growth::begin();
        let spawned = async || (0..BURST).map(|_| detached(spawn(large()))).collect::<Vec<_>>();
        run_eagerly(async { drop(spawned().await) });
        assert!(growth.now() < LITTLE, "{} bytes", growth.now());
        // After the call.
        let kept = run_eagerly(spawned());
        drop(kept);
        assert!(growth.now() < LITTLE, "{} bytes", growth.now());
    });
}
