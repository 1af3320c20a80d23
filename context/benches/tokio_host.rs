//! What `heirloom_context::tokio::carry` costs a poll and a spawn: nanoseconds with and without, on
//! the same runtime otherwise.
//!
//! Rounds without, with, and with the obvious way, a map under a mutex, alternate. Each is compared
//! with the one without before it. Printed are the medians, and of the differences also the
//! quartiles. Run by `.ci/tokio_host`; `--smoke` runs one short round.

fn main() {
    #[cfg(tokio_unstable)]
    measure::all(std::env::args().any(|argument| argument == "--smoke"));
    #[cfg(not(tokio_unstable))]
    println!("nothing is measured without --cfg tokio_unstable: run .ci/tokio_host");
}

#[cfg(tokio_unstable)]
mod measure {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};
    use std::time::Instant;

    use heirloom_context::context_var;
    use heirloom_context::raw::{self, Live};
    use tokio::runtime::{Builder, Runtime};
    use tokio::task::Id;

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

    #[derive(Clone, Copy)]
    enum How {
        Without,
        Carry,
        Map,
    }

    /// The obvious way: states of tasks in a map under a mutex, and on the stack of a thread while
    /// they are polled. Wrong where the hooks of two polls overlap.
    fn with_a_map(builder: &mut Builder) {
        type Tasks = Arc<Mutex<HashMap<Id, Live>>>;

        thread_local! {
            static POLLED: RefCell<Vec<Live>> = const { RefCell::new(Vec::new()) };
        }
        let tasks: Tasks = Arc::default();
        let [spawned, before, after, ended]: [Tasks; 4] = std::array::from_fn(|_| Arc::clone(&tasks));
        builder
            .on_task_spawn(move |task| {
                let live = Live::new(heirloom_context::Context::inherited());
                spawned.lock().unwrap().insert(task.id(), live);
            })
            .on_before_task_poll(move |task| {
                let mut live =
                    before.lock().unwrap().get_mut(&task.id()).map(std::mem::take).unwrap_or_default();
                raw::swap(&mut live);
                POLLED.with_borrow_mut(|polled| polled.push(live));
            })
            .on_after_task_poll(move |task| {
                let mut live = POLLED.with_borrow_mut(|polled| polled.pop().unwrap());
                raw::swap(&mut live);
                if let Some(place) = after.lock().unwrap().get_mut(&task.id()) {
                    *place = live;
                }
            })
            .on_task_terminate(move |task| {
                ended.lock().unwrap().remove(&task.id());
            });
    }

    fn runtime(builder: &mut Builder, how: How) -> Runtime {
        match how {
            How::Without => {}
            How::Carry => drop(heirloom_context::tokio::carry(builder)),
            How::Map => with_a_map(builder),
        }
        builder.build().unwrap()
    }

    fn current_thread(how: How) -> Runtime {
        runtime(&mut Builder::new_current_thread(), how)
    }

    fn one_worker(how: How) -> Runtime {
        runtime(Builder::new_multi_thread().worker_threads(1), how)
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

    /// Nanoseconds for each task that a task spawns, and that is polled once and joined, in
    /// batches.
    fn spawns(runtime: &Runtime, count: u64) -> f64 {
        let spawner = runtime.spawn(async move {
            let start = Instant::now();
            for _ in 0..count / 100 {
                let handles: [_; 100] = std::array::from_fn(|_| tokio::spawn(async {}));
                for handle in handles {
                    handle.await.unwrap();
                }
            }
            start.elapsed().as_nanos() as f64 / count as f64
        });
        runtime.block_on(spawner).unwrap()
    }

    fn quantile(sorted: &[f64], part: f64) -> f64 {
        sorted[((sorted.len() - 1) as f64 * part).round() as usize]
    }

    fn compare(name: &str, rounds: usize, build: fn(How) -> Runtime, run: impl Fn(&Runtime) -> f64) {
        let runtimes = [How::Without, How::Carry, How::Map].map(build);
        let mut lists: [Vec<f64>; 3] = Default::default();
        for _ in 0..rounds {
            let [without, carry, map] = runtimes.each_ref().map(&run);
            lists[0].push(without);
            lists[1].push(carry - without);
            lists[2].push(map - without);
        }
        for list in &mut lists {
            list.sort_by(f64::total_cmp);
        }
        let [without, carry, map] = lists.map(|list| [0.25, 0.5, 0.75].map(|part| quantile(&list, part)));
        println!(
            "{name:40} {:7.1}   {:+7.1} ({:+6.1} .. {:+6.1})   {:+7.1} ({:+6.1} .. {:+6.1})",
            without[1], carry[1], carry[0], carry[2], map[1], map[0], map[2]
        );
    }

    pub(super) fn all(smoke: bool) {
        // Rounds of a millisecond or two: most are not interrupted.
        let (rounds, count) = if smoke { (1, 10_000) } else { (501, 50_000) };
        println!(
            "{:40} {:>7}   {:<27}   a map under a mutex",
            "ns, medians (and quartiles)", "without", "carry"
        );
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
            compare(&format!("poll, 500 tasks in turn, {values} values"), rounds, current_thread, |r| {
                polls(r, 500, count)
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
