//! Contexts where executors of other kinds have gone wrong: callbacks, destructors, cells.
//! Hooks and foreign ambient states: `hooks`.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use heirloom::context::ContextCell;
use heirloom::{Context, Runtime, context_var, sleep, spawn, spawn_blocking, spawn_in, task, yield_now};
use heirloom_tests::{
    Gate, Ledger, Log, MARK, OnDrop, PATIENCE, idle, in_a_worker, poll_with, quiet_panic, runtime, scaled,
    watchdog, with_runtime,
};

context_var! {
    static VALUE: Arc<OnDrop>;
    static COUNTED: heirloom_tests::Counted;
    static HOLDER: Arc<Mutex<u32>>;
}

#[test]
fn a_variable_can_be_read_in_every_destructor_of_its_task() {
    with_runtime(1, |runtime| {
        let log: Log<(&str, Option<u64>)> = Log::new();
        let note = |at: &'static str| {
            let log = log.clone();
            OnDrop::new(move || log.push((at, MARK.get())))
        };
        MARK.set(5);
        let (captured, local) = (note("captured"), note("local"));
        let task = runtime.spawn(async move {
            let _captured = captured;
            MARK.set(6);
            let _local = local;
            std::future::pending::<()>().await;
        });
        idle(runtime);
        MARK.set(9);
        drop(task);
        idle(runtime);
        assert_eq!(log.take(), [("local", Some(6)), ("captured", Some(6))]);
    });
}

#[test]
fn a_value_whose_destructor_uses_everything_does_no_harm() {
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        let log = Log::new();
        let curious = || {
            let log = log.clone();
            Arc::new(OnDrop::new(move || {
                let _ = (MARK.get(), Context::current(), task::current());
                drop(MARK.set(1));
                let guard = MARK.bind(2);
                log.push("dropped");
                let told = log.clone();
                spawn(async move { told.push("spawned") }).detach();
                drop(guard);
            }))
        };
        // Replaced, reset, and left to the end of the task, of an aborted one, and of the runtime.
        let (one, two, three, four, five) = (curious(), curious(), curious(), curious(), curious());
        let task = runtime.spawn(async move {
            VALUE.set(one);
            let token = VALUE.set(two);
            VALUE.reset(token).unwrap();
            VALUE.set(three);
            assert_eq!(MARK.get(), None);
        });
        runtime.block_on(task).unwrap();
        let aborted = runtime.spawn(async move {
            VALUE.set(four);
            std::future::pending::<()>().await;
        });
        idle(&runtime);
        drop(aborted);
        idle(&runtime);
        runtime
            .spawn(async move {
                VALUE.set(five);
                std::future::pending::<()>().await;
            })
            .detach();
        idle(&runtime);
        drop(runtime);
        // The last one had no runtime for what it spawned, or the default one.
        assert_eq!(log.take().into_iter().filter(|line| *line == "dropped").count(), 5);
    });
}

#[test]
fn what_a_waker_does_is_not_done_in_a_tasks_context() {
    struct Looks(Log<(Option<u64>, bool)>);
    impl std::task::Wake for Looks {
        fn wake(self: Arc<Self>) {
            self.0.push((MARK.get(), task::current().is_some()));
        }
    }
    with_runtime(1, |runtime| {
        // Fired by the clock, the waker belongs to no task.
        let log = Log::new();
        let waker = Arc::new(Looks(log.clone())).into();
        MARK.set(5);
        let mut sleep = Box::pin(sleep(Duration::from_millis(2)));
        let pending = runtime
            .block_on(std::future::poll_fn(|_| Poll::Ready(poll_with(&mut sleep, &waker).is_pending())));
        if pending {
            while log.is_empty() {
                std::thread::yield_now();
            }
            assert_eq!(log.take(), [(None, false)]);
        }
        // A blocking thread and a worker that are used again have nothing left of their last user.
        runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
        let bare = spawn_from_empty(runtime);
        assert_eq!(bare, (None, None));
    });
}

/// What a task and a closure find that are given nothing.
fn spawn_from_empty(runtime: &Runtime) -> (Option<u64>, Option<u64>) {
    let handle = runtime.handle().clone();
    runtime
        .block_on(
            handle.spawn_in(Context::empty(), async {
                (MARK.get(), spawn_blocking(|| MARK.get()).await.unwrap())
            }),
        )
        .unwrap()
}

#[test]
fn a_snapshot_does_not_keep_a_value_that_was_shadowed() {
    in_a_worker(1, async {
        let outer = Arc::new(Mutex::new(1));
        HOLDER.set(outer.clone());
        let inner = Arc::new(Mutex::new(2));
        HOLDER.set(inner.clone());
        let (gate, begun) = (Gate::new(), Gate::new());
        let (opened, told) = (gate.opened(), begun.clone());
        let task = spawn(async move {
            told.open();
            opened.await;
            HOLDER.with(|holder| *holder.unwrap().lock().unwrap())
        });
        begun.opened().await;
        assert_eq!(Arc::strong_count(&outer), 1);
        HOLDER.unset();
        assert!(Arc::strong_count(&inner) >= 2, "the task has it");
        gate.open();
        assert_eq!(task.await.unwrap(), 2);
        assert_eq!(Arc::strong_count(&inner), 1);
    });
}

#[test]
fn values_go_with_the_last_task_that_has_them() {
    let ledger = Ledger::new();
    let values = ledger.clone();
    in_a_worker(3, async move {
        for number in 0..scaled(2_000) as u64 {
            let context = Context::empty().with_var(&COUNTED, values.counted(number));
            let task = spawn_in(context, async {
                let children: Vec<_> = (0..3).map(|_| spawn(yield_now())).collect();
                for child in children {
                    child.await.unwrap();
                }
            });
            if number % 3 == 0 {
                drop(task);
            } else {
                task.await.unwrap();
            }
        }
    });
    assert_eq!((ledger.made(), ledger.alive()), (scaled(2_000), 0));
}

/// A tree of tasks, all of which are awaited, in one order or the other; with some that are
/// aborted, and some that panic.
fn tree(depth: u32) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if depth == 0 {
            return;
        }
        let (one, other) = (spawn(tree(depth - 1)), spawn(tree(depth - 1)));
        let endless = depth.is_multiple_of(2).then(|| spawn(pending::<()>()));
        let panics = (depth == 3).then(|| spawn(async { quiet_panic("a leaf's") }));
        let [first, second] = if depth.is_multiple_of(3) { [one, other] } else { [other, one] };
        first.await.unwrap();
        second.await.unwrap();
        if let Some(task) = endless {
            task.abort_handle().abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        if let Some(task) = panics {
            assert!(task.await.unwrap_err().is_panic());
        }
    })
}

#[test]
fn the_values_of_a_tree_of_tasks_are_gone_when_its_output_is_there() {
    for workers in 1..=4 {
        let ledger = Ledger::new();
        with_runtime(workers, move |runtime| {
            for number in 0..scaled(400) as u64 {
                let context = Context::empty().with_var(&COUNTED, ledger.counted(number));
                // Two trees beside each other, so that not all tasks have one context.
                let other = Context::empty().with_var(&COUNTED, ledger.counted(number));
                let (one, other) = (runtime.spawn_in(context, tree(4)), runtime.spawn_in(other, tree(4)));
                runtime.block_on(one).unwrap();
                assert!(ledger.alive() <= 1);
                runtime.block_on(other).unwrap();
                assert_eq!(ledger.alive(), 0);
            }
        });
    }
}

#[test]
fn what_the_end_of_a_task_wakes_is_not_kept_by_the_next_poll() {
    in_a_worker(2, async {
        for _ in 0..scaled(200) {
            let (gate, woken) = (Gate::new(), Gate::new());
            let (opened, told) = (gate.opened(), woken.clone());
            let waits = spawn(async move {
                opened.await;
                told.open();
            });
            // It has to wait before it is woken.
            yield_now().await;
            let value = Arc::new(OnDrop::new(move || gate.open()));
            spawn_in(Context::empty().with_var(&VALUE, value), async move {
                // Its successor on this worker blocks until the joiner that this task's end wakes
                // is awake.
                spawn_in(Context::empty(), async move { woken.wait() }).detach();
            })
            .detach();
            waits.await.unwrap();
        }
    });
}

#[test]
fn a_destructor_may_end_the_runtime_of_the_task_that_comes_next() {
    watchdog(PATIENCE, || {
        for awaited in [false, true] {
            let runtime = runtime(1);
            let (log, ended) = (Log::new(), Gate::new());
            let (handle, told, over) = (runtime.handle().clone(), log.clone(), ended.clone());
            let value = Arc::new(OnDrop::new(move || {
                handle.shutdown(Duration::ZERO);
                told.push("ended");
                over.open();
            }));
            let last = Context::empty().with_var(&VALUE, value);
            let (dropped, polled) = (log.clone(), log.clone());
            let witness = OnDrop::new(move || dropped.push("dropped"));
            runtime
                .spawn(async move {
                    let next = async move {
                        let _witness = witness;
                        polled.push("polled");
                        pending::<()>().await;
                    };
                    if awaited {
                        let _ = spawn_in(last, async {}).await;
                        next.await;
                    } else {
                        spawn_in(Context::empty(), next).detach();
                        spawn_in(last, async {}).detach();
                    }
                })
                .detach();
            ended.wait();
            drop(runtime);
            assert_eq!(log.take(), ["dropped", "ended"], "awaited: {awaited}");
        }
    });
}

/// Closures that are cancelled before they begin come to the workers, between whose tasks they are
/// dropped.
#[test]
fn a_task_stays_with_the_workers_when_a_closure_of_the_pool_comes_next() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).max_blocking_threads(1).build().unwrap();
        let (hold, held, gate, begun) = (Gate::new(), Gate::new(), Gate::new(), Gate::new());
        let (release, occupied) = (hold.clone(), held.clone());
        let occupant = runtime.spawn_blocking(move || {
            occupied.open();
            release.wait();
        });
        held.wait();
        let (opened, started) = (gate.opened(), begun.clone());
        let task = runtime.spawn_in(Context::empty().with_var(&MARK, 1), async move {
            started.open();
            opened.await;
            let mut threads = Vec::new();
            poll_fn(move |cx| {
                threads.push(std::thread::current().id());
                if threads.len() == 3 {
                    return Poll::Ready(threads.iter().all(|thread| *thread == threads[0]));
                }
                // With a handle in stock.
                drop(Context::current());
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await
        });
        begun.wait();
        let sweep = runtime.spawn(async move {
            let closures: Vec<_> = (0..63)
                .map(|_| {
                    let gate = gate.clone();
                    let dropped = OnDrop::new(move || gate.open());
                    spawn_blocking(move || drop(dropped))
                })
                .collect();
            drop(closures);
            spawn_blocking(|| ()).detach();
        });
        runtime.block_on(sweep).unwrap();
        assert!(runtime.block_on(task).unwrap());
        hold.open();
        runtime.block_on(occupant).unwrap();
    });
}

#[test]
fn a_task_waits_while_another_is_in_its_cell() {
    const TASKS: u64 = scaled(50) as u64;
    with_runtime(2, |runtime| {
        let cell = ContextCell::new(Context::empty().with_var(&MARK, 1));
        let (entered, gate) = (Gate::new(), Gate::new());
        let inside = std::thread::spawn({
            let (cell, entered, gate) = (cell.clone(), entered.clone(), gate.clone());
            move || {
                cell.run(|| {
                    MARK.set(2);
                    entered.open();
                    gate.wait();
                })
                .unwrap();
            }
        });
        entered.wait();
        let task = runtime.block_on(async {
            task::Builder::new().cell(cell.clone()).spawn(async {
                let seen = MARK.get();
                MARK.set(3);
                yield_now().await;
                seen
            })
        });
        // It rests: the runtime is idle although the task could not run yet.
        idle(runtime);
        assert!(!task.is_finished());
        gate.open();
        assert_eq!(runtime.block_on(task).unwrap(), Some(2));
        inside.join().unwrap();
        assert_eq!(cell.snapshot().get(&MARK), Some(3));
        // Many tasks on one cell take turns.
        let tasks: Vec<_> = runtime.block_on(async {
            (0..TASKS)
                .map(|_| {
                    task::Builder::new().cell(cell.clone()).spawn(async {
                        for _ in 0..10 {
                            MARK.set(MARK.get().unwrap() + 1);
                            yield_now().await;
                        }
                    })
                })
                .collect()
        });
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        assert_eq!(cell.snapshot().get(&MARK), Some(3 + 10 * TASKS));
    });
}
