//! What the rows share: waiting for many tasks, work of a known length, processor time.

use std::future::poll_fn;
use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use rustix::time::{ClockId, clock_gettime};

/// Counts tasks that have ended, and wakes the task that waits for the last.
///
/// It is leaked, so that each task carries a pointer to it and no count of references.
#[derive(Debug, Default)]
pub struct Countdown {
    left: AtomicU32,
    waiting: AtomicWaker,
}

impl Countdown {
    /// One that expects no task yet.
    pub fn leaked() -> &'static Countdown {
        Box::leak(Box::default())
    }

    /// Expects so many ends.
    pub fn expect(&self, count: u32) {
        // The executor's hand-over of a task to a worker makes it visible to the task.
        self.left.store(count, Ordering::Relaxed);
    }

    /// One has ended.
    #[inline]
    pub fn done(&self) {
        // Releases what the task did; pairs with the acquire load in `is_finished`.
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiting.wake();
        }
    }

    /// Whether all have ended.
    pub fn is_finished(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// Waits until all have ended.
    pub async fn finished(&self) {
        poll_fn(|cx| {
            if self.is_finished() {
                return Poll::Ready(());
            }
            self.waiting.register(cx.waker());
            // The last one may have come before the registration.
            if self.is_finished() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls `future` on the calling thread, the same way for every peer, but no longer than for
/// `limit`.
pub fn block_on_for<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let start = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        thread::park_timeout(limit.checked_sub(start.elapsed())?);
    }
}

/// So many steps of arithmetic of which each needs the one before. They go through no memory: how
/// long a store takes to its load depends on where on the stack it is, so that the same work took a
/// sixth longer here than there.
#[inline(never)]
fn steps(count: u32) -> u64 {
    let mut value = black_box(1u64);
    for _ in 0..count {
        value = value.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
    }
    value
}

/// Work of a known length: as many steps as take a microsecond on this machine when nothing
/// disturbs it.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    steps: u32,
}

impl Work {
    /// Work of so many microseconds.
    pub fn of_micros(micros: u32) -> Work {
        static PER_MICRO: OnceLock<u32> = OnceLock::new();
        let calibrate = || {
            const TRIED: u32 = 100_000;
            let one = || {
                let start = Instant::now();
                black_box(steps(TRIED));
                start.elapsed()
            };
            // The quickest of some is the one that was disturbed least.
            let best = (0..20).map(|_| one()).min().unwrap_or_default();
            (f64::from(TRIED) * 1e3 / best.as_nanos().max(1) as f64).max(1.0) as u32
        };
        Work { steps: PER_MICRO.get_or_init(calibrate) * micros }
    }

    /// Does it.
    #[inline]
    pub fn run(self) {
        black_box(steps(self.steps));
    }
}

/// The processor time that all threads of this process have used.
pub fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_countdown_ends_with_the_last() {
        let countdown = Countdown::leaked();
        countdown.expect(3);
        let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(|| countdown.done())).collect();
        futures_lite::future::block_on(countdown.finished());
        assert!(countdown.is_finished());
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let limit = Duration::from_millis(1);
        assert_eq!(block_on_for(std::future::pending::<()>(), limit), None);
        assert_eq!(block_on_for(async { 1 }, limit), Some(1));
    }

    #[test]
    fn processor_time_grows_with_work() {
        let before = process_time();
        Work::of_micros(2000).run();
        assert!(process_time() - before > Duration::from_micros(500));
    }
}
