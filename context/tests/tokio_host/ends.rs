//! However a task ends, its future is dropped in its context as far as tokio lets it, and no entry
//! is left.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use heirloom_context::context_var;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, yield_now};

use crate::{REQUEST, Seen, each, one_thread, wait_until_none_is_left, workers};

context_var! {
    static HELD: Arc<()>;
}

#[test]
fn a_task_that_ends() {
    each(|runtime, carry| {
        let (seen, held) = (Seen::default(), Arc::new(()));
        runtime.block_on(async {
            let look = seen.at_drop();
            HELD.set(Arc::clone(&held));
            REQUEST.set(1);
            let task = tokio::spawn(async move {
                REQUEST.set(2);
                yield_now().await;
                drop(look);
            });
            HELD.unset();
            task.await.unwrap();
        });
        wait_until_none_is_left(&carry);
        assert_eq!(seen.take(), [Some(2)]);
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

#[test]
fn a_task_that_panics() {
    each(|runtime, carry| {
        let seen = Seen::default();
        runtime.block_on(async {
            let look = seen.at_drop();
            REQUEST.set(1);
            let task = tokio::spawn(async move {
                let _look = look;
                REQUEST.set(2);
                yield_now().await;
                panic!("on purpose");
            });
            assert!(task.await.unwrap_err().is_panic());
            assert_eq!(REQUEST.get(), Some(1));
        });
        wait_until_none_is_left(&carry);
        assert_eq!(seen.take(), [Some(2)]);
    });
}

#[test]
fn a_task_that_is_aborted_before_its_first_poll() {
    let (runtime, carry) = one_thread();
    let seen = Seen::default();
    runtime.block_on(async {
        let look = seen.at_drop();
        REQUEST.set(1);
        let task = tokio::spawn(async move { drop(look) });
        REQUEST.set(2);
        assert_eq!(carry.tasks(), 1);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    });
    wait_until_none_is_left(&carry);
    assert_eq!(seen.take(), [Some(1)]);
}

#[test]
fn a_task_that_is_aborted_while_it_is_pending() {
    each(|runtime, carry| {
        let seen = Seen::default();
        runtime.block_on(async {
            let (look, (started, start)) = (seen.at_drop(), tokio::sync::oneshot::channel());
            REQUEST.set(1);
            let task = tokio::spawn(async move {
                let _look = look;
                REQUEST.set(2);
                started.send(()).unwrap();
                pending::<()>().await;
            });
            start.await.unwrap();
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        });
        wait_until_none_is_left(&carry);
        assert_eq!(seen.take(), [Some(2)]);
    });
}

#[test]
fn a_set_that_is_dropped() {
    each(|runtime, carry| {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..100 {
                tasks.spawn(pending::<()>());
            }
            yield_now().await;
            assert_eq!(carry.tasks(), 100);
            drop(tasks);
            while carry.tasks() > 0 {
                yield_now().await;
            }
        });
    });
}

#[test]
fn a_runtime_that_shuts_down() {
    each(|runtime, carry| {
        let held = Arc::new(());
        runtime.block_on(async {
            HELD.set(Arc::clone(&held));
            for polled in 0..1_000 {
                tokio::spawn(pending::<()>());
                if polled % 2 == 0 {
                    yield_now().await;
                }
            }
            HELD.unset();
        });
        assert_eq!(carry.tasks(), 1_000);
        drop(runtime);
        assert_eq!(carry.tasks(), 0);
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// Workers that shut tasks down meet workers that have the same tasks from their queues.
#[test]
fn a_runtime_that_shuts_down_while_its_tasks_are_busy() {
    for round in 0..50 {
        let (runtime, carry) = workers(4);
        runtime.block_on(async {
            for request in 0..200 {
                REQUEST.set(request);
                tokio::spawn(async move {
                    loop {
                        yield_now().await;
                        assert_eq!(REQUEST.get(), Some(request));
                    }
                });
            }
        });
        match round % 2 {
            0 => drop(runtime),
            _ => runtime.shutdown_timeout(Duration::from_secs(20)),
        }
        assert_eq!(carry.tasks(), 0, "round {round}");
    }
}

#[test]
fn a_task_that_is_spawned_on_a_runtime_that_has_shut_down() {
    each(|runtime, carry| {
        let (handle, held) = (runtime.handle().clone(), Arc::new(()));
        drop(runtime);
        HELD.set(Arc::clone(&held));
        for _ in 0..1_000 {
            drop(handle.spawn(pending::<()>()));
        }
        HELD.unset();
        assert_eq!(carry.tasks(), 0);
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

#[test]
fn tasks_that_are_spawned_while_the_runtime_shuts_down() {
    for _ in 0..100 {
        let (runtime, carry) = workers(2);
        let spawners: Vec<_> = (0..2)
            .map(|_| {
                let handle: Handle = runtime.handle().clone();
                std::thread::spawn(move || {
                    for _ in 0..300 {
                        drop(handle.spawn(pending::<()>()));
                    }
                    handle
                })
            })
            .collect();
        drop(runtime);
        // The handles keep the table, so that nothing goes with it.
        let _handles: Vec<_> = spawners.into_iter().map(|spawner| spawner.join().unwrap()).collect();
        assert_eq!(carry.tasks(), 0);
    }
}

/// They end without having begun, as far as the hooks tell.
#[test]
fn closures_of_the_blocking_pool_have_no_entry() {
    each(|runtime, carry| {
        runtime.block_on(async {
            for _ in 0..1_000 {
                tokio::task::spawn_blocking(|| ()).await.unwrap();
                assert_eq!(carry.tasks(), 0);
            }
        });
    });
}

#[test]
fn a_value_whose_destructor_panics_harms_nothing() {
    struct Fails;
    impl Drop for Fails {
        fn drop(&mut self) {
            panic!("on purpose: a destructor");
        }
    }
    context_var! { static FAILS: Fails; }

    each(|runtime, carry| {
        runtime.block_on(async {
            for _ in 0..3 {
                let task = tokio::spawn(async {
                    FAILS.set(Fails);
                    yield_now().await;
                });
                task.await.unwrap();
            }
            // The workers are there.
            tokio::spawn(yield_now()).await.unwrap();
        });
        wait_until_none_is_left(&carry);
    });
}

#[test]
fn many_tasks_that_live_long_keep_their_places_while_others_come_and_go() {
    let (runtime, carry) = workers(2);
    runtime.block_on(async {
        let (stop, _) = tokio::sync::broadcast::channel::<()>(1);
        let mut long = JoinSet::new();
        for request in 0..3_000 {
            REQUEST.set(request);
            let mut stopped = stop.subscribe();
            long.spawn(async move {
                let _ = stopped.recv().await;
                REQUEST.get() == Some(request)
            });
            REQUEST.set(request + 1);
            tokio::spawn(async move { assert_eq!(REQUEST.get(), Some(request + 1)) }).await.unwrap();
        }
        assert!(carry.tasks() >= 3_000);
        drop(stop);
        while let Some(right) = long.join_next().await {
            assert!(right.unwrap());
        }
    });
    wait_until_none_is_left(&carry);
}
