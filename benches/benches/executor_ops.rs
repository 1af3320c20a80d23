//! What does one operation of the executor cost by itself: a spawn through the queue, a yield, a
//! timer in the wheel?
//!
//! For a look at one change on one machine. What is promised is a ratio to a peer, and measured by
//! the program `executors`. Everything goes through the public interface, on one worker, so that
//! nothing is shared or stolen.
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use criterion::Criterion;
use heirloom_benches::executor::tools::Countdown;
use heirloom_benches::peers::{Executor, Heirloom, Timers};

type Ours = Heirloom<8>;

/// Benchmarks what `run` does `times` times on the worker; it answers how long that took.
fn on_worker<F: Future<Output = Duration> + Send + 'static>(
    criterion: &mut Criterion,
    name: &str,
    peer: Ours,
    run: impl Fn(u64) -> F,
) {
    criterion.bench_function(name, |bencher| bencher.iter_custom(|times| peer.run(run(times))));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let criterion = &mut criterion;
    let peer = Ours::start(1);
    Ours::within(|| {
        // The queue: how the cost of a task depends on how many are in it.
        for queued in [1u64, 100, 10_000] {
            let name = format!("spawn and finish, {queued} queued");
            on_worker(criterion, &name, peer, move |times| async move {
                let countdown = Countdown::leaked();
                let batches = times.div_ceil(queued);
                let start = Instant::now();
                for _ in 0..batches {
                    countdown.expect(queued as u32);
                    for _ in 0..queued {
                        peer.detach(async { countdown.done() });
                    }
                    countdown.finished().await;
                }
                start.elapsed().mul_f64(times as f64 / (batches * queued) as f64)
            });
        }
        on_worker(criterion, "yield alone", peer, |times| async move {
            let start = Instant::now();
            for _ in 0..times {
                Ours::yield_now().await;
            }
            start.elapsed()
        });
        // The wheel: how a timer set and cancelled depends on how many there are, and on how far
        // off it is.
        for waiting in [0u32, 1_000, 100_000] {
            for (far, limit) in [("10 ms", Duration::from_millis(10)), ("1 h", Duration::from_secs(3600))] {
                let name = format!("timer set and cancelled, {far} off, {waiting} others");
                on_worker(criterion, &name, peer, move |times| async move {
                    let mut others: Vec<_> = (0..waiting)
                        .map(|other| {
                            let far = Duration::from_secs(60) + Duration::from_millis(other.into());
                            Box::pin(Ours::sleep(far))
                        })
                        .collect();
                    let mut cx = Context::from_waker(Waker::noop());
                    for other in &mut others {
                        assert!(other.as_mut().poll(&mut cx).is_pending());
                    }
                    let start = Instant::now();
                    for _ in 0..times {
                        let timer = pin!(Ours::sleep(limit));
                        assert!(timer.poll(&mut cx).is_pending());
                    }
                    start.elapsed()
                });
            }
        }
    });
    peer.stop();
    criterion.final_summary();
}
