use heirloom_tests::{PATIENCE, Probe, Step, idle, runtime, watchdog};

#[test]
fn wakers_may_outlive_the_runtime() {
    watchdog(PATIENCE, || {
        for workers in [1, 3] {
            let runtime = runtime(workers);
            let scripts: [&[Step]; 3] =
                [&[Step::Wait], &[Step::Wait, Step::Wait], &[Step::Wait, Step::Panic]];
            let mut kept = Vec::new();
            for script in scripts {
                let (probe, watch) = Probe::new(script.iter().copied());
                runtime.spawn(probe).detach();
                idle(&runtime);
                kept.push((watch.waker().expect("it waits"), watch));
            }
            // The last one has ended before the runtime does.
            kept[2].0.wake_by_ref();
            idle(&runtime);
            drop(runtime);
            for (waker, watch) in kept {
                let polls = watch.polls();
                let other = waker.clone();
                assert!(other.will_wake(&waker));
                std::thread::spawn(move || {
                    other.wake_by_ref();
                    other.wake();
                })
                .join()
                .unwrap();
                waker.wake_by_ref();
                waker.clone().wake();
                drop(waker);
                watch.assert_counts(polls, 1);
            }
        }
    });
}
