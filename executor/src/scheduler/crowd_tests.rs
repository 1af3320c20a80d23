//! Workers that are given accounts to read, and a machine that is in fact busy.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier};

use super::*;
use crate::{Runtime, sleep, spawn, yield_now};

const MS: Duration = Duration::from_millis(1);

/// Workers and a clock.
struct Rig {
    crowd: Crowd,
    stances: Vec<Stance>,
    used: Vec<Used>,
    now: Instant,
}

impl Rig {
    fn new(workers: usize) -> Rig {
        let none = Used { ran: Duration::ZERO, waited: Duration::ZERO };
        Rig {
            crowd: Crowd::new(workers),
            stances: (0..workers).map(|_| Stance::new(workers)).collect(),
            used: vec![none; workers],
            now: Instant::now(),
        }
    }

    /// Some time goes by, of which each worker that does not stand back waits this part in a hundred and runs for the rest.
    /// Then all run dry.
    fn pass(&mut self, time: Duration, waiting: u32) {
        self.now += time;
        for (stance, used) in self.stances.iter().zip(&mut self.used) {
            if !stance.is_back() {
                used.waited += time * waiting / 100;
                used.ran += time * (100 - waiting) / 100;
            }
            stance.settle(self.now, &self.crowd);
            if !stance.is_back() {
                stance.look(self.now, *used, &self.crowd);
            }
        }
    }

    fn back(&self) -> usize {
        self.stances.iter().filter(|stance| stance.is_back()).count()
    }

    /// How long it takes until so many stand back.
    fn until(&mut self, back: usize, waiting: u32) -> Duration {
        let begun = self.now;
        while self.back() != back {
            assert!(self.now - begun < 10_000 * MS, "they never do");
            self.pass(MS, waiting);
        }
        self.now - begun
    }
}

#[test]
fn who_waits_for_a_processor_stands_back_and_one_never_does() {
    for workers in 1..5 {
        let mut rig = Rig::new(workers);
        for _ in 0..100 {
            rig.pass(WINDOW, 50);
            assert!(rig.back() < workers);
        }
        assert_eq!(rig.back(), workers - 1, "of {workers}");
    }
}

#[test]
fn one_at_a_time() {
    let mut rig = Rig::new(4);
    rig.until(1, 50);
    let before = rig.now;
    rig.until(2, 50);
    assert!(rig.now - before >= AGAIN);
}

#[test]
fn who_has_a_processor_does_not() {
    let mut rig = Rig::new(2);
    for _ in 0..1000 {
        rig.pass(WINDOW, SHORT - 1);
        assert_eq!(rig.back(), 0);
    }
}

#[test]
fn what_is_too_little_says_nothing() {
    let mut rig = Rig::new(2);
    // It could have run for a tenth of a millisecond, and had to wait for all of it.
    for _ in 0..9 {
        rig.now += WINDOW;
        rig.used[0].waited += MS / 10;
        rig.stances[0].look(rig.now, rig.used[0], &rig.crowd);
        assert_eq!(rig.back(), 0);
    }
    // Until all of that together is enough.
    for _ in 0..2 {
        rig.now += WINDOW;
        rig.used[0].waited += MS / 10;
        rig.stances[0].look(rig.now, rig.used[0], &rig.crowd);
    }
    assert_eq!(rig.back(), 1);
}

#[test]
fn terms_grow_while_processors_are_short_and_are_short_again_when_they_were_not() {
    let mut rig = Rig::new(2);
    let mut terms = Vec::new();
    for _ in 0..TERM_DOUBLINGS + 2 {
        rig.until(1, 50);
        terms.push(rig.until(0, 0));
    }
    let longest = TERM_MIN * 2u32.pow(TERM_DOUBLINGS);
    assert!(terms[0] <= TERM_MIN + MS, "{terms:?}");
    assert!(terms.is_sorted(), "{terms:?}");
    assert!(*terms.last().unwrap() >= longest && *terms.last().unwrap() <= longest + MS, "{terms:?}");
    for _ in 0..4 {
        rig.pass(WINDOW, 0);
    }
    rig.until(1, 50);
    assert!(rig.until(0, 0) <= TERM_MIN + MS);
}

#[test]
fn a_sibling_copes_that_polls_and_comes_to_an_end_now_and_then() {
    let stance = Stance::new(2);
    let mut now = Instant::now();
    let mut copes = |polls, parks, after| {
        now += after;
        stance.siblings[1].copes(polls, parks, now)
    };
    assert!(copes(1, 1, MS));
    // One that has not polled since, nor parked: it is in a long poll.
    assert!(!copes(1, 1, MS));
    // Polls of a millisecond are long, too.
    assert!(!copes(2, 1, MS));
    assert!(!copes(6, 1, 4 * MS));
    assert!(copes(8, 1, MS));
    // One that comes to an end copes, whatever it polled.
    assert!(copes(8, 2, MS));
    // One that polls on and on.
    let busy = BUSY.as_millis() as u64;
    for number in 1..busy {
        assert!(copes(8 + 2 * number, 2, MS));
    }
    assert!(!copes(100, 2, 2 * MS));
    assert!(copes(102, 3, MS));
}

#[test]
fn naps_grow_while_somebody_copes() {
    let stance = Stance::new(2);
    let naps: Vec<_> = (0..4).map(|_| stance.nap(true).unwrap()).collect();
    assert_eq!(naps, [MS, 2 * MS, 4 * MS, 4 * MS]);
    assert_eq!(stance.nap(false), None);
    assert_eq!(stance.nap(true), Some(MS));
}

#[test]
fn accounts_are_understood_or_left_alone() {
    let used =
        |ran, waited| Some(Used { ran: Duration::from_nanos(ran), waited: Duration::from_nanos(waited) });
    assert_eq!(Used::parse("123 45 6\n"), used(123, 45));
    assert_eq!(Used::parse("123 45"), used(123, 45));
    for strange in ["", "\n", "123", "-1 2 3", "a b c", "99999999999999999999 1 1"] {
        assert_eq!(Used::parse(strange), None, "{strange:?}");
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_thread_that_runs_is_seen_to() {
    // Without the account, which kernels may lack, there is nothing to see.
    let Some(before) = Used::so_far() else { return };
    let begun = Instant::now();
    while Used::so_far().expect("it was there before").ran - before.ran < 5 * MS {
        assert!(begun.elapsed() < Duration::from_secs(60), "it seems never to run");
    }
}

/// Threads that keep all processors busy until this is dropped.
#[cfg(target_os = "linux")]
struct Busy {
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[cfg(target_os = "linux")]
impl Busy {
    fn new() -> Busy {
        let over = Arc::new(AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let spin = |over: Arc<AtomicBool>| {
            move || {
                while !over.load(SeqCst) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..2 * processors).map(|_| std::thread::spawn(spin(over.clone()))).collect();
        Busy { over, threads }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// On a machine without a free processor a worker stands back; and yet whatever waits behind a long poll is done by it: what is
/// queued there, what comes from outside, what is due.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn who_stands_back_helps_a_sibling_that_does_not_cope() {
    if Used::so_far().is_none() {
        return;
    }
    let busy = Busy::new();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    // Both run dry again and again.
    let ended = over.clone();
    let load = runtime.spawn(async move {
        while !ended.load(SeqCst) {
            let burst: Vec<_> = (0..32)
                .map(|_| {
                    spawn(async {
                        for _ in 0..200 {
                            std::hint::black_box(Instant::now());
                        }
                        yield_now().await;
                    })
                })
                .collect();
            for task in burst {
                task.await.unwrap();
            }
            sleep(Duration::from_micros(100)).await;
        }
    });
    let crowd = &runtime.handle().shared().crowd;
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < 10 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{rounds} rounds");
        if crowd.back() == 0 {
            std::thread::yield_now();
            continue;
        }
        rounds += 1;
        // Each of these polls lasts until the other has begun.
        let both = Arc::new(Barrier::new(2));
        let queued = runtime.spawn(async move {
            let other = both.clone();
            let queued = spawn(async move { _ = other.wait() });
            // What is woken last waits for this worker.
            spawn(async {}).detach();
            both.wait();
            queued.await.unwrap();
        });
        runtime.block_on(queued).unwrap();
        // The same from outside.
        let both = Arc::new(Barrier::new(2));
        let outside = [both.clone(), both].map(|both| runtime.spawn(async move { _ = both.wait() }));
        for task in outside {
            runtime.block_on(task).unwrap();
        }
        // A timer is due while a poll waits for it.
        let (fire, fired) = std::sync::mpsc::channel();
        let waits = runtime.spawn(async move { fired.recv().unwrap() });
        let timer = runtime.spawn(async move {
            sleep(Duration::from_millis(3)).await;
            fire.send(()).unwrap();
        });
        runtime.block_on(timer).unwrap();
        runtime.block_on(waits).unwrap();
    }
    over.store(true, SeqCst);
    runtime.block_on(load).unwrap();
    drop(busy);
}
