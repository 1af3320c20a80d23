//! The end of a program that runs under `#[heirloom::main]`. Each test has a process of its own,
//! since the end of `main` ends the default runtime.
//!
//! The kind: whatever `main` returns, and whichever runtime it has, no destructor is lost without a
//! word.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use heirloom::task::Builder;
use heirloom::{block_on, sleep, spawn, spawn_background, spawn_blocking};
use heirloom_tests::{Child, OnDrop, PATIENCE, SCRIPTED, in_child, quiet_panic, say_as_child, watchdog};

/// Destructors that have run.
static DROPPED: AtomicUsize = AtomicUsize::new(0);

async fn forever() {
    let _counted = OnDrop::new(|| _ = DROPPED.fetch_add(1, SeqCst));
    std::future::pending().await
}

/// Leaves a detached task, one without an owner, and one of a thread of no runtime.
async fn leave_tasks() {
    spawn(forever()).detach();
    spawn_background(forever());
    let (begun, began) = futures::channel::oneshot::channel();
    let third = async {
        begun.send(()).unwrap();
        forever().await
    };
    thread::spawn(|| spawn(third).detach()).join().unwrap();
    began.await.unwrap();
}

mod default {
    #[heirloom::main]
    pub(super) async fn main() {
        super::leave_tasks().await;
    }
}

mod own {
    #[heirloom::main(workers = 2)]
    pub(super) async fn main() {
        super::leave_tasks().await;
    }
}

mod configured {
    fn builder() -> heirloom::runtime::Builder {
        heirloom::Runtime::builder().thread_name("mill")
    }

    #[heirloom::main(builder = builder, workers = 1)]
    pub(super) async fn main() {
        super::leave_tasks().await;
    }
}

mod failing {
    #[heirloom::main]
    pub(super) async fn main() -> Result<(), &'static str> {
        super::leave_tasks().await;
        Err("as planned")
    }
}

mod panicking {
    #[heirloom::main(workers = 2)]
    pub(super) async fn main() {
        super::leave_tasks().await;
        super::quiet_panic(super::SCRIPTED)
    }
}

/// What a child process has written to standard error. `None` in the child, after `program`.
#[track_caller]
fn stderr_of(test: &str, program: impl FnOnce()) -> Option<String> {
    match in_child(&format!("main_end::{test}"), false) {
        Child::Here => {
            program();
            say_as_child();
            None
        }
        Child::Ended(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("got here"), "{said}\n{stderr}");
            Some(stderr)
        }
    }
}

#[track_caller]
fn drops_all_and_says_nothing(test: &str, program: fn()) {
    let stderr = stderr_of(test, || {
        watchdog(PATIENCE, program);
        assert_eq!(DROPPED.load(SeqCst), 3);
    });
    if let Some(stderr) = stderr {
        assert!(!stderr.contains("heirloom:"), "{stderr}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn destructors_run_with_the_default_runtime() {
    drops_all_and_says_nothing("destructors_run_with_the_default_runtime", default::main);
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn destructors_run_with_a_runtime_of_its_own() {
    drops_all_and_says_nothing("destructors_run_with_a_runtime_of_its_own", own::main);
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn destructors_run_with_a_configured_runtime() {
    drops_all_and_says_nothing("destructors_run_with_a_configured_runtime", configured::main);
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn destructors_run_when_main_fails() {
    drops_all_and_says_nothing("destructors_run_when_main_fails", || {
        assert_eq!(failing::main(), Err("as planned"));
    });
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn destructors_run_when_main_panics() {
    drops_all_and_says_nothing("destructors_run_when_main_panics", || {
        let panic = std::panic::catch_unwind(panicking::main).unwrap_err();
        assert_eq!(*panic.downcast::<&str>().unwrap(), SCRIPTED);
    });
}

/// What is spawned on the default runtime afterwards is cancelled; what needs no task goes on.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn after_main_nothing_is_spawned_any_more() {
    stderr_of("after_main_nothing_is_spawned_any_more", || {
        default::main();
        assert!(block_on(spawn(async {})).unwrap_err().is_cancelled());
        assert!(block_on(spawn_blocking(|| ())).unwrap_err().is_cancelled());
        assert_eq!(block_on(async { 7 }), 7);
        // A runtime of its own has nothing to do with it.
        assert_eq!(other(), 7);
    });
}

#[heirloom::main(workers = 1)]
async fn other() -> u32 {
    spawn(async { 7 }).await.unwrap()
}

mod patient {
    #[heirloom::main(shutdown = "10m")]
    pub(super) async fn main() {
        super::spawn(async {
            super::sleep(super::Duration::from_millis(20)).await;
            super::DROPPED.fetch_add(1, super::SeqCst);
        })
        .detach();
    }
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn tasks_may_end_within_the_time_they_are_given() {
    let stderr = stderr_of("tasks_may_end_within_the_time_they_are_given", || {
        patient::main();
        assert_eq!(DROPPED.load(SeqCst), 1);
    });
    if let Some(stderr) = stderr {
        assert!(!stderr.contains("heirloom:"), "{stderr}");
    }
}

mod short {
    #[heirloom::main(workers = 1, shutdown = "10ms")]
    pub(super) async fn main() {
        super::Builder::new().name("listener").spawn(super::forever()).detach();
    }
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn tasks_that_need_more_time_are_named() {
    let stderr = stderr_of("tasks_that_need_more_time_are_named", || {
        short::main();
        assert_eq!(DROPPED.load(SeqCst), 1);
    });
    if let Some(stderr) = stderr {
        let line = "heirloom: tasks that had not ended at the end of `main`: cancelled: listener\n";
        assert!(stderr.contains(line), "{stderr}");
    }
}

mod stuck {
    #[heirloom::main]
    pub(super) async fn main() {
        let (begun, began) = std::sync::mpsc::channel();
        let also = begun.clone();
        let closure = super::Builder::new().name("reader").spawn_blocking(move || {
            also.send(()).unwrap();
            super::thread::sleep(super::Duration::from_secs(3_600))
        });
        closure.detach();
        began.recv().unwrap();
    }
}

/// A closure that blocks does not keep the program from its end.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn closures_that_block_are_named_and_left() {
    if let Some(stderr) =
        stderr_of("closures_that_block_are_named_and_left", || watchdog(PATIENCE, stuck::main))
    {
        let line = "heirloom: tasks that had not ended at the end of `main`: still running: reader\n";
        assert!(stderr.contains(line), "{stderr}");
    }
}

mod busy {
    #[heirloom::main(workers = 2)]
    pub(super) async fn main() {
        let (begun, began) = std::sync::mpsc::channel();
        let task = super::Builder::new().name("blocker").spawn(async move {
            begun.send(()).unwrap();
            super::thread::sleep(super::Duration::from_secs(3_600))
        });
        task.detach();
        began.recv().unwrap();
    }
}

/// Nor does a poll, for longer than five seconds.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn polls_that_block_are_named_and_given_up() {
    if let Some(stderr) =
        stderr_of("polls_that_block_are_named_and_given_up", || watchdog(PATIENCE, busy::main))
    {
        let line = "heirloom: tasks that had not ended at the end of `main`: still running: blocker\n";
        assert!(stderr.contains(line), "{stderr}");
    }
}
