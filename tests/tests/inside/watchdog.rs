//! The watchdog: it names a poll that takes too long, in time and again at the end, and nothing
//! else.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use heirloom::runtime::{Builder, Stall};
use heirloom::task::TaskState;
use heirloom::{Handle, Runtime, context_var, sleep, spawn, task, yield_now};
use heirloom_tests::{Child, PATIENCE, in_child, say_as_child, watchdog};

context_var! {
    static REQUEST: u64, debug = Debug;
    static TOKEN: &'static str, debug = Debug, secret = true;
}

const LIMIT: Duration = Duration::from_millis(100);

/// A runtime with one worker, and the reports of its watchdog.
fn watched(
    limit: Duration,
    options: impl FnOnce(Builder) -> Builder,
) -> (Runtime, Receiver<(Instant, Stall)>) {
    let (send, stalls) = channel();
    let send = Mutex::new(send);
    let on_stall = move |stall: &Stall| {
        let send = send.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = send.send((Instant::now(), stall.clone()));
    };
    let builder = options(Runtime::builder().workers(1)).watchdog(limit).on_stall(on_stall);
    (builder.build().unwrap(), stalls)
}

#[test]
fn a_long_poll_is_named_while_it_goes_on_and_when_it_has_ended() {
    watchdog(PATIENCE, || {
        let (runtime, stalls) = watched(LIMIT, |builder| builder.inspect(true));
        let (send_begin, begin) = channel();
        let blocks = async move {
            REQUEST.set(7);
            TOKEN.set("xyzzy");
            yield_now().await;
            send_begin.send(Instant::now()).unwrap();
            std::thread::sleep(5 * LIMIT);
        };
        let task = task::Builder::new().name("blocks").on(runtime.handle()).spawn(blocks);
        let begin = begin.recv().unwrap();
        let sibling = runtime.spawn(async {});
        let (at, stall) = stalls.recv().unwrap();
        assert!(at.duration_since(begin) >= LIMIT, "{stall}");
        assert!(!stall.ended && stall.took >= LIMIT && stall.worker == 0);
        assert_eq!((stall.task.id, stall.task.name.as_deref()), (task.id(), Some("blocks")));
        assert_eq!((stall.task.state, stall.task.spawned_at.file()), (TaskState::Running, file!()));
        let text = stall.to_string();
        assert!(
            text.starts_with("a poll of task `blocks`, spawned at tests/tests/inside/watchdog.rs:"),
            "{text}"
        );
        assert!(text.contains(" has taken 1") && text.contains(" ms on worker 0 and goes on; "), "{text}");
        assert!(text.ends_with(" there [REQUEST = 7, TOKEN = [secret]]"), "{text}");

        let (_, stall) = stalls.recv().unwrap();
        assert!(stall.ended && stall.took >= 5 * LIMIT && stall.task.id == task.id(), "{stall}");
        runtime.block_on(task).unwrap();
        runtime.block_on(sibling).unwrap();
        drop(runtime);
        assert!(stalls.recv().is_err(), "one report of each kind");
    });
}

/// The machine may be too busy to run the watchdog: the best of some tries counts.
#[test]
fn a_long_poll_is_named_within_twice_the_limit() {
    watchdog(PATIENCE, || {
        let (runtime, stalls) = watched(LIMIT, |builder| builder);
        let mut latest = Duration::MAX;
        for _ in 0..if cfg!(miri) { 1 } else { 10 } {
            let (send_begin, begin) = channel();
            let task = runtime.spawn(async move {
                send_begin.send(Instant::now()).unwrap();
                std::thread::sleep(3 * LIMIT);
            });
            let begin = begin.recv().unwrap();
            let (at, stall) = stalls.recv().unwrap();
            assert!(!stall.ended && stall.task.recorded.is_none());
            latest = at.duration_since(begin);
            assert!(stalls.recv().unwrap().1.ended);
            runtime.block_on(task).unwrap();
            if latest <= 2 * LIMIT {
                return;
            }
        }
        if !cfg!(miri) {
            panic!("named after {latest:?}");
        }
    });
}

#[test]
fn a_task_whose_leaves_are_always_ready_is_named_with_the_tasks_that_wait_for_it() {
    watchdog(PATIENCE, || {
        let (runtime, stalls) = watched(LIMIT, |builder| builder);
        let hogs = async {
            let siblings: Vec<_> = (0..3).map(|_| spawn(async {})).collect();
            let begun = Instant::now();
            while begun.elapsed() < 3 * LIMIT {
                std::future::ready(()).await;
            }
            for sibling in siblings {
                sibling.await.unwrap();
            }
        };
        let task = runtime.spawn(hogs);
        let (_, stall) = stalls.recv().unwrap();
        // The last of the three is in the next slot of the worker.
        assert_eq!((stall.task.id, stall.waiting), (task.id(), 2));
        runtime.block_on(task).unwrap();
    });
}

#[test]
fn what_does_not_keep_a_worker_is_not_named() {
    watchdog(PATIENCE, || {
        // Far more than a busy machine interrupts a short poll for.
        let limit = Duration::from_secs(1);
        let (runtime, stalls) = watched(limit, |builder| builder);
        let closure = runtime.spawn_blocking(move || std::thread::sleep(2 * limit));
        let waits = runtime.spawn(sleep(2 * limit));
        let polls = runtime.spawn(async move {
            let begun = Instant::now();
            while begun.elapsed() < 2 * limit {
                yield_now().await;
            }
        });
        runtime.block_on(async { std::thread::sleep(limit + limit / 2) });
        for task in [waits, polls, closure] {
            runtime.block_on(task).unwrap();
        }
        // An idle worker.
        std::thread::sleep(limit + limit / 2);
        drop(runtime);
        assert_eq!(stalls.iter().count(), 0);
    });
}

#[test]
fn a_callback_that_panics_is_called_again() {
    watchdog(PATIENCE, || {
        let (send, calls) = channel();
        let send = Mutex::new(send);
        let runtime = Runtime::builder()
            .workers(1)
            .watchdog(Duration::from_millis(10))
            .on_stall(move |stall| {
                let _ = send.lock().unwrap_or_else(PoisonError::into_inner).send(stall.ended);
                panic!("wanted");
            })
            .build()
            .unwrap();
        runtime.block_on(runtime.spawn(async { std::thread::sleep(Duration::from_millis(200)) })).unwrap();
        assert_eq!((calls.recv(), calls.recv()), (Ok(false), Ok(true)));
    });
}

#[test]
fn a_poll_that_delays_the_end_of_the_runtime_is_named() {
    watchdog(PATIENCE, || {
        let (runtime, stalls) = watched(LIMIT, |builder| builder);
        let (send_begin, begin) = channel();
        let blocks = async move {
            send_begin.send(()).unwrap();
            std::thread::sleep(4 * LIMIT);
        };
        runtime.spawn(blocks).detach();
        begin.recv().unwrap();
        drop(runtime);
        let ends: Vec<_> = stalls.iter().map(|(_, stall)| stall.ended).collect();
        assert_eq!(ends.first(), Some(&false), "{ends:?}");
    });
}

/// The callback, the program and a poll end the runtime at the same time.
#[test]
fn a_callback_may_end_the_runtime_also_while_it_ends() {
    watchdog(PATIENCE, || {
        for drops in [false, true] {
            let known: Arc<OnceLock<Handle>> = Arc::default();
            let handle = known.clone();
            let (send, stalled) = channel();
            let runtime = Runtime::builder()
                .workers(1)
                .watchdog(LIMIT)
                .on_stall(move |stall| {
                    handle.get().expect("it was set before the limit").shutdown(Duration::ZERO);
                    let _ = send.send(stall.ended);
                })
                .build()
                .unwrap();
            known.set(runtime.handle().clone()).unwrap();
            let (send_begin, begin) = channel();
            let blocks = async move {
                send_begin.send(()).unwrap();
                std::thread::sleep(4 * LIMIT);
            };
            runtime.spawn(blocks).detach();
            begin.recv().unwrap();
            if drops {
                drop(runtime);
            }
            assert!(!stalled.recv().unwrap());
        }
    });
}

/// In a debug build, too, there is one mechanism: no second report of the same poll.
#[test]
fn without_a_callback_there_are_two_lines_on_standard_error() {
    match in_child("watchdog::without_a_callback_there_are_two_lines_on_standard_error", false) {
        Child::Here => {
            watchdog(PATIENCE, || {
                let runtime = Runtime::builder().workers(1).watchdog(LIMIT).build().unwrap();
                let blocks = async { std::thread::sleep(Duration::from_millis(1_200)) };
                let task = task::Builder::new().name("blocks").on(runtime.handle()).spawn(blocks);
                runtime.block_on(task).unwrap();
                std::thread::sleep(2 * LIMIT);
            });
            say_as_child();
        }
        Child::Ended(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<_> = stderr.lines().filter(|line| line.starts_with("heirloom: ")).collect();
            assert_eq!(lines.len(), 2, "{stderr}");
            let begin = "heirloom: a poll of task `blocks`, spawned at tests/tests/inside/watchdog.rs:";
            assert!(lines.iter().all(|line| line.starts_with(begin)), "{stderr}");
            assert!(lines[0].ends_with(" ms on worker 0 and goes on; 0 tasks wait there"), "{stderr}");
            assert!(
                lines[1].contains(" took 1") && lines[1].ends_with(" ms on worker 0; 0 tasks wait there"),
                "{stderr}"
            );
        }
    }
}

#[test]
fn a_watchdog_has_a_thread_of_its_own_until_the_runtime_ends() {
    watchdog(PATIENCE, || {
        let runtime =
            Runtime::builder().workers(1).thread_name("watched-by").watchdog(LIMIT).build().unwrap();
        runtime.block_on(runtime.spawn(async {})).unwrap();
        // A thread has its name once it runs.
        let threads = || heirloom_tests::threads_named("watched-by-watch");
        assert!(heirloom_tests::wait_until(|| threads().is_none_or(|threads| threads == 1)));
        drop(runtime);
        assert!(heirloom_tests::threads_named("watched-by").is_none_or(|threads| threads == 0));
    });
}
