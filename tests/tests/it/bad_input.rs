//! Callers that ask for the impossible, and code that behaves badly.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use heirloom::{Runtime, block_on, interval, sleep, spawn, spawn_blocking, task};
use heirloom_tests::{
    Ledger, OnDrop, PATIENCE, Probe, SCRIPTED, Step, idle, in_a_worker, in_child, quiet_panic, runtime,
    say_as_child, scaled, shut_down, watchdog, with_runtime,
};

/// What a panic says.
#[track_caller]
fn said(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic was expected");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().expect("a text").to_string(),
    }
}

#[test]
fn a_runtime_without_workers_or_with_too_many_is_refused_in_words() {
    watchdog(PATIENCE, || {
        for workers in [0, usize::MAX, 1 << 40] {
            let error = Runtime::builder().workers(workers).build().expect_err("no such runtime");
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("worker"), "{error}");
        }
    });
}

#[test]
fn odd_options_work_or_are_refused() {
    watchdog(PATIENCE, || {
        let odd = || Runtime::builder().workers(1);
        let runtimes = [
            odd().stack_size(0),
            odd().stack_size(1),
            odd().thread_name(""),
            odd().thread_name("a name that is far longer than what any operating system keeps of it"),
            odd().max_blocking_threads(0),
            odd().max_blocking_threads(usize::MAX),
            odd().search(Duration::MAX),
            odd().search(Duration::ZERO),
        ];
        for builder in runtimes {
            let text = format!("{builder:?}");
            if let Ok(runtime) = builder.build() {
                assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1, "{text}");
                assert_eq!(runtime.block_on(runtime.spawn_blocking(|| 2)).unwrap(), 2, "{text}");
            }
        }
        // A name with a zero byte cannot be a thread's.
        let error = odd().thread_name("a\0b").build().unwrap_err();
        assert!(error.to_string().contains("name"), "{error}");
    });
}

#[test]
fn a_nested_block_on_panics_with_a_way_out_and_nothing_is_broken() {
    with_runtime(1, |runtime| {
        let nested = runtime.spawn(async {
            let text = said(|| block_on(async {}));
            let other = said(|| {
                Runtime::builder().workers(1).build().unwrap().block_on(async {});
            });
            let own = said(|| heirloom::Handle::current().unwrap().block_on(async {}));
            // The task goes on as if nothing had happened.
            heirloom::yield_now().await;
            sleep(Duration::from_millis(1)).await;
            ([text, other, own], spawn_blocking(|| block_on(async { 7 })).await.unwrap())
        });
        let (texts, output) = runtime.block_on(nested).unwrap();
        for text in texts {
            assert!(text.contains(".await") && text.contains("spawn_blocking"), "{text}");
        }
        assert_eq!(output, 7);
        // Uncaught it ends that task only.
        let uncaught = runtime.spawn(async { block_on(async {}) });
        let error = runtime.block_on(uncaught).unwrap_err();
        assert!(error.panic_message().unwrap().contains("spawn_blocking"));
        assert_eq!(runtime.block_on(runtime.spawn(async { 8 })).unwrap(), 8);
    });
}

#[test]
fn block_on_may_be_nested_on_a_thread_that_is_no_worker() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let deepest = block_on(async {
            runtime.block_on(async { block_on(async { spawn(async { 7 }).await.unwrap() }) })
        });
        assert_eq!(deepest, 7);
        // A panic in the innermost one unwinds through all, and all work afterwards.
        let text = said(|| block_on(async { runtime.block_on(async { quiet_panic(SCRIPTED) }) }));
        assert_eq!(text, SCRIPTED);
        assert_eq!(runtime.block_on(async { spawn(async { 8 }).await.unwrap() }), 8);
    });
}

#[test]
fn waiting_until_a_runtime_is_idle_inside_it_panics_in_words() {
    with_runtime(1, |runtime| {
        let handle = runtime.handle().clone();
        let text = runtime.block_on(runtime.spawn(async move { said(|| handle.wait_until_idle()) })).unwrap();
        assert!(!text.is_empty());
    });
}

#[test]
fn an_interval_of_zero_panics_in_words() {
    let text = said(|| drop(interval(Duration::ZERO)));
    assert!(text.contains("zero"), "{text}");
}

#[test]
fn extreme_instants_and_durations_are_fine() {
    watchdog(PATIENCE, || {
        let now = Instant::now();
        let mut far = now;
        // As far as an instant goes.
        for bits in (0..63).rev() {
            far = far.checked_add(Duration::from_secs(1 << bits)).unwrap_or(far);
        }
        block_on(async {
            let mut latest = Box::pin(heirloom::sleep_until(far));
            assert!(futures::poll!(latest.as_mut()).is_pending());
            assert_eq!(heirloom::wait_until(async { heirloom::deadline().is_some() }, far).await, Ok(true));
            let mut ticks = heirloom::time::interval_at(far, Duration::MAX);
            assert!(futures::poll!(Box::pin(ticks.tick())).is_pending());
        });
        let runtime = runtime(1);
        let _ = runtime.block_on(runtime.spawn(async { 1 }));
        assert!(shut_down(runtime, Duration::MAX).is_clean());
    });
}

#[test]
fn a_future_that_is_empty_or_aligned_runs() {
    #[repr(align(1024))]
    struct Aligned(u8);
    in_a_worker(2, async {
        spawn(std::future::ready(())).await.unwrap();
        let aligned = Aligned(9);
        let aligned = spawn(async move {
            heirloom::yield_now().await;
            let address = std::ptr::from_ref(&aligned).addr();
            (address % 1024, aligned)
        });
        let (rest, value) = aligned.await.unwrap();
        assert_eq!((rest, value.0), (0, 9));
        assert_eq!(std::ptr::from_ref(&value).addr() % 1024, 0);
    });
}

#[test]
fn a_future_of_a_mebibyte_runs_on_an_ordinary_stack() {
    // In a process of its own, because what fails here is the process.
    if in_child("bad_input::a_future_of_a_mebibyte_runs_on_an_ordinary_stack", false).is_here() {
        let spawner = || {
            let runtime = runtime(1);
            let large = [7_u8; 1 << 20];
            let task = runtime.spawn(async move {
                heirloom::yield_now().await;
                large.iter().map(|byte| u64::from(*byte)).sum::<u64>()
            });
            assert_eq!(runtime.block_on(task).unwrap(), 7 << 20);
            say_as_child();
        };
        // Unoptimised, the future is copied a few times on the spawner's stack; not on a worker's.
        std::thread::Builder::new().stack_size(64 << 20).spawn(spawner).unwrap().join().unwrap();
    }
}

#[test]
fn a_destructor_that_panics_during_a_panic_of_the_poll_is_not_run_twice() {
    with_runtime(1, |runtime| {
        let ledger = Ledger::new();
        for script in [&[Step::Panic][..], &[Step::Yield, Step::Panic], &[Step::Ready]] {
            let value = ledger.counted(1);
            let (probe, watch) = Probe::new(script.iter().copied());
            let probe = probe.panicking_on_drop();
            let task = runtime.spawn(async move {
                let _value = value;
                probe.await;
            });
            let _ = runtime.block_on(task);
            idle(runtime);
            watch.assert_sound();
            assert_eq!((watch.drops(), ledger.alive()), (1, 0));
        }
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
    });
}

#[test]
fn payloads_of_any_type_arrive_also_those_that_panic_when_dropped() {
    in_a_worker(1, async {
        let error = spawn(async { std::panic::resume_unwind(Box::new(7_u64)) }).await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.panic_message(), None);
        assert!(!error.to_string().is_empty());
        assert_eq!(*error.into_panic().unwrap().downcast::<u64>().unwrap(), 7);
        let bomb = || async { std::panic::resume_unwind(Box::new(OnDrop::new(|| quiet_panic(SCRIPTED)))) };
        // It is unclaimed: the runtime has to drop it, and goes on.
        let detached: heirloom::JoinHandle<()> = spawn(bomb());
        detached.detach();
        for _ in 0..10 {
            heirloom::yield_now().await;
        }
        assert_eq!(spawn(async { 8 }).await.unwrap(), 8);
    });
}

#[test]
fn names_of_any_length_and_kind_are_kept() {
    in_a_worker(1, async {
        for name in ["", "a\nb", "\u{1F980}", &"long ".repeat(10_000)] {
            let named = task::Builder::new()
                .name(name.to_owned())
                .spawn(async { task::current().unwrap().name().map(str::to_owned) });
            assert_eq!(named.await.unwrap().as_deref(), Some(name));
        }
    });
}

#[test]
fn a_deep_chain_of_awaits_overflows_no_stack_when_it_is_dropped() {
    // A chain of a hundred thousand tasks, each of which waits for the next: ended from one end or
    // the other.
    watchdog(PATIENCE, || {
        for abort in [false, true] {
            let runtime = Runtime::builder().workers(2).stack_size(256 << 10).build().unwrap();
            let ledger = Ledger::new();
            let gate = heirloom_tests::Gate::new();
            let mut last = runtime.spawn(gate.opened());
            for number in 0..scaled(20_000) as u64 {
                let value = ledger.counted(number);
                let next = last;
                last = runtime.spawn(async move {
                    let _value = value;
                    let _ = next.await;
                });
            }
            if abort {
                drop(last);
                // One drops the handle of the next, which is then cancelled: in turn, not one
                // inside the other.
                assert!(heirloom_tests::wait_until(|| ledger.alive() == 0));
            } else {
                gate.open();
                runtime.block_on(last).unwrap();
            }
            drop(runtime);
            assert_eq!(ledger.alive(), 0);
        }
    });
}

#[test]
fn a_panic_policy_of_abort_ends_the_process() {
    let test = "bad_input::a_panic_policy_of_abort_ends_the_process";
    match in_child(test, false) {
        heirloom_tests::Child::Here => {
            say_as_child();
            let builder = Runtime::builder().workers(1).on_panic(heirloom::runtime::PanicPolicy::Abort);
            let runtime = builder.build().unwrap();
            let _ = runtime.block_on(runtime.spawn(async { quiet_panic(SCRIPTED) }));
            println!("it went on");
        }
        heirloom_tests::Child::Ended(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("the child got here") && !said.contains("it went on"), "{said}");
            assert!(!output.status.success());
        }
    }
}

/// Uses so many kibibytes of stack, more or less.
#[inline(never)]
fn deep(kibibytes: usize) -> usize {
    let room = std::hint::black_box([1_u8; 1024]);
    if kibibytes == 0 { 0 } else { deep(kibibytes - 1) + usize::from(room[kibibytes % 1024]) }
}

#[test]
fn a_stack_is_as_large_as_asked_for() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).stack_size(64 << 20).build().unwrap();
        assert_eq!(runtime.block_on(runtime.spawn(async { deep(8 << 10) })).unwrap(), 8 << 10);
        assert_eq!(runtime.block_on(runtime.spawn_blocking(|| deep(8 << 10))).unwrap(), 8 << 10);
    });
}

#[test]
fn a_stack_that_overflows_ends_the_process_with_a_message() {
    let test = "bad_input::a_stack_that_overflows_ends_the_process_with_a_message";
    match in_child(test, false) {
        heirloom_tests::Child::Here => {
            say_as_child();
            let runtime = Runtime::builder().workers(1).stack_size(256 << 10).build().unwrap();
            let _ = runtime.block_on(runtime.spawn(async { deep(8 << 10) }));
            println!("it went on");
        }
        heirloom_tests::Child::Ended(output) => {
            let (said, complained) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("the child got here") && !said.contains("it went on"), "{said}");
            assert!(!output.status.success());
            assert!(complained.contains("overflowed its stack"), "{complained}");
        }
    }
}
