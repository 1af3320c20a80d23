//! What `heirloom_context::tokio::carry` costs a poll and a spawn: nanoseconds with and without, on the same runtime otherwise.
//!
//! Rounds without and with alternate, and each pair gives one difference. Printed are the medians, and of the differences also the
//! quartiles. Run by `.ci/tokio_host`; `--smoke` runs one short round.

fn main() {
    #[cfg(tokio_unstable)]
    measure::all(std::env::args().any(|argument| argument == "--smoke"));
    #[cfg(not(tokio_unstable))]
    println!("nothing is measured without --cfg tokio_unstable: run .ci/tokio_host");
}

#[cfg(tokio_unstable)]
mod measure {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Instant;

    use heirloom_context::context_var;
    use tokio::runtime::{Builder, Runtime};

    context_var! {
        static A: u64;
        static B: u64;
        static C: u64;
        static D: u64;
        static E: u64;
        static F: u64;
        static G: u64;
        static H: u64;
    }

    const VALUES: [&heirloom_context::ContextVar<u64>; 8] = [&A, &B, &C, &D, &E, &F, &G, &H];

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

    fn runtime(builder: &mut Builder, carry: bool) -> Runtime {
        if carry {
            heirloom_context::tokio::carry(builder);
        }
        builder.build().unwrap()
    }

    fn current_thread(carry: bool) -> Runtime {
        runtime(&mut Builder::new_current_thread(), carry)
    }

    fn one_worker(carry: bool) -> Runtime {
        runtime(Builder::new_multi_thread().worker_threads(1), carry)
    }

    /// Nanoseconds for each poll of `tasks` tasks that are polled in turn.
    fn polls(runtime: &Runtime, tasks: u64, count: u64) -> f64 {
        runtime.block_on(async {
            let each = count / tasks;
            let start = Instant::now();
            let handles: Vec<_> = (0..tasks).map(|_| tokio::spawn(Polls(each))).collect();
            for handle in handles {
                handle.await.unwrap();
            }
            start.elapsed().as_nanos() as f64 / (tasks * (each + 1)) as f64
        })
    }

    /// Nanoseconds for each task that is spawned, polled once and joined, in batches.
    fn spawns(runtime: &Runtime, count: u64) -> f64 {
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..count / 100 {
                let handles: [_; 100] = std::array::from_fn(|_| tokio::spawn(async {}));
                for handle in handles {
                    handle.await.unwrap();
                }
            }
            start.elapsed().as_nanos() as f64 / count as f64
        })
    }

    fn quantile(sorted: &[f64], part: f64) -> f64 {
        sorted[((sorted.len() - 1) as f64 * part).round() as usize]
    }

    fn compare(name: &str, rounds: usize, build: fn(bool) -> Runtime, run: impl Fn(&Runtime) -> f64) {
        let (without, with) = (build(false), build(true));
        let (mut plain, mut carried, mut more) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let pair = (run(&without), run(&with));
            plain.push(pair.0);
            carried.push(pair.1);
            more.push(pair.1 - pair.0);
        }
        for list in [&mut plain, &mut carried, &mut more] {
            list.sort_by(f64::total_cmp);
        }
        println!(
            "{name:44} {:7.1} {:7.1}   {:+6.1} ({:+.1} .. {:+.1})",
            quantile(&plain, 0.5),
            quantile(&carried, 0.5),
            quantile(&more, 0.5),
            quantile(&more, 0.25),
            quantile(&more, 0.75),
        );
    }

    pub(super) fn all(smoke: bool) {
        let (rounds, count) = if smoke { (1, 10_000) } else { (31, 1_000_000) };
        println!("{:44} {:>7} {:>7}   {:>6} (quartiles)", "ns, medians of rounds", "without", "with", "more");
        for values in [0, 8] {
            for (number, var) in VALUES.into_iter().take(values).enumerate() {
                var.set(number as u64);
            }
            compare(&format!("poll, one task, {values} values"), rounds, current_thread, |r| {
                polls(r, 1, count)
            });
            compare(&format!("poll, one task, {values} values, worker"), rounds, one_worker, |r| {
                polls(r, 1, count)
            });
            compare(&format!("poll, 1,000 tasks in turn, {values} values"), rounds, current_thread, |r| {
                polls(r, 1_000, count)
            });
            compare(&format!("spawn, poll, join, {values} values"), rounds, current_thread, |r| {
                spawns(r, count / 4)
            });
            compare(&format!("spawn, poll, join, {values} values, worker"), rounds, one_worker, |r| {
                spawns(r, count / 4)
            });
        }
    }
}
