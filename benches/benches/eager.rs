//! What does it cost to run async functions synchronously, beside plain functions and beside what
//! else runs a future on the calling thread?
//!
//! The same calls, as plain functions and as async ones whose leaf is always ready: ten levels with
//! a leaf that works for a microsecond, or does nothing, and a thousand levels with a leaf that
//! does nothing. Ten levels are written out. A thousand recur, through a box per level on either
//! side, since an async function cannot call itself without; so what the two depths differ by is
//! the calls. The rows to divide by each other stand in one group.
#![forbid(unsafe_code)]

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use heirloom_benches::executor::tools::Work;

/// What the leaf does.
type Leaf = Option<Work>;

fn leaf(work: Leaf) -> u64 {
    if let Some(work) = work {
        work.run();
    }
    black_box(1)
}

/// Functions each of which calls the next and adds its own number, the last one the leaf.
macro_rules! levels {
    ($($caller:ident calls $callee:ident: $number:literal,)*) => {
        mod plain {
            use super::{Leaf, black_box, leaf};
            $(pub(super) fn $caller(work: Leaf) -> u64 {
                $callee(work) + black_box($number)
            })*
        }
        mod asynchronous {
            use super::{Leaf, black_box};
            async fn leaf(work: Leaf) -> u64 {
                super::leaf(work)
            }
            $(pub(super) async fn $caller(work: Leaf) -> u64 {
                $callee(work).await + black_box($number)
            })*
        }
    };
}

levels! {
    level10 calls level9: 10,
    level9 calls level8: 9,
    level8 calls level7: 8,
    level7 calls level6: 7,
    level6 calls level5: 6,
    level5 calls level4: 5,
    level4 calls level3: 4,
    level3 calls level2: 3,
    level2 calls level1: 2,
    level1 calls leaf: 1,
}

const TEN_LEVELS: u64 = 1 + 55;

fn plain_recursion(levels: u64) -> Box<u64> {
    Box::new(if levels == 0 { leaf(None) } else { *plain_recursion(levels - 1) + black_box(1) })
}

fn async_recursion(levels: u64) -> Pin<Box<dyn Future<Output = u64>>> {
    Box::pin(async move {
        if levels == 0 { leaf(None) } else { async_recursion(levels - 1).await + black_box(1) }
    })
}

/// Runs what `plain` and `future` do, in each way there is.
fn compare<F: Future<Output = u64>>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    expected: u64,
    plain: impl Fn() -> u64,
    future: impl Fn() -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without threads");
    type Run<'a> = &'a dyn Fn() -> u64;
    let ways: [(&str, Run<'_>); 7] = [
        ("plain functions", &plain),
        ("run_eagerly", &|| heirloom::run_eagerly(future())),
        ("try_run_eagerly", &|| heirloom::try_run_eagerly(future()).expect("it never suspends")),
        ("pollster", &|| pollster::block_on(future())),
        ("futures block_on", &|| futures::executor::block_on(future())),
        ("heirloom block_on", &|| heirloom::block_on(future())),
        ("tokio block_on", &|| runtime.block_on(future())),
    ];
    for (name, run) in ways {
        assert_eq!(run(), expected, "{name}");
        group.bench_function(name, |bencher| bencher.iter(run));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (title, work) in [
        ("eager, 10 levels, leaf of 1 us", Some(Work::of_micros(1))),
        ("eager, 10 levels, leaf of nothing", None),
    ] {
        let mut group = criterion.benchmark_group(title);
        compare(&mut group, TEN_LEVELS, || plain::level10(work), || asynchronous::level10(work));
        group.finish();
    }
    let mut group = criterion.benchmark_group("eager, 1,000 boxed levels, leaf of nothing");
    compare(&mut group, 1_001, || *plain_recursion(1_000), || async_recursion(1_000));
    group.finish();
    criterion.final_summary();
}
