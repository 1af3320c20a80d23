use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use heirloom::{Context, yield_now};
use heirloom_tests::{Countdown, Gate, MARK, idle, scaled, with_runtime};

use super::NUMBER;

#[test]
fn the_context_a_task_sees_is_right_whichever_worker_polls_it() {
    // The worker that polled the task last is occupied each time, so that the other one has to poll
    // it.
    with_runtime(2, |runtime| {
        let (steps, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let gates: Vec<Gate> = (0..20).map(|_| Gate::new()).collect();
        MARK.set(5);
        let traveller = runtime.spawn({
            let (steps, go, gates) = (steps.clone(), go.clone(), gates.clone());
            async move {
                for (number, gate) in gates.iter().enumerate() {
                    NUMBER.set(number);
                    let _binding = MARK.bind(number as u64);
                    go.lock().unwrap().push(std::thread::current().id());
                    steps.fetch_add(1, Ordering::SeqCst);
                    gate.opened().await;
                    assert_eq!((NUMBER.get(), MARK.get()), (Some(number), Some(number as u64)));
                }
                assert_eq!(MARK.get(), Some(5));
            }
        });
        for gate in &gates {
            idle(runtime);
            let last = *go.lock().unwrap().last().unwrap();
            let (both, release) = (Countdown::new(2), Gate::new());
            let occupiers: Vec<_> = (0..2)
                .map(|_| {
                    let (both, release) = (both.clone(), release.clone());
                    runtime.spawn(async move {
                        assert_eq!(MARK.get(), Some(5), "what the traveller has bound is its own");
                        both.arrive();
                        both.wait();
                        if std::thread::current().id() == last {
                            release.wait();
                        }
                    })
                })
                .collect();
            both.wait();
            let before = steps.load(Ordering::SeqCst);
            gate.open();
            while steps.load(Ordering::SeqCst) == before && !traveller.is_finished() {
                std::thread::yield_now();
            }
            release.open();
            for occupier in occupiers {
                runtime.block_on(occupier).unwrap();
            }
        }
        runtime.block_on(traveller).unwrap();
        let threads = go.lock().unwrap().clone();
        assert!(threads.windows(2).all(|pair| pair[0] != pair[1]), "it moved each time: {threads:?}");
    });
    // Many tasks, as they come.
    with_runtime(4, |runtime| {
        let tasks: Vec<_> = (0..scaled(200))
            .map(|number| {
                let context = Context::empty().with_var(&NUMBER, number);
                runtime.handle().spawn_in(context, async move {
                    for step in 0..scaled(50) {
                        assert_eq!(NUMBER.get(), Some(number + step));
                        NUMBER.set(number + step + 1);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
    });
}
