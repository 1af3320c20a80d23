//! What does one operation on a context cost by itself: a read, a set, a snapshot, a fork, a swap?
//! And what do branches with a context each cost a `join_all`?
//!
//! For a look at one change on one machine. What is promised is a ratio to a peer, and measured by
//! the program `context`.
#![forbid(unsafe_code)]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context as Poller, Waker};

use criterion::{BatchSize, BenchmarkId, Criterion};
use futures::channel::oneshot;
use heirloom_benches::context::subjects::{self, Payload};
use heirloom_context::{Context, raw};

const SIZES: [usize; 3] = [1, 8, 100];

/// Benchmarks `run` at each size: it gets a context of that many variables, and their number.
fn per_size(
    criterion: &mut Criterion,
    name: &str,
    run: impl Fn(&mut criterion::Bencher<'_>, Context, usize) + Copy,
) {
    let mut group = criterion.benchmark_group(name);
    for n in SIZES {
        let context = subjects::context::<u64>(n);
        group.bench_function(BenchmarkId::from_parameter(n), |bencher| run(bencher, context.clone(), n));
    }
    group.finish();
}

type Branch = oneshot::Receiver<u64>;

/// The whole life of a `join_all` whose branches are woken, and it is polled, one by one.
fn one_by_one<F: Future>(
    join: impl Fn(Vec<Branch>) -> F,
    (senders, branches): (Vec<oneshot::Sender<u64>>, Vec<Branch>),
) {
    let mut poller = Poller::from_waker(Waker::noop());
    let mut all = pin!(join(branches));
    let mut ready = all.as_mut().poll(&mut poller).is_ready();
    for sender in senders {
        sender.send(7).expect("its branch waits");
        ready = all.as_mut().poll(&mut poller).is_ready();
    }
    assert!(ready);
}

/// Ours, whose branches are isolated, and that of `futures`.
fn join_all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("join_all, woken one by one");
    group.sample_size(20);
    for n in [3, 30, 1_000, 16_000] {
        let branches = || (0..n).map(|_| oneshot::channel()).unzip();
        group.bench_function(BenchmarkId::new("heirloom", n), |bencher| {
            bencher.iter_batched(
                branches,
                |all| one_by_one(heirloom_context::future::join_all, all),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("futures", n), |bencher| {
            bencher.iter_batched(
                branches,
                |all| one_by_one(futures::future::join_all, all),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let vars = u64::pool().bound(subjects::MOST);
    let unset = u64::pool().unset(1)[0];
    let last = |n: usize| vars[n - 1];

    per_size(&mut criterion, "read", |bencher, context, n| {
        let var = black_box(last(n));
        context.run(|| bencher.iter(|| var.with(|value| value.copied())));
    });
    per_size(&mut criterion, "read unset", |bencher, context, _| {
        let var = black_box(unset);
        context.run(|| bencher.iter(|| var.with(|value| value.copied())));
    });
    per_size(&mut criterion, "set, keeping the old context", |bencher, context, n| {
        let var = black_box(last(n));
        bencher.iter(|| context.with_var(var, black_box(7)));
    });
    per_size(&mut criterion, "set in place", |bencher, context, n| {
        let var = black_box(last(n));
        context.run(|| bencher.iter(|| var.set(black_box(7))));
    });
    per_size(&mut criterion, "snapshot", |bencher, context, _| {
        context.run(|| bencher.iter(Context::current));
    });
    per_size(&mut criterion, "fork", |bencher, context, _| {
        context.run(|| bencher.iter(Context::inherited));
    });
    per_size(&mut criterion, "swap in and out", |bencher, context, _| {
        let mut task = raw::Live::new(context);
        bencher.iter(|| {
            raw::swap(&mut task);
            black_box(());
            raw::swap(&mut task);
        });
    });
    join_all(&mut criterion);
    criterion.final_summary();
}
