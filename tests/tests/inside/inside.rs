//! Numbers: what they count, that they only grow, and their text.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use heirloom::runtime::{Histogram, Stats, Totals};
use heirloom::task::budget::cooperative;
use heirloom::{Runtime, sleep, spawn, yield_now};
use heirloom_tests::{PATIENCE, idle, occupy, scaled, watchdog, with_runtime};

/// An inspected runtime with one worker.
fn inspected(test: impl FnOnce(&Runtime) + Send + 'static) {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).inspect(true).build().unwrap();
        test(&runtime);
    });
}

#[test]
fn totals_count_spawns_ends_wake_ups_and_yields() {
    with_runtime(1, |runtime| {
        idle(runtime);
        let before = runtime.stats().totals;
        runtime.block_on(runtime.spawn(async {})).unwrap();
        assert!(runtime.block_on(runtime.spawn(async { panic!("wanted") })).is_err());
        drop(runtime.spawn(pending::<()>()));
        idle(runtime);
        let after = runtime.stats().totals;
        let ended =
            |totals: Totals| [totals.finished.returned, totals.finished.panicked, totals.finished.cancelled];
        let [one, two] = [ended(before), ended(after)];
        assert_eq!([two[0] - one[0], two[1] - one[1], two[2] - one[2]], [1, 1, 1]);
        assert_eq!(after.spawned - before.spawned, 3);
        assert_eq!(after.finished.all() - before.finished.all(), 3);

        let (sender, receiver) = futures::channel::oneshot::channel();
        let waits = runtime.spawn(receiver);
        idle(runtime);
        let before = runtime.stats().totals.wake_ups;
        sender.send(()).unwrap();
        runtime.block_on(waits).unwrap().unwrap();
        idle(runtime);
        assert_eq!(runtime.stats().totals.wake_ups - before, 1);

        let before = runtime.stats().totals.budget_yields;
        let busy = async {
            for _ in 0..300 {
                cooperative(std::future::ready(())).await;
            }
        };
        runtime.block_on(runtime.spawn(busy)).unwrap();
        assert_eq!(runtime.stats().totals.budget_yields - before, 2, "300 leaves are two budgets and a bit");
    });
}

#[test]
fn totals_count_timers_and_blocking_closures() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).max_blocking_threads(1).build().unwrap();
        let before = runtime.stats().totals;
        let sleeps: Vec<_> = (0..3).map(|_| runtime.spawn(sleep(Duration::from_millis(2)))).collect();
        sleeps.into_iter().for_each(|sleep| runtime.block_on(sleep).unwrap());
        let (go, held) = mpsc::channel::<()>();
        let first = runtime.spawn_blocking(move || held.recv().unwrap_or_default());
        let second = runtime.spawn_blocking(|| ());
        go.send(()).unwrap();
        runtime.block_on(first).unwrap();
        runtime.block_on(second).unwrap();
        let after = runtime.stats().totals;
        assert_eq!(after.timers_fired - before.timers_fired, 3);
        assert_eq!(after.blocking_taken - before.blocking_taken, 2);
        assert_eq!(after.blocking_held_up - before.blocking_held_up, 1, "the second found no thread");
    });
}

#[test]
fn tasks_are_counted_by_state() {
    with_runtime(1, |runtime| {
        let waiting: Vec<_> = (0..5).map(|_| runtime.spawn(pending::<()>())).collect();
        idle(runtime);
        let occupied = occupy(runtime, 1);
        let queued: Vec<_> = (0..3).map(|_| runtime.spawn(async {})).collect();
        let stats = runtime.stats();
        let states = stats.states;
        assert_eq!((states.idle, states.scheduled, states.running, stats.tasks), (5, 3, 1, 9));
        occupied.release();
        drop((waiting, queued));
        idle(runtime);
        let states = runtime.stats().states;
        assert_eq!((states.idle, states.scheduled, states.running), (0, 0, 0));
    });
}

/// Readers see every total grow, and never more ends than spawns, while tasks come and go.
#[test]
fn totals_only_grow_and_no_task_ends_before_it_was_spawned() {
    with_runtime(2, |runtime| {
        let done = Arc::new(AtomicBool::new(false));
        let reader = {
            let (handle, done) = (runtime.handle().clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut last = handle.stats().totals;
                while !done.load(Ordering::Relaxed) {
                    let next = handle.stats().totals;
                    let pairs = [
                        (last.spawned, next.spawned),
                        (last.finished.returned, next.finished.returned),
                        (last.finished.cancelled, next.finished.cancelled),
                        (last.polls, next.polls),
                        (last.wake_ups, next.wake_ups),
                    ];
                    assert!(pairs.iter().all(|(last, next)| last <= next), "{last:?} then {next:?}");
                    assert!(next.spawned >= next.finished.all(), "{next:?}");
                    last = next;
                }
            })
        };
        runtime.block_on(async {
            for round in 0..scaled(2_000) {
                let task = spawn(yield_now());
                if round % 3 == 0 { drop(task) } else { task.await.unwrap() }
            }
        });
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn a_runtime_that_is_not_inspected_records_no_times() {
    with_runtime(1, |runtime| {
        runtime.block_on(runtime.spawn(async {})).unwrap();
        let stats = runtime.stats();
        assert!(stats.times.is_none() && stats.workers[0].busy.is_none());
    });
}

#[test]
fn times_say_how_long_tasks_wait_for_a_poll_and_how_long_polls_take() {
    inspected(|runtime| {
        const LONG: Duration = Duration::from_millis(30);
        let blocks = runtime.spawn(async { std::thread::sleep(LONG) });
        let waits = runtime.spawn(async {});
        runtime.block_on(blocks).unwrap();
        runtime.block_on(waits).unwrap();
        idle(runtime);
        let stats = runtime.stats();
        let times = stats.times.unwrap();
        let longest = |histogram: &Histogram| histogram.quantile(1.0);
        assert_eq!((times.poll.count(), times.schedule_latency.count()), (2, 2));
        assert!(longest(&times.poll) >= LONG, "{:?}", times.poll);
        assert!(times.poll.sum() >= LONG && stats.workers[0].busy.unwrap() == times.poll.sum());
        assert!(times.poll.mean() >= LONG / 2 && times.poll.mean() <= longest(&times.poll));
        let counted: u64 = times.poll.buckets().map(|(_, count)| count).sum();
        assert_eq!(counted, 2);
    });
}

#[test]
fn the_wait_of_a_task_behind_a_long_poll_is_in_the_schedule_latency() {
    inspected(|runtime| {
        const LONG: Duration = Duration::from_millis(30);
        let children = runtime.spawn(async {
            let child = spawn(async {});
            std::thread::sleep(LONG);
            child
        });
        let child = runtime.block_on(children).unwrap();
        runtime.block_on(child).unwrap();
        idle(runtime);
        let latency = runtime.stats().times.unwrap().schedule_latency;
        assert!(latency.quantile(1.0) >= LONG, "{latency:?}");
    });
}

#[test]
fn the_wait_of_a_blocking_closure_for_a_thread_is_recorded() {
    watchdog(PATIENCE, || {
        const LONG: Duration = Duration::from_millis(30);
        let runtime = Runtime::builder().workers(1).max_blocking_threads(1).inspect(true).build().unwrap();
        let first = runtime.spawn_blocking(|| std::thread::sleep(LONG));
        let second = runtime.spawn_blocking(|| ());
        runtime.block_on(first).unwrap();
        runtime.block_on(second).unwrap();
        let wait = runtime.stats().times.unwrap().blocking_wait;
        assert_eq!(wait.count(), 2);
        assert!(wait.quantile(1.0) >= LONG / 2, "{wait:?}");
    });
}

/// A small reader of the format: the samples of each family, and the rules of histograms.
fn families(text: &str) -> BTreeMap<String, (String, Vec<(String, f64)>)> {
    let mut families: BTreeMap<String, (String, Vec<(String, f64)>)> = BTreeMap::new();
    let mut current = String::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            current = rest.split(' ').next().unwrap().to_owned();
            assert!(!families.contains_key(&current), "{current} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current);
            families.insert(current.clone(), (kind.to_owned(), Vec::new()));
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(&current), "{sample} is not of {current}");
            assert!(seen.insert(sample.to_owned()), "{sample} comes twice");
            let sample = (sample.to_owned(), value.parse().unwrap());
            families.get_mut(&current).unwrap().1.push(sample);
        }
    }
    families
}

fn value(stats: &Stats, sample: &str) -> f64 {
    let text = stats.prometheus().to_string();
    let all = families(&text);
    let found = all.values().flat_map(|(_, samples)| samples).find(|(name, _)| name == sample);
    found.unwrap_or_else(|| panic!("no {sample} in:\n{text}")).1
}

#[test]
fn the_text_for_prometheus_is_well_formed_and_says_what_the_numbers_say() {
    inspected(|runtime| {
        for _ in 0..10 {
            runtime.block_on(runtime.spawn(yield_now())).unwrap();
        }
        idle(runtime);
        let stats = runtime.stats();
        let all = families(&stats.prometheus().to_string());
        for (name, (kind, samples)) in &all {
            assert!(!samples.is_empty(), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            if kind == "histogram" {
                let buckets: Vec<_> = samples
                    .iter()
                    .filter(|(name, _)| name.contains("_bucket"))
                    .map(|(_, count)| *count)
                    .collect();
                assert!(buckets.is_sorted(), "{name}");
                let count = samples.iter().find(|(sample, _)| *sample == format!("{name}_count")).unwrap().1;
                assert_eq!(*buckets.last().unwrap(), count);
            }
        }
        assert_eq!(value(&stats, "heirloom_tasks_finished_total{how=\"returned\"}"), 10.0);
        assert_eq!(value(&stats, "heirloom_polls_total{worker=\"0\"}"), stats.totals.polls as f64);
        assert_eq!(value(&stats, "heirloom_poll_seconds_count"), 20.0);
    });
}
