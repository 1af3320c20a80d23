//! Every interleaving of an operation that waits with events, and twins that must fail.

use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use loom::thread;

use super::readiness::{Change, Direction, Readiness, WaiterKey};
use crate::net::failure::StoredError;
use crate::util::sync::model::{check, check_without};
use crate::util::waker_set::WakeCount;

/// A socket that has received `bytes` bytes.
struct Socket {
    readiness: Readiness,
    bytes: AtomicUsize,
}

impl Socket {
    fn new() -> Arc<Socket> {
        Arc::new(Socket { readiness: Readiness::new(), bytes: AtomicUsize::new(0) })
    }

    /// A byte arrives, and the driver receives the event.
    fn receive(&self) {
        self.bytes.fetch_add(1, Relaxed);
        self.record_and_wake(Change::new(true, false, false, false));
    }

    fn record_and_wake(&self, change: Change) {
        let mut wakers = Vec::new();
        self.readiness.record(change, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes a byte, or waits for one.
    fn read(&self, waker: &Waker, mut key: Option<&mut WaiterKey>) -> Poll<()> {
        loop {
            let polled = match key.as_deref_mut() {
                None => self.readiness.poll(Direction::Read, waker),
                Some(key) => self.readiness.poll_shared(Direction::Read, waker, key),
            };
            let Poll::Ready(observed) = polled else { return Poll::Pending };
            if observed.has_ended()
                || self.bytes.fetch_update(Relaxed, Relaxed, |bytes| bytes.checked_sub(1)).is_ok()
            {
                return Poll::Ready(());
            }
            self.readiness.would_block(Direction::Read, observed);
        }
    }
}

/// A task reads while the driver receives an event.
fn read_during(socket: &Arc<Socket>, event: fn(&Socket)) {
    let poll = {
        let socket = Arc::clone(socket);
        thread::spawn(move || event(&socket))
    };
    let count = Arc::new(WakeCount::default());
    let pending = socket.read(&Waker::from(Arc::clone(&count)), None).is_pending();
    poll.join().unwrap();
    assert!(!pending || count.get() == 1, "no task is woken");
}

/// A byte arrives while a task waits for it.
fn wait_for_a_byte() {
    read_during(&Socket::new(), Socket::receive);
}

/// The first byte has been taken, which the word does not say yet. The second byte arrives
/// meanwhile.
fn wait_for_the_next_byte() {
    let socket = Socket::new();
    socket.receive();
    socket.bytes.store(0, Relaxed);
    read_during(&socket, Socket::receive);
}

/// Two tasks wait for a source. One waits no longer while the event comes: the other is woken.
fn two_wait_and_one_stops() {
    let socket = Socket::new();
    let (first, second) = (Arc::new(WakeCount::default()), Arc::new(WakeCount::default()));
    let mut keys = [WaiterKey::default(), WaiterKey::default()];
    let [a, b] = &mut keys;
    assert!(socket.read(&Waker::from(Arc::clone(&first)), Some(a)).is_pending());
    let poll = {
        let socket = Arc::clone(&socket);
        thread::spawn(move || socket.receive())
    };
    socket.readiness.remove_waiter(a);
    let pending = socket.read(&Waker::from(Arc::clone(&second)), Some(b)).is_pending();
    poll.join().unwrap();
    assert!(!pending || second.get() == 1, "no task is woken although there is a byte");
    socket.readiness.remove_waiter(b);
    assert_eq!(Arc::strong_count(&first) + Arc::strong_count(&second), 2, "a waker is kept");
}

/// Two tasks try at once what the word says is ready and is not. A byte arrives meanwhile: one of
/// them takes it, or both are woken.
fn two_try_at_once() {
    let socket = Socket::new();
    socket.receive();
    socket.bytes.store(0, Relaxed);
    let counts = [Arc::new(WakeCount::default()), Arc::new(WakeCount::default())];
    let poll = {
        let socket = Arc::clone(&socket);
        thread::spawn(move || socket.receive())
    };
    let other = {
        let (socket, count) = (Arc::clone(&socket), Arc::clone(&counts[1]));
        thread::spawn(move || socket.read(&Waker::from(count), Some(&mut WaiterKey::default())).is_pending())
    };
    let pending = socket.read(&Waker::from(Arc::clone(&counts[0])), Some(&mut WaiterKey::default()));
    let pending = pending.is_pending() & other.join().unwrap();
    poll.join().unwrap();
    assert!(!pending || counts.iter().all(|count| count.get() == 1), "no task is woken");
}

/// The driver ends while a task waits.
fn wait_for_the_end() {
    read_during(&Socket::new(), |socket| socket.record_and_wake(Change::ENDED));
}

/// A writer takes the error of a socket that was reset, while a reader finds nothing left.
fn read_beside_a_writer() {
    const RESET: i32 = 104;
    const BROKEN_PIPE: i32 = 32;
    let error = |code| Err(io::Error::from_raw_os_error(code));
    let shared = Arc::new((AtomicBool::new(true), StoredError::new()));
    let writer = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let (pending, stored) = &*shared;
            let send = || error(if pending.swap(false, Relaxed) { RESET } else { BROKEN_PIPE });
            stored.write::<usize>(send).unwrap_err();
        })
    };
    let (pending, stored) = &*shared;
    let received = if pending.swap(false, Relaxed) { error(RESET) } else { Ok(0) };
    let read = stored.read(received);
    writer.join().unwrap();
    assert!(read.is_err(), "a message that was cut off passes for a whole one");
}

#[test]
fn a_reset_that_a_writer_was_told_of_is_told_to_the_reader() {
    check(read_beside_a_writer);
}

#[test]
#[should_panic(expected = "passes for a whole one")]
fn twin_that_stores_the_reset_after_the_call_is_caught() {
    check_without("lock around the call", read_beside_a_writer);
}

#[test]
fn an_event_wakes_the_task_that_waits() {
    check(wait_for_a_byte);
}

#[test]
fn an_event_during_an_operation_is_kept() {
    check(wait_for_the_next_byte);
}

#[test]
fn one_of_two_waiters_may_stop() {
    check(two_wait_and_one_stops);
}

#[test]
fn an_event_during_two_operations_is_kept() {
    check(two_try_at_once);
}

#[test]
fn the_end_wakes_the_task_that_waits() {
    check(wait_for_the_end);
}

#[test]
#[should_panic(expected = "no task is woken")]
fn twin_without_the_second_observation_is_caught() {
    check_without("second observation", wait_for_a_byte);
}

#[test]
#[should_panic(expected = "no task is woken")]
fn twin_that_does_not_count_events_is_caught() {
    check_without("count of events", wait_for_the_next_byte);
}

#[test]
#[should_panic(expected = "no task is woken")]
fn twin_that_does_not_count_events_is_caught_with_two_operations() {
    check_without("count of events", two_try_at_once);
}
