//! Times one task in so many: when it was spawned, woken and polled.
//!
//! Every task of the load test is wrapped in [`Probed`]. One that is not timed carries a null
//! pointer and pays one branch a poll. One that is timed reads the clock twice a poll, and is given
//! a waker of our own around the executor's, which notes when it was first woken; all executors are
//! timed by the same code.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::record::{self, Metric};

pin_project_lite::pin_project! {
    /// A future, timed or not.
    #[derive(Debug)]
    pub struct Probed<F> {
        #[pin]
        future: F,
        times: Option<Box<Times>>,
    }
}

/// What is known of a task that is timed.
#[derive(Debug)]
struct Times {
    spawned: Instant,
    /// Of the last poll; `None` before the first.
    waker: Option<(Arc<Noting>, Waker)>,
}

/// Wraps a future at its spawn call.
pub fn probed<F: Future>(timed: bool, future: F) -> Probed<F> {
    let times = timed.then(|| Box::new(Times { spawned: Instant::now(), waker: None }));
    Probed { future, times }
}

/// A waker that notes when it is used.
#[derive(Debug)]
struct Noting {
    inner: Waker,
    /// Nanoseconds from `spawned` to the first wake-up since the last poll; 0 is none.
    woken: AtomicU64,
    spawned: Instant,
}

impl Noting {
    fn note(&self) {
        if self.woken.load(Relaxed) == 0 {
            let now = self.spawned.elapsed().as_nanos() as u64;
            // Of two at once the first counts. The executor orders the note before the poll it
            // leads to.
            let _ = self.woken.compare_exchange(0, now.max(1), Relaxed, Relaxed);
        }
    }
}

impl Wake for Noting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.note();
        self.inner.wake_by_ref();
    }
}

impl<F: Future> Future for Probed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.times {
            None => this.future.poll(cx),
            Some(times) => times.poll(this.future, cx),
        }
    }
}

impl Times {
    fn poll<F: Future>(&mut self, future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let begun = Instant::now();
        let since_spawn = begun.duration_since(self.spawned);
        let before = match &self.waker {
            None => Some((Metric::FirstPoll, since_spawn)),
            Some((noting, _)) => match noting.woken.swap(0, Relaxed) {
                0 => None,
                at => Some((Metric::WakeToPoll, since_spawn.saturating_sub(Duration::from_nanos(at)))),
            },
        };
        if !matches!(&self.waker, Some((noting, _)) if noting.inner.will_wake(cx.waker())) {
            let noting =
                Noting { inner: cx.waker().clone(), woken: AtomicU64::new(0), spawned: self.spawned };
            let noting = Arc::new(noting);
            self.waker = Some((Arc::clone(&noting), Waker::from(noting)));
        }
        let (_, waker) = self.waker.as_ref().expect("made above");
        let result = future.poll(&mut Context::from_waker(waker));
        record::record_poll(begun.elapsed(), before);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Polls by hand on a thread of its own, so that what others record does not mix in.
    #[test]
    fn a_timed_task_tells_its_first_poll_its_wake_ups_and_every_poll() {
        thread::spawn(|| {
            let stored = Arc::new(Mutex::new(None::<Waker>));
            let future = {
                let stored = Arc::clone(&stored);
                poll_fn(move |cx| {
                    let mut stored = stored.lock().unwrap();
                    let ready = stored.is_some();
                    *stored = Some(cx.waker().clone());
                    if ready { Poll::Ready(()) } else { Poll::Pending }
                })
            };
            let mut future = Box::pin(probed(true, future));
            let counting = Arc::new(Counting::default());
            let waker = Waker::from(Arc::clone(&counting));
            let mut cx = Context::from_waker(&waker);
            assert!(future.as_mut().poll(&mut cx).is_pending());
            stored.lock().unwrap().as_ref().unwrap().wake_by_ref();
            stored.lock().unwrap().as_ref().unwrap().wake_by_ref();
            assert_eq!(counting.0.load(Relaxed), 2, "every wake-up reaches the executor");
            let noted = future.times.as_ref().unwrap().waker.as_ref().unwrap().0.woken.load(Relaxed);
            assert_ne!(noted, 0);
            assert!(future.as_mut().poll(&mut cx).is_ready());
            let noted = future.times.as_ref().unwrap().waker.as_ref().unwrap().0.woken.load(Relaxed);
            assert_eq!(noted, 0, "a poll takes the note");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn one_that_is_not_timed_keeps_the_executors_waker() {
        let waker = Waker::from(Arc::new(Counting::default()));
        let expected = waker.clone();
        let mut future = Box::pin(probed(
            false,
            poll_fn(move |cx| {
                assert!(cx.waker().will_wake(&expected));
                Poll::Ready(())
            }),
        ));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }
}
