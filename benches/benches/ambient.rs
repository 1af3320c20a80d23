//! What do ambient states cost a spawn and a poll?
//!
//! Runtimes with one worker that differ in their ambient states alone: none, one that does nothing,
//! and the span of `tracing` (with no span current, and in a span of a registry). Rounds of all of
//! them alternate, and each is divided by the one without in the same round. Printed are the
//! medians, and of the ratios and differences the quartiles. `--smoke` runs one short round.
//!
//! | row | what is counted |
//! | --- | --- |
//! | spawn | the spawn call alone, of a task that is ready at once; the tasks run and end outside of the time |
//! | task | spawn, first poll and end of such a task |
//! | poll | a poll of a task that wakes itself |
#![forbid(unsafe_code)]

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use heirloom::context::{Ambient, Crossing};
use heirloom::{Runtime, spawn, yield_now};
use heirloom_benches::stats::Spread;
use tracing::{Instrument, Span};

/// An ambient state that does nothing.
struct Nothing;

impl Ambient for Nothing {
    type State = ();
    type Guard<'a> = ();

    fn capture(&self, _: &Crossing<'_>) -> Option<()> {
        Some(())
    }

    fn enter(&self, (): &mut ()) {}
}

/// Is polled so many times, and wakes itself each time.
struct Polls(u64);

impl Future for Polls {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

const BATCH: u64 = 64;

/// Times, for each of `count` tasks: of the spawn call, and of the whole task.
async fn spawns(count: u64) -> (Duration, Duration) {
    let (mut spawning, began) = (Duration::ZERO, Instant::now());
    for _ in 0..count / BATCH {
        let start = Instant::now();
        for number in 0..BATCH {
            spawn(async move { black_box(number) }).detach();
        }
        spawning += start.elapsed();
        // This task goes behind those.
        yield_now().await;
    }
    (spawning, began.elapsed())
}

/// Nanoseconds of the three rows.
fn round(runtime: &Runtime, span: &Span, count: u64) -> [f64; 3] {
    let each = |time: Duration| time.as_nanos() as f64 / count as f64;
    let (spawning, tasks) = runtime.block_on(runtime.spawn(spawns(count).instrument(span.clone()))).unwrap();
    let polls = async move {
        let start = Instant::now();
        spawn(Polls(count)).await.unwrap();
        start.elapsed()
    };
    let polls = runtime.block_on(runtime.spawn(polls.instrument(span.clone()))).unwrap();
    [each(spawning), each(tasks), each(polls)]
}

/// The price of a clone of the current span and its drop, and of an enter and exit, on this thread.
fn prices_of_a_span(span: &Span, count: u64) -> [f64; 2] {
    let timed = |f: &dyn Fn()| {
        let start = Instant::now();
        (0..count).for_each(|_| f());
        start.elapsed().as_nanos() as f64 / count as f64
    };
    span.in_scope(|| [timed(&|| drop(black_box(Span::current()))), timed(&|| span.in_scope(|| ()))])
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let (rounds, count) = if smoke { (1, 1 << 10) } else { (41, 1 << 15) };
    tracing::subscriber::set_global_default(tracing_subscriber::registry()).expect("no other is set");
    let builder = || Runtime::builder().workers(1);
    let span = tracing::info_span!("request");
    let contenders = [
        ("none", builder(), Span::none()),
        ("one that does nothing", builder().ambient(&Nothing), Span::none()),
        ("tracing, no span", builder().tracing(), Span::none()),
        ("none, in a span", builder(), span.clone()),
        ("tracing, in a span", builder().tracing(), span.clone()),
    ]
    .map(|(name, builder, span)| (name, builder.build().expect("a runtime"), span));

    // By contender, row and round.
    let mut samples = contenders.each_ref().map(|_| [const { Vec::new() }; 3]);
    let mut prices = [const { Vec::new() }; 2];
    for number in 0..rounds + 1 {
        for (samples, (_, runtime, span)) in samples.iter_mut().zip(&contenders) {
            let taken = round(runtime, span, count);
            // The first round warms up.
            if number > 0 {
                samples.iter_mut().zip(taken).for_each(|(samples, taken)| samples.push(taken));
            }
        }
        prices.iter_mut().zip(prices_of_a_span(&span, count)).for_each(|(prices, taken)| prices.push(taken));
    }
    let median = |samples: &[f64]| Spread::of(samples.iter().copied()).expect("a round").median;
    for (row, title) in ["spawn", "task", "poll"].into_iter().enumerate() {
        println!("{title}, ns");
        let none = &samples[0][row];
        for (samples, (name, ..)) in samples.iter().zip(&contenders) {
            let own = &samples[row];
            let (ratio, [lower, upper]) = quartiles(own.iter().zip(none).map(|(own, none)| own / none));
            let more = quartiles(own.iter().zip(none).map(|(own, none)| own - none)).0;
            println!(
                "  {name:<24}{:8.1}  {more:+7.1}  times {ratio:.3}, quartiles {lower:.3} to {upper:.3}",
                median(own)
            );
        }
    }
    let [clone, enter] = prices.map(|prices| median(&prices));
    println!(
        "on this thread, ns: clone and drop of the current span {clone:.1}, its enter and exit {enter:.1}"
    );
}

/// The median, and the quartiles.
fn quartiles(values: impl Iterator<Item = f64>) -> (f64, [f64; 2]) {
    let values: Vec<f64> = values.collect();
    let all = Spread::of(values.iter().copied()).expect("a round");
    let mirrored = Spread::of(values.iter().map(|value| -value)).expect("a round");
    (all.median, [all.lower, -mirrored.lower])
}
