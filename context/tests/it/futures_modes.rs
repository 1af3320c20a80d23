//! The modes of a future: plain, isolated, in a context, with a variable; half-way, finished, and
//! on other threads.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;

use heirloom_context::{Context, ContextFutureExt, ContextVar, context_var};

use crate::support::{
    Executor, Gate, Ledger, Log, OnDrop, block_on, caught, never, on_a_fresh_thread, panic_text, poll_once,
    quiet_panic, yield_once,
};

context_var! {
    static LEVEL: u32;
    static OTHER: u32;
    static NOISE: u32;
    static DEPTH: u32 = 1;
}

#[test]
fn a_plain_future_shares_with_its_poller_both_ways() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            async {
                assert_eq!(LEVEL.get(), Some(1));
                LEVEL.set(2);
                yield_once().await;
                OTHER.set(3);
            }
            .await;
            assert_eq!((LEVEL.get(), OTHER.get()), (Some(2), Some(3)));
        });
    });
}

#[test]
fn an_isolated_future_keeps_its_writes_to_itself() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            async {
                assert_eq!(LEVEL.get(), Some(1));
                LEVEL.set(2);
                OTHER.set(3);
                for _ in 0..5 {
                    yield_once().await;
                    assert_eq!((LEVEL.get(), OTHER.get()), (Some(2), Some(3)), "kept between polls");
                }
            }
            .isolated()
            .await;
            assert_eq!((LEVEL.get(), OTHER.get()), (Some(1), None), "invisible outside");
        });
    });
}

#[test]
fn an_isolated_future_sees_the_outside_of_now() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let seen = log.clone();
        let mut future = Box::pin(
            async move {
                loop {
                    seen.push((LEVEL.get(), OTHER.get()));
                    OTHER.set(50);
                    yield_once().await;
                }
            }
            .isolated(),
        );
        for number in 1..4 {
            LEVEL.set(number);
            OTHER.set(number);
            assert!(poll_once::<dyn Future<Output = ()>>(future.as_mut()).is_pending());
        }
        LEVEL.unset();
        assert!(poll_once::<dyn Future<Output = ()>>(future.as_mut()).is_pending());
        assert_eq!(
            log.take(),
            [(Some(1), Some(1)), (Some(2), Some(50)), (Some(3), Some(50)), (None, Some(50))],
            "live, except for what it has bound itself"
        );
    });
}

#[test]
fn an_unset_in_an_isolated_future_hides_the_outside() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        DEPTH.set(2);
        block_on(
            async {
                LEVEL.unset();
                let token = DEPTH.unset();
                yield_once().await;
                assert_eq!((LEVEL.get(), DEPTH.get()), (None, 1), "unset, and the default");
                assert!(!Context::current().contains(&LEVEL));
                DEPTH.reset(token).unwrap();
                assert_eq!(DEPTH.get(), 2, "transparent again");
            }
            .isolated(),
        );
        assert_eq!((LEVEL.get(), DEPTH.get()), (Some(1), 2));
    });
}

#[test]
fn what_an_isolated_future_sees_does_not_depend_on_unrelated_writes() {
    on_a_fresh_thread(|| {
        let trace = |noisy: bool| {
            let log = Log::new();
            let seen = log.clone();
            let mut future = Box::pin(
                async move {
                    loop {
                        seen.push(LEVEL.get());
                        if noisy {
                            NOISE.set(1);
                            NOISE.unset();
                            NOISE.set(2);
                        }
                        yield_once().await;
                    }
                }
                .isolated(),
            );
            for number in 0..5 {
                LEVEL.set(number);
                assert!(poll_once::<dyn Future<Output = ()>>(future.as_mut()).is_pending());
            }
            log.take()
        };
        assert_eq!(trace(true), trace(false));
        assert_eq!(NOISE.get(), None);
    });
}

#[test]
fn a_snapshot_inside_an_isolated_future_is_the_merged_view() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        OTHER.set(2);
        DEPTH.set(3);
        let snapshot = block_on(
            async {
                OTHER.set(20);
                DEPTH.unset();
                NOISE.set(4);
                Context::current()
            }
            .isolated(),
        );
        assert_eq!(snapshot.len(), 3);
        assert_eq!(
            (snapshot.get(&LEVEL), snapshot.get(&OTHER), snapshot.get(&NOISE), snapshot.get(&DEPTH)),
            (Some(1), Some(20), Some(4), None)
        );
    });
}

#[test]
fn a_task_spawned_inside_layers_inherits_the_merged_view() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            LEVEL.set(1);
            OTHER.set(1);
            NOISE.set(1);
            let seen = async move {
                OTHER.set(2);
                async move {
                    NOISE.set(3);
                    let child = own.spawn(async {
                        yield_once().await;
                        (LEVEL.get(), OTHER.get(), NOISE.get())
                    });
                    NOISE.set(99);
                    child.await
                }
                .isolated()
                .await
            }
            .isolated()
            .await;
            assert_eq!(seen, (Some(1), Some(2), Some(3)));
        });
    });
}

#[test]
fn a_future_in_a_context_sees_that_context_and_nothing_else() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            OTHER.set(1);
            let context = Context::empty().with_var(&LEVEL, 10);
            let inside = async {
                assert_eq!((LEVEL.get(), OTHER.get()), (Some(10), None));
                LEVEL.set(11);
                yield_once().await;
                assert_eq!(
                    (LEVEL.get(), OTHER.get()),
                    (Some(11), None),
                    "its own copy is kept between polls"
                );
            };
            inside.in_context(context.clone()).await;
            assert_eq!((LEVEL.get(), OTHER.get()), (Some(1), Some(1)));
            assert_eq!(context.get(&LEVEL), Some(10), "the context itself is unchanged");
        });
    });
}

#[test]
fn a_future_in_the_current_context_keeps_what_was_bound_when_it_was_built() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let future = async {
            yield_once().await;
            (LEVEL.get(), OTHER.get())
        }
        .in_current_context();
        LEVEL.set(2);
        OTHER.set(3);
        assert_eq!(block_on(future), (Some(1), None));
        assert_eq!(LEVEL.get(), Some(2));
    });
}

#[test]
fn a_future_carries_its_context_to_another_thread() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let gate = Gate::new();
        let opened = gate.opened();
        let mut future = Box::pin(
            async move {
                OTHER.set(2);
                opened.await;
                (LEVEL.get(), OTHER.get())
            }
            .in_current_context(),
        );
        assert!(poll_once(future.as_mut()).is_pending());
        gate.open();
        let seen = std::thread::spawn(move || {
            LEVEL.set(50);
            (block_on(future), LEVEL.get(), OTHER.get())
        });
        assert_eq!(seen.join().unwrap(), ((Some(1), Some(2)), Some(50), None));
        assert_eq!((LEVEL.get(), OTHER.get()), (Some(1), None));
    });
}

#[test]
fn an_isolated_future_moves_between_threads_with_its_layer() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let mut future = Box::pin(
            async {
                OTHER.set(2);
                yield_once().await;
                (LEVEL.get(), OTHER.get())
            }
            .isolated(),
        );
        assert!(poll_once(future.as_mut()).is_pending());
        let seen = std::thread::spawn(move || {
            LEVEL.set(70);
            OTHER.set(70);
            block_on(future)
        });
        assert_eq!(seen.join().unwrap(), (Some(70), Some(2)), "its own layer over the poller of now");
    });
}

#[test]
fn every_mode_is_restored_when_a_poll_panics() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            async fn fail() {
                LEVEL.set(2);
                yield_once().await;
                quiet_panic("in a poll")
            }
            for mode in 0..4 {
                let mut future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = match mode {
                    0 => Box::pin(fail().isolated()),
                    1 => Box::pin(fail().in_context(Context::empty())),
                    2 => Box::pin(fail().in_current_context()),
                    _ => Box::pin(fail().with_var(&LEVEL, 5)),
                };
                assert!(poll_once(future.as_mut()).is_pending());
                assert_eq!(caught(|| poll_once(future.as_mut())), "in a poll");
                assert_eq!(LEVEL.get(), Some(1), "mode {mode}");
                drop(future);
                assert_eq!(LEVEL.get(), Some(1), "mode {mode}, dropped");
            }
        });
    });
}

/// Builds a future that reports what `LEVEL` shows while it is dropped.
fn dropped_with(log: &Log<Option<u32>>, ends: bool) -> impl Future<Output = ()> + Send + use<> {
    let seen = log.clone();
    let witness = OnDrop(move || seen.push(LEVEL.get()));
    async move {
        let _witness = witness;
        yield_once().await;
        if !ends {
            never().await;
        }
    }
}

#[test]
fn a_wrapped_future_is_dropped_inside_its_context() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let inside = Context::empty().with_var(&LEVEL, 10);
        LEVEL.set(1);

        drop(dropped_with(&log, true).in_context(inside.clone()));
        assert_eq!(log.take(), [Some(10)], "before the first poll");

        let mut future = Box::pin(dropped_with(&log, false).in_context(inside.clone()));
        assert!(poll_once(future.as_mut()).is_pending());
        drop(future);
        assert_eq!(log.take(), [Some(10)], "half-way");

        let mut future = Box::pin(dropped_with(&log, true).in_context(inside.clone()));
        assert!(poll_once(future.as_mut()).is_pending());
        assert!(poll_once(future.as_mut()).is_ready());
        drop(future);
        assert_eq!(log.take(), [Some(10)], "finished");
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn a_wrapped_future_is_dropped_inside_its_context_on_any_thread() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let mut future =
            Box::pin(dropped_with(&log, false).in_context(Context::empty().with_var(&LEVEL, 10)));
        assert!(poll_once(future.as_mut()).is_pending());
        let left = std::thread::spawn(move || {
            LEVEL.set(1);
            drop(future);
            LEVEL.get()
        });
        assert_eq!(left.join().unwrap(), Some(1));
        assert_eq!(log.take(), [Some(10)]);
    });
}

#[test]
fn an_isolated_future_is_dropped_inside_its_layer_over_the_context_of_the_dropper() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let seen = log.clone();
        let witness = OnDrop(move || seen.push((LEVEL.get(), OTHER.get())));
        let mut future = Box::pin(
            async move {
                let _witness = witness;
                LEVEL.set(2);
                never().await;
            }
            .isolated(),
        );
        assert!(poll_once(future.as_mut()).is_pending());
        let left = std::thread::spawn(move || {
            LEVEL.set(70);
            OTHER.set(71);
            drop(future);
            LEVEL.get()
        });
        assert_eq!(left.join().unwrap(), Some(70));
        assert_eq!(log.take(), [(Some(2), Some(71))]);
    });
}

#[test]
fn a_drop_that_panics_restores_the_context() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        for mode in 0..3 {
            let bomb = OnDrop(|| {
                LEVEL.set(5);
                if !std::thread::panicking() {
                    quiet_panic("in a drop");
                }
            });
            let future = async move {
                let _bomb = bomb;
                never().await;
            };
            let said = match mode {
                0 => caught(|| drop(future.isolated())),
                1 => caught(|| drop(future.in_current_context())),
                _ => caught(|| drop(future.with_var(&LEVEL, 9))),
            };
            assert_eq!(said, "in a drop");
            assert_eq!(LEVEL.get(), Some(1), "mode {mode}");
        }
    });
}

#[test]
fn a_wrapper_shows_its_context_and_the_future_inside() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let future = Box::pin(async {
            LEVEL.set(2);
            yield_once().await;
            LEVEL.set(3);
        });
        let mut wrapped = future.in_current_context();
        assert_eq!(std::future::ready(5).isolated().get_ref().clone().into_inner(), 5);
        assert_eq!(wrapped.context().get(&LEVEL), Some(1));
        assert!(poll_once(pin!(&mut wrapped)).is_pending());
        assert_eq!(wrapped.context().get(&LEVEL), Some(2), "as it is between polls");
        assert_eq!(LEVEL.get(), Some(1), "to look changes nothing");

        let mut isolated = Box::pin(async {
            OTHER.set(8);
            never().await;
        })
        .isolated();
        assert!(poll_once(pin!(&mut isolated)).is_pending());
        assert_eq!(isolated.context().get(&OTHER), Some(8));
        assert_eq!(OTHER.get(), None);
    });
}

#[test]
fn what_a_wrapped_future_binds_is_freed_with_it() {
    Executor::each(|executor| {
        let ledger = Ledger::new();
        for mode in 0..3 {
            let (own, there) = (ledger.clone(), ledger.clone());
            executor.run(async move {
                let variable = ContextVar::new("probe");
                let bound = own.probe(1);
                let body = async {
                    variable.set(there.probe(2));
                    yield_once().await;
                    variable.set(there.probe(3));
                    never().await;
                };
                let mut future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = match mode {
                    0 => Box::pin(body.isolated()),
                    1 => Box::pin(body.in_current_context()),
                    _ => Box::pin(body.with_var(&variable, bound)),
                };
                assert!(poll_once(future.as_mut()).is_pending());
                assert!(poll_once(future.as_mut()).is_pending());
                assert!(own.alive() >= 1);
                drop(future);
            });
        }
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn two_isolated_futures_polled_in_turns_do_not_mix() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(0);
            let count = |start: u32| {
                async move {
                    LEVEL.set(start);
                    for step in 0..10 {
                        assert_eq!(LEVEL.get(), Some(start + step));
                        LEVEL.set(start + step + 1);
                        yield_once().await;
                    }
                    LEVEL.get()
                }
                .isolated()
            };
            // A foreign join would share one context among its branches; each branch has a layer of
            // its own here.
            let ends = futures::join!(count(100), count(200), count(300));
            assert_eq!(ends, (Some(110), Some(210), Some(310)));
            assert_eq!(LEVEL.get(), Some(0));
        });
    });
}

#[test]
fn a_foreign_join_of_plain_futures_shares_one_context() {
    Executor::each(|executor| {
        executor.run(async {
            let seen = futures::join!(
                async {
                    LEVEL.set(1);
                    yield_once().await;
                    LEVEL.get()
                },
                async {
                    LEVEL.set(2);
                    LEVEL.get()
                }
            );
            assert_eq!(seen, (Some(2), Some(2)));
            assert_eq!(LEVEL.get(), Some(2));
        });
    });
}

#[test]
fn thousands_of_tasks_interleave_without_a_mix_up() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            LEVEL.set(7);
            let tasks: Vec<_> = (0..crate::support::count(1000) as u32)
                .map(|number| {
                    own.spawn(async move {
                        assert_eq!(LEVEL.get(), Some(7));
                        LEVEL.set(number);
                        let guard = OTHER.bind(number + 1);
                        for _ in 0..5 {
                            yield_once().await;
                            assert_eq!((LEVEL.get(), OTHER.get()), (Some(number), Some(number + 1)));
                        }
                        drop(guard);
                        yield_once().await;
                        assert_eq!(OTHER.get(), None);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            assert_eq!((LEVEL.get(), OTHER.get()), (Some(7), None));
        });
    });
}

#[test]
fn a_future_is_dropped_in_its_context_as_soon_as_it_is_ready() {
    on_a_fresh_thread(|| {
        struct Reads(Log<Option<u32>>);

        impl Future for Reads {
            type Output = ();

            fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
                Poll::Ready(())
            }
        }

        impl Drop for Reads {
            fn drop(&mut self) {
                self.0.push(LEVEL.get());
            }
        }

        let log = Log::new();
        let mut future = Box::pin(Reads(log.clone()).with_var(&LEVEL, 7));
        assert!(poll_once(future.as_mut()).is_ready());
        assert_eq!(log.take(), [Some(7)]);
        let text = panic_text(|| poll_once(future.as_mut()));
        assert!(text.contains("was ready"), "{text}");
        drop(future);
        assert!(log.take().is_empty());
        assert_eq!(LEVEL.get(), None);
    });
}

// The kind: a scope whose variable was unset under a guard forgot that it was unset.
#[test]
fn a_variable_unset_inside_stays_unset_wherever_the_future_is_polled_next() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let inside = async {
            LEVEL.unset();
            let guard = LEVEL.bind(5);
            yield_once().await;
            let bound = LEVEL.get();
            drop(guard);
            yield_once().await;
            (bound, LEVEL.get())
        };
        let mut future = Box::pin(inside.with_var(&LEVEL, 2));
        assert!(poll_once(future.as_mut()).is_pending());
        assert!(poll_once(future.as_mut()).is_pending());
        assert_eq!(block_on(future.isolated()), (Some(5), None));
    });
}

// The kind: two destructors panic, of which one is enough.
#[test]
fn a_future_and_its_output_may_both_panic_as_they_are_dropped() {
    struct Panics(&'static str);
    impl Drop for Panics {
        fn drop(&mut self) {
            quiet_panic(self.0);
        }
    }
    struct ReadyAtOnce {
        _when_dropped: Panics,
    }
    impl Future for ReadyAtOnce {
        type Output = Panics;
        fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Panics> {
            Poll::Ready(Panics("the output"))
        }
    }
    on_a_fresh_thread(|| {
        for run in [
            || drop(block_on(ReadyAtOnce { _when_dropped: Panics("the future") }.isolated())),
            || {
                drop(block_on(heirloom_context::future::join_all([ReadyAtOnce {
                    _when_dropped: Panics("the future"),
                }])))
            },
        ] {
            assert_eq!(caught(run), "the future");
        }
    });
}
