//! What is spawned and limited in eager calls.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use heirloom::group::GroupError;
use heirloom::task::{CancelReason, LocalSet};
use heirloom::time::MissedTicks;
use heirloom::{
    CancelToken, Context, Handle, TaskGroup, block_on, deadline, interval, is_eager, run_eagerly, sleep,
    spawn, spawn_background, spawn_blocking, spawn_in, spawn_local, task, try_run_eagerly, wait_for,
    wait_until, yield_now,
};
use heirloom_tests::{
    Gate, Probe, SCRIPTED, Step, in_a_worker, occupy, outside, quiet_panic, run, with_runtime,
};

use super::eager::{LEVEL, LONG, SECRET, SHORT};

// ---- deadlines ----

#[test]
fn a_limit_ends_every_wait() {
    outside(|| {
        let begun = Instant::now();
        run_eagerly(async {
            assert!(wait_for(sleep(LONG), SHORT).await.is_err());
            assert!(wait_until(sleep(LONG), Instant::now() + SHORT).await.is_err());
            assert!(wait_for(pending::<()>(), SHORT).await.is_err());
            assert!(
                wait_for(interval(LONG).missed_tick_policy(MissedTicks::Skip).tick(), SHORT).await.is_ok()
            );
            assert!(wait_for(CancelToken::new().cancelled(), SHORT).await.is_err());
            assert!(wait_for(async { spawn(sleep(LONG)).await }, SHORT).await.is_err());
            assert!(wait_for(async { spawn(pending::<()>()).await }, SHORT).await.is_err());
            assert!(wait_for(async { spawn_local(sleep(LONG)).await }, SHORT).await.is_err());
            let grouped = async {
                TaskGroup::<()>::scope(async |group| {
                    group.spawn(async {
                        sleep(LONG).await;
                        Ok(())
                    });
                    Ok(())
                })
                .await
            };
            assert!(wait_for(grouped, SHORT).await.is_err());
            // Children of children, too.
            let nested = async { spawn(async { spawn(sleep(LONG)).await }).await };
            assert!(wait_for(nested, SHORT).await.is_err());
            // Through wakers of other crates.
            let all_of_them: futures::stream::FuturesUnordered<_> =
                (0..3).map(|_| wait_for(sleep(LONG), SHORT)).collect();
            let ends: Vec<_> = futures::StreamExt::collect(all_of_them).await;
            assert!(ends.iter().all(Result::is_err));
        });
        assert!(begun.elapsed() < LONG / 2);
    });
}

#[test]
fn a_limit_lets_pass_what_is_in_time() {
    outside(|| {
        run_eagerly(async {
            assert_eq!(wait_for(ready(7), Duration::ZERO).await, Ok(7));
            assert_eq!(wait_for(sleep(SHORT), LONG).await, Ok(()));
            assert!(wait_for(sleep(LONG), Duration::ZERO).await.is_err());
            assert_eq!(wait_for(async { spawn(sleep(SHORT)).await.unwrap() }, LONG).await, Ok(()));
            assert_eq!(wait_for(ready(7), Duration::MAX).await, Ok(7));
        });
    });
}

#[test]
fn of_nested_limits_the_inner_one_ends_at_its_own() {
    outside(|| {
        let end = run_eagerly(wait_for(
            async {
                let inner = wait_for(sleep(LONG), SHORT).await;
                (inner.is_err(), deadline().is_some())
            },
            LONG,
        ));
        assert_eq!(end, Ok((true, true)));
        // And the outer one is not mistaken for the inner one.
        let mut went_on = false;
        let end = run_eagerly(wait_for(
            async {
                let _ = wait_for(sleep(LONG), LONG).await;
                went_on = true;
            },
            SHORT,
        ));
        assert!(end.is_err() && !went_on);
    });
}

#[test]
fn a_limit_around_the_call_ends_the_limits_in_it_and_nothing_else() {
    run(1, || async {
        let inside = wait_for(
            async {
                run_eagerly(async {
                    let around = deadline();
                    assert!(around.is_some());
                    // It would wait for an hour, and so would all others.
                    assert!(wait_for(sleep(LONG), LONG).await.is_err());
                    assert!(wait_for(pending::<()>(), LONG).await.is_err());
                    assert!(wait_for(async { spawn(pending::<()>()).await }, LONG).await.is_err());
                    // Overdue, but a call returns nothing but its output.
                    let before = Instant::now();
                    sleep(SHORT).await;
                    spawn(sleep(SHORT)).await.unwrap();
                    assert!(before.elapsed() >= 2 * SHORT);
                    assert_eq!(deadline(), around);
                    7
                })
            },
            SHORT,
        );
        assert_eq!(inside.await, Ok(7));
        assert_eq!(deadline(), None);
    });
}

#[test]
fn blocking_ends_at_the_ambient_deadline_with_pending() {
    outside(|| {
        let mut polls = 0;
        let mut slow = Box::pin(sleep(LONG));
        let begun = Instant::now();
        let end = run_eagerly(wait_for(
            poll_fn(|cx| {
                polls += 1;
                assert!(slow.as_mut().poll(cx).is_pending());
                assert!(begun.elapsed() >= SHORT && begun.elapsed() < LONG / 2);
                Poll::<()>::Pending
            }),
            SHORT,
        ));
        assert!(end.is_err());
        assert_eq!(polls, 1, "the leaf has blocked, and nothing was polled twice");
    });
}

#[test]
fn a_child_whose_time_is_up_goes_on_as_any_other_task() {
    outside(|| {
        let (gate, is_open) = (Gate::new(), Gate::new());
        let (theirs, opened) = (gate.clone(), is_open.clone());
        let mut kept = None;
        let end = run_eagerly(wait_for(
            async {
                let child = spawn(async move {
                    LEVEL.set(7);
                    let before = is_eager();
                    theirs.opened().await;
                    opened.open();
                    (before, is_eager(), LEVEL.get())
                });
                assert!(!child.is_finished());
                kept = Some(child);
                pending::<()>().await;
            },
            SHORT,
        ));
        assert!(end.is_err());
        gate.open();
        is_open.wait();
        // Without the flag, in its own context.
        assert_eq!(block_on(kept.unwrap()).unwrap(), (true, false, Some(7)));
    });
}

// ---- tasks ----

#[test]
fn a_spawned_child_has_ended_in_its_own_context() {
    outside(|| {
        run_eagerly(async {
            LEVEL.set(1);
            SECRET.set(9);
            let child = spawn(async {
                let inherited = (LEVEL.get(), SECRET.get());
                LEVEL.set(2);
                sleep(SHORT).await;
                assert!(is_eager());
                (inherited, LEVEL.get())
            });
            assert!(child.is_finished());
            assert_eq!(LEVEL.get(), Some(1));
            assert_eq!(child.await.unwrap(), ((Some(1), None), Some(2)));
            let fresh = spawn_in(Context::empty(), async { LEVEL.get() });
            assert_eq!(fresh.await.unwrap(), None);
            let built = task::Builder::new()
                .overlay(Context::empty().with_var(&LEVEL, 5))
                .spawn(async { LEVEL.get() });
            assert_eq!(built.await.unwrap(), Some(5));
        });
    });
}

#[test]
fn a_childs_panic_becomes_its_join_error() {
    outside(|| {
        run_eagerly(async {
            let child = task::Builder::new().name("unlucky").spawn(async { quiet_panic(SCRIPTED) });
            assert!(child.is_finished() && is_eager());
            let error = child.await.unwrap_err();
            assert_eq!((error.panic_message(), error.task_name()), (Some(SCRIPTED), Some("unlucky")));
            // Also one that has waited before.
            let error = spawn(async {
                sleep(SHORT).await;
                quiet_panic(SCRIPTED)
            });
            assert!(error.await.unwrap_err().is_panic());
            let error = spawn_blocking(|| quiet_panic(SCRIPTED)).await.unwrap_err();
            assert!(error.is_panic());
        });
    });
}

#[test]
fn a_child_is_a_task_of_its_own() {
    with_runtime(1, |runtime| {
        let handle = runtime.handle().clone();
        runtime.block_on(async {
            run_eagerly(async {
                let named = task::Builder::new().name("child");
                let child = named.spawn(async move {
                    let me = task::current().unwrap();
                    let dumped = handle.dump();
                    let mine = dumped.iter().find(|task| task.id == me.id()).expect("it is in the dump");
                    (me.name().map(str::to_owned), mine.state)
                });
                let id = child.id();
                assert!(task::current().is_none_or(|task| task.id() != id));
                assert_eq!(child.await.unwrap(), (Some("child".to_owned()), task::TaskState::Running));
            });
        });
    });
}

#[test]
fn children_of_a_runtime_find_it() {
    with_runtime(1, |runtime| {
        let handle = runtime.handle().clone();
        let before = runtime.stats().workers[0].polls;
        run_eagerly(async {
            let inside = handle.spawn(async { Handle::current().is_some() });
            assert!(inside.await.unwrap());
            let closure = handle.spawn_blocking(is_eager);
            assert!(closure.is_finished() && closure.await.unwrap());
        });
        assert_eq!(runtime.stats().workers[0].polls, before, "no worker has polled anything");
        assert_eq!(runtime.stats().tasks, 0);
    });
}

#[test]
fn what_is_spawned_on_a_runtime_that_is_gone_is_cancelled() {
    outside(|| {
        let handle = heirloom_tests::runtime(1).handle().clone();
        let (probe, watch) = Probe::new([]);
        let error = run_eagerly(async { handle.spawn(probe).await }).unwrap_err();
        assert!(error.is_cancelled());
        watch.assert_counts(0, 1);
    });
}

#[test]
fn local_children_need_no_set_and_end_with_the_call() {
    outside(|| {
        let shared = Rc::new(Cell::new(1));
        let theirs = shared.clone();
        run_eagerly(async {
            LEVEL.set(1);
            let child = spawn_local(async move {
                sleep(SHORT).await;
                theirs.set(theirs.get() + LEVEL.get().unwrap());
            });
            assert!(child.is_finished());
            child.await.unwrap();
        });
        assert_eq!(shared.get(), 2);
        // One that has not ended is dropped here, on its thread, at the end of the call.
        let theirs = shared.clone();
        let mut kept = None;
        let end = run_eagerly(wait_for(
            async {
                kept = Some(spawn_local(async move {
                    pending::<()>().await;
                    drop(theirs);
                }));
                pending::<()>().await;
            },
            SHORT,
        ));
        assert!(end.is_err());
        assert_eq!(Rc::strong_count(&shared), 1);
        assert!(run_eagerly(kept.unwrap()).unwrap_err().is_cancelled());
        // In a set they belong to it.
        let set = LocalSet::new();
        assert_eq!(set.block_on(async { run_eagerly(async { spawn_local(ready(7)).await }) }).unwrap(), 7);
    });
}

#[test]
fn a_background_task_is_never_inline() {
    // A runtime with one worker, which is busy with the eager call: only the default runtime can
    // run it.
    let elsewhere = in_a_worker(1, async {
        LEVEL.set(1);
        let here = std::thread::current().id();
        run_eagerly(async move {
            let (send, receive) = oneshot::channel();
            spawn_background(async move {
                send.send((std::thread::current().id() != here, is_eager(), LEVEL.get())).unwrap();
            });
            receive.await.unwrap()
        })
    });
    assert_eq!(elsewhere, (true, false, None));
}

#[test]
fn a_group_has_ended_when_it_is_asked() {
    outside(|| {
        let sum = run_eagerly(TaskGroup::<GroupError<()>, u32>::scope(async |group| {
            for number in 1..=4 {
                group.spawn(async move {
                    sleep(Duration::from_millis(1)).await;
                    Ok(number)
                });
            }
            let mut sum = 0;
            while let Some(number) = group.next().await {
                sum += number;
            }
            Ok(sum)
        }));
        assert_eq!(sum.unwrap(), 10);
        let (never, watch) = Probe::new([]);
        let failed = run_eagerly(async {
            let group = TaskGroup::<&str>::new();
            group.spawn(async { Err("first") });
            group.spawn(async {
                never.await;
                Ok(())
            });
            group.join().await
        });
        assert!(matches!(failed, Err(GroupError::Failed("first"))));
        watch.assert_counts(0, 1);
        let panicked = run_eagerly(async {
            let group = TaskGroup::<()>::new();
            group.spawn(async { quiet_panic(SCRIPTED) });
            group.join().await
        });
        assert!(matches!(panicked, Err(GroupError::Panicked(_))));
    });
}

#[test]
fn a_token_is_waited_for() {
    outside(|| {
        let token = CancelToken::new();
        let theirs = token.clone();
        let (probe, watch) = Probe::new([Step::Wait, Step::Wait]);
        let thread = std::thread::spawn(move || {
            while watch.polls() == 0 {
                std::thread::yield_now();
            }
            theirs.cancel("enough");
            watch
        });
        assert_eq!(run_eagerly(token.run_until_cancelled(probe)), None);
        assert_eq!(run_eagerly(token.cancelled()), CancelReason::from("enough"));
        let watch = thread.join().unwrap();
        // It may have been told in the middle of the first poll.
        let polls = watch.polls();
        assert!((1..=2).contains(&polls), "{polls}");
        watch.assert_counts(polls, 1);
    });
}

#[test]
fn a_task_spawned_before_is_joined_by_a_thread_that_may_wait() {
    with_runtime(1, |runtime| {
        let gate = Gate::new();
        let theirs = gate.clone();
        let task = runtime.spawn(async move {
            theirs.opened().await;
            7
        });
        let opener = runtime.spawn(async move { gate.open() });
        assert_eq!(run_eagerly(task).unwrap(), 7);
        run_eagerly(opener).unwrap();
        // And cut by a limit.
        let never = runtime.spawn(pending::<()>());
        assert!(run_eagerly(wait_for(never, SHORT)).is_err());
    });
}

#[test]
fn joining_a_queued_task_on_a_worker_is_a_clear_error() {
    let message = in_a_worker(1, async {
        let queued = spawn(ready(7));
        let joined = catch_unwind(AssertUnwindSafe(|| run_eagerly(queued)));
        assert!(!is_eager());
        let panic = joined.map(|_| ()).unwrap_err();
        panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref().cloned())
    });
    let message = message.expect("a message");
    assert!(message.contains("run_eagerly") && message.contains(".await"), "{message}");
    // A call that never waits blocks no thread; what has ended can be joined anywhere; nor does a
    // limit hang that has passed.
    in_a_worker(1, async {
        let mut queued = spawn(ready(7));
        assert_eq!(try_run_eagerly(&mut queued).unwrap_err().leaf(), "JoinHandle");
        assert!(run_eagerly(wait_for(&mut queued, Duration::ZERO)).is_err());
        while !queued.is_finished() {
            yield_now().await;
        }
        assert_eq!(run_eagerly(queued).unwrap(), 7);
    });
    // A child whose time is up is queued on this worker; its limit ends all the same.
    in_a_worker(1, async {
        assert!(run_eagerly(wait_for(async { spawn(sleep(LONG)).await }, SHORT)).is_err());
    });
}

#[test]
fn a_detached_child_has_ended_too() {
    outside(|| {
        let (probe, watch) = Probe::new([Step::Yield]);
        run_eagerly(async { spawn(probe).detach() });
        watch.assert_counts(2, 1);
    });
}

#[test]
fn eager_calls_run_beside_busy_workers() {
    with_runtime(1, |runtime| {
        let occupied = occupy(runtime, 1);
        let output = runtime.block_on(async {
            run_eagerly(async {
                let child = spawn(async { spawn(ready(7)).await.unwrap() });
                child.await.unwrap()
            })
        });
        assert_eq!(output, 7);
        occupied.release();
    });
}

// ---- a worker that is blocked ----

/// What the worker alone could take is shown to its sibling before it is blocked: it may be what
/// the call waits for.
#[test]
fn a_call_that_blocks_a_worker_keeps_no_task_from_the_others() {
    in_a_worker(2, async {
        let (tell, told) = oneshot::channel();
        spawn(async move { tell.send(7) }).detach();
        assert_eq!(run_eagerly(told), Ok(7));

        let (probe, watch) = Probe::returning((), [Step::Wait]);
        let (tell, told) = oneshot::channel();
        spawn(async move {
            probe.await;
            tell.send(8)
        })
        .detach();
        while watch.polls() == 0 {
            yield_now().await;
        }
        assert!(watch.wake());
        assert_eq!(run_eagerly(told), Ok(8));

        let task = spawn(async {});
        run_eagerly(async {
            while !task.is_finished() {
                sleep(SHORT).await;
            }
        });
    });
}

#[test]
fn a_child_whose_runtime_ends_meanwhile_is_polled_no_more() {
    with_runtime(1, |runtime| {
        let handle = runtime.handle().clone();
        let (probe, watch) = Probe::new([Step::Wait, Step::Wait]);
        let caller = std::thread::spawn(move || run_eagerly(async move { handle.spawn(probe).await }));
        while watch.polls() == 0 {
            std::thread::yield_now();
        }
        let report = runtime.handle().shutdown(Duration::ZERO);
        assert_eq!(report.still_running().len(), 1, "{report:?}");
        watch.wake();
        assert_eq!(caller.join().unwrap().unwrap_err().reason(), Some(&CancelReason::Shutdown));
        watch.assert_counts(1, 1);
    });
}
