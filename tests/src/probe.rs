//! A future that follows a script and checks the executor that runs it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poller, Poll, Waker};
use std::thread::ThreadId;

use heirloom::context::context_var;

use crate::watchdog::quiet_panic;

context_var! {
    /// What a probe looks for at each poll and at its drop.
    pub static MARK: u64;
}

/// The payload of every panic that a script asks for.
pub const SCRIPTED: &str = "as the script says";

/// What a probe does at one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stays pending until the next wake-up, from wherever it comes.
    Wait,
    /// Wakes itself during the poll, then is pending.
    Yield,
    /// Wakes itself from another thread during the poll, waits until that is done, then is pending.
    WokenElsewhere,
    /// Panics.
    Panic,
    /// Is ready. So is a probe whose script has ended.
    Ready,
}

#[derive(Debug, Default)]
struct Record {
    polls: AtomicUsize,
    drops: AtomicUsize,
    wakes: AtomicUsize,
    // The number of wake-ups that had been made when the last poll began.
    seen: AtomicUsize,
    polling: AtomicBool,
    ended: AtomicBool,
    waker: Mutex<Option<Waker>>,
    faults: Mutex<Vec<String>>,
    dropped_on: Mutex<Option<ThreadId>>,
}

impl Record {
    fn fault(&self, text: impl Into<String>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    fn look_at_context(&self, expected: Option<Option<u64>>, at: &str) {
        if let Some(expected) = expected {
            let seen = MARK.get();
            if seen != expected {
                self.fault(format!("at {at}: expected {expected:?}, saw {seen:?}"));
            }
        }
    }
}

/// The future. Everything it notices it writes down for its [`Watch`], because a panic of its own
/// would be swallowed by the task that runs it.
#[derive(Debug)]
pub struct Probe<T: Unpin = ()> {
    record: Arc<Record>,
    script: VecDeque<Step>,
    output: Option<T>,
    expected: Option<Option<u64>>,
    panics_on_drop: bool,
}

impl Probe<()> {
    /// A probe that follows `script` and is then ready.
    pub fn new(script: impl IntoIterator<Item = Step>) -> (Probe<()>, Watch) {
        Probe::returning((), script)
    }
}

impl<T: Unpin> Probe<T> {
    /// A probe that follows `script` and is then ready with `output`.
    pub fn returning(output: T, script: impl IntoIterator<Item = Step>) -> (Probe<T>, Watch) {
        let record = Arc::new(Record::default());
        let probe = Probe {
            record: record.clone(),
            script: script.into_iter().collect(),
            output: Some(output),
            expected: None,
            panics_on_drop: false,
        };
        (probe, Watch { record })
    }

    /// It has to find this value of [`MARK`] at each poll and at its drop.
    pub fn expecting(mut self, mark: Option<u64>) -> Probe<T> {
        self.expected = Some(mark);
        self
    }

    /// It panics when it is dropped, unless a panic is under way.
    pub fn panicking_on_drop(mut self) -> Probe<T> {
        self.panics_on_drop = true;
        self
    }
}

impl<T: Unpin> Future for Probe<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<T> {
        let record = self.record.clone();
        if record.polling.swap(true, Ordering::SeqCst) {
            record.fault("polled while it was being polled");
        }
        let polling = Polling(&record);
        if record.ended.load(Ordering::SeqCst) {
            record.fault("polled after it had ended");
        }
        record.look_at_context(self.expected, "a poll");
        // The waker first, then the counts: a thread that sees the poll counted finds this waker,
        // and a wake-up in between leads to another poll.
        *record.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(poller.waker().clone());
        record.polls.fetch_add(1, Ordering::SeqCst);
        record.seen.store(record.wakes.load(Ordering::SeqCst), Ordering::SeqCst);
        let result = match self.script.pop_front().unwrap_or(Step::Ready) {
            Step::Wait => Poll::Pending,
            Step::Yield => {
                record.wakes.fetch_add(1, Ordering::SeqCst);
                poller.waker().wake_by_ref();
                Poll::Pending
            }
            Step::WokenElsewhere => {
                record.wakes.fetch_add(1, Ordering::SeqCst);
                let waker = poller.waker().clone();
                std::thread::spawn(move || waker.wake()).join().expect("a wake-up does not panic");
                Poll::Pending
            }
            Step::Panic => {
                record.ended.store(true, Ordering::SeqCst);
                quiet_panic(SCRIPTED)
            }
            Step::Ready => {
                record.ended.store(true, Ordering::SeqCst);
                match self.output.take() {
                    Some(output) => Poll::Ready(output),
                    None => Poll::Pending,
                }
            }
        };
        drop(polling);
        result
    }
}

struct Polling<'a>(&'a Record);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.polling.store(false, Ordering::SeqCst);
    }
}

impl<T: Unpin> Drop for Probe<T> {
    fn drop(&mut self) {
        if self.record.polling.load(Ordering::SeqCst) {
            self.record.fault("dropped while it was being polled");
        }
        self.record.look_at_context(self.expected, "its drop");
        *self.record.dropped_on.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(std::thread::current().id());
        // A waker that the probe keeps is not to keep the task.
        *self.record.waker.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.record.drops.fetch_add(1, Ordering::SeqCst);
        if self.panics_on_drop && !std::thread::panicking() {
            quiet_panic(SCRIPTED);
        }
    }
}

/// The other end of a [`Probe`].
#[derive(Clone, Debug)]
pub struct Watch {
    record: Arc<Record>,
}

impl Watch {
    /// How often it was polled.
    pub fn polls(&self) -> usize {
        self.record.polls.load(Ordering::SeqCst)
    }

    /// How often it was dropped.
    pub fn drops(&self) -> usize {
        self.record.drops.load(Ordering::SeqCst)
    }

    /// Wakes it with the waker of its last poll. Whether there was one.
    pub fn wake(&self) -> bool {
        self.record.wakes.fetch_add(1, Ordering::SeqCst);
        let waker = self.record.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waker.map(Waker::wake).is_some()
    }

    /// The waker of its last poll.
    pub fn waker(&self) -> Option<Waker> {
        self.record.waker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a wake-up was made since its last poll began.
    pub fn is_owed_a_poll(&self) -> bool {
        self.record.seen.load(Ordering::SeqCst) < self.record.wakes.load(Ordering::SeqCst)
    }

    /// The thread that dropped it.
    pub fn dropped_on(&self) -> Option<ThreadId> {
        *self.record.dropped_on.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has found wrong so far.
    pub fn faults(&self) -> Vec<String> {
        self.record.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fails if it has found anything wrong.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert_eq!(self.faults(), Vec::<String>::new());
        assert!(self.drops() <= 1, "dropped {} times", self.drops());
    }

    /// Fails if it has found anything wrong, or was not polled and dropped as often as this.
    #[track_caller]
    pub fn assert_counts(&self, polls: usize, drops: usize) {
        self.assert_sound();
        assert_eq!((self.polls(), self.drops()), (polls, drops), "(polls, drops)");
    }
}
