//! Timers: never early, never lost, nothing left behind.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use heirloom::time::{MissedTicks, interval, interval_at};
use heirloom::{sleep, sleep_until, spawn, wait_for, wait_until, yield_now};
use heirloom_tests::{
    CountingWaker, Fault, Gate, Ledger, Log, PATIENCE, idle, in_a_worker, in_child, poll_with, run, runtime,
    say_as_child, scaled, watchdog, with_runtime,
};

const LONG: Duration = Duration::from_secs(3_600);

/// Durations around every edge that a timer might have.
fn durations() -> Vec<Duration> {
    let mut durations = vec![
        Duration::MAX,
        Duration::MAX - Duration::from_nanos(1),
        Duration::from_secs(u64::MAX),
        Duration::from_secs(i64::MAX as u64),
        Duration::from_millis(u64::MAX),
        Duration::from_millis(u64::MAX - 1),
        Duration::from_nanos(u64::MAX),
    ];
    for bits in [30, 36, 42, 48, 54, 60, 63] {
        let edge = 1_u64 << bits;
        durations.extend([edge - 1, edge, edge + 1].map(Duration::from_millis));
    }
    durations
}

#[test]
fn a_sleep_is_never_early() {
    in_a_worker(2, async {
        let tasks: Vec<_> = (0..scaled(200) as u32)
            .map(|number| {
                spawn(async move {
                    let duration = Duration::from_micros(u64::from(number) * 1_137 % 20_000);
                    let begin = Instant::now();
                    sleep(duration).await;
                    assert!(begin.elapsed() >= duration, "{:?} of {duration:?}", begin.elapsed());
                    let at = Instant::now() + duration / 2;
                    sleep_until(at).await;
                    assert!(Instant::now() >= at);
                    let begin = Instant::now();
                    wait_for(std::future::pending::<()>(), duration / 4).await.unwrap_err();
                    assert!(begin.elapsed() >= duration / 4);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn no_duration_is_too_long() {
    run(1, || async {
        for duration in durations() {
            let mut sleep = pin!(sleep(duration));
            assert!(futures::poll!(sleep.as_mut()).is_pending(), "{duration:?}");
            assert!(sleep.deadline().is_none_or(|at| at > Instant::now() + LONG));
            sleep.as_mut().reset(Instant::now());
            sleep.await;
            assert_eq!(wait_for(async { 7 }, duration).await, Ok(7));
            let mut waiting = pin!(wait_for(std::future::pending::<()>(), duration));
            assert!(futures::poll!(waiting.as_mut()).is_pending(), "{duration:?}");
            let mut ticks = interval(duration);
            ticks.tick().await;
            let mut second = pin!(ticks.tick());
            assert!(futures::poll!(second.as_mut()).is_pending(), "{duration:?}");
        }
        // Far timers do not hide near ones.
        let far: Vec<_> = durations().into_iter().map(|duration| spawn(sleep(duration))).collect();
        for _ in 0..10 {
            sleep(Duration::from_millis(1)).await;
        }
        drop(far);
    });
}

#[test]
fn what_has_passed_is_ready_at_once() {
    run(1, || async {
        let now = Instant::now();
        let past = now.checked_sub(Duration::from_millis(50)).unwrap_or(now);
        assert!(futures::poll!(pin!(sleep_until(past))).is_ready());
        assert!(futures::poll!(pin!(sleep_until(now))).is_ready());
        assert!(futures::poll!(pin!(sleep(Duration::ZERO))).is_ready());
        assert_eq!(wait_until(async { 1 }, past).await, Ok(1));
        assert!(wait_until(std::future::pending::<()>(), past).await.is_err());
        assert_eq!(wait_for(async { 1 }, Duration::ZERO).await, Ok(1));
        assert_eq!(interval_at(past, LONG).tick().await, past);
    });
}

#[test]
fn very_short_sleeps_end() {
    in_a_worker(2, async {
        let tasks: Vec<_> = (0..scaled(100) as u64)
            .map(|number| {
                spawn(async move {
                    for step in 0..20 {
                        sleep(Duration::from_nanos((number * 20 + step) * 25)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// On an idle runtime, with and without a socket. Another program may keep the processors busy, so
/// the best of many attempts counts.
#[test]
fn sleeps_of_less_than_a_millisecond_take_less_than_a_millisecond() {
    const STEPS: u32 = 20;
    for has_socket in [false, true] {
        with_runtime(2, move |runtime| {
            let socket = runtime.block_on(async {
                if has_socket {
                    Some(heirloom::net::UdpSocket::bind("127.0.0.1:0").await.unwrap())
                } else {
                    None
                }
            });
            let short = Duration::from_micros(100);
            let sleeps = move || async move {
                let begin = Instant::now();
                for _ in 0..STEPS {
                    sleep(short).await;
                }
                begin.elapsed()
            };
            let ticks = move || async move {
                let mut interval = interval(short);
                let mut late = 0;
                for _ in 0..STEPS {
                    late += u32::from(interval.tick().await.elapsed() > 4 * short);
                }
                late
            };
            let begin = Instant::now();
            loop {
                let slept = runtime.block_on(runtime.spawn(sleeps())).unwrap();
                assert!(slept >= STEPS * short);
                let late = runtime.block_on(runtime.spawn(ticks())).unwrap();
                if slept < STEPS * 5 * short && late < STEPS / 4 {
                    break;
                }
                assert!(
                    begin.elapsed().as_secs() < PATIENCE,
                    "{STEPS} sleeps took {slept:?}, {late} ticks were late"
                );
            }
            drop(socket);
        });
    }
}

#[test]
fn an_earlier_timer_interrupts_the_wait_for_a_later_one() {
    for workers in [1, 3] {
        with_runtime(workers, |runtime| {
            let far = runtime.spawn(sleep(LONG));
            for round in 0..20 {
                if round % 2 == 0 {
                    idle(runtime);
                }
                // From a worker, and from the thread of a root future.
                if round % 3 == 0 {
                    runtime.block_on(sleep(Duration::from_millis(1)));
                } else {
                    runtime.block_on(runtime.spawn(sleep(Duration::from_millis(1)))).unwrap();
                }
            }
            drop(far);
        });
    }
}

#[test]
fn a_reset_counts_whenever_it_comes() {
    in_a_worker(2, async {
        // Before the first poll, while waiting, to earlier and to later, when elapsed, and while
        // being polled.
        let mut sleep = Box::pin(sleep(LONG));
        sleep.as_mut().reset(Instant::now() + Duration::from_millis(1));
        sleep.as_mut().await;
        sleep.as_mut().reset(Instant::now() + LONG);
        assert!(futures::poll!(sleep.as_mut()).is_pending());
        let earlier = Instant::now() + Duration::from_millis(2);
        sleep.as_mut().reset(earlier);
        sleep.as_mut().await;
        assert!(Instant::now() >= earlier);
        let begin = Instant::now();
        sleep.as_mut().reset(begin + Duration::from_millis(1));
        assert!(futures::poll!(sleep.as_mut()).is_pending() || begin.elapsed() >= Duration::from_millis(1));
        let later = begin + Duration::from_millis(10);
        sleep.as_mut().reset(later);
        sleep.as_mut().await;
        assert!(Instant::now() >= later);
        let mut resets = 0;
        poll_fn(|poller| {
            while sleep.as_mut().poll(poller).is_ready() {
                resets += 1;
                if resets == 100 {
                    return Poll::Ready(());
                }
                sleep.as_mut().reset(Instant::now());
            }
            Poll::Pending
        })
        .await;
    });
}

#[test]
fn a_reset_needs_no_new_poll() {
    with_runtime(1, |runtime| {
        // The sleep is shared: one task waits for it, another thread resets it.
        let shared = Arc::new(std::sync::Mutex::new(Box::pin(sleep(LONG))));
        let waiting = runtime.spawn(poll_fn({
            let shared = shared.clone();
            move |poller| shared.lock().unwrap().as_mut().poll(poller)
        }));
        idle(runtime);
        shared.lock().unwrap().as_mut().reset(Instant::now() + Duration::from_millis(2));
        runtime.block_on(waiting).unwrap();
    });
}

#[test]
fn a_dropped_timer_leaves_no_entry_and_no_wake_up() {
    with_runtime(2, |runtime| {
        let none = runtime.stats().timers;
        let done = runtime.spawn(async {
            for _ in 0..scaled(20_000) {
                wait_for(yield_now(), LONG).await.unwrap();
            }
            let mut held: Vec<_> = (0..scaled(1_000)).map(|_| Box::pin(sleep(LONG))).collect();
            for sleep in &mut held {
                assert!(futures::poll!(sleep.as_mut()).is_pending());
            }
            let while_held = heirloom::Handle::current().unwrap().stats().timers;
            drop(held);
            while_held
        });
        assert!(runtime.block_on(done).unwrap() >= scaled(1_000));
        // Tasks that are cancelled take their timers along.
        drop((0..scaled(100)).map(|_| runtime.spawn(sleep(LONG))).collect::<Vec<_>>());
        idle(runtime);
        assert_eq!(runtime.stats().timers, none);
        let (waker, counts) = CountingWaker::create(Fault::None);
        runtime.block_on(async {
            let mut short = Box::pin(sleep(Duration::from_millis(1)));
            let _ = poll_with(&mut short, &waker);
            drop(short);
            sleep(Duration::from_millis(5)).await;
        });
        drop(waker);
        assert!(counts.wakes() <= 1 && counts.is_gone(), "the waker went with the timer");
    });
}

#[test]
fn one_waker_that_panics_does_not_keep_the_other_timers() {
    with_runtime(1, |runtime| {
        let at = Instant::now() + Duration::from_millis(5);
        let wakers: Vec<_> = (0..10)
            .map(|number| CountingWaker::create(if number == 3 { Fault::Wake } else { Fault::None }))
            .collect();
        let mut sleeps: Vec<_> = wakers.iter().map(|_| Box::pin(sleep_until(at))).collect();
        runtime.block_on(async {
            for (sleep, (waker, _)) in sleeps.iter_mut().zip(&wakers) {
                if poll_with(sleep, waker).is_ready() {
                    // Setting them took longer than that; the third panics here as well.
                    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake_by_ref()));
                }
            }
        });
        while wakers.iter().any(|(_, counts)| counts.wakes() == 0) {
            std::thread::yield_now();
        }
        // And those that come after.
        runtime.block_on(runtime.spawn(sleep(Duration::from_millis(1)))).unwrap();
    });
}

#[test]
fn only_the_last_waker_of_a_sleep_is_needed() {
    with_runtime(1, |runtime| {
        let (first, first_counts) = CountingWaker::create(Fault::None);
        let (second, second_counts) = CountingWaker::create(Fault::None);
        runtime.block_on(async {
            let mut sleep = Box::pin(sleep(Duration::from_millis(20)));
            let first_poll = poll_with(&mut sleep, &first);
            if first_poll.is_pending() && poll_with(&mut sleep, &second).is_pending() {
                while second_counts.wakes() == 0 {
                    yield_now().await;
                }
                assert_eq!((first_counts.wakes(), second_counts.wakes()), (0, 1));
            }
            sleep.await;
        });
    });
}

#[test]
fn a_waker_may_set_another_timer() {
    struct Again {
        log: Log<()>,
        sleep: std::sync::Mutex<Option<Pin<Box<heirloom::time::Sleep>>>>,
    }
    impl std::task::Wake for Again {
        fn wake(self: Arc<Self>) {
            self.log.push(());
            if self.log.len() >= 5 {
                return;
            }
            let mut sleep = Box::pin(sleep(Duration::from_millis(1)));
            let waker = self.clone().into();
            if poll_with(&mut sleep, &waker).is_ready() {
                waker.wake();
            } else {
                let former = self.sleep.lock().unwrap().replace(sleep);
                drop(former);
            }
        }
    }
    with_runtime(1, |runtime| {
        let again = Arc::new(Again { log: Log::new(), sleep: std::sync::Mutex::default() });
        let first = again.clone();
        runtime.block_on(runtime.spawn(async move { std::task::Wake::wake(first) })).unwrap();
        while again.log.len() < 5 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_limit_polls_its_operand_at_least_once_and_lets_it_win() {
    in_a_worker(1, async {
        let polls = AtomicUsize::new(0);
        let ready = poll_fn(|_| {
            polls.fetch_add(1, Ordering::SeqCst);
            Poll::Ready(7)
        });
        assert_eq!(wait_for(ready, Duration::ZERO).await, Ok(7));
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        // Counted from the first poll, not from the call.
        let limited = wait_for(sleep(Duration::from_millis(5)), Duration::from_secs(3_000));
        let short = wait_for(yield_now(), Duration::from_millis(5));
        sleep(Duration::from_millis(10)).await;
        assert_eq!(short.await, Ok(()));
        assert_eq!(limited.await, Ok(()));
    });
}

#[test]
fn a_limit_holds_although_its_operand_spends_the_whole_budget() {
    in_a_worker(1, async {
        let greedy = async {
            loop {
                sleep(Duration::ZERO).await;
            }
        };
        assert!(wait_for(greedy, Duration::from_millis(5)).await.is_err());
        let selfish = poll_fn(|poller| {
            poller.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(wait_for(selfish, Duration::from_millis(5)).await.is_err());
    });
}

#[test]
fn what_took_too_long_is_dropped_with_the_wait() {
    in_a_worker(1, async {
        let ledger = Ledger::new();
        let value = ledger.counted(1);
        let elapsed = wait_for(
            async move {
                let _value = value;
                std::future::pending::<()>().await;
            },
            Duration::from_millis(1),
        )
        .await
        .unwrap_err();
        assert_eq!(ledger.alive(), 0);
        assert!(!elapsed.to_string().is_empty());
        let mut kept = Box::pin(sleep(Duration::from_millis(5)));
        while wait_for(&mut kept, Duration::from_millis(1)).await.is_err() {}
        // A task is cancelled, because its handle is dropped.
        let value = ledger.counted(2);
        let task = spawn(async move {
            let _value = value;
            std::future::pending::<()>().await;
        });
        let abort = task.abort_handle();
        wait_for(task, Duration::from_millis(1)).await.unwrap_err();
        while !abort.is_finished() {
            yield_now().await;
        }
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn intervals_tick_at_their_pace_and_treat_missed_ticks_as_told() {
    run(1, || async {
        let period = Duration::from_millis(10);
        let begin = Instant::now();
        let mut ticks = interval_at(begin, period);
        for number in 0..3 {
            assert_eq!(ticks.tick().await, begin + period * number);
            assert!(Instant::now() >= begin + period * number);
        }
        // Three and a half periods late. What follows is told by the instants for which ticks were
        // due.
        let late = |missed| {
            let start = Instant::now() - period * 7 / 2;
            (start, interval_at(start, period).missed_tick_policy(missed))
        };
        let (start, mut burst) = late(MissedTicks::Burst);
        for number in 0..5 {
            assert_eq!(burst.tick().await, start + period * number);
        }
        let (start, mut skip) = late(MissedTicks::Skip);
        assert_eq!(skip.tick().await, start);
        let next = skip.tick().await.duration_since(start);
        assert!(next >= period * 4 && next.as_nanos() % period.as_nanos() == 0, "{next:?}");
        let (_, mut delay) = late(MissedTicks::Delay);
        let taken = Instant::now();
        delay.tick().await;
        assert!(delay.tick().await >= taken + period);
        // Started again.
        let mut ticks = interval(LONG);
        ticks.tick().await;
        assert!(futures::poll!(pin!(ticks.tick())).is_pending());
        ticks.reset();
        assert!(futures::poll!(pin!(ticks.tick())).is_pending());
    });
}

#[test]
fn an_interval_is_a_stream_of_its_ticks_without_an_end() {
    use futures::{Stream, StreamExt};
    run(1, || async {
        let period = Duration::from_millis(5);
        let begin = Instant::now();
        let mut ticks = interval_at(begin, period);
        assert_eq!(ticks.size_hint(), (usize::MAX, None));
        // In turns with `tick`: neither loses what the other has not taken.
        assert_eq!(ticks.next().await, Some(begin));
        assert_eq!(ticks.tick().await, begin + period);
        assert_eq!(ticks.next().await, Some(begin + period * 2));
        assert_eq!(ticks.next().await, Some(begin + period * 3));
        assert!(Instant::now() >= begin + period * 3);
        let mut later = interval_at(begin + LONG, LONG);
        assert!(wait_for(later.next(), Duration::ZERO).await.is_err());
        // The policy holds here, too.
        let start = Instant::now() - LONG;
        let skipping = interval_at(start, period).missed_tick_policy(MissedTicks::Skip);
        let taken: Vec<_> = skipping.take(2).collect().await;
        assert!(taken[0] == start && taken[1] >= start + LONG, "{:?}", taken[1] - taken[0]);
        // One that never ticks again does not end for it.
        let mut never = interval(Duration::MAX);
        assert!(never.next().await.is_some());
        assert!(futures::poll!(never.next()).is_pending());
    });
}

#[test]
fn a_tick_that_was_not_taken_is_not_lost() {
    run(1, || async {
        let period = Duration::from_millis(4);
        let begin = Instant::now();
        let mut ticks = interval_at(begin + period, period);
        let mut taken = Vec::new();
        while taken.len() < 3 {
            if let Ok(tick) = wait_for(ticks.tick(), Duration::from_micros(500)).await {
                taken.push(tick);
            }
        }
        assert_eq!(taken, [1, 2, 3].map(|number| begin + period * number));
    });
}

#[test]
fn a_timer_works_wherever_it_is_polled() {
    watchdog(PATIENCE, || {
        // Outside of any runtime the default one keeps the time.
        futures::executor::block_on(sleep(Duration::from_millis(1)));
        heirloom::block_on(sleep(Duration::from_millis(1)));
        // One that was polled on a runtime that ends is not lost, nor does it hang the one it moves
        // to.
        let runtime = runtime(1);
        let mut sleep = Box::pin(sleep(Duration::from_millis(30)));
        runtime.block_on(async { assert!(futures::poll!(sleep.as_mut()).is_pending()) });
        let begin = Instant::now();
        heirloom::block_on(&mut sleep);
        assert!(begin.elapsed() < Duration::from_secs(20));
        drop(runtime);
    });
}

#[test]
fn timers_that_race_with_their_drop_do_no_harm() {
    in_a_worker(3, async {
        let fired = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let fired = fired.clone();
                spawn(async move {
                    for step in 0..scaled(100) as u64 {
                        // In or around the millisecond in which it fires.
                        let limit = Duration::from_micros(500 + step % 7 * 200);
                        if wait_for(sleep(Duration::from_millis(1)), limit).await.is_ok() {
                            fired.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(fired.load(Ordering::SeqCst) > 0);
    });
}

#[test]
fn a_process_that_was_stopped_goes_on() {
    if in_child("timers::a_process_that_was_stopped_goes_on", false).is_here() {
        watchdog(PATIENCE, || {
            let runtime = runtime(2);
            let task = runtime.spawn(async {
                let mut ticks = interval(Duration::from_millis(5)).missed_tick_policy(MissedTicks::Delay);
                for _ in 0..60 {
                    ticks.tick().await;
                }
            });
            let own = std::process::id();
            let script = format!("kill -STOP {own}; sleep 0.4; kill -CONT {own}");
            let mut stopper = std::process::Command::new("sh").arg("-c").arg(script).spawn().unwrap();
            runtime.block_on(task).unwrap();
            stopper.wait().unwrap();
            let done = Gate::new();
            let opened = done.clone();
            let after = runtime.spawn(async move {
                sleep(Duration::from_millis(5)).await;
                opened.open();
            });
            done.wait();
            runtime.block_on(after).unwrap();
            say_as_child();
        });
    }
}
