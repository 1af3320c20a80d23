//! Groups: always joined, the first failure decides, and what is left is cancelled.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use heirloom::group::{GroupError, GroupHandle};
use heirloom::runtime::Hooks;
use heirloom::task::{CancelReason, TaskMeta};
use heirloom::{
    Context, Runtime, TaskGroup, run_eagerly, sleep, spawn, try_run_eagerly, wait_for, yield_now,
};
use heirloom_tests::{
    Countdown, Gate, Ledger, Log, MARK, OnDrop, PATIENCE, Probe, SCRIPTED, Step, idle, in_a_worker,
    quiet_panic, run, scaled, watchdog, with_runtime,
};

const LONG: Duration = Duration::from_secs(3_600);

#[test]
fn a_scope_returns_when_all_its_children_have_ended() {
    in_a_worker(3, async {
        let ledger = Ledger::new();
        let values = ledger.clone();
        let returned = TaskGroup::<()>::scope(async |group| {
            for number in 0..20 {
                let value = values.counted(number);
                group.spawn(async move {
                    for _ in 0..number {
                        yield_now().await;
                    }
                    drop(value);
                    Ok(())
                });
            }
            Ok(7)
        })
        .await;
        assert_eq!(returned.unwrap(), 7);
        assert_eq!((ledger.made(), ledger.alive()), (20, 0));
    });
}

#[test]
fn the_first_error_cancels_the_rest_and_is_returned() {
    in_a_worker(3, async {
        let ledger = Ledger::new();
        let group = TaskGroup::<u32>::new();
        let all = Countdown::new(10);
        for number in 0..10 {
            let (value, all) = (ledger.counted(number), all.clone());
            group.spawn(async move {
                let _value = value;
                all.arrive();
                std::future::pending().await
            });
        }
        let failing = all.clone();
        group.spawn(async move {
            failing.done().await;
            Err(7)
        });
        match group.join().await {
            Err(GroupError::Failed(error)) => assert_eq!(error, 7),
            other => panic!("{other:?}"),
        }
        assert_eq!(ledger.alive(), 0, "they have ended, not only been told to");
    });
}

#[test]
fn a_panic_cancels_the_rest_and_is_returned() {
    in_a_worker(2, async {
        let ledger = Ledger::new();
        let value = ledger.counted(1);
        let outcome = TaskGroup::<()>::scope(async |group| {
            group.spawn(async move {
                let _value = value;
                std::future::pending().await
            });
            group.spawn(async { quiet_panic(SCRIPTED) });
            std::future::pending::<()>().await;
            Ok(())
        })
        .await;
        match outcome {
            Err(GroupError::Panicked(error)) => assert_eq!(error.panic_message(), Some(SCRIPTED)),
            other => panic!("{other:?}"),
        }
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn an_error_of_the_body_cancels_the_children() {
    in_a_worker(2, async {
        let ledger = Ledger::new();
        let value = ledger.counted(1);
        let outcome = TaskGroup::<String>::scope(async |group| {
            group.spawn(async move {
                let _value = value;
                std::future::pending().await
            });
            yield_now().await;
            Err::<(), _>("the body".to_owned())
        })
        .await;
        assert!(matches!(outcome, Err(GroupError::Failed(error)) if error == "the body"));
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_panic_of_the_body_goes_on_after_the_children_have_ended() {
    use futures::FutureExt;
    in_a_worker(2, async {
        let ledger = Ledger::new();
        let value = ledger.counted(1);
        let scope = TaskGroup::<()>::scope(async |group| {
            group.spawn(async move {
                let _value = value;
                std::future::pending().await
            });
            yield_now().await;
            if group.len() == 1 {
                quiet_panic(SCRIPTED);
            }
            Ok(())
        });
        let panic = std::panic::AssertUnwindSafe(scope).catch_unwind().await.unwrap_err();
        assert_eq!(*panic.downcast::<&'static str>().unwrap(), SCRIPTED);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn siblings_learn_why_they_were_cancelled_when_it_happens() {
    // The group is not polled: a child's failure cancels by itself.
    with_runtime(2, |runtime| {
        let (probe, watch) = Probe::new([Step::Wait]);
        let group = runtime.block_on(async {
            let group = TaskGroup::<()>::new();
            group.spawn(async move {
                probe.await;
                Ok(())
            });
            group
        });
        idle(runtime);
        watch.assert_counts(1, 0);
        runtime.block_on(async { group.spawn(async { Err(()) }) });
        idle(runtime);
        watch.assert_counts(1, 1);
        // What is spawned now is cancelled without a poll.
        let (late, late_watch) = Probe::new([]);
        let abort = runtime.block_on(async {
            group.spawn(async move {
                late.await;
                Ok(())
            })
        });
        idle(runtime);
        assert!(abort.is_finished());
        late_watch.assert_counts(0, 1);
        assert!(matches!(runtime.block_on(group.join()), Err(GroupError::Failed(()))));
    });
}

#[test]
fn a_child_that_is_aborted_by_hand_is_no_error() {
    in_a_worker(2, async {
        let group = TaskGroup::<(), u32>::new();
        let abort = group.spawn(std::future::pending());
        group.spawn(async { Ok(1) });
        let early = group.spawn(async { Ok(2) });
        abort.abort_with("by hand");
        early.abort();
        let results = group.join().await.unwrap();
        assert!(results == [1] || results == [1, 2] || results == [2, 1], "{results:?}");
        let group = TaskGroup::<(), u32>::new();
        for _ in 0..10 {
            group.spawn(std::future::pending());
        }
        group.abort_all();
        assert_eq!(group.join().await.unwrap(), []);
    });
}

#[test]
fn results_come_in_the_order_of_their_completion() {
    in_a_worker(2, async {
        let group = TaskGroup::<(), usize>::new();
        let gates: Vec<Gate> = (0..5).map(|_| Gate::new()).collect();
        for (number, gate) in gates.iter().enumerate() {
            let opened = gate.opened();
            group.spawn(async move {
                opened.await;
                Ok(number)
            });
        }
        let mut results = std::pin::pin!(group.results());
        for number in [3, 0, 4, 2, 1] {
            gates[number].open();
            assert_eq!(results.next().await.unwrap().unwrap(), number);
        }
        assert!(results.next().await.is_none());
        // A stream that has ended goes on if there are children again.
        group.spawn(async { Ok(7) });
        assert_eq!(group.next().await.unwrap().unwrap(), 7);
        assert!(group.is_empty());
    });
}

#[test]
fn dropping_a_group_cancels_its_children_without_waiting() {
    with_runtime(2, |runtime| {
        let (probe, watch) = Probe::new([Step::Wait]);
        MARK.set(5);
        let group = runtime.block_on(async {
            let group = TaskGroup::<()>::new();
            MARK.set(6);
            let probe = probe.expecting(Some(6));
            group.spawn(async move {
                probe.await;
                Ok(())
            });
            group
        });
        idle(runtime);
        drop(group);
        idle(runtime);
        watch.assert_counts(1, 1);
    });
}

#[test]
fn a_limit_around_a_group_cancels_its_children() {
    with_runtime(2, |runtime| {
        let (probe, watch) = Probe::new([Step::Wait]);
        let limited = runtime.spawn(async move {
            let scope = TaskGroup::<()>::scope(async move |group| {
                group.spawn(async move {
                    probe.await;
                    Ok(())
                });
                Ok(())
            });
            wait_for(scope, Duration::from_millis(5)).await.is_err()
        });
        assert!(runtime.block_on(limited).unwrap());
        idle(runtime);
        watch.assert_sound();
        assert_eq!(watch.drops(), 1);
    });
}

#[test]
fn children_may_spawn_siblings() {
    in_a_worker(3, async {
        fn branch(group: GroupHandle<()>, depth: u32, count: Arc<AtomicUsize>) {
            let siblings = group.clone();
            group.spawn(async move {
                count.fetch_add(1, Ordering::SeqCst);
                if depth > 0 {
                    for _ in 0..3 {
                        branch(siblings.clone(), depth - 1, count.clone());
                    }
                }
                Ok(())
            });
        }
        let count = Arc::new(AtomicUsize::new(0));
        let group = TaskGroup::<()>::new();
        branch(group.handle(), 5, count.clone());
        group.join().await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), (3_usize.pow(6) - 1) / 2);
    });
}

#[test]
fn a_group_in_a_group_fails_upwards_and_cancels_downwards() {
    in_a_worker(2, async {
        let ledger = Ledger::new();
        let value = ledger.counted(1);
        let outcome = TaskGroup::<String>::scope(async |outer| {
            let inner = async move {
                let inner = TaskGroup::<String>::new();
                inner.spawn(async move {
                    let _value = value;
                    std::future::pending().await
                });
                inner.spawn(async { Err("from within".to_owned()) });
                match inner.join().await {
                    Err(GroupError::Failed(error)) => Err(error),
                    other => panic!("{other:?}"),
                }
            };
            outer.spawn(inner);
            outer.spawn(std::future::pending());
            Ok(())
        })
        .await;
        assert!(matches!(outcome, Err(GroupError::Failed(error)) if error == "from within"));
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_cancelled_child_of_a_runtime_that_ends_is_an_error_of_the_group() {
    heirloom_tests::watchdog(heirloom_tests::PATIENCE, || {
        let runtime = heirloom_tests::runtime(1);
        let group = runtime.block_on(async {
            let group = TaskGroup::<()>::new();
            group.spawn(std::future::pending());
            group
        });
        drop(runtime);
        match heirloom::block_on(group.join()) {
            Err(GroupError::Cancelled(reason)) => assert_eq!(reason, CancelReason::Shutdown),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_empty_group_is_over_at_once() {
    run(1, || async {
        assert_eq!(TaskGroup::<(), u32>::new().join().await.unwrap(), []);
        assert!(TaskGroup::<(), u32>::new().next().await.is_none());
        assert_eq!(TaskGroup::<()>::scope(async |_| Ok(1)).await.unwrap(), 1);
    });
}

#[test]
fn a_scope_that_is_a_task_may_be_aborted_at_any_time() {
    with_runtime(2, |runtime| {
        let ledger = Ledger::new();
        for round in 0..scaled(100) {
            let values = ledger.clone();
            let entered = Gate::new();
            let inside = entered.clone();
            let task = runtime.spawn(async move {
                TaskGroup::<()>::scope(async |group| {
                    for number in 0..5 {
                        let value = values.counted(number);
                        group.spawn(async move {
                            let _value = value;
                            sleep(LONG).await;
                            Ok(())
                        });
                    }
                    inside.open();
                    Ok(())
                })
                .await
            });
            if round % 2 == 0 {
                entered.wait();
            }
            task.abort();
            assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        }
        idle(runtime);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn one_waiter_per_result_however_many_wait() {
    in_a_worker(3, async {
        let group = Arc::new(TaskGroup::<(), usize>::new());
        let log = Log::new();
        let gate = Gate::new();
        for number in 0..30 {
            let opened = gate.opened();
            group.spawn(async move {
                opened.await;
                Ok(number)
            });
        }
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let (group, log) = (group.clone(), log.clone());
                spawn(async move {
                    while let Some(number) = group.next().await {
                        log.push(number.unwrap());
                    }
                })
            })
            .collect();
        yield_now().await;
        gate.open();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        let mut numbers = log.take();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    });
}

#[test]
fn a_scope_waits_for_its_children_also_when_a_destructor_panics() {
    /// Slow to end: its destructor waits for the gate.
    async fn slow(ended: Arc<AtomicUsize>, begun: Countdown, gate: Gate) -> Result<(), ()> {
        let _end = OnDrop::new(move || {
            gate.wait();
            ended.fetch_add(1, Ordering::SeqCst);
        });
        begun.arrive();
        std::future::pending().await
    }
    with_runtime(4, |runtime| {
        // That of the body, which is dropped at its `.await` because a child has failed.
        let (ended, begun, gate) = (Arc::new(AtomicUsize::new(0)), Countdown::new(2), Gate::new());
        let scope = runtime.spawn({
            let (ended, begun, gate) = (ended.clone(), begun.clone(), gate.clone());
            async move {
                TaskGroup::<()>::scope(async |group| {
                    let _panics = OnDrop::new({
                        let gate = gate.clone();
                        move || {
                            gate.open();
                            quiet_panic(SCRIPTED)
                        }
                    });
                    for _ in 0..2 {
                        group.spawn(slow(ended.clone(), begun.clone(), gate.clone()));
                    }
                    begun.done().await;
                    group.spawn(async { Err(()) });
                    std::future::pending().await
                })
                .await
            }
        });
        let error = runtime.block_on(scope).map(|_: Result<(), _>| ()).unwrap_err();
        assert_eq!((error.panic_message(), ended.load(Ordering::SeqCst)), (Some(SCRIPTED), 2));
        // That of a result which was not asked for.
        let (ended, begun, gate) = (Arc::new(AtomicUsize::new(0)), Countdown::new(2), Gate::new());
        let scope = runtime.spawn({
            let (ended, begun, gate) = (ended.clone(), begun.clone(), gate.clone());
            async move {
                TaskGroup::<(), Option<OnDrop>>::scope(async |group| {
                    for _ in 0..2 {
                        let slow = slow(ended.clone(), begun.clone(), gate.clone());
                        group.spawn(async { slow.await.map(|()| None) });
                    }
                    begun.done().await;
                    let opens = move || {
                        gate.open();
                        quiet_panic(SCRIPTED)
                    };
                    group.spawn(async { Ok(Some(OnDrop::new(opens))) });
                    Ok(())
                })
                .await
            }
        });
        let error = runtime.block_on(scope).map(|_| ()).unwrap_err();
        assert_eq!((error.panic_message(), ended.load(Ordering::SeqCst)), (Some(SCRIPTED), 2));
    });
}

#[test]
fn a_scope_in_a_task_may_have_types_with_lifetimes() {
    type Anything = Box<dyn std::error::Error + Send + Sync>;
    in_a_worker(2, async {
        let failed = spawn(async {
            TaskGroup::<Anything>::scope(async |group| {
                group.spawn(async { Ok("x".parse().map(|_: u32| ())?) });
                Ok(())
            })
            .await
        });
        assert!(matches!(failed.await.unwrap(), Err(GroupError::Failed(_))));
        let text = String::from("three");
        let lengths = spawn(async move {
            let texts = [&text[..], "four"];
            TaskGroup::<&'static str, Box<dyn Fn() -> usize + Send>>::scope(async |group| {
                for text in &texts {
                    let length = text.len();
                    group.spawn(async move { Ok(Box::new(move || length) as _) });
                }
                let mut sum = 0;
                while let Some(length) = group.next().await {
                    sum += length();
                }
                Ok(sum)
            })
            .await
        });
        assert_eq!(lengths.await.unwrap().unwrap(), 9);
    });
}

#[test]
fn what_is_kept_of_a_scope_spawns_nothing_more() {
    in_a_worker(1, async {
        let kept = TaskGroup::<()>::scope(async |group| {
            group.spawn(async { Ok(()) });
            Ok(group)
        });
        let kept = kept.await.unwrap();
        let (probe, watch) = Probe::new([Step::Wait]);
        let child = kept.spawn(async move {
            probe.await;
            Ok(())
        });
        while !child.is_finished() {
            yield_now().await;
        }
        watch.assert_counts(0, 1);
        assert_eq!(kept.next().await, None);
    });
}

/// Does something once, between the moment at which a group has reserved a child's place and the
/// one at which it gets to know the child: the hook is called by the spawner, in the middle of the
/// spawn.
#[derive(Clone, Default)]
struct Between(Arc<Mutex<Option<Act>>>);

type Act = Box<dyn FnOnce() + Send>;

impl Between {
    fn set(&self, act: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(act));
    }
}

impl Hooks for Between {
    fn on_spawn(&self, _: &TaskMeta, _: &Context) {
        let act = self.0.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
    }
}

#[test]
fn a_child_that_is_just_being_spawned_shares_the_fate_of_its_siblings() {
    // Of the kind: what is done to all children must reach those, too, that the group does not know
    // yet.
    watchdog(PATIENCE, || {
        let between = Between::default();
        let hooks = Arc::new(between.clone());
        let runtime = Runtime::builder().workers(2).hooks(hooks).build().unwrap();
        let child = |group: &GroupHandle<u32>| {
            let (probe, watch) = Probe::new([Step::Wait]);
            let child = runtime.block_on(async {
                group.spawn(async move {
                    probe.await;
                    Ok(())
                })
            });
            idle(&runtime);
            (child, watch)
        };
        // All are aborted: so is it, and the group has no error.
        let group = Arc::new(TaskGroup::<u32>::new());
        let aborting = group.clone();
        between.set(move || aborting.abort_all());
        let (handle, watch) = child(&group.handle());
        assert!(handle.is_finished(), "it goes on");
        assert_eq!(watch.drops(), 1);
        let group = Arc::into_inner(group).expect("the hook is over");
        assert!(runtime.block_on(group.join()).unwrap().is_empty());
        // Another one fails: this one is not even begun.
        let group = TaskGroup::<u32>::new();
        let gate = Gate::new();
        let opened = gate.opened();
        let failing = runtime.block_on(async {
            group.spawn(async move {
                opened.await;
                Err(7)
            })
        });
        between.set(move || {
            gate.open();
            while !failing.is_finished() {
                std::thread::yield_now();
            }
        });
        let (handle, watch) = child(&group.handle());
        assert!(handle.is_finished(), "it goes on");
        assert_eq!((watch.polls(), watch.drops()), (0, 1));
        assert!(matches!(runtime.block_on(group.join()), Err(GroupError::Failed(7))));
        // The group goes.
        let group = TaskGroup::<u32>::new();
        let left = group.handle();
        between.set(move || drop(group));
        let (handle, watch) = child(&left);
        assert!(handle.is_finished(), "it goes on");
        assert_eq!((watch.polls(), watch.drops()), (0, 1));
    });
}

#[test]
fn closures_that_block_are_children_as_futures_are() {
    in_a_worker(2, async {
        // They inherit at the call, and their results are the group's.
        let group = TaskGroup::<u32, Option<u64>>::new();
        MARK.set(7);
        group.spawn_blocking(|| Ok(MARK.get()));
        MARK.set(8);
        group.handle().spawn_blocking(|| Ok(MARK.get()));
        let mut seen = group.join().await.unwrap();
        seen.sort();
        assert_eq!(seen, [Some(7), Some(8)]);
        // Their error, or panic, is the group's, and cancels the siblings and the body.
        for panics in [false, true] {
            let ledger = Ledger::new();
            let held = ledger.counted(0);
            let outcome = TaskGroup::<u32>::scope(async |group| {
                group.spawn(async move {
                    let _held = held;
                    std::future::pending().await
                });
                group.spawn_blocking(move || if panics { quiet_panic(SCRIPTED) } else { Err(7) });
                std::future::pending::<Result<(), _>>().await
            });
            match outcome.await {
                Err(GroupError::Failed(error)) => assert!(!panics && error == 7),
                Err(GroupError::Panicked(error)) => {
                    assert!(panics && error.panic_message() == Some(SCRIPTED));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!((ledger.made(), ledger.alive()), (1, 0));
        }
    });
}

#[test]
fn a_group_waits_for_a_started_closure_and_starts_none_after_a_failure() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).max_blocking_threads(1).build().unwrap();
        let ended = Arc::new(AtomicUsize::new(0));
        let (start, started) = mpsc::channel();
        let (open, opened) = mpsc::channel::<()>();
        runtime.block_on(async {
            let group = TaskGroup::<u32>::new();
            let running = group.spawn_blocking({
                let ended = ended.clone();
                move || {
                    start.send(()).unwrap();
                    opened.recv().unwrap();
                    ended.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            });
            started.recv().unwrap();
            // One waits for the only thread while the group fails, one comes later.
            let ledger = Ledger::new();
            let late = || {
                let held = ledger.counted(0);
                group.spawn_blocking(move || {
                    drop(held);
                    panic!("called")
                })
            };
            let queued = late();
            let failing = group.spawn(async { Err(7) });
            while !failing.is_finished() {
                yield_now().await;
            }
            let later = late();
            running.abort();
            let mut join = std::pin::pin!(group.join());
            assert!(futures::poll!(join.as_mut()).is_pending(), "it has not waited");
            open.send(()).unwrap();
            assert!(matches!(join.await, Err(GroupError::Failed(7))));
            assert_eq!(ended.load(Ordering::Relaxed), 1);
            assert!(queued.is_finished() && later.is_finished());
            assert_eq!((ledger.made(), ledger.alive()), (2, 0));
        });
    });
}

#[test]
fn under_the_eager_flag_a_closure_runs_where_it_is_spawned() {
    let here = thread::current().id();
    let threads = run_eagerly(async {
        let group = TaskGroup::<u32, _>::new();
        let child = group.spawn_blocking(|| Ok(thread::current().id()));
        assert!(child.is_finished());
        group.join().await
    });
    assert_eq!(threads.unwrap(), [here]);
    let refused = try_run_eagerly(TaskGroup::<u32>::scope(async |group| {
        group.spawn_blocking(|| panic!("called"));
        Ok(())
    }));
    assert_eq!(refused.map(|_| ()).unwrap_err().leaf(), "spawn_blocking");
}
