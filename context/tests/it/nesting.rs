//! Modes inside modes: futures, streams and iterators, every mode in every other.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use heirloom_context::{
    Context, ContextCell, ContextFutureExt, ContextIteratorExt, ContextStreamExt, ContextVar, context_var,
};

use crate::support::{
    Executor, Log, OnDrop, block_on, generator, never, next_of, on_a_fresh_thread, poll_once, yield_once,
};

context_var! {
    static LEVEL: u32;
    static OTHER: u32;
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Plain,
    Isolated,
    Pinned,
    WithVar,
}

const MODES: [Mode; 4] = [Mode::Plain, Mode::Isolated, Mode::Pinned, Mode::WithVar];

/// `LEVEL` inside a scope of it is 10 higher than outside, so that one can tell the layers.
fn wrap<T: 'static>(mode: Mode, level: u32, future: Boxed<T>) -> Boxed<T> {
    match mode {
        Mode::Plain => future,
        Mode::Isolated => Box::pin(future.isolated()),
        Mode::Pinned => Box::pin(future.in_current_context()),
        Mode::WithVar => Box::pin(future.with_var(&LEVEL, level)),
    }
}

/// What the writer of both variables leaves for one who looks from outside of a future of this
/// mode.
fn after(mode: Mode, before: (Option<u32>, Option<u32>), written: u32) -> (Option<u32>, Option<u32>) {
    match mode {
        Mode::Plain => (Some(written), Some(written)),
        Mode::Isolated | Mode::Pinned => before,
        Mode::WithVar => (before.0, Some(written)),
    }
}

fn both() -> (Option<u32>, Option<u32>) {
    (LEVEL.get(), OTHER.get())
}

#[test]
fn futures_of_every_mode_in_futures_of_every_mode() {
    Executor::each(|executor| {
        for outer in MODES {
            for inner in MODES {
                executor.run(async move {
                    LEVEL.set(1);
                    OTHER.set(1);
                    let body: Boxed<()> = Box::pin(async move {
                        let start = both();
                        let expected_level = if outer == Mode::WithVar { 10 } else { 1 };
                        assert_eq!(start, (Some(expected_level), Some(1)));
                        let innermost: Boxed<()> = Box::pin(async move {
                            let expected = if inner == Mode::WithVar { 20 } else { expected_level };
                            assert_eq!(both(), (Some(expected), Some(1)));
                            LEVEL.set(50);
                            OTHER.set(50);
                            for _ in 0..3 {
                                yield_once().await;
                                assert_eq!(both(), (Some(50), Some(50)));
                            }
                        });
                        wrap(inner, 20, innermost).await;
                        assert_eq!(
                            both(),
                            after(inner, start, 50),
                            "{inner:?} in {outer:?}, seen from between"
                        );
                        yield_once().await;
                        LEVEL.set(60);
                        OTHER.set(60);
                    });
                    wrap(outer, 10, body).await;
                    assert_eq!(
                        both(),
                        after(outer, (Some(1), Some(1)), 60),
                        "{inner:?} in {outer:?}, from outside"
                    );
                });
            }
        }
    });
}

#[test]
fn futures_of_every_mode_around_a_run_and_inside_one() {
    on_a_fresh_thread(|| {
        for mode in MODES {
            LEVEL.set(1);
            OTHER.set(1);
            let body: Boxed<()> = Box::pin(async {
                let before = both();
                Context::current().run(|| {
                    assert_eq!(both(), before);
                    LEVEL.set(70);
                });
                assert_eq!(both(), before);
                LEVEL.set(50);
                OTHER.set(50);
            });
            Context::current().run(|| {
                block_on(wrap(mode, 10, body));
                assert_eq!(both(), after(mode, (Some(1), Some(1)), 50), "{mode:?}");
            });
            assert_eq!(both(), (Some(1), Some(1)));
        }
    });
}

#[test]
fn half_way_drops_happen_in_the_innermost_context() {
    on_a_fresh_thread(|| {
        for outer in MODES {
            for inner in MODES {
                for elsewhere in [false, true] {
                    let log = Log::new();
                    LEVEL.set(1);
                    OTHER.set(1);
                    let seen = log.clone();
                    let witness = OnDrop(move || seen.push(LEVEL.get()));
                    let innermost: Boxed<()> = Box::pin(async move {
                        let _witness = witness;
                        LEVEL.set(50);
                        never().await;
                    });
                    let between: Boxed<()> = Box::pin(async move { wrap(inner, 20, innermost).await });
                    let mut future = wrap(outer, 10, between);
                    assert!(poll_once(future.as_mut()).is_pending());
                    let plain = (inner, outer) == (Mode::Plain, Mode::Plain);
                    if elsewhere {
                        std::thread::spawn(move || {
                            LEVEL.set(99);
                            drop(future);
                            assert_eq!(LEVEL.get(), Some(99));
                        })
                        .join()
                        .unwrap();
                        // Without any wrapper there is only the context in which it is dropped.
                        let expected = if plain { 99 } else { 50 };
                        assert_eq!(log.take(), [Some(expected)], "{inner:?} in {outer:?}");
                    } else {
                        drop(future);
                        assert_eq!(log.take(), [Some(50)], "{inner:?} in {outer:?}");
                    }
                    assert_eq!(LEVEL.get(), Some(if plain { 50 } else { 1 }), "{inner:?} in {outer:?}");
                }
            }
        }
    });
}

#[test]
fn a_stream_in_a_future_in_an_iterator() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let mut stream = Box::pin(
            generator(|items| async move {
                loop {
                    items.emit(both()).await;
                    LEVEL.set(30);
                }
            })
            .isolated(),
        );
        let mut iterator = std::iter::repeat_with(move || {
            OTHER.set(2);
            let next = stream.next();
            let seen = block_on(async { next.await.unwrap() }.with_var(&LEVEL, 20));
            (seen, both())
        })
        .isolated();
        assert_eq!(iterator.next(), Some(((Some(20), Some(2)), (Some(1), Some(2)))));
        LEVEL.set(5);
        assert_eq!(iterator.next(), Some(((Some(30), Some(2)), (Some(5), Some(2)))));
        assert_eq!(both(), (Some(5), None));
    });
}

#[test]
fn an_iterator_in_a_stream_in_a_future() {
    Executor::each(|executor| {
        executor.run(async {
            LEVEL.set(1);
            let numbers = (0..3)
                .map(|number| {
                    let seen = both();
                    OTHER.set(number);
                    seen
                })
                .in_current_context();
            let stream = futures::stream::iter(numbers).map(|seen| {
                LEVEL.set(7);
                (seen, both())
            });
            let collected: Vec<_> = async {
                LEVEL.set(3);
                stream.isolated().collect().await
            }
            .isolated()
            .await;
            assert_eq!(
                collected,
                [
                    ((Some(1), None), (Some(7), None)),
                    ((Some(1), Some(0)), (Some(7), None)),
                    ((Some(1), Some(1)), (Some(7), None)),
                ]
            );
            assert_eq!(both(), (Some(1), None));
        });
    });
}

#[test]
fn layers_of_one_stream_nest_and_the_innermost_takes_the_writes() {
    on_a_fresh_thread(|| {
        fn stream() -> impl Stream<Item = Option<u32>> + Send {
            futures::stream::repeat_with(|| {
                let seen = LEVEL.get();
                LEVEL.set(seen.unwrap_or(0) + 1);
                seen
            })
        }
        LEVEL.set(1);
        let mut twice = Box::pin(stream().isolated().isolated());
        assert_eq!((next_of(&mut twice), next_of(&mut twice)), (Some(Some(1)), Some(Some(2))));
        let mut pinned = Box::pin(stream().isolated().in_context(Context::empty().with_var(&LEVEL, 10)));
        assert_eq!((next_of(&mut pinned), next_of(&mut pinned)), (Some(Some(10)), Some(Some(11))));
        let mut outermost_is_live = Box::pin(stream().in_context(Context::empty()).isolated());
        assert_eq!(next_of(&mut outermost_is_live), Some(None), "pinned inside: the outside is not seen");
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn a_cell_in_a_layer_in_a_cell() {
    on_a_fresh_thread(|| {
        let (outer, inner) = (ContextCell::new(Context::empty()), ContextCell::new(Context::empty()));
        block_on(
            async {
                LEVEL.set(1);
                async {
                    LEVEL.set(2);
                    async { LEVEL.set(3) }.in_cell(inner.clone()).await;
                    assert_eq!(LEVEL.get(), Some(2));
                }
                .isolated()
                .await;
                assert_eq!(LEVEL.get(), Some(1));
            }
            .in_cell(outer.clone()),
        );
        assert_eq!((outer.snapshot().get(&LEVEL), inner.snapshot().get(&LEVEL)), (Some(1), Some(3)));
        assert_eq!(LEVEL.get(), None);
    });
}

#[test]
fn many_nested_layers_read_through_to_the_bottom() {
    // The nest of boxes is dropped by recursion of its own, as any nest of boxes is.
    crate::support::on_a_stack_of(256 << 20, || {
        OTHER.set(42);
        let depth = crate::support::count(1000) as u32;
        let mut future: Boxed<(Option<u32>, Option<u32>)> = Box::pin(async {
            yield_once().await;
            both()
        });
        for number in 0..depth {
            let inside = future;
            future = Box::pin(
                async move {
                    if number == depth / 2 {
                        LEVEL.set(number);
                    }
                    inside.await
                }
                .isolated(),
            );
        }
        assert_eq!(block_on(future), (Some(depth / 2), Some(42)));
        assert_eq!(both(), (None, Some(42)));
    });
}

#[test]
fn layers_over_a_large_context_are_as_exact_as_over_a_small_one() {
    on_a_fresh_thread(|| {
        let variables: Vec<ContextVar<usize>> = (0..300).map(|_| ContextVar::new("one of many")).collect();
        variables.iter().enumerate().for_each(|(number, variable)| drop(variable.set(number)));
        let changed = |number: usize| match number % 5 {
            0 => Some(number + 1000),
            1 => None,
            _ => Some(number),
        };
        let inner = block_on(
            async {
                for (number, variable) in variables.iter().enumerate() {
                    match number % 5 {
                        0 => drop(variable.set(number + 1000)),
                        1 => drop(variable.unset()),
                        _ => {}
                    }
                }
                yield_once().await;
                for (number, variable) in variables.iter().enumerate() {
                    assert_eq!(variable.get(), changed(number));
                }
                Context::current()
            }
            .isolated(),
        );
        assert_eq!(inner.len(), 240);
        for (number, variable) in variables.iter().enumerate() {
            assert_eq!(variable.get(), Some(number));
            assert_eq!(inner.get(variable), changed(number));
        }
        assert_eq!(Context::current().diff(&inner).len(), 120);
    });
}

#[test]
fn scopes_inside_layers_leave_the_layer_as_it_was() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let mut steps = std::iter::repeat_with(|| {
            LEVEL.scope(10, || {
                OTHER.set(OTHER.get().unwrap_or(0) + 1);
                LEVEL.set(11);
                assert_eq!(LEVEL.get(), Some(11));
            });
            both()
        })
        .isolated();
        assert_eq!(
            steps.next(),
            Some((Some(1), Some(1))),
            "the scope's variable is as transparent as before"
        );
        LEVEL.set(2);
        assert_eq!(steps.next(), Some((Some(2), Some(2))), "the other variable was kept by the layer");
        assert_eq!(both(), (Some(2), None));
    });
}
