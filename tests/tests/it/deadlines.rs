//! The ambient deadline: it follows ownership, the nearest one holds, and only `wait_for` cuts.

use std::time::{Duration, Instant};

use heirloom::context::ContextFutureExt;
use heirloom::{
    Context, TaskGroup, deadline, remaining, sleep, spawn, spawn_background, spawn_blocking, spawn_in, task,
    wait_for, wait_until, yield_now,
};
use heirloom_tests::{Gate, Log, in_a_worker, run, watchdog};

const LONG: Duration = Duration::from_secs(3_600);

/// An instant that comes back exactly: what is kept may be coarser than the clock.
fn in_an_hour() -> Instant {
    Instant::now() + LONG
}

/// Deadlines are kept with a resolution; two that differ by less than a second are the same here.
#[track_caller]
fn assert_same(seen: Option<Instant>, expected: Instant) {
    let seen = seen.expect("there is a deadline");
    let apart = seen.max(expected) - seen.min(expected);
    assert!(apart < Duration::from_secs(1), "{apart:?} apart");
}

#[test]
fn without_a_limit_there_is_no_deadline() {
    assert_eq!((deadline(), remaining()), (None, None));
    in_a_worker(1, async {
        assert_eq!((deadline(), remaining()), (None, None));
        // A limit without end is none.
        assert_eq!(wait_for(async { deadline() }, Duration::MAX).await, Ok(None));
    });
}

#[test]
fn a_limit_is_the_deadline_while_its_operand_is_polled() {
    run(1, || async {
        let at = in_an_hour();
        let inside = wait_until(
            async {
                let first = deadline();
                yield_now().await;
                assert_eq!(deadline(), first);
                (first, remaining())
            },
            at,
        );
        let (seen, left) = inside.await.unwrap();
        assert_same(seen, at);
        assert!(left.is_some_and(|left| left <= LONG && left > LONG / 2));
        assert_eq!(deadline(), None);
        assert_same(wait_for(async { deadline() }, LONG).await.unwrap(), at);
    });
}

#[test]
fn of_nested_limits_the_nearest_one_is_the_deadline() {
    in_a_worker(1, async {
        let (near, far) = (in_an_hour(), in_an_hour() + LONG);
        let seen = wait_until(wait_until(async { deadline() }, near), far).await.unwrap().unwrap();
        assert_same(seen, near);
        let nested = async {
            let inside = wait_until(async { deadline() }, far).await.unwrap();
            (inside, deadline())
        };
        let (inside, after) = wait_until(nested, near).await.unwrap();
        assert_same(inside, near);
        assert_same(after, near);
    });
}

#[test]
fn a_deadline_that_has_passed_cuts_nothing_by_itself() {
    in_a_worker(2, async {
        // The inner operand notices; the limit it belongs to has no turn before it is done with its
        // poll.
        let passed = wait_until(
            async {
                while remaining().unwrap() > Duration::ZERO {
                    std::hint::spin_loop();
                }
                assert!(deadline().unwrap() <= Instant::now());
                7
            },
            Instant::now() + Duration::from_millis(5),
        );
        assert_eq!(passed.await, Ok(7));
        // A task that takes the deadline along is not cut when it passes.
        let gate = Gate::new();
        let opened = gate.opened();
        let task = wait_for(
            async move {
                spawn(async move {
                    opened.await;
                    (remaining(), 8)
                })
            },
            Duration::from_millis(1),
        );
        let task = task.await.unwrap();
        sleep(Duration::from_millis(5)).await;
        gate.open();
        assert_eq!(task.await.unwrap(), (Some(Duration::ZERO), 8));
    });
}

#[test]
fn a_spawned_task_takes_the_deadline_of_the_spawn_call() {
    in_a_worker(2, async {
        let at = in_an_hour();
        // The limit around the handle belongs to the wait, not to the task.
        assert_eq!(wait_until(spawn(async { deadline() }), at).await.unwrap().unwrap(), None);
        let owned = async {
            let outer = spawn(async { deadline() });
            let nearer = wait_for(spawn(async { deadline() }), LONG / 2);
            // Whatever context it is given.
            let explicit = spawn_in(Context::empty(), async { deadline() });
            let built = task::Builder::new().context(Context::empty()).spawn(async { deadline() });
            let grandchild = spawn(async { spawn(async { deadline() }).await.unwrap() });
            let seen = [
                outer.await.unwrap(),
                nearer.await.unwrap().unwrap(),
                explicit.await.unwrap(),
                built.await.unwrap(),
                grandchild.await.unwrap(),
                async { deadline() }.in_context(Context::empty()).await,
                async { deadline() }.isolated().await,
                Context::empty().run(deadline),
            ];
            for seen in seen {
                assert_same(seen, at);
            }
        };
        wait_until(owned, at).await.unwrap();
    });
}

#[test]
fn a_blocking_closure_takes_the_deadline_of_the_spawn_call() {
    in_a_worker(2, async {
        let at = in_an_hour();
        let seen = wait_until(async { spawn_blocking(deadline).await.unwrap() }, at).await.unwrap();
        assert_same(seen, at);
        assert_eq!(spawn_blocking(deadline).await.unwrap(), None);
    });
}

#[test]
fn children_of_a_group_take_the_deadline_of_the_spawn_call() {
    in_a_worker(2, async {
        let at = in_an_hour();
        let group = TaskGroup::<(), (bool, Option<Instant>)>::new();
        group.spawn(async { Ok((false, deadline())) });
        wait_until(
            async {
                group.spawn(async { Ok((true, deadline())) });
            },
            at,
        )
        .await
        .unwrap();
        let mut seen = group.join().await.unwrap();
        seen.sort_by_key(|(limited, _)| *limited);
        assert_eq!(seen[0].1, None);
        assert_same(seen[1].1, at);
    });
}

#[test]
fn detaching_drops_the_deadline_from_then_on() {
    in_a_worker(2, async {
        let (log, gate, done) = (Log::new(), Gate::new(), Gate::new());
        let at = in_an_hour();
        let first = Gate::new();
        let task = wait_until(
            {
                let (log, gate, done, first) = (log.clone(), gate.clone(), done.clone(), first.clone());
                async move {
                    spawn(async move {
                        log.push(deadline());
                        first.open();
                        gate.opened().await;
                        log.push(deadline());
                        log.push(spawn(async { deadline() }).await.unwrap());
                        done.open();
                    })
                }
            },
            at,
        )
        .await
        .unwrap();
        first.opened().await;
        task.detach();
        gate.open();
        done.opened().await;
        let seen = log.take();
        assert_same(seen[0], at);
        assert_eq!(seen[1..], [None, None]);
    });
}

#[test]
fn a_task_that_is_detached_before_its_first_poll_never_sees_the_deadline() {
    in_a_worker(1, async {
        let (log, done) = (Log::new(), Gate::new());
        let (told, opened) = (log.clone(), done.clone());
        let limited = async move {
            spawn(async move {
                told.push(deadline());
                opened.open();
            })
            .detach();
        };
        wait_for(limited, LONG).await.unwrap();
        done.opened().await;
        assert_eq!(log.take(), [None]);
    });
}

#[test]
fn a_background_task_has_no_deadline() {
    in_a_worker(2, async {
        let (log, done) = (Log::new(), Gate::new());
        let (told, opened) = (log.clone(), done.clone());
        let limited = async move {
            spawn_background(async move {
                told.push(deadline());
                opened.open();
            });
        };
        wait_for(limited, LONG).await.unwrap();
        done.opened().await;
        assert_eq!(log.take(), [None]);
    });
}

#[test]
fn a_stream_step_is_under_the_limit_of_its_consumer() {
    use futures::StreamExt;
    in_a_worker(1, async {
        let mut stream = std::pin::pin!(futures::stream::unfold((), |()| async {
            yield_now().await;
            Some((deadline(), ()))
        }));
        let at = in_an_hour();
        assert_eq!(stream.next().await.unwrap(), None);
        assert_same(wait_until(stream.next(), at).await.unwrap().unwrap(), at);
        assert_eq!(stream.next().await.unwrap(), None);
        // What a generator opens inside does not leak to its consumer.
        let mut limited = std::pin::pin!(futures::stream::unfold((), |()| async {
            Some((wait_for(async { deadline() }, LONG).await.unwrap(), ()))
        }));
        assert!(limited.next().await.unwrap().is_some());
        assert_eq!(deadline(), None);
    });
}

#[test]
fn a_panic_under_a_limit_puts_the_deadline_back() {
    use futures::FutureExt;
    in_a_worker(1, async {
        let panicking = wait_for(async { heirloom_tests::quiet_panic("under a limit") }, LONG);
        assert!(std::panic::AssertUnwindSafe(panicking).catch_unwind().await.is_err());
        assert_eq!(deadline(), None);
        let task = spawn(wait_for(async { heirloom_tests::quiet_panic("in a task") }, LONG));
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(spawn(async { deadline() }).await.unwrap(), None);
    });
}

#[test]
fn a_thread_that_blocks_under_a_limit_sees_it() {
    watchdog(heirloom_tests::PATIENCE, || {
        let at = in_an_hour();
        heirloom::block_on(wait_until(
            async {
                let nested = spawn_blocking(|| heirloom::block_on(async { deadline() }));
                assert_same(nested.await.unwrap(), at);
            },
            at,
        ))
        .unwrap();
    });
}
