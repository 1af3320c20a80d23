//! Streams in every mode: generators and hand-written ones behave alike.

use std::pin::Pin;
use std::task::{Context as Poller, Poll};

use futures::{Stream, StreamExt};
use heirloom_context::{Context, ContextFutureExt, ContextStreamExt, context_var};

use crate::support::{
    Executor, Ledger, Log, OnDrop, block_on, caught, generator, next_of, on_a_fresh_thread, poll_next_once,
    quiet_panic, yield_once,
};

context_var! {
    static PRECISION: u32 = 28;
    static FOO: u32;
    static SPAM: &'static str;
    static NOISE: u32;
}

fn calculate(precision: u32) -> impl Stream<Item = u32> + Send {
    generator(move |items| async move {
        PRECISION.set(precision);
        items.emit(PRECISION.get()).await;
        items.emit(PRECISION.get()).await;
    })
}

/// The same as [`calculate`], written by hand.
struct Calculate {
    precision: u32,
    steps: u32,
}

impl Stream for Calculate {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<Option<u32>> {
        self.steps += 1;
        if self.steps == 1 {
            PRECISION.set(self.precision);
        }
        Poll::Ready((self.steps <= 2).then(|| PRECISION.get()))
    }
}

#[test]
fn two_isolated_generators_zipped_keep_their_precision() {
    Executor::each(|executor| {
        let pairs: Vec<_> =
            executor.run(async { calculate(100).isolated().zip(calculate(50).isolated()).collect().await });
        assert_eq!(pairs, [(100, 50), (100, 50)]);
    });
}

#[test]
fn hand_written_streams_zipped_do_the_same() {
    Executor::each(|executor| {
        let pairs: Vec<_> = executor.run(async {
            let hundred = Calculate { precision: 100, steps: 0 }.isolated();
            let fifty = Calculate { precision: 50, steps: 0 }.isolated();
            hundred.zip(fifty).collect().await
        });
        assert_eq!(pairs, [(100, 50), (100, 50)]);
    });
}

#[test]
fn plain_streams_share_one_context_with_their_consumer_whoever_wrote_them() {
    on_a_fresh_thread(|| {
        let generated: Vec<_> = block_on(calculate(100).zip(calculate(50)).collect());
        assert_eq!(PRECISION.get(), 50);
        PRECISION.unset();
        let by_hand: Vec<_> = block_on(
            Calculate { precision: 100, steps: 0 }.zip(Calculate { precision: 50, steps: 0 }).collect(),
        );
        assert_eq!(generated, by_hand);
        assert_eq!(generated, [(100, 50), (50, 50)], "a call is a call");
    });
}

#[test]
fn a_step_obeys_what_the_consumer_bound_between_two_steps() {
    on_a_fresh_thread(|| {
        let by_hand = futures::stream::repeat_with(|| PRECISION.get());
        let generated = generator(|items| async move {
            loop {
                items.emit(PRECISION.get()).await;
            }
        });
        let streams: [Pin<Box<dyn Stream<Item = u32>>>; 2] =
            [Box::pin(by_hand.isolated()), Box::pin(generated.isolated())];
        for mut stream in streams {
            assert_eq!(next_of(&mut stream), Some(28));
            PRECISION.scope(3, || assert_eq!(next_of(&mut stream), Some(3)));
            let guard = PRECISION.bind(2);
            assert_eq!(next_of(&mut stream), Some(2));
            drop(guard);
            PRECISION.set(1);
            assert_eq!(next_of(&mut stream), Some(1));
            PRECISION.unset();
        }
    });
}

#[test]
fn precision_comes_from_whoever_resumes_unless_the_stream_has_its_own() {
    on_a_fresh_thread(|| {
        // A third with as many digits as the precision says.
        fn digits(own: Option<u32>) -> Pin<Box<dyn Stream<Item = String> + Send>> {
            Box::pin(
                generator(move |items| async move {
                    if let Some(own) = own {
                        PRECISION.set(own);
                    }
                    loop {
                        items.emit(format!("{:.*}", PRECISION.get() as usize - 1, 10.0 / 3.0)).await;
                    }
                })
                .isolated(),
            )
        }
        let mut shared = PRECISION.scope(3, || digits(None));
        assert_eq!(PRECISION.scope(2, || next_of(&mut shared)).as_deref(), Some("3.3"));
        assert_eq!(PRECISION.scope(1, || next_of(&mut shared)).as_deref(), Some("3"));
        let mut own = PRECISION.scope(3, || digits(Some(4)));
        assert_eq!(PRECISION.scope(2, || next_of(&mut own)).as_deref(), Some("3.333"));
        assert_eq!(PRECISION.scope(1, || next_of(&mut own)).as_deref(), Some("3.333"));
        let mut pinned = PRECISION.scope(3, || Box::pin(digits(None).in_current_context()));
        assert_eq!(PRECISION.scope(2, || next_of(&mut pinned)).as_deref(), Some("3.33"));
        assert_eq!(PRECISION.scope(1, || next_of(&mut pinned)).as_deref(), Some("3.33"));
    });
}

#[test]
fn an_inner_guard_ends_and_the_outside_shows_again() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let show = {
            let log = log.clone();
            move |step: u32| log.push((step, FOO.get(), SPAM.get()))
        };
        let mut stream = Box::pin(
            generator(|items| async move {
                show(1);
                items.emit(()).await;
                show(2);
                {
                    let _ham = SPAM.bind("ham");
                    items.emit(()).await;
                    show(3);
                }
                items.emit(()).await;
                show(4);
            })
            .isolated(),
        );
        SPAM.set("bar");
        for foo in 1..=4 {
            FOO.set(foo);
            if foo == 4 {
                SPAM.set("new");
            }
            next_of(&mut stream);
            assert_ne!(SPAM.get(), Some("ham"));
        }
        assert_eq!(
            log.take(),
            [
                (1, Some(1), Some("bar")),
                (2, Some(2), Some("bar")),
                (3, Some(3), Some("ham")),
                (4, Some(4), Some("new")),
            ]
        );
    });
}

#[test]
fn a_stream_captured_at_creation_sees_nothing_newer() {
    on_a_fresh_thread(|| {
        FOO.set(1);
        let mut stream = Box::pin(
            generator(|items| async move {
                items.emit(FOO.get()).await;
                FOO.set(50);
                items.emit(FOO.get()).await;
            })
            .in_current_context(),
        );
        FOO.set(2);
        assert_eq!(next_of(&mut stream), Some(Some(1)));
        assert_eq!(next_of(&mut stream), Some(Some(50)));
        assert_eq!(FOO.get(), Some(2));
        assert_eq!(next_of(&mut stream), None);
        let mut given = Box::pin(
            generator(|items| async move { items.emit(FOO.get()).await }).in_context(Context::empty()),
        );
        assert_eq!(next_of(&mut given), Some(None));
    });
}

/// The story of the spam: what main, a generator and the generator inside it see, in order.
fn spam(capture: bool) -> Vec<(&'static str, Option<&'static str>)> {
    fn wrapped(
        stream: impl Stream<Item = u32> + Send + 'static,
        capture: bool,
    ) -> Pin<Box<dyn Stream<Item = u32> + Send>> {
        if capture { Box::pin(stream.in_current_context()) } else { Box::pin(stream.isolated()) }
    }
    on_a_fresh_thread(|| {
        let log = Log::new();
        SPAM.set("ham");
        log.push(("main", SPAM.get()));
        let (outer_log, inner_log) = (log.clone(), log.clone());
        let mut outer = wrapped(
            generator(move |items| async move {
                SPAM.set("spam");
                outer_log.push(("outer", SPAM.get()));
                let mut inner = wrapped(
                    generator(move |items| async move {
                        for (item, name) in ["zero", "one"].into_iter().enumerate() {
                            inner_log.push(("inner", SPAM.get()));
                            SPAM.set(name);
                            items.emit(item as u32).await;
                        }
                    }),
                    capture,
                );
                while let Some(item) = inner.next().await {
                    outer_log.push(("outer", SPAM.get()));
                    items.emit(item).await;
                }
            }),
            capture,
        );
        while next_of(&mut outer).is_some() {}
        log.push(("main", SPAM.get()));
        log.take()
    })
}

#[test]
fn nested_generators_each_see_their_own_whether_isolated_or_captured() {
    let expected = [
        ("main", Some("ham")),
        ("outer", Some("spam")),
        ("inner", Some("spam")),
        ("outer", Some("spam")),
        ("inner", Some("zero")),
        ("outer", Some("spam")),
        ("main", Some("ham")),
    ];
    assert_eq!(spam(false), expected);
    assert_eq!(spam(true), expected);
}

#[test]
fn three_streams_in_each_other_read_through_all_layers() {
    on_a_fresh_thread(|| {
        FOO.set(1);
        let innermost = generator(|items| async move {
            NOISE.set(3);
            loop {
                items.emit((FOO.get(), SPAM.get(), NOISE.get(), Context::current().len())).await;
            }
        })
        .isolated();
        let middle = generator(move |items| async move {
            SPAM.set("middle");
            let mut innermost = Box::pin(innermost);
            while let Some(seen) = innermost.next().await {
                assert_eq!(NOISE.get(), None);
                items.emit(seen).await;
            }
        })
        .isolated();
        let mut outer = Box::pin(
            generator(move |items| async move {
                let mut middle = Box::pin(middle);
                while let Some(seen) = middle.next().await {
                    assert_eq!(SPAM.get(), None);
                    items.emit(seen).await;
                }
            })
            .isolated(),
        );
        assert_eq!(next_of(&mut outer), Some((Some(1), Some("middle"), Some(3), 3)));
        FOO.set(2);
        assert_eq!(next_of(&mut outer), Some((Some(2), Some("middle"), Some(3), 3)));
    });
}

#[test]
fn a_delegated_part_shares_the_layer_of_its_stream() {
    on_a_fresh_thread(|| {
        // One body, or a body that hands its second half to an async function: the same trace.
        async fn second_half(items: &crate::support::Emitter<Option<u32>>) {
            FOO.set(2);
            items.emit(FOO.get()).await;
        }
        let mut split = Box::pin(
            generator(|items| async move {
                FOO.set(1);
                items.emit(FOO.get()).await;
                second_half(&items).await;
                items.emit(FOO.get()).await;
            })
            .isolated(),
        );
        let seen: Vec<_> = std::iter::from_fn(|| next_of(&mut split)).collect();
        assert_eq!(seen, [Some(1), Some(2), Some(2)]);
        assert_eq!(FOO.get(), None);
    });
}

#[test]
fn a_stream_that_panics_reaches_the_consumer_and_ends() {
    on_a_fresh_thread(|| {
        fn failing() -> impl Stream<Item = u32> + Send {
            let mut step = 0;
            futures::stream::repeat_with(move || {
                step += 1;
                FOO.set(step);
                if step == 2 {
                    quiet_panic("second step");
                }
                step
            })
        }
        FOO.set(7);
        let streams: [Pin<Box<dyn Stream<Item = u32> + Send>>; 3] = [
            Box::pin(failing().isolated()),
            Box::pin(failing().in_current_context()),
            Box::pin(failing().with_var(&FOO, 5)),
        ];
        for mut stream in streams {
            assert_eq!(next_of(&mut stream), Some(1));
            assert_eq!(caught(|| next_of(&mut stream)), "second step");
            assert_eq!(FOO.get(), Some(7), "the context is restored");
            assert_eq!(next_of(&mut stream), None, "and the stream has ended");
            assert_eq!(next_of(&mut stream), None);
        }
    });
}

#[test]
fn a_stream_is_dropped_inside_its_context_half_way_and_elsewhere() {
    fn stream(log: &Log<Option<u32>>) -> impl Stream<Item = ()> + Send + use<> {
        let seen = log.clone();
        let witness = OnDrop(move || seen.push(FOO.get()));
        generator(move |items| async move {
            let _witness = witness;
            FOO.set(2);
            loop {
                items.emit(()).await;
            }
        })
    }
    on_a_fresh_thread(|| {
        FOO.set(1);
        let log = Log::new();
        let mut isolated = Box::pin(stream(&log).isolated());
        next_of(&mut isolated);
        drop(isolated);
        assert_eq!((log.take(), FOO.get()), (vec![Some(2)], Some(1)));

        let mut pinned = Box::pin(stream(&log).in_current_context());
        next_of(&mut pinned);
        std::thread::spawn(move || {
            FOO.set(70);
            drop(pinned);
            assert_eq!(FOO.get(), Some(70));
        })
        .join()
        .unwrap();
        assert_eq!(log.take(), [Some(2)]);

        drop(stream(&log).with_var(&FOO, 9));
        assert_eq!(log.take(), [Some(9)], "never polled");
    });
}

#[test]
fn a_finished_stream_leaves_nothing_behind() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = heirloom_context::ContextVar::new("probe");
        let mut stream = Box::pin(
            futures::stream::iter(0..3).map(|number| drop(variable.set(ledger.probe(number)))).isolated(),
        );
        while next_of(&mut stream).is_some() {}
        assert!(!variable.is_set());
        drop(stream);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_plain_stream_that_holds_a_guard_across_a_yield_shares_it_with_its_consumer() {
    fn guarded() -> impl Stream<Item = Option<u32>> + Send {
        generator(|items| async move {
            let _guard = FOO.bind(5);
            items.emit(FOO.get()).await;
        })
    }
    on_a_fresh_thread(|| {
        let mut plain = Box::pin(guarded());
        assert_eq!(next_of(&mut plain), Some(Some(5)));
        assert_eq!(FOO.get(), Some(5));
        assert_eq!(next_of(&mut plain), None);
        assert_eq!(FOO.get(), None);
        let mut isolated = Box::pin(guarded().isolated());
        assert_eq!(next_of(&mut isolated), Some(Some(5)));
        assert_eq!(FOO.get(), None);
    });
}

#[test]
fn a_stream_awaits_inside_a_step_and_keeps_its_layer() {
    Executor::each(|executor| {
        executor.run(async {
            FOO.set(1);
            let mut stream = Box::pin(
                futures::stream::unfold(0, |number| async move {
                    FOO.set(number);
                    for _ in 0..3 {
                        yield_once().await;
                        assert_eq!(FOO.get(), Some(number));
                    }
                    (number < 4).then_some((FOO.get(), number + 1))
                })
                .isolated(),
            );
            let mut expected = 0;
            while let Some(seen) = stream.next().await {
                assert_eq!(seen, Some(expected));
                assert_eq!(FOO.get(), Some(1));
                expected += 1;
            }
            assert_eq!(expected, 4);
        });
    });
}

#[test]
fn a_wrapped_stream_says_how_many_items_are_left() {
    let stream = futures::stream::iter(0..3);
    let hint = stream.size_hint();
    assert_eq!(stream.isolated().size_hint(), hint);
}

#[test]
fn a_scope_around_one_step_is_seen_in_that_step_only() {
    on_a_fresh_thread(|| {
        let mut stream = Box::pin(
            generator(|items| async move {
                loop {
                    items.emit(FOO.get()).await;
                }
            })
            .isolated(),
        );
        assert_eq!(block_on(stream.next().with_var(&FOO, 10)), Some(Some(10)));
        assert_eq!(block_on(stream.next()), Some(None));
        assert!(poll_next_once(stream.as_mut()).is_ready());
        assert_eq!(block_on(stream.next().in_context(Context::empty().with_var(&FOO, 3))), Some(Some(3)));
    });
}
