//! What the suites share: fresh threads, drop probes, small futures, a generator, and three
//! executors.
//!
//! Everything counts events; nothing sleeps to put threads in order.

mod executor;

pub(crate) use executor::Executor;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context as Poller, Poll, Wake, Waker};

use futures::Stream;
use heirloom_context::Binding;

/// A count for ordinary runs, divided by at least a hundred where an interpreter runs the tests.
pub(crate) fn count(ordinary: usize) -> usize {
    if cfg!(miri) { (ordinary / 200).max(3) } else { ordinary }
}

/// How many random cases a property is tried with, unless `PROPTEST_CASES` says otherwise.
pub(crate) fn cases(ordinary: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    asked.unwrap_or(if cfg!(miri) { 2 } else { ordinary })
}

/// Runs `f` on a thread of its own, so that it starts from an empty root context, and passes a
/// panic on.
pub(crate) fn on_a_fresh_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| join(scope.spawn(f)))
}

/// Runs `f` on a thread whose stack has `bytes` bytes.
pub(crate) fn on_a_stack_of<R: Send>(bytes: usize, f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        join(std::thread::Builder::new().stack_size(bytes).spawn_scoped(scope, f).expect("a thread"))
    })
}

fn join<R>(handle: std::thread::ScopedJoinHandle<'_, R>) -> R {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs `f`, which must panic with a string, and returns that string. The panic prints nothing: `f`
/// unwinds by [`quiet_panic`].
pub(crate) fn caught<R>(f: impl FnOnce() -> R) -> &'static str {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(_) => panic!("a panic was expected"),
        Err(payload) => payload.downcast_ref::<&'static str>().copied().unwrap_or("another panic"),
    }
}

/// Runs `f`, which must panic with a text, and returns that text. What the panic hook prints goes
/// where the test's output goes.
pub(crate) fn panic_text<R>(f: impl FnOnce() -> R) -> String {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(_) => panic!("a panic was expected"),
        Err(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload.downcast_ref::<&'static str>().expect("a panic with a text").to_string(),
        },
    }
}

/// Unwinds without calling the panic hook.
pub(crate) fn quiet_panic(message: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(message))
}

/// Counts the values that were made and the values that were dropped.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    counts: Arc<(AtomicUsize, AtomicUsize)>,
}

/// A value that is counted by a [`Ledger`]; a clone counts as another value.
pub(crate) struct Probe {
    ledger: Ledger,
    pub(crate) id: u32,
}

impl Ledger {
    pub(crate) fn new() -> Ledger {
        Ledger::default()
    }

    pub(crate) fn probe(&self, id: u32) -> Probe {
        self.counts.0.fetch_add(1, Ordering::SeqCst);
        Probe { ledger: self.clone(), id }
    }

    pub(crate) fn made(&self) -> usize {
        self.counts.0.load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.counts.1.load(Ordering::SeqCst)
    }

    pub(crate) fn alive(&self) -> usize {
        self.made() - self.dropped()
    }
}

impl Clone for Probe {
    fn clone(&self) -> Probe {
        self.ledger.probe(self.id)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.ledger.counts.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// Calls a closure when it is dropped.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A log that many threads append to.
pub(crate) struct Log<T> {
    lines: Arc<Mutex<Vec<T>>>,
}

impl<T> Log<T> {
    pub(crate) fn new() -> Log<T> {
        Log { lines: Arc::new(Mutex::new(Vec::new())) }
    }

    pub(crate) fn push(&self, line: T) {
        self.lines.lock().unwrap().push(line);
    }

    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Log<T> {
        Log { lines: self.lines.clone() }
    }
}

struct Parker {
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.wake.notify_one();
    }
}

/// Polls `future` on this thread until it is ready. It knows nothing of contexts: what the future
/// sets lands in the context that is current here.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let parker = Arc::new(Parker { woken: Mutex::new(false), wake: Condvar::new() });
    let waker = Waker::from(parker.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Poller::from_waker(&waker)) {
            return output;
        }
        let mut woken = parker.woken.lock().unwrap();
        while !*woken {
            woken = parker.wake.wait(woken).unwrap();
        }
        *woken = false;
    }
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Poller::from_waker(Waker::noop()))
}

/// Forgets a guard: it is never dropped. It stays in a static, where a search for leaks finds what
/// the guard refers to.
pub(crate) fn forget(guard: Binding) {
    static FORGOTTEN: Mutex<Vec<Binding>> = Mutex::new(Vec::new());
    FORGOTTEN.lock().unwrap().push(guard);
}

/// Polls a stream once, with a waker that does nothing.
pub(crate) fn poll_next_once<S: Stream + ?Sized>(stream: Pin<&mut S>) -> Poll<Option<S::Item>> {
    stream.poll_next(&mut Poller::from_waker(Waker::noop()))
}

/// Takes the next item of a stream that is ready.
pub(crate) fn next_of<S: Stream + ?Sized>(stream: &mut Pin<Box<S>>) -> Option<S::Item> {
    match poll_next_once(stream.as_mut()) {
        Poll::Ready(item) => item,
        Poll::Pending => panic!("the stream should have been ready"),
    }
}

/// Pending once, woken at once, then ready.
pub(crate) fn yield_once() -> impl Future<Output = ()> + Send {
    let mut yielded = false;
    std::future::poll_fn(move |poller| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        poller.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Never ready; it is there to be dropped.
pub(crate) fn never() -> impl Future<Output = ()> + Send {
    std::future::pending()
}

/// A door that futures wait at until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    state: Arc<Mutex<(bool, Vec<Waker>)>>,
}

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate::default()
    }

    pub(crate) fn open(&self) {
        let wakers = {
            let mut state = self.state.lock().unwrap();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn opened(&self) -> impl Future<Output = ()> + Send + use<> {
        let state = self.state.clone();
        std::future::poll_fn(move |poller| {
            let mut state = state.lock().unwrap();
            if state.0 {
                return Poll::Ready(());
            }
            state.1.push(poller.waker().clone());
            Poll::Pending
        })
    }
}

/// What a generator's body hands its items to.
pub(crate) struct Emitter<T> {
    slot: Arc<Mutex<VecDeque<T>>>,
}

impl<T> Emitter<T> {
    /// Hands `item` to the consumer and goes on at the consumer's next step.
    pub(crate) async fn emit(&self, item: T) {
        self.slot.lock().unwrap().push_back(item);
        let mut suspended = false;
        // No waker: the stream is ready with an item, and the next step polls it again.
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut suspended, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A stream written as an async block.
pub(crate) struct Generator<T> {
    slot: Arc<Mutex<VecDeque<T>>>,
    body: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// A generator, *plain*: its body runs in the context of the code that asks for the next item.
pub(crate) fn generator<T, F>(body: impl FnOnce(Emitter<T>) -> F) -> Generator<T>
where
    F: Future<Output = ()> + Send + 'static,
{
    let slot = Arc::new(Mutex::new(VecDeque::new()));
    let body = body(Emitter { slot: slot.clone() });
    Generator { slot, body: Some(Box::pin(body)) }
}

impl<T> Stream for Generator<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Option<T>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let ended = body.as_mut().poll(poller).is_ready();
        if ended {
            self.body = None;
        }
        match self.slot.lock().unwrap().pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// A waker that counts how often it was woken.
#[derive(Default)]
pub(crate) struct CountingWaker {
    wakes: AtomicUsize,
}

impl CountingWaker {
    pub(crate) fn new() -> Arc<CountingWaker> {
        Arc::default()
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

/// A small generator of pseudo-random numbers (xorshift), the same in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
