use heirloom_tests::{Probe, Step, Watch, idle, scaled, with_runtime};

#[test]
fn every_wake_up_leads_to_a_poll() {
    const STEPS: usize = scaled(300);
    with_runtime(4, |runtime| {
        let script = |number: usize| {
            (0..STEPS).map(move |step| match (number + step) % 5 {
                0 => Step::Yield,
                1 if step % 50 < 5 => Step::WokenElsewhere,
                _ => Step::Wait,
            })
        };
        let (watches, tasks): (Vec<Watch>, Vec<_>) = (0..8)
            .map(|number| {
                let (probe, watch) = Probe::new(script(number));
                (watch, runtime.spawn(probe))
            })
            .unzip();
        // Two threads wake what they like, whether it is running, queued or waiting.
        std::thread::scope(|scope| {
            for first in 0..2 {
                let watches = &watches;
                scope.spawn(move || {
                    for round in 0..scaled(2_000) {
                        watches[(first + round) % watches.len()].wake();
                    }
                });
            }
        });
        idle(runtime);
        for watch in &watches {
            assert!(!watch.is_owed_a_poll(), "a wake-up was lost after {} polls", watch.polls());
        }
        for (watch, task) in watches.iter().zip(tasks) {
            while !task.is_finished() {
                let before = watch.polls();
                watch.wake();
                idle(runtime);
                assert!(task.is_finished() || watch.polls() > before, "a wake-up led to no poll");
            }
            runtime.block_on(task).unwrap();
            watch.assert_counts(STEPS + 1, 1);
        }
    });
}
