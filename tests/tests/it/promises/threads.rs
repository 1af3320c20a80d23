use std::time::Duration;

use heirloom::{Runtime, spawn, spawn_blocking};
use heirloom_tests::{
    Gate, PATIENCE, in_child_with_limit, say_as_child, threads_named, wait_until, watchdog,
};

#[test]
fn no_thread_creation_failure_panics() {
    // No machine has room for such a stack: building fails in words, or the number is brought
    // within reason.
    watchdog(PATIENCE, || {
        for stack in [usize::MAX, usize::MAX / 2, 1 << 50] {
            if let Ok(runtime) = Runtime::builder().workers(2).stack_size(stack).build() {
                assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
            }
        }
    });
    // A process without room for another stack: every handle resolves.
    let test = "promises::threads::no_thread_creation_failure_panics";
    if in_child_with_limit(test, "-v 1500000", 200).is_here() {
        watchdog(PATIENCE, || {
            let runtime = Runtime::builder()
                .workers(1)
                .stack_size(64 << 20)
                .max_blocking_threads(40)
                .build()
                .expect("there is room for one");
            let gate = Gate::new();
            let closures: Vec<_> = (0..40)
                .map(|_| {
                    let gate = gate.clone();
                    runtime.spawn_blocking(move || gate.wait())
                })
                .collect();
            gate.open();
            for closure in closures {
                match runtime.block_on(closure) {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.reason(), Some(&heirloom::task::CancelReason::NoThread)),
                }
            }
            let many = Runtime::builder().workers(40).stack_size(64 << 20).build();
            assert!(many.is_err(), "forty such stacks should not fit");
            // And what works still works.
            assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
            drop(runtime);
            // The default runtime, whose workers need 200 MiB each, when there is room for 64 to
            // 128: it refuses in words. (The stacks of the blocking threads are given back a little
            // later.)
            assert!(wait_until(|| threads_named("heirloom").unwrap_or(0) == 0));
            let mut room = Vec::new();
            // Until it fails several times running: the C library gives stacks back when it
            // pleases.
            let mut refused = 0;
            while refused < 5 {
                match Runtime::builder().workers(1).stack_size(64 << 20).build() {
                    Ok(runtime) => {
                        room.push(runtime);
                        refused = 0;
                    }
                    Err(_) => {
                        refused += 1;
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            }
            let orphan = heirloom::block_on(room[0].spawn_blocking(|| ()));
            assert_eq!(orphan.unwrap_err().reason(), Some(&heirloom::task::CancelReason::NoThread));
            room.pop();
            assert!(wait_until(|| threads_named("heirloom") == Some(room.len())));
            for _ in 0..2 {
                let task = heirloom::block_on(async { spawn(async { 1 }).await });
                assert!(task.unwrap_err().is_cancelled());
                assert!(heirloom::block_on(spawn_blocking(|| 1)).unwrap_err().is_cancelled());
            }
            drop(room);
            say_as_child();
        });
    }
}
