//! Virtual time: the clock stands still while anything can run, and jumps to the next timer when
//! nothing can.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::oneshot;
use heirloom::context::channel;
use heirloom::net::TcpListener;
use heirloom::{
    Runtime, TaskGroup, interval, remaining, run_eagerly, sleep, sleep_until, spawn, spawn_blocking, time,
    wait_for, wait_until, yield_now,
};
use heirloom_tests::{Child, in_child, say_as_child};

const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);

fn in_virtual_time<F: Future>(future: F) -> F::Output {
    Runtime::builder().virtual_time().build().unwrap().block_on(future)
}

#[heirloom::test(virtual_time)]
async fn the_attribute_gives_a_test_virtual_time() {
    let (begun, really) = (time::now(), Instant::now());
    for _ in 0..24 {
        sleep(HOUR).await;
    }
    assert_eq!(time::now() - begun, 24 * HOUR);
    assert!(really.elapsed() < HOUR);
}

#[test]
fn timers_fire_in_their_order_and_exactly_then() {
    in_virtual_time(async {
        let begun = time::now();
        let (send, receive) = channel::unbounded();
        for seconds in [7, 3, 5, 1, 3_600] {
            let send = send.clone();
            spawn(async move {
                sleep(seconds * SECOND).await;
                send.send((seconds, time::now() - begun)).await.unwrap();
            })
            .detach();
        }
        for seconds in [1, 3, 5, 7, 3_600] {
            assert_eq!(receive.recv().await.unwrap().0, (seconds, seconds * SECOND));
        }
    });
}

#[test]
fn nothing_is_rounded() {
    in_virtual_time(async {
        for nanoseconds in [1, 999, 15_626, 100_000, 999_999, 1_000_001, 1_500_000, 3_600_000_000_001] {
            // From an instant that is no whole number of anything.
            sleep(Duration::from_nanos(7)).await;
            let (begun, nap) = (time::now(), Duration::from_nanos(nanoseconds));
            sleep(nap).await;
            assert_eq!(time::now() - begun, nap);
            assert!(wait_for(std::future::pending::<()>(), nap).await.is_err());
            assert_eq!(time::now() - begun, 2 * nap);
        }
        let mut ticks = interval(Duration::from_micros(100));
        let first = ticks.next().await.unwrap();
        for tick in 1..100 {
            ticks.next().await.unwrap();
            assert_eq!(time::now() - first, tick * Duration::from_micros(100));
        }
    });
}

#[test]
fn what_is_due_earlier_runs_earlier_whenever_it_was_set() {
    in_virtual_time(async {
        let begun = time::now();
        let (send, receive) = channel::unbounded();
        // (When it is set, when it is due), in microseconds.
        for (set, due) in [(0, 1_050), (500, 1_400), (1_000, 1_051), (40, 1_390), (1_049, 1_049)] {
            let send = send.clone();
            spawn(async move {
                sleep(Duration::from_micros(set)).await;
                sleep_until(begun + Duration::from_micros(due)).await;
                send.send((due, (time::now() - begun).as_nanos())).await.unwrap();
            })
            .detach();
        }
        for due in [1_049_u64, 1_050, 1_051, 1_390, 1_400] {
            assert_eq!(receive.recv().await.unwrap().0, (due, u128::from(due) * 1_000));
        }
    });
}

#[test]
fn the_clock_stands_still_while_a_task_can_run() {
    in_virtual_time(async {
        let begun = time::now();
        let late = spawn(async move {
            sleep(SECOND).await;
            time::now()
        });
        for _ in 0..10_000 {
            yield_now().await;
            assert_eq!(time::now(), begun);
        }
        assert_eq!(late.await.unwrap(), begun + SECOND);
    });
}

#[test]
fn the_clock_stands_still_while_the_future_of_block_on_runs() {
    let runtime = Runtime::builder().virtual_time().build().unwrap();
    let fired = Arc::new(AtomicUsize::new(0));
    let task = runtime.block_on(async {
        let fired = Arc::clone(&fired);
        let task = spawn(async move {
            sleep(Duration::from_millis(1)).await;
            fired.fetch_add(1, SeqCst);
        });
        std::thread::sleep(Duration::from_millis(30));
        task
    });
    // No thread waits in `block_on`, either.
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(fired.load(SeqCst), 0);
    runtime.block_on(task).unwrap();
    assert_eq!(fired.load(SeqCst), 1);
}

#[test]
fn a_blocking_closure_holds_the_clock() {
    in_virtual_time(async {
        let begun = time::now();
        let limited = wait_for(
            spawn_blocking(|| {
                std::thread::sleep(Duration::from_millis(50));
                time::now()
            }),
            Duration::from_millis(1),
        );
        assert_eq!(limited.await.unwrap().unwrap(), begun);
        assert_eq!(time::now(), begun);
        sleep(SECOND).await;
        assert_eq!(time::now(), begun + SECOND);
    });
}

#[test]
fn a_blocking_closure_that_waits_in_block_on_lets_the_clock_go_on() {
    let runtime = Runtime::builder().virtual_time().build().unwrap();
    let handle = runtime.handle().clone();
    runtime.block_on(async {
        let begun = time::now();
        let slept = spawn_blocking(move || {
            handle.block_on(async {
                sleep(HOUR).await;
                spawn_blocking(time::now).await.unwrap()
            })
        });
        assert_eq!(slept.await.unwrap(), begun + HOUR);
    });
}

#[test]
fn limits_intervals_and_deadlines_obey_the_clock() {
    in_virtual_time(async {
        let begun = time::now();
        assert!(wait_for(std::future::pending::<()>(), HOUR).await.is_err());
        assert_eq!(time::now(), begun + HOUR);
        assert!(wait_until(std::future::pending::<()>(), begun + 2 * HOUR).await.is_err());
        let left = wait_for(async { remaining() }, SECOND).await.unwrap();
        assert_eq!(left, Some(SECOND));

        let mut ticks = interval(SECOND);
        let first = ticks.next().await.unwrap();
        for tick in 1..100 {
            assert_eq!(ticks.next().await.unwrap(), first + tick * SECOND);
        }
        sleep_until(begun).await;
        assert_eq!(time::now(), first + 99 * SECOND);

        let (_open, receive) = channel::bounded::<()>(1);
        assert!(wait_for(receive.recv(), HOUR).await.is_err());
        let late = TaskGroup::<()>::scope(async |group| {
            group.spawn(async {
                sleep(HOUR).await;
                Ok(())
            });
            Ok(())
        });
        assert!(wait_for(late, SECOND).await.is_err());
        assert_eq!(time::now(), first + 99 * SECOND + HOUR + SECOND);
    });
}

#[test]
fn an_eager_call_moves_the_clock() {
    in_virtual_time(async {
        let (begun, really) = (time::now(), Instant::now());
        spawn(async { run_eagerly(sleep(HOUR)) }).await.unwrap();
        assert_eq!(time::now(), begun + HOUR);
        let limited = async { run_eagerly(wait_for(std::future::pending::<()>(), HOUR)).is_err() };
        assert!(spawn(limited).await.unwrap());
        assert_eq!(time::now(), begun + 2 * HOUR);
        assert!(really.elapsed() < HOUR);
    });
}

#[test]
fn sockets_are_refused_with_a_sentence() {
    in_virtual_time(async {
        let error = TcpListener::bind("127.0.0.1:0").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().starts_with("in virtual time there are no sockets"), "{error}");
    });
}

#[test]
fn there_is_one_worker() {
    let error = Runtime::builder().workers(2).virtual_time().build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "in virtual time a runtime has one worker; leave `workers` out");
    assert!(Runtime::builder().workers(1).virtual_time().build().is_ok());
}

#[test]
fn many_tasks_of_random_sleeps_take_as_long_as_the_longest() {
    in_virtual_time(async {
        let begun = time::now();
        let tasks: Vec<_> = (0..1_000_u64)
            .map(|number| {
                spawn(async move {
                    for step in 1..=10 {
                        let nap = Duration::from_millis(number * 7_919 % 10_007 * step);
                        let before = time::now();
                        sleep(nap).await;
                        assert_eq!(time::now() - before, nap);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let longest = (0..1_000).map(|number| number * 7_919 % 10_007).max().unwrap();
        assert_eq!(time::now() - begun, Duration::from_millis(55 * longest));
    });
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_test_that_would_hang_says_so_once() {
    let Child::Ended(output) = in_child("virtual_time::a_test_that_would_hang_says_so_once", false) else {
        in_virtual_time(async {
            for _ in 0..2 {
                let (send, receive) = oneshot::channel();
                let outside = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(100));
                    send.send(()).unwrap();
                });
                receive.await.unwrap();
                outside.join().unwrap();
            }
        });
        return say_as_child();
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let expected = "heirloom: in virtual time, `block_on` waits, no task can run, and no timer is set";
    assert_eq!(stderr.lines().filter(|line| line.starts_with(expected)).count(), 1, "{stderr}");
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_sleep_beyond_the_end_of_the_clock_is_for_ever_and_that_is_said() {
    const AGES: Duration = Duration::from_secs(600 * 365 * 24 * 3_600);
    let this = "virtual_time::a_sleep_beyond_the_end_of_the_clock_is_for_ever_and_that_is_said";
    let Child::Ended(output) = in_child(this, false) else {
        in_virtual_time(async {
            let begun = time::now();
            // As long as there is another timer, time goes on.
            assert!(wait_for(sleep(AGES), HOUR).await.is_err());
            assert_eq!(time::now() - begun, HOUR);
            let (send, receive) = oneshot::channel();
            let outside = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                send.send(()).unwrap();
            });
            let sleeper = spawn(sleep(AGES));
            receive.await.unwrap();
            outside.join().unwrap();
            assert!(!sleeper.is_finished());
            assert_eq!(time::now() - begun, HOUR);
        });
        return say_as_child();
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("no task can run, and no timer is set that will be due"), "{stderr}");
}
