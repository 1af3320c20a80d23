use std::time::Duration;

use heirloom::{Runtime, sleep, spawn, spawn_blocking};
use heirloom_tests::{Countdown, Gate, PATIENCE, Probe, Step, idle, runtime, scaled, watchdog};

#[test]
fn a_worker_that_sleeps_is_woken_by_work_from_anywhere() {
    for (workers, search) in
        [(1, None), (2, None), (4, None), (1, Some(Duration::ZERO)), (4, Some(Duration::ZERO))]
    {
        watchdog(PATIENCE, move || {
            let mut builder = Runtime::builder().workers(workers);
            if let Some(search) = search {
                builder = builder.search(search);
            }
            let (runtime, other) = (builder.build().unwrap(), runtime(1));
            let (probe, watch) = Probe::new(std::iter::repeat_n(Step::Wait, 10_000));
            let waiting = runtime.spawn(probe);
            for _ in 0..scaled(60) {
                // By a task from a thread.
                idle(&runtime);
                runtime.block_on(runtime.spawn(async {})).unwrap();
                // By a wake-up from a thread.
                idle(&runtime);
                let before = watch.polls();
                watch.wake();
                idle(&runtime);
                assert!(watch.polls() > before);
                // From a task of another runtime.
                let handle = runtime.handle().clone();
                let far = other.spawn(async move { handle.spawn(async { 7 }).await.unwrap() });
                assert_eq!(other.block_on(far).unwrap(), 7);
                // From a blocking closure that ends.
                let blocking = runtime.spawn(async { spawn_blocking(|| 8).await.unwrap() });
                assert_eq!(runtime.block_on(blocking).unwrap(), 8);
                // By a task that is aborted, which a worker has to drop.
                let aborted = runtime.spawn(std::future::pending::<()>());
                idle(&runtime);
                aborted.abort();
                assert!(runtime.block_on(aborted).unwrap_err().is_cancelled());
            }
            // By what another worker has in its queue while it is inside a long poll: each of these
            // polls lasts until all of them are going on, so every worker has to get up. The one in
            // the next slot waits for its worker.
            for _ in 0..60 {
                idle(&runtime);
                let all = Countdown::new(workers);
                let long_polls = runtime.spawn(async move {
                    for _ in 1..workers {
                        let all = all.clone();
                        let long_poll = async move {
                            all.arrive();
                            all.wait();
                        };
                        spawn(long_poll).detach();
                    }
                    spawn(async {}).detach();
                    all.arrive();
                    all.wait();
                });
                runtime.block_on(long_polls).unwrap();
                // The same from a thread.
                idle(&runtime);
                let all = Countdown::new(workers);
                for _ in 0..workers {
                    let all = all.clone();
                    let long_poll = async move {
                        all.arrive();
                        all.wait();
                    };
                    runtime.spawn(long_poll).detach();
                }
                all.wait();
            }
            // By a timer, while the worker that kept the time is inside a long poll.
            if workers > 1 {
                let gate = Gate::new();
                let long_poll = runtime.spawn({
                    let gate = gate.clone();
                    async move {
                        sleep(Duration::from_millis(2)).await;
                        gate.wait();
                    }
                });
                let opener = runtime.spawn(async move {
                    sleep(Duration::from_millis(20)).await;
                    gate.open();
                });
                runtime.block_on(opener).unwrap();
                runtime.block_on(long_poll).unwrap();
            }
            // By a timer, also by an earlier one than the one it sleeps for.
            let far = runtime.spawn(sleep(Duration::from_secs(3_600)));
            for _ in 0..10 {
                idle(&runtime);
                runtime.block_on(runtime.spawn(sleep(Duration::from_millis(2)))).unwrap();
            }
            drop((far, waiting));
            watch.assert_sound();
        });
    }
}
