use std::time::Duration;

use heirloom::{Runtime, sleep};
use heirloom_tests::{PATIENCE, cpu_time, idle, naps, threads_named, watchdog};

#[test]
fn an_idle_runtime_uses_no_cpu() {
    const NAME: &str = "idle-cpu";
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(4).thread_name(NAME).build().unwrap();
        let far = runtime.spawn(sleep(Duration::from_secs(3_600)));
        let near: Vec<_> =
            (0..16).map(|number| runtime.spawn(sleep(Duration::from_millis(number)))).collect();
        for task in near {
            runtime.block_on(task).unwrap();
        }
        runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
        idle(&runtime);
        // Workers that search give up by themselves, soon.
        std::thread::sleep(Duration::from_millis(50));
        let (Some(before), Some(naps_before)) = (cpu_time(NAME), naps(NAME)) else { return };
        assert!(threads_named(NAME).unwrap_or(0) >= 4, "the workers are to be found by their name");
        std::thread::sleep(Duration::from_secs(1));
        let used = cpu_time(NAME).expect("as before").saturating_sub(before);
        assert!(used <= Duration::from_millis(20), "{used:?} in a second");
        // Nor does a thread wake up to look whether there is something to do, which would be too
        // little to be seen there.
        let woken = naps(NAME).expect("as before") - naps_before;
        assert!(woken <= 2, "threads that had nothing to do got up {woken} times in a second");
        drop(far);
    });
}
