use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heirloom::task::LocalSet;
use heirloom::{Runtime, context_var, spawn};
use heirloom_tests::{
    Countdown, Gate, PATIENCE, Probe, SCRIPTED, Step, Watch, quiet_panic, runtime, wait_until, watchdog,
};

#[test]
fn dropping_a_runtime_anywhere_is_safe() {
    /// A runtime with a task that waits and one that is queued behind a busy worker or runs, and
    /// what watches them.
    fn inhabited() -> (Runtime, [Watch; 2]) {
        let runtime = runtime(1);
        let watches = [[Step::Wait].as_slice(), &[Step::Yield; 1_000]].map(|script| {
            let (probe, watch) = Probe::new(script.iter().copied());
            runtime.spawn(probe).detach();
            watch
        });
        (runtime, watches)
    }
    fn ended(watches: &[Watch; 2]) {
        // Where the drop may not wait, what was being polled goes a little later.
        assert!(wait_until(|| watches.iter().all(|watch| watch.drops() == 1)));
        watches.iter().for_each(Watch::assert_sound);
    }
    watchdog(PATIENCE, || {
        // On a thread, by shutting down, while unwinding, and on a thread that ends.
        let (runtime, watches) = inhabited();
        drop(runtime);
        ended(&watches);
        let (runtime, watches) = inhabited();
        let _ = runtime.shutdown(Duration::ZERO);
        ended(&watches);
        let (runtime, watches) = inhabited();
        let unwound = std::thread::spawn(move || {
            let _runtime = runtime;
            quiet_panic(SCRIPTED)
        });
        assert!(unwound.join().is_err());
        ended(&watches);
        thread_local! { static LAST: RefCell<Option<Runtime>> = const { RefCell::new(None) }; }
        let (runtime, watches) = inhabited();
        std::thread::spawn(|| LAST.set(Some(runtime))).join().unwrap();
        ended(&watches);
        // By its own task: in a poll, in the future's destructor, and as an unclaimed output.
        for shut_down in [false, true] {
            let (runtime, watches) = inhabited();
            let after = Gate::new();
            let handle = runtime.handle().clone();
            handle
                .spawn({
                    let after = after.clone();
                    async move {
                        if shut_down {
                            let _ = runtime.shutdown(Duration::from_secs(3_600));
                        } else {
                            drop(runtime);
                        }
                        after.open();
                    }
                })
                .detach();
            after.wait();
            ended(&watches);
        }
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        let task = handle.spawn(async move {
            let _runtime = runtime;
            std::future::pending::<()>().await
        });
        handle.wait_until_idle();
        drop(task);
        ended(&watches);
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        handle.spawn(async move { runtime }).detach();
        ended(&watches);
        // By a closure on its own blocking thread, which the drop does not wait for either.
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        let closure = handle.spawn_blocking(move || drop(runtime));
        let _ = heirloom::block_on(closure);
        ended(&watches);
        // By a task of another runtime, and of a local set.
        let ((runtime, watches), other) = (inhabited(), heirloom_tests::runtime(1));
        other.block_on(other.spawn(async move { drop(runtime) })).unwrap();
        ended(&watches);
        let ((runtime, watches), set) = (inhabited(), LocalSet::new());
        set.block_on(set.spawn_local(async move { drop(runtime) })).unwrap();
        ended(&watches);
        // Inside its own `block_on`, and as a value that its own task has bound.
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        let refused = handle.block_on(async move {
            drop(runtime);
            spawn(async {}).await
        });
        assert!(refused.unwrap_err().is_cancelled());
        ended(&watches);
        context_var! { static OWN: Arc<Mutex<Option<Runtime>>>; }
        let (runtime, watches) = inhabited();
        let handle = runtime.handle().clone();
        let own = Arc::new(Mutex::new(Some(runtime)));
        handle.spawn(async move { OWN.set(own) }).detach();
        ended(&watches);
        // Two at once, each by a task of the other: neither waits for the other.
        let ((one, first), (two, second)) = (inhabited(), inhabited());
        let (of_one, of_two) = (one.handle().clone(), two.handle().clone());
        let both = Countdown::new(2);
        for (handle, victim) in [(of_one, two), (of_two, one)] {
            let both = both.clone();
            handle
                .spawn(async move {
                    both.arrive();
                    both.wait();
                    drop(victim);
                })
                .detach();
        }
        ended(&first);
        ended(&second);
    });
}
