//! How a worker yields where the process has less processor time than workers.
//!
//! A further worker is of use only if there is a processor for it. Where other threads keep the
//! processors busy (the clients next to a service, its neighbours), a further worker takes
//! processor time from its siblings, and adds thread switches.
//!
//! **Contended**: of the time in which the worker could run, it has waited for a processor in more
//! than [`CONTENDED`] percent, and it was put on a processor more often than every [`SWITCHED`]. A
//! worker measures that when it has found no work, every [`WINDOW`] at most.
//!
//! **Throttled**: a contended worker, for [`TERM`]. It parks in naps of [`NAP`], and is in no list
//! of sleepers, so no push wakes it. At the end of a nap it takes work if siblings have left some,
//! and looks at the timers if no sibling is the keeper. So a task or a timer behind a sibling's
//! long poll waits for one nap at most. At least one worker is not throttled, and the promises
//! about wake-ups rest on the workers that are not.
//!
//! Only Linux reports how long a thread has waited, in `/proc/thread-self/schedstat`. Elsewhere no
//! worker is throttled.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::util::switches::THROTTLE;
use crate::util::sync::{Mutex, lock};

/// Time between two samples. In less, the share of waiting goes up and down by half.
const WINDOW: Duration = Duration::from_millis(12);
/// How long a thread must have run or waited between two samples for the second to mean anything.
const ENOUGH: Duration = Duration::from_millis(1);
/// Two workers and a busy client on two processors wait for 35 to 50 percent of the time; two
/// workers and a pool of threads that block, which leave processors idle a quarter of the time, for
/// 20.
const CONTENDED: u32 = 28;
/// A thread that runs for longer than that at a time, in the mean, loses little by thread switches:
/// a processor that it shares with other threads is better used by two workers than by one.
const SWITCHED: Duration = Duration::from_micros(250);
/// Long compared with [`WINDOW`], so that measuring again takes a small part of the time; short
/// compared with a change of load.
const TERM: Duration = Duration::from_millis(256);
/// The longest wait of work behind a sibling's long poll. A nap costs 20 to 40 µs of a processor.
pub(crate) const NAP: Duration = Duration::from_millis(4);

/// How many workers of a runtime are throttled.
#[derive(Debug)]
pub(crate) struct Throttle {
    most: usize,
    state: Mutex<ThrottleState>,
}

#[derive(Debug)]
struct ThrottleState {
    throttled: usize,
    /// When a worker was last throttled. The other workers measure again before the next one is
    /// throttled.
    since: Option<Instant>,
}

impl Throttle {
    pub(crate) fn new(workers: usize) -> Throttle {
        let state = ThrottleState { throttled: 0, since: None };
        Throttle { most: workers.saturating_sub(1), state: Mutex::new(state) }
    }

    fn start(&self, now: Instant) -> bool {
        let mut state = lock(&self.state);
        let settled = state.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW);
        let start = settled && state.throttled < self.most;
        if start {
            *state = ThrottleState { throttled: state.throttled + 1, since: Some(now) };
        }
        start
    }

    fn end(&self) {
        lock(&self.state).throttled -= 1;
    }
}

/// One worker's measurements.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    sampled: Cell<Option<(Instant, ProcessorTime)>>,
    throttled_until: Cell<Option<Instant>>,
}

impl Contention {
    #[inline]
    pub(crate) fn is_throttled(&self) -> bool {
        self.throttled_until.get().is_some()
    }

    /// The worker has found no work: measures how long it has waited for a processor, if the last
    /// sample is old enough.
    pub(crate) fn check(&self, now: Instant, throttle: &Throttle) {
        let recent = |(at, _): (Instant, _)| now.saturating_duration_since(at) < WINDOW;
        // A single worker is never throttled.
        if !THROTTLE || throttle.most == 0 || self.is_throttled() || self.sampled.get().is_some_and(recent) {
            return;
        }
        if let Some(used) = ProcessorTime::of_this_thread() {
            self.sample(now, used, throttle);
        }
    }

    fn sample(&self, now: Instant, used: ProcessorTime, throttle: &Throttle) {
        let Some((_, before)) = self.sampled.get() else { return self.sampled.set(Some((now, used))) };
        let waited = used.waited.saturating_sub(before.waited);
        let runnable = waited + used.ran.saturating_sub(before.ran);
        if runnable < ENOUGH {
            return;
        }
        self.sampled.set(Some((now, used)));
        let is_switched = runnable < SWITCHED * used.turns.wrapping_sub(before.turns);
        if waited * 100 > runnable * CONTENDED && is_switched && throttle.start(now) {
            self.throttled_until.set(Some(now + TERM));
        }
    }

    /// The throttled worker is up. Its term ends when the time is over, or if the runtime has been
    /// idle during the nap: then there is nothing to compete for, and the worker sleeps as the
    /// others do.
    pub(crate) fn end_nap(&self, now: Instant, idle: bool, throttle: &Throttle) {
        if self.throttled_until.get().is_some_and(|until| idle || until <= now) {
            self.throttled_until.set(None);
            self.sampled.set(None);
            throttle.end();
        }
    }
}

/// Processor time of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProcessorTime {
    ran: Duration,
    /// The thread could have run, but there was no processor.
    waited: Duration,
    /// How often the thread was put on a processor.
    turns: u32,
}

impl ProcessorTime {
    /// The time of the calling thread so far, if the system reports it. Costs about 3 µs, and a
    /// file descriptor meanwhile.
    fn of_this_thread() -> Option<ProcessorTime> {
        #[cfg(all(target_os = "linux", not(any(miri, loom))))]
        {
            use std::io::Read;
            let mut text = [0; 64];
            let length = std::fs::File::open("/proc/thread-self/schedstat").ok()?.read(&mut text).ok()?;
            ProcessorTime::parse(std::str::from_utf8(&text[..length]).ok()?)
        }
        #[cfg(not(all(target_os = "linux", not(any(miri, loom)))))]
        None
    }

    /// Nanoseconds run and waited, and how often the thread was put on a processor.
    #[cfg_attr(not(all(target_os = "linux", not(any(miri, loom)))), allow(dead_code))]
    fn parse(schedstat: &str) -> Option<ProcessorTime> {
        let mut numbers = schedstat.split_ascii_whitespace().map_while(|number| number.parse::<u64>().ok());
        let [ran, waited, turns] = [numbers.next()?, numbers.next()?, numbers.next()?];
        let (ran, waited) = (Duration::from_nanos(ran), Duration::from_nanos(waited));
        // The low bits, of which differences are taken.
        Some(ProcessorTime { ran, waited, turns: turns as u32 })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A worker that samples every window, waits for a processor for `waiting` percent of it, and
    /// is switched often.
    fn after(windows: u32, waiting: u32, throttle: &Throttle) -> Contention {
        after_turns(windows, waiting, 100, throttle)
    }

    /// The same with so many turns in a window.
    fn after_turns(windows: u32, waiting: u32, turns: u32, throttle: &Throttle) -> Contention {
        let (contention, start) = (Contention::default(), Instant::now());
        for window in 0..=windows {
            let waited = WINDOW * window * waiting / 100;
            let used = ProcessorTime { ran: WINDOW * window - waited, waited, turns: turns * window };
            contention.sample(start + WINDOW * window, used, throttle);
        }
        contention
    }

    #[test]
    fn a_worker_that_waits_for_a_processor_is_throttled_and_one_never_is() {
        let throttle = Throttle::new(3);
        let workers: Vec<_> = (0..3).map(|_| after(20, 40, &throttle)).collect();
        let throttled = workers.iter().filter(|worker| worker.is_throttled()).count();
        // All three sample at the same instants, each of which throttles one worker.
        assert!(throttled <= 2, "{throttled}");
        assert!(workers[0].is_throttled());
        assert!(!after(20, 40, &Throttle::new(1)).is_throttled());
    }

    #[test]
    fn a_worker_that_has_a_processor_is_not_throttled() {
        assert!(!after(20, 20, &Throttle::new(2)).is_throttled());
    }

    #[test]
    fn a_worker_that_is_seldom_switched_is_not_throttled() {
        assert!(!after_turns(20, 40, 40, &Throttle::new(2)).is_throttled());
        assert!(after_turns(20, 40, 60, &Throttle::new(2)).is_throttled());
    }

    #[test]
    fn too_little_time_says_nothing() {
        let (contention, throttle, now) = (Contention::default(), Throttle::new(2), Instant::now());
        let used = |waited| ProcessorTime { ran: Duration::ZERO, waited, turns: 100 };
        contention.sample(now, used(Duration::ZERO), &throttle);
        contention.sample(now + WINDOW, used(ENOUGH / 2), &throttle);
        assert!(!contention.is_throttled());
    }

    #[test]
    fn a_term_ends_and_makes_room_for_another_worker() {
        let throttle = Throttle::new(2);
        let worker = after(1, 40, &throttle);
        assert!(worker.is_throttled() && !after(1, 40, &throttle).is_throttled());
        worker.end_nap(Instant::now(), false, &throttle);
        assert!(worker.is_throttled(), "its term is not over");
        worker.end_nap(Instant::now() + TERM * 2, false, &throttle);
        assert!(!worker.is_throttled());
        assert_eq!(lock(&throttle.state).throttled, 0);
    }

    #[test]
    fn the_text_of_the_system_is_parsed_or_ignored() {
        let (ran, waited) = (Duration::from_nanos(17), Duration::from_nanos(4));
        assert_eq!(ProcessorTime::parse("17 4 2\n"), Some(ProcessorTime { ran, waited, turns: 2 }));
        assert_eq!(ProcessorTime::parse("17 4"), None);
        assert_eq!(ProcessorTime::parse("much more time"), None);
        #[cfg(all(target_os = "linux", not(miri)))]
        assert!(ProcessorTime::of_this_thread().is_some());
    }
}
