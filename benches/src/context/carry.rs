//! Rows about carrying a context along: a snapshot, a swap per poll, a fork per spawn.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Polling, Waker};

use heirloom_context::{Context, raw};
use opentelemetry::Context as Otel;

use super::read::arc;
use super::subjects;
use super::typed::{self, TASK_LOCAL_KEYS, TASK_LOCALS, TYPES, TaskLocal};
use super::{ARC, IMBL, OTEL, OURS, STD, TOKIO, variables};
use crate::harness::{Case, Contender, Row, Sample, repeat};

/// A pointer exchanged with a thread local's, and back again.
pub const BARE_SWAP: &str = "bare pointer swap";
/// Children that are kept before they are dropped together.
pub const BATCH: usize = 64;

/// The rows about carrying.
pub fn rows() -> Vec<Row> {
    let row = |name, question, build: fn(usize) -> Vec<Contender>| {
        let cases = [1, 8, 32, 100, 1000].map(|n| Case::new(variables(n), move || build(n))).into();
        Row { name, question, cases }
    };
    vec![
        row("snapshot", "`Context::current()` and its drop", snapshot),
        row("swap", "a task's context swapped in and out again, as around a poll (`raw::swap` twice)", swap),
        row("fork", "`Context::inherited()` and its drop, one at a time", fork),
        row("fork-many", "the same, 64 kept and then dropped together; per child", fork_many),
    ]
}

fn cloned<T: Clone + 'static>(name: &str, value: T) -> Contender {
    Contender::new(name, move |ops| repeat(ops, || value.clone()))
}

/// opentelemetry's context of `n` values, if there are so many types, while `sample` is taken.
fn otel(n: usize, sample: fn(u64) -> Sample) -> Option<Contender> {
    let context = (n <= TYPES).then(|| typed::otel::<u64>(n))?;
    Some(Contender::new(OTEL, move |ops| {
        let _attached = context.clone().attach();
        sample(ops)
    }))
}

thread_local! {
    static SHARED: RefCell<Option<Arc<u64>>> = const { RefCell::new(None) };
    static POINTER: Cell<Option<&'static u64>> = const { Cell::new(None) };
}

fn snapshot(n: usize) -> Vec<Contender> {
    let context = subjects::context::<u64>(n);
    let mut contenders = vec![
        Contender::new(OURS, move |ops| context.run(|| repeat(ops, Context::current))),
        arc(),
        Contender::new("Arc in a RefCell", |ops| {
            SHARED.set(Some(Arc::new(1)));
            repeat(ops, || SHARED.with_borrow(Option::clone))
        }),
        cloned(IMBL, subjects::imbl::<u64>(n)),
        cloned(STD, subjects::std_map::<u64>(n)),
    ];
    contenders.extend(otel(n, |ops| repeat(ops, Otel::current)));
    contenders
}

/// Times a pointer that is swapped with a thread-local's, and back again.
pub fn bare_swaps(ops: u64) -> Sample {
    // The cell is handed out, so that the compiler cannot keep it in a register.
    POINTER.with(|cell| {
        black_box(cell);
    });
    let mut task: Option<&'static u64> = Some(&1);
    repeat(ops, || {
        task = POINTER.replace(task);
        black_box(());
        task = POINTER.replace(task);
    })
}

/// Polls that enter the scopes of `keys`, one around the other.
fn scoped(keys: &'static [TaskLocal]) -> Pin<Box<dyn Future<Output = ()>>> {
    match keys.split_first() {
        None => Box::pin(pending()),
        Some((first, rest)) => Box::pin(first.scope(1, scoped(rest))),
    }
}

fn swap(n: usize) -> Vec<Contender> {
    let mut live = raw::Live::new(subjects::context::<u64>(n));
    let ours = Contender::new(OURS, move |ops| {
        repeat(ops, || {
            raw::swap(&mut live);
            black_box(());
            raw::swap(&mut live);
        })
    });
    let bare = Contender::new(BARE_SWAP, bare_swaps);
    let restore = Contender::new("save, set, restore a pointer", |ops| {
        POINTER.with(|cell| {
            black_box(cell);
        });
        let task: Option<&'static u64> = black_box(Some(&1));
        repeat(ops, || {
            let before = POINTER.replace(task);
            black_box(());
            POINTER.set(before);
        })
    });
    let mut contenders = vec![ours, bare, restore];
    if n <= TYPES {
        let context = typed::otel::<u64>(n);
        contenders.push(Contender::new(OTEL, move |ops| {
            repeat(ops, || {
                // What its `WithContext` does around a poll.
                let _attached = context.clone().attach();
                black_box(());
            })
        }));
    }
    if n <= TASK_LOCALS {
        let mut future = scoped(&TASK_LOCAL_KEYS[..n]);
        contenders.push(Contender::new(TOKIO, move |ops| {
            repeat(ops, || future.as_mut().poll(&mut Polling::from_waker(Waker::noop())))
        }));
    }
    contenders
}

fn fork(n: usize) -> Vec<Contender> {
    let (context, parent) = (subjects::context::<u64>(n), subjects::context::<u64>(n));
    let mut contenders = vec![
        Contender::new(OURS, move |ops| context.run(|| repeat(ops, Context::inherited))),
        arc(),
        Contender::new("with a task's state", move |ops| {
            parent.run(|| repeat(ops, || raw::Live::new(Context::inherited())))
        }),
        cloned(IMBL, subjects::imbl::<u64>(n)),
    ];
    contenders.extend(otel(n, |ops| repeat(ops, Otel::current)));
    contenders
}

/// Times `make`, keeping [`BATCH`] of what it makes and dropping them together.
fn batches<T>(ops: u64, mut make: impl FnMut() -> T) -> Sample {
    let mut kept = Vec::with_capacity(BATCH);
    let batch = || {
        for _ in 0..BATCH {
            kept.push(make());
        }
        black_box(&mut kept).clear();
    };
    let sample = repeat(ops.div_ceil(BATCH as u64), batch);
    Sample { ops: sample.ops * BATCH as u64, ..sample }
}

fn fork_many(n: usize) -> Vec<Contender> {
    let context = subjects::context::<u64>(n);
    let shared = Arc::new(1u64);
    let map = subjects::imbl::<u64>(n);
    let mut contenders = vec![
        Contender::new(OURS, move |ops| context.run(|| batches(ops, Context::inherited))),
        Contender::new(ARC, move |ops| batches(ops, || shared.clone())),
        Contender::new(IMBL, move |ops| batches(ops, || map.clone())),
    ];
    contenders.extend(otel(n, |ops| batches(ops, Otel::current)));
    contenders
}
