use heirloom::task::LocalSet;
use heirloom::{spawn, yield_now};
use heirloom_tests::{Ledger, MARK, OnDrop, Probe, SCRIPTED, Step, idle, quiet_panic, with_runtime};

use super::{NUMBER, VALUE};

#[test]
fn a_panicking_task_harms_only_its_joiner() {
    with_runtime(1, |runtime| {
        let (bystander, watch) = Probe::new(std::iter::repeat_n(Step::Wait, 100));
        let bystander = runtime.spawn(bystander.expecting(None));
        for polls in 0..5 {
            let mut script = vec![Step::Yield; polls];
            script.push(Step::Panic);
            let (probe, panicked) = Probe::new(script);
            let ledger = Ledger::new();
            let value = ledger.counted(99);
            let task = runtime.spawn(async move {
                NUMBER.set(99);
                VALUE.set(value);
                let _binding = MARK.bind(99);
                probe.await;
            });
            let error = runtime.block_on(task).unwrap_err();
            assert!(error.is_panic() && !error.is_cancelled());
            assert_eq!(error.panic_message(), Some(SCRIPTED));
            assert_eq!(*error.into_panic().unwrap().downcast::<&'static str>().unwrap(), SCRIPTED);
            panicked.assert_counts(polls + 1, 1);
            assert_eq!(ledger.alive(), 0, "its context has gone with it");
            // The next task on that worker sees nothing of it, and those that wait go on.
            let seen = runtime.spawn(async { (NUMBER.get(), MARK.get(), heirloom::deadline()) });
            assert_eq!(runtime.block_on(seen).unwrap(), (None, None, None));
            let before = watch.polls();
            watch.wake();
            idle(runtime);
            assert_eq!(watch.polls(), before + 1);
        }
        // The destructor of a future, and a panic of a detached task.
        let (probe, dropped) = Probe::new([Step::Wait]);
        let task = runtime.spawn(probe.panicking_on_drop());
        idle(runtime);
        drop(task);
        runtime.spawn(async { quiet_panic(SCRIPTED) }).detach();
        idle(runtime);
        assert_eq!(dropped.drops(), 1);
        // A payload whose destructor panics when it is dropped unclaimed.
        for already_over in [false, true] {
            let payload = OnDrop::new(|| quiet_panic("in the payload"));
            let task = runtime.spawn(async move { std::panic::resume_unwind(Box::new(payload)) });
            if already_over {
                idle(runtime);
            }
            task.detach();
            idle(runtime);
        }
        // A closure on a blocking thread, and a task of a local set.
        let closure = runtime.spawn_blocking(|| quiet_panic(SCRIPTED));
        assert!(runtime.block_on(closure).map(|()| 0).unwrap_err().is_panic());
        assert_eq!(runtime.block_on(runtime.spawn_blocking(|| (1, MARK.get()))).unwrap(), (1, None));
        let set = LocalSet::new();
        let neighbour = set.spawn_local(async {
            yield_now().await;
            MARK.get()
        });
        let local = set.spawn_local(async {
            MARK.set(99);
            quiet_panic(SCRIPTED)
        });
        assert!(set.block_on(local).map(|()| 0).unwrap_err().is_panic());
        assert_eq!(set.block_on(neighbour).unwrap(), None);
        // The one worker has lived through all of it.
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
        // A joiner that passes the panic on harms its own joiner, and so on.
        let chain = runtime.spawn(async { spawn(async { quiet_panic(SCRIPTED) }).await.unwrap_err() });
        assert!(runtime.block_on(chain).unwrap().is_panic());
        watch.assert_sound();
        drop(bystander);
    });
}
