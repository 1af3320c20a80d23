use std::pin::Pin;
use std::time::Duration;

use heirloom::spawn;
use heirloom_tests::{
    Gate, OnDrop, PATIENCE, Probe, Step, Watch, idle, occupy, runtime, scaled, shut_down, wait_until,
    watchdog,
};

#[test]
fn shutdown_drops_every_future_that_is_not_being_polled_before_it_returns() {
    watchdog(PATIENCE, || {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let waiting: Vec<Watch> = (0..scaled(50))
                .map(|_| {
                    let (probe, watch) = Probe::new([Step::Wait]);
                    runtime.spawn(probe).detach();
                    watch
                })
                .collect();
            idle(&runtime);
            // Those that a task has spawned, on its worker.
            let (probes, inner): (Vec<_>, Vec<_>) = (0..50).map(|_| Probe::new([Step::Wait])).unzip();
            let parent = runtime.spawn(async { probes.into_iter().for_each(|probe| spawn(probe).detach()) });
            runtime.block_on(parent).unwrap();
            idle(&runtime);
            // All workers are inside a poll; what comes now is queued and was never polled.
            let occupied = occupy(&runtime, workers);
            let queued: Vec<Watch> = (0..scaled(50))
                .map(|_| {
                    let (probe, watch) = Probe::new([Step::Wait]);
                    runtime.spawn(probe).detach();
                    watch
                })
                .collect();
            // The polls in progress end when all the others are gone: shutdown waits for them, and
            // must not make the others wait, too.
            let all: Vec<Watch> = waiting.into_iter().chain(inner).chain(queued).collect();
            let observer = std::thread::spawn({
                let all = all.clone();
                move || {
                    let dropped = wait_until(|| all.iter().all(|watch| watch.drops() == 1));
                    occupied.release();
                    dropped
                }
            });
            let report = shut_down(runtime, Duration::from_millis(20));
            for watch in &all {
                watch.assert_sound();
                assert_eq!(watch.drops(), 1);
            }
            assert!(!report.is_clean());
            assert!(observer.join().unwrap(), "they were dropped while the polls were going on");
        }
        // What was being polled is dropped after that poll, which shutdown waits for.
        let runtime = runtime(1);
        let (begun, gate) = (Gate::new(), Gate::new());
        let (mut probe, watch) = Probe::new([Step::Wait; 2]);
        runtime
            .spawn(std::future::poll_fn({
                let (begun, gate) = (begun.clone(), gate.clone());
                move |poller| {
                    begun.open();
                    gate.wait();
                    // Long enough to be noticed if it was not waited for.
                    (0..1_000).for_each(|_| std::thread::yield_now());
                    Pin::new(&mut probe).poll(poller)
                }
            }))
            .detach();
        begun.wait();
        // Shutdown cancels what waits before it looks at what runs.
        let opener = OnDrop::new(move || gate.open());
        runtime
            .spawn(async move {
                let _opener = opener;
                std::future::pending::<()>().await
            })
            .detach();
        drop(runtime);
        watch.assert_counts(1, 1);
        // Without anything that is being polled, and by a plain drop.
        let runtime = heirloom_tests::runtime(2);
        let (probe, watch) = Probe::new([Step::Wait]);
        let task = runtime.spawn(probe);
        idle(&runtime);
        drop(runtime);
        watch.assert_counts(1, 1);
        assert!(heirloom::block_on(task).unwrap_err().is_cancelled());
    });
}
