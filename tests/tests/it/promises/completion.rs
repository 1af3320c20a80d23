use heirloom_tests::{Probe, Step, idle, scaled, with_runtime};

#[test]
fn no_poll_after_completion() {
    with_runtime(2, |runtime| {
        let ends: [(&[Step], bool); 4] = [
            (&[Step::Wait, Step::Ready], false),
            (&[Step::Wait, Step::Panic], false),
            (&[Step::Wait, Step::Yield, Step::Yield], false),
            (&[Step::Wait; 10], true),
        ];
        for (script, abort) in ends {
            let (probe, watch) = Probe::new(script.iter().copied());
            let task = runtime.spawn(probe);
            idle(runtime);
            let waker = watch.waker().expect("it has been polled");
            waker.wake_by_ref();
            idle(runtime);
            let before = watch.polls();
            if abort {
                task.abort();
            }
            let _ = runtime.block_on(task);
            let polls = watch.polls();
            assert_eq!(watch.drops(), 1);
            assert!(!abort || polls == before, "polled although it was to end");
            // Clones by value and by reference, from here and from elsewhere, in a row and at once.
            waker.wake_by_ref();
            waker.clone().wake();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..scaled(50)).for_each(|_| waker.clone().wake()));
                }
            });
            drop(waker);
            idle(runtime);
            watch.assert_counts(polls, 1);
        }
    });
}
