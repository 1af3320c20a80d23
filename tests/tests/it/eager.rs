//! Async code that is run synchronously.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use heirloom::context::ContextFutureExt;
use heirloom::eager::WouldSuspend;
use heirloom::task::{CancelReason, LocalSet};
use heirloom::time::MissedTicks;
use heirloom::{
    CancelToken, Context, Handle, block_on, context_var, interval, is_eager, run_eagerly, sleep, sleep_until,
    spawn, spawn_blocking, spawn_local, task, try_run_eagerly, wait_for, yield_now,
};
use heirloom_tests::{
    Gate, Probe, SCRIPTED, Step, in_a_worker, in_child, outside, quiet_panic, run, say_as_child,
    threads_named, wait_until, with_runtime,
};

pub(crate) const SHORT: Duration = Duration::from_millis(5);
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

context_var! {
    pub(crate) static LEVEL: u32;
    pub(crate) static SECRET: u32, inherit = Never;
}

// ---- the call ----

#[test]
fn a_call_needs_no_runtime() {
    // In a process of its own, where no other test has started the default runtime.
    if !in_child("eager::a_call_needs_no_runtime", false).is_here() {
        return;
    }
    let output = run_eagerly(async {
        sleep(SHORT).await;
        let child = spawn(async { spawn_blocking(|| 6).await.unwrap() + 1 });
        let local = spawn_local(async { 1 });
        assert!(wait_for(sleep(LONG), SHORT).await.is_err());
        assert!(wait_for(pending::<()>(), SHORT).await.is_err());
        assert!(Handle::current().is_none());
        child.await.unwrap() * local.await.unwrap()
    });
    assert_eq!(output, 7);
    assert!(try_run_eagerly(async { spawn(sleep(LONG)).await }).is_err());
    assert_eq!(threads_named("heirloom").unwrap_or(0), 0);
    // It would have been seen. (A thread takes its name only when it runs.)
    spawn(async {}).detach();
    assert!(wait_until(|| threads_named("heirloom") != Some(0)));
    say_as_child();
}

#[test]
fn the_future_runs_on_the_calling_thread_and_may_borrow() {
    outside(|| {
        let here = std::thread::current().id();
        let mut count = Rc::new(1);
        let count_ref = &mut count;
        let there = run_eagerly(async move {
            *Rc::get_mut(count_ref).unwrap() += 1;
            spawn(async { std::thread::current().id() }).await.unwrap()
        });
        assert_eq!((there, *count), (here, 2));
    });
}

#[test]
fn what_is_set_inside_is_gone_afterwards() {
    outside(|| {
        LEVEL.set(1);
        let inside = run_eagerly(async {
            let before = LEVEL.get();
            LEVEL.set(2);
            // The same task: awaiting shares, and so do the levels of the call.
            async { LEVEL.set(LEVEL.get().unwrap() + 1) }.await;
            (before, LEVEL.get())
        });
        assert_eq!(inside, (Some(1), Some(3)));
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn the_flag_is_the_calls() {
    outside(|| {
        assert!(!is_eager());
        run_eagerly(async {
            assert!(is_eager());
            // Contexts have nothing to do with it.
            Context::empty().run(|| assert!(is_eager()));
            async { assert!(is_eager()) }.in_context(Context::empty()).await;
            async { assert!(is_eager()) }.isolated().await;
        });
        assert!(!is_eager());
        let panicked = catch_unwind(|| run_eagerly(async { quiet_panic(SCRIPTED) }));
        assert!(panicked.is_err());
        assert!(!is_eager());
        assert!(try_run_eagerly(pending::<()>()).is_err());
        assert!(!is_eager());
    });
}

#[test]
fn a_panic_leaves_the_callers_context_and_drops_the_future_inside() {
    outside(|| {
        LEVEL.set(1);
        let (probe, watch) = Probe::new([Step::Panic]);
        let result = catch_unwind(AssertUnwindSafe(|| {
            run_eagerly(async {
                heirloom_tests::MARK.set(7);
                LEVEL.set(2);
                probe.expecting(Some(7)).await;
            })
        }));
        assert_eq!(result.unwrap_err().downcast_ref(), Some(&SCRIPTED));
        assert_eq!((LEVEL.get(), heirloom_tests::MARK.get()), (Some(1), None));
        watch.assert_counts(1, 1);
    });
}

#[test]
fn nested_calls_add_nothing() {
    outside(|| {
        LEVEL.set(1);
        let seen = run_eagerly(async {
            LEVEL.set(2);
            let inner = run_eagerly(async {
                LEVEL.set(3);
                sleep(SHORT).await;
                is_eager()
            });
            // The inner one has taken nothing away.
            sleep(SHORT).await;
            (inner, is_eager(), LEVEL.get())
        });
        assert_eq!(seen, (true, true, Some(2)));
    });
}

#[test]
fn a_block_on_inside_is_a_nested_call() {
    outside(|| {
        let eager = run_eagerly(async {
            block_on(async {
                let child = spawn(async { is_eager() });
                assert!(child.is_finished());
                wait_for(pending::<()>(), SHORT).await.unwrap_err();
                child.await.unwrap()
            })
        });
        assert!(eager);
    });
    // On a worker, too, where it is refused otherwise.
    assert_eq!(
        in_a_worker(1, async { run_eagerly(async { block_on(async { spawn(ready(7)).await }) }) }).unwrap(),
        7
    );
}

#[test]
fn a_task_spawned_before_is_not_eager() {
    with_runtime(1, |runtime| {
        let gate = Gate::new();
        let asked = gate.clone();
        let before = runtime.spawn(async move {
            asked.opened().await;
            yield_now().await;
            is_eager()
        });
        let eager = runtime.block_on(async {
            run_eagerly(async {
                gate.open();
                before.await.unwrap()
            })
        });
        assert!(!eager);
    });
    // Also if it is polled by this very call.
    outside(|| {
        let set = LocalSet::new();
        let before = set.spawn_local(async {
            yield_now().await;
            is_eager()
        });
        assert!(!run_eagerly(set.run_until(before)).unwrap());
    });
}

// ---- leaves ----

#[test]
fn a_sleep_is_ready_at_its_first_poll() {
    outside(|| {
        let before = Instant::now();
        run_eagerly(poll_fn(|cx| {
            let mut sleep = pin!(sleep(SHORT));
            assert!(sleep.as_mut().poll(cx).is_ready());
            assert!(sleep.as_mut().poll(cx).is_ready(), "and stays so");
            Poll::Ready(())
        }));
        assert!(before.elapsed() >= SHORT);
        let at = Instant::now() + SHORT;
        run_eagerly(sleep_until(at));
        assert!(Instant::now() >= at);
    });
}

#[test]
fn a_sleep_that_was_begun_asynchronously_ends_eagerly() {
    run(1, || async {
        let before = Instant::now();
        let mut sleep = Box::pin(sleep(SHORT));
        assert!(futures::poll!(sleep.as_mut()).is_pending());
        run_eagerly(sleep);
        assert!(before.elapsed() >= SHORT);
    });
}

#[test]
fn an_interval_ticks() {
    outside(|| {
        let before = Instant::now();
        run_eagerly(async {
            let mut interval = interval(SHORT).missed_tick_policy(MissedTicks::Burst);
            let first = interval.tick().await;
            assert_eq!(interval.tick().await, first + SHORT);
            assert_eq!(interval.tick().await, first + 2 * SHORT);
        });
        assert!(before.elapsed() >= 2 * SHORT);
    });
}

#[test]
fn a_foreign_leaf_parks_the_thread_until_it_is_woken() {
    outside(|| {
        let (send, receive) = oneshot::channel();
        let (asked, is_asked) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            is_asked.recv().unwrap();
            send.send(7).unwrap();
        });
        let mut receive = receive;
        let mut polls = 0;
        let output = run_eagerly(poll_fn(|cx| {
            polls += 1;
            let poll = Pin::new(&mut receive).poll(cx);
            if polls == 1 {
                assert!(poll.is_pending());
                asked.send(()).unwrap();
            }
            poll
        }));
        assert_eq!((output, polls), (Ok(7), 2));
        thread.join().unwrap();
    });
}

#[test]
fn wake_ups_of_every_kind_lead_to_a_poll() {
    outside(|| {
        let (probe, watch) = Probe::new([Step::Yield, Step::WokenElsewhere, Step::Yield]);
        run_eagerly(probe);
        watch.assert_counts(4, 1);
    });
}

#[test]
fn a_waker_may_outlive_its_call_and_wakes_no_other() {
    outside(|| {
        let keep = || run_eagerly(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
        let kept: Vec<Waker> = (0..3).map(|_| keep()).collect();
        let (probe, watch) = Probe::new([Step::Wait]);
        kept.iter().for_each(Waker::wake_by_ref);
        let waking = watch.clone();
        let mut probe = probe;
        run_eagerly(poll_fn(|cx| {
            let poll = Pin::new(&mut probe).poll(cx);
            if waking.polls() == 1 {
                kept.iter().for_each(Waker::wake_by_ref);
                assert!(waking.wake());
            }
            poll
        }));
        watch.assert_counts(2, 0);
        drop(kept);
    });
}

#[test]
fn a_call_on_a_worker_takes_no_wake_up_of_its_task() {
    // The task is woken while it runs an eager call that waits for something else: it must be
    // polled again.
    with_runtime(1, |runtime| {
        let (probe, watch) = Probe::new([Step::Wait]);
        let mut probe = probe;
        let mut called = false;
        let theirs = watch.clone();
        let task = runtime.spawn(poll_fn(move |cx| {
            let poll = Pin::new(&mut probe).poll(cx);
            if !std::mem::replace(&mut called, true) {
                let (inner, inner_watch) = Probe::new([Step::WokenElsewhere]);
                let waker = cx.waker().clone();
                std::thread::spawn(move || waker.wake()).join().unwrap();
                run_eagerly(inner);
                inner_watch.assert_counts(2, 1);
            }
            poll
        }));
        runtime.block_on(task).unwrap();
        assert_eq!(theirs.polls(), 2);
    });
}

#[test]
fn branches_get_their_turn() {
    outside(|| {
        let (send, receive) = oneshot::channel();
        let token = CancelToken::new();
        let branches = futures::future::join3(async { receive.await.unwrap() }, token.cancelled(), async {
            token.cancel("enough");
            send.send(7).unwrap();
        });
        assert_eq!(run_eagerly(branches), (7, CancelReason::from("enough"), ()));
    });
}

#[test]
fn yielding_suspends_nothing() {
    outside(|| {
        assert_eq!(try_run_eagerly(yield_now()), Ok(()));
        run_eagerly(async {
            for _ in 0..1_000 {
                yield_now().await;
            }
        });
        // Nor does the budget: a poll that has spent it is followed by the next one.
        assert_eq!(run_eagerly(async { task::budget::remaining() }), Some(128));
        let spent = in_a_worker(1, async {
            let before = task::budget::remaining();
            run_eagerly(async {
                let child = spawn(async {
                    for _ in 0..1_000 {
                        futures::future::poll_fn(task::budget::consume).await;
                    }
                });
                child.await.unwrap();
            });
            before == task::budget::remaining()
        });
        assert!(spent, "an eager call costs no budget");
    });
}

// ---- without waiting ----

#[test]
fn a_try_tells_which_leaf_would_have_suspended() {
    fn leaf<F: Future>(future: F) -> &'static str {
        match try_run_eagerly(future) {
            Ok(_) => "none",
            Err(error) => error.leaf(),
        }
    }
    outside(|| {
        assert_eq!(try_run_eagerly(async { 7 }), Ok(7));
        let begun = Instant::now();
        assert_eq!(leaf(sleep(LONG)), "sleep");
        assert_eq!(leaf(sleep(Duration::ZERO)), "none");
        assert_eq!(leaf(async { interval(LONG).tick().await }), "none");
        assert_eq!(
            leaf(async {
                let mut interval = interval(LONG);
                interval.tick().await;
                interval.tick().await
            }),
            "interval"
        );
        assert_eq!(leaf(wait_for(sleep(LONG), LONG)), "sleep");
        assert_eq!(leaf(wait_for(sleep(LONG), Duration::ZERO)), "none");
        assert_eq!(leaf(CancelToken::new().cancelled()), "CancelToken::cancelled");
        assert_eq!(leaf(pending::<()>()), "foreign future");
        assert_eq!(leaf(async { spawn(ready(1)).await }), "none");
        assert_eq!(leaf(async { spawn(sleep(LONG)).await.unwrap() }), "sleep");
        assert_eq!(
            leaf(async { spawn(async { spawn(sleep(LONG)).await.unwrap() }).await.unwrap() }),
            "sleep"
        );
        assert_eq!(leaf(async { spawn_blocking(|| 1).await.unwrap() }), "spawn_blocking");
        assert_eq!(leaf(async { spawn_local(sleep(LONG)).await.unwrap() }), "sleep");
        // A select that is ready without it has not suspended.
        assert_eq!(leaf(futures::future::select(pin!(sleep(LONG)), ready(1))), "none");
        assert!(begun.elapsed() < LONG / 2);
    });
}

#[test]
fn a_try_polls_once_and_drops_what_it_has_begun() {
    outside(|| {
        let (probe, watch) = Probe::new([Step::Yield]);
        assert!(try_run_eagerly(probe).is_err());
        watch.assert_counts(1, 1);
        // Also what was let go: it could go on nowhere.
        let (child, child_watch) = Probe::new([Step::Wait]);
        let mut went_on = false;
        let result = try_run_eagerly(async {
            spawn(child).detach();
            went_on = true;
        });
        assert!(result.is_err() && went_on);
        child_watch.assert_counts(1, 1);
        // A closure that may block is not begun.
        let ran = Arc::new(AtomicBool::new(false));
        let theirs = ran.clone();
        let error = try_run_eagerly(async { spawn_blocking(move || theirs.store(true, Relaxed)).detach() });
        assert_eq!(error.unwrap_err().leaf(), "spawn_blocking");
        assert!(!ran.load(Relaxed) && Arc::strong_count(&ran) == 1);
    });
}

#[test]
fn a_try_that_stands_in_a_call_leaves_it_as_it_was() {
    outside(|| {
        run_eagerly(async {
            assert_eq!(try_run_eagerly(sleep(LONG)).unwrap_err().leaf(), "sleep");
            sleep(SHORT).await;
            assert!(spawn(sleep(SHORT)).is_finished());
        });
        // The other way round, a blocking function that is called blocks.
        let nested = try_run_eagerly(async {
            run_eagerly(sleep(SHORT));
            try_run_eagerly(sleep(LONG)).is_err()
        });
        assert_eq!(nested, Ok(true));
    });
}

#[test]
fn would_suspend_is_an_error() {
    fn is_error<E: std::error::Error + Send + Sync + Clone + 'static>(_: &E) {}
    let error: WouldSuspend = outside(|| try_run_eagerly(sleep(LONG)).unwrap_err());
    is_error(&error);
    assert_eq!(error.to_string(), "`sleep` would have suspended the call");
}

// ---- odds and ends ----

#[test]
fn the_flag_by_hand_under_a_foreign_executor() {
    use heirloom::context::raw;
    outside(|| {
        let before = raw::set_execution(raw::Execution::NONE.with_eager(true));
        // Leaves block; every waker that must be called is called.
        futures::executor::block_on(async {
            sleep(SHORT).await;
            assert!(wait_for(sleep(LONG), SHORT).await.is_err());
            assert!(wait_for(pending::<()>(), SHORT).await.is_err());
            assert!(spawn(async { wait_for(pending::<()>(), SHORT).await.is_err() }).await.unwrap());
        });
        raw::set_execution(before);
    });
    // The other way round: a foreign executor in an eager call.
    outside(|| {
        let end = run_eagerly(async {
            futures::executor::block_on(async { wait_for(pending::<()>(), SHORT).await.is_err() })
        });
        assert!(end);
    });
}

#[test]
fn a_thread_that_is_torn_down_may_call() {
    struct Late(mpsc::Sender<u32>);
    impl Drop for Late {
        fn drop(&mut self) {
            let output = run_eagerly(async {
                sleep(Duration::from_millis(1)).await;
                assert!(wait_for(pending::<()>(), Duration::from_millis(1)).await.is_err());
                let (probe, watch) = Probe::new([Step::WokenElsewhere]);
                probe.await;
                assert_eq!(watch.polls(), 2);
                let local = spawn_local(async { 3 }).await.unwrap();
                spawn(async { spawn_blocking(|| 4).await.unwrap() }).await.unwrap() + local
            });
            let refused = try_run_eagerly(async { spawn(sleep(LONG)).await.unwrap() });
            assert!(refused.is_err());
            self.0.send(output).unwrap();
        }
    }
    thread_local! {
        static LATE: Cell<Option<Late>> = const { Cell::new(None) };
    }
    outside(|| {
        for used_before in [false, true] {
            let (send, receive) = mpsc::channel();
            std::thread::spawn(move || {
                LATE.set(Some(Late(send)));
                if used_before {
                    // Whatever it uses was used, and is torn down first.
                    run_eagerly(async {
                        let (probe, _watch) = Probe::new([Step::WokenElsewhere]);
                        probe.await;
                        spawn_local(async {}).await.unwrap();
                    });
                }
            })
            .join()
            .unwrap();
            assert_eq!(receive.recv().unwrap(), 7);
        }
    });
}

#[test]
fn deep_calls_are_polled_once() {
    fn tree(depth: usize, polls: &Cell<usize>) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async move {
            let mut inner = (depth > 0).then(|| tree(depth - 1, polls));
            poll_fn(|cx| {
                polls.set(polls.get() + 1);
                inner.as_mut().map_or(Poll::Ready(()), |inner| inner.as_mut().poll(cx))
            })
            .await;
            if depth == 0 {
                sleep(SHORT).await;
            }
        })
    }
    outside(|| {
        for depth in [10, 100] {
            let polls = Cell::new(0);
            run_eagerly(tree(depth, &polls));
            assert_eq!(polls.get(), depth + 1);
        }
    });
}

#[test]
fn a_waker_of_the_call_is_a_waker() {
    struct Forward(Waker);
    impl Wake for Forward {
        fn wake(self: Arc<Self>) {
            self.0.wake_by_ref();
        }
    }
    outside(|| {
        // Woken by reference, by value, through another, from another thread; cloned, and compared.
        let mut steps = 0;
        run_eagerly(poll_fn(|cx| {
            steps += 1;
            let (borrowed, waker) = (cx.waker(), cx.waker().clone());
            assert!(waker.will_wake(&waker.clone()));
            match steps {
                1 => cx.waker().wake_by_ref(),
                2 => waker.wake(),
                3 => Waker::from(Arc::new(Forward(waker))).wake(),
                4 => std::thread::spawn(|| waker.wake()).join().unwrap(),
                5 => std::thread::scope(|scope| {
                    scope.spawn(|| borrowed.wake_by_ref());
                }),
                _ => return Poll::Ready(()),
            }
            Poll::Pending
        }));
        assert_eq!(steps, 6);
    });
}
