//! Spawning forks, awaiting shares: the rule under every executor, by adaptors only.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use heirloom_context::{Context, ContextFutureExt, ContextVar, context_var};

use crate::support::{Executor, Gate, Log, block_on, count, on_a_fresh_thread, yield_once};

context_var! {
    static LEVEL: u32;
    static OTHER: u32;
    static BASKET: Arc<Mutex<Vec<u32>>>;
}

#[test]
fn a_spawned_task_neither_sees_later_writes_nor_shows_its_own() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            LEVEL.set(1);
            let (go, gone) = (Gate::new(), Gate::new());
            let (opened, done) = (go.opened(), gone.clone());
            let child = own.spawn(async move {
                assert_eq!(LEVEL.get(), Some(1));
                LEVEL.set(2);
                done.open();
                opened.await;
                LEVEL.get()
            });
            gone.opened().await;
            assert_eq!(LEVEL.get(), Some(1));
            LEVEL.set(3);
            go.open();
            assert_eq!(child.await, Some(2));
            assert_eq!(LEVEL.get(), Some(3));
        });
    });
}

#[test]
fn siblings_do_not_see_each_other() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            let tasks: Vec<_> = (0..10)
                .map(|number| {
                    own.spawn(async move {
                        assert_eq!(LEVEL.get(), None);
                        LEVEL.set(number);
                        for _ in 0..10 {
                            yield_once().await;
                            assert_eq!(LEVEL.get(), Some(number));
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            assert_eq!(LEVEL.get(), None);
        });
    });
}

#[test]
fn what_a_task_gets_is_fixed_at_the_spawn_call_not_when_its_future_was_made() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            LEVEL.set(1);
            let future = async { LEVEL.get() };
            LEVEL.set(2);
            let task = own.spawn(future);
            LEVEL.set(3);
            assert_eq!(task.await, Some(2));
        });
    });
}

#[test]
fn a_context_crosses_generations_of_tasks() {
    fn generation(executor: Executor, left: u32) -> std::pin::Pin<Box<dyn Future<Output = u32> + Send>> {
        Box::pin(async move {
            let seen = LEVEL.get().unwrap();
            if left == 0 {
                return seen;
            }
            LEVEL.set(seen + 1);
            yield_once().await;
            let child = executor.spawn(generation(executor.clone(), left - 1));
            let deepest = child.await;
            assert_eq!(LEVEL.get(), Some(seen + 1));
            deepest
        })
    }
    Executor::each(|executor| {
        LEVEL.set(0);
        let depth = 50;
        assert_eq!(executor.run(generation(executor.clone(), depth)), depth);
        assert_eq!(LEVEL.get(), Some(0));
    });
}

#[test]
fn the_root_task_starts_from_what_the_thread_has_bound() {
    Executor::each(|executor| {
        LEVEL.set(5);
        let seen = executor.run(async {
            let seen = LEVEL.get();
            LEVEL.set(6);
            seen
        });
        assert_eq!(seen, Some(5));
        assert_eq!(LEVEL.get(), Some(5), "and the thread sees nothing of the task");
    });
}

#[test]
fn a_blocking_call_inherits_and_keeps_its_writes() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            LEVEL.set(1);
            let blocking = own.spawn_blocking(|| {
                let seen = LEVEL.get();
                LEVEL.set(2);
                (seen, LEVEL.get())
            });
            LEVEL.set(3);
            assert_eq!(blocking.await, (Some(1), Some(2)));
            assert_eq!(LEVEL.get(), Some(3));
        });
    });
}

#[test]
fn a_bare_thread_starts_empty_and_a_wrapped_closure_does_not() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let bare = std::thread::spawn(|| LEVEL.get());
            let wrapped = std::thread::spawn(Context::current().wrap_once(|| LEVEL.get()));
            assert_eq!((bare.join().unwrap(), wrapped.join().unwrap()), (None, Some(1)));
        });
    });
}

#[test]
fn a_shared_object_is_shared_by_tasks_and_a_binding_is_not() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            BASKET.set(Arc::default());
            let child = own.spawn(async {
                BASKET.with(|basket| basket.unwrap().lock().unwrap().push(1));
                BASKET.set(Arc::default());
                BASKET.with(|basket| basket.unwrap().lock().unwrap().push(2));
            });
            child.await;
            assert_eq!(BASKET.with(|basket| basket.unwrap().lock().unwrap().clone()), [1]);
        });
    });
}

#[test]
fn many_futures_of_one_task_share_its_context_unless_isolated() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(0);
            let step = |number: u32| async move {
                LEVEL.set(number);
                yield_once().await;
                LEVEL.get()
            };
            let isolated: FuturesUnordered<_> = (1..20).map(|number| step(number).isolated()).collect();
            let mut seen: Vec<_> = isolated.collect().await;
            seen.sort_unstable();
            assert_eq!(seen, (1..20).map(Some).collect::<Vec<_>>());
            assert_eq!(LEVEL.get(), Some(0));

            let plain: FuturesUnordered<_> = (1..20).map(step).collect();
            let shared: Vec<_> = plain.collect().await;
            assert!(shared.iter().all(|level| *level != Some(0)));
            assert_ne!(LEVEL.get(), Some(0), "plain futures leave their last write behind");
        });
    });
}

#[test]
fn a_dropped_task_is_dropped_in_its_context() {
    Executor::each(|executor| {
        let log = Log::new();
        let (own, seen) = (executor.clone(), log.clone());
        executor.run(async move {
            LEVEL.set(1);
            let gate = Gate::new();
            let witness = crate::support::OnDrop({
                let gate = gate.clone();
                move || {
                    seen.push(LEVEL.get());
                    gate.open();
                }
            });
            let (stop, stopped) = futures::future::abortable(async move {
                let _witness = witness;
                LEVEL.set(2);
                std::future::pending::<()>().await;
            });
            let task = own.spawn(stop);
            yield_once().await;
            stopped.abort();
            task.await.unwrap_err();
            gate.opened().await;
        });
        // Aborted before its first poll, or after it; in its own context either way.
        let seen = log.take();
        assert!(seen == [Some(1)] || seen == [Some(2)], "{seen:?}");
    });
}

#[test]
fn the_executors_of_futures_drive_wrapped_futures_too() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let seen = futures::executor::block_on(
            async {
                LEVEL.set(2);
                yield_once().await;
                LEVEL.get()
            }
            .in_current_context(),
        );
        assert_eq!((seen, LEVEL.get()), (Some(2), Some(1)));

        let mut pool = futures::executor::LocalPool::new();
        let log = Log::new();
        for number in 10..13 {
            let log = log.clone();
            LEVEL.set(number);
            let task = async move {
                yield_once().await;
                log.push(LEVEL.get());
                LEVEL.set(99);
            };
            futures::task::LocalSpawnExt::spawn_local(&pool.spawner(), task.in_context(Context::inherited()))
                .unwrap();
        }
        pool.run();
        assert_eq!(log.take(), [Some(10), Some(11), Some(12)]);
        assert_eq!(LEVEL.get(), Some(12));
    });
}

/// Documented rather than wanted: without an adaptor, a foreign executor knows nothing of contexts.
#[test]
fn without_an_adaptor_a_set_lands_in_the_root_of_the_polling_thread() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let mut pool = futures::executor::LocalPool::new();
        let spawner = pool.spawner();
        futures::task::LocalSpawnExt::spawn_local(&spawner, async {
            LEVEL.set(2);
        })
        .unwrap();
        pool.run();
        assert_eq!(LEVEL.get(), Some(2));
    });
}

// Executors that are polled inside a task. The kind: whatever runs tasks of its own in a poll of
// the task that polls it. Those tasks know no context but the poller's. Documented
// (`ContextFutureExt`), with the cure.

#[test]
fn the_tasks_of_a_local_pool_in_a_task_share_its_context_unless_wrapped() {
    use futures::task::LocalSpawnExt;

    let trace = |wrapped: bool| async move {
        LEVEL.set(1);
        let mut pool = futures::executor::LocalPool::new();
        let log = Log::new();
        for number in 10..12 {
            let log = log.clone();
            let task = async move {
                LEVEL.set(number);
                yield_once().await;
                log.push(LEVEL.get());
            };
            if wrapped {
                pool.spawner().spawn_local(task.in_context(Context::inherited())).unwrap();
            } else {
                pool.spawner().spawn_local(task).unwrap();
            }
        }
        pool.run();
        (log.take(), LEVEL.get())
    };
    on_a_fresh_thread(|| {
        let one_for_all = block_on(trace(false).in_context(Context::empty()));
        assert_eq!(one_for_all, (vec![Some(11), Some(11)], Some(11)));
        let one_each = block_on(trace(true).in_context(Context::empty()));
        assert_eq!(one_each, (vec![Some(10), Some(11)], Some(1)));
        assert_eq!(LEVEL.get(), None);
    });
}

#[cfg(not(miri))]
#[test]
fn the_tasks_of_a_local_set_in_a_task_share_its_context_unless_wrapped() {
    let trace = |wrapped: bool| async move {
        LEVEL.set(1);
        let set = tokio::task::LocalSet::new();
        let tasks: Vec<_> = (10..12)
            .map(|number| {
                let task = async move {
                    LEVEL.set(number);
                    tokio::task::yield_now().await;
                    LEVEL.get()
                };
                if wrapped {
                    set.spawn_local(task.in_context(Context::inherited()))
                } else {
                    set.spawn_local(task)
                }
            })
            .collect();
        let seen = set.run_until(futures::future::join_all(tasks)).await;
        (seen.into_iter().map(Result::unwrap).collect::<Vec<_>>(), LEVEL.get())
    };
    on_a_fresh_thread(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let one_for_all = runtime.block_on(trace(false).in_context(Context::empty()));
        assert_eq!(one_for_all, (vec![Some(11), Some(11)], Some(11)));
        let one_each = runtime.block_on(trace(true).in_context(Context::empty()));
        assert_eq!(one_each, (vec![Some(10), Some(11)], Some(1)));
        assert_eq!(LEVEL.get(), None);
    });
}

#[cfg(not(miri))]
#[test]
fn tokio_tasks_inherit_through_the_adaptor() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let root = async {
            LEVEL.set(2);
            let child = tokio::spawn(
                async {
                    tokio::task::yield_now().await;
                    let seen = LEVEL.get();
                    LEVEL.set(3);
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    (seen, LEVEL.get())
                }
                .in_context(Context::inherited()),
            );
            LEVEL.set(4);
            let blocking = tokio::task::spawn_blocking(Context::inherited().wrap_once(|| LEVEL.get()));
            let local = tokio::task::LocalSet::new().run_until(async { LEVEL.get() }).await;
            let timeout =
                tokio::time::timeout(std::time::Duration::from_secs(3600), async { LEVEL.set(5) }).await;
            timeout.unwrap();
            (child.await.unwrap(), blocking.await.unwrap(), local, LEVEL.get())
        };
        let seen = runtime.block_on(root.in_current_context());
        assert_eq!(seen, ((Some(2), Some(3)), Some(4), Some(4), Some(5)));
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn every_executor_gives_the_same_trace() {
    let traces = Mutex::new(Vec::new());
    Executor::each(|executor| {
        let own = executor.clone();
        let trace = executor.run(async move {
            let mut trace = Vec::new();
            LEVEL.set(1);
            trace.push((LEVEL.get(), OTHER.get()));
            async { OTHER.set(2) }.await;
            trace.push((LEVEL.get(), OTHER.get()));
            trace.push(own.spawn(async { (LEVEL.get(), OTHER.replace_with(3)) }).await);
            trace.push((LEVEL.get(), OTHER.get()));
            trace.push(async { (LEVEL.get(), OTHER.replace_with(4)) }.isolated().await);
            trace.push(async { (LEVEL.get(), OTHER.replace_with(5)) }.with_var(&OTHER, 50).await);
            trace.push(async { (LEVEL.get(), OTHER.replace_with(6)) }.in_context(Context::empty()).await);
            trace.push(own.spawn_blocking(|| (LEVEL.get(), OTHER.replace_with(7))).await);
            trace.push((LEVEL.get(), OTHER.get()));
            trace
        });
        traces.lock().unwrap().push(trace);
    });
    let traces = traces.into_inner().unwrap();
    let (one, two) = (Some(1), Some(2));
    let expected = [
        (one, None),
        (one, two),
        (one, two),
        (one, two),
        (one, two),
        (one, Some(50)),
        (None, None),
        (one, two),
        (one, two),
    ];
    for trace in traces {
        assert_eq!(trace, expected);
    }
}

/// Reads a variable and sets it.
trait ReplaceWith {
    fn replace_with(&self, value: u32) -> Option<u32>;
}

impl ReplaceWith for ContextVar<u32> {
    fn replace_with(&self, value: u32) -> Option<u32> {
        let before = self.get();
        self.set(value);
        before
    }
}

#[test]
fn a_storm_of_tasks_on_few_threads_keeps_every_context_apart() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            fn branch(
                executor: Executor,
                path: u32,
                left: u32,
            ) -> std::pin::Pin<Box<dyn Future<Output = u32> + Send>> {
                Box::pin(async move {
                    LEVEL.set(path);
                    let guard = OTHER.bind(path);
                    yield_once().await;
                    let mut leaves = 1;
                    if left > 0 {
                        let children: Vec<_> = (0..3)
                            .map(|child| {
                                executor.spawn(branch(executor.clone(), path * 4 + child + 1, left - 1))
                            })
                            .collect();
                        for child in children {
                            leaves += child.await;
                            assert_eq!((LEVEL.get(), OTHER.get()), (Some(path), Some(path)));
                        }
                    }
                    drop(guard);
                    yield_once().await;
                    assert_eq!(LEVEL.get(), Some(path));
                    leaves
                })
            }
            let depth = if count(1000) < 1000 { 2 } else { 6 };
            let expected = (3_u32.pow(depth + 1) - 1) / 2;
            assert_eq!(own.spawn(branch(own.clone(), 0, depth)).await, expected);
        });
    });
}
