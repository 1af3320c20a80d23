//! Every interleaving of an operation that waits with events, and twins that must fail.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Plain, Ordering::Relaxed as Any};
use std::task::{Poll, Wake, Waker};

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use loom::thread;

use super::readiness::{Change, Direction, Place, Readiness};
use crate::net::failure::Failure;
use crate::util::sync::model::{check, check_without};

#[derive(Default)]
struct Count(Plain);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Any);
    }
}

/// A socket that has received so many bytes.
struct Socket {
    readiness: Readiness,
    bytes: AtomicUsize,
}

impl Socket {
    fn new() -> Arc<Socket> {
        Arc::new(Socket { readiness: Readiness::new(), bytes: AtomicUsize::new(0) })
    }

    /// A byte comes in, and the poll hears of it.
    fn receive(&self) {
        self.bytes.fetch_add(1, Relaxed);
        self.hear(Change::new(true, false, false, false));
    }

    fn hear(&self, change: Change) {
        let mut wakers = Vec::new();
        self.readiness.note(change, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes a byte, or waits for one.
    fn read(&self, waker: &Waker, place: Option<&mut Place>) -> Poll<()> {
        let mut place = place;
        loop {
            let polled = match place.as_deref_mut() {
                None => self.readiness.poll(Direction::Read, waker),
                Some(place) => self.readiness.poll_shared(Direction::Read, waker, place),
            };
            let Poll::Ready(seen) = polled else { return Poll::Pending };
            if seen.has_ended()
                || self.bytes.fetch_update(Relaxed, Relaxed, |bytes| bytes.checked_sub(1)).is_ok()
            {
                return Poll::Ready(());
            }
            self.readiness.would_block(Direction::Read, seen);
        }
    }
}

/// A byte comes in while somebody waits for it.
fn wait_for_a_byte() {
    let socket = Socket::new();
    let poll = {
        let socket = Arc::clone(&socket);
        thread::spawn(move || socket.receive())
    };
    let count = Arc::new(Count::default());
    let pending = socket.read(&Waker::from(Arc::clone(&count)), None).is_pending();
    poll.join().unwrap();
    assert!(!pending || count.0.load(Any) == 1, "nobody is woken although there is a byte");
}

/// The first byte has been taken, which the word does not say yet; the second comes in meanwhile.
fn wait_for_the_next_byte() {
    let socket = Socket::new();
    socket.receive();
    socket.bytes.store(0, Relaxed);
    let poll = {
        let socket = Arc::clone(&socket);
        thread::spawn(move || socket.receive())
    };
    let count = Arc::new(Count::default());
    let pending = socket.read(&Waker::from(Arc::clone(&count)), None).is_pending();
    poll.join().unwrap();
    assert!(!pending || count.0.load(Any) == 1, "nobody is woken although there is a byte");
}

/// Two share a source; one gives up while the event comes: the other one is woken all the same.
fn two_wait_and_one_goes() {
    let socket = Socket::new();
    let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut places = [Place::default(), Place::default()];
    let [a, b] = &mut places;
    assert!(socket.read(&Waker::from(Arc::clone(&first)), Some(a)).is_pending());
    let poll = {
        let socket = Arc::clone(&socket);
        thread::spawn(move || socket.receive())
    };
    socket.readiness.forget(a);
    let pending = socket.read(&Waker::from(Arc::clone(&second)), Some(b)).is_pending();
    poll.join().unwrap();
    assert!(!pending || second.0.load(Any) == 1, "nobody is woken although there is a byte");
    socket.readiness.forget(b);
    assert_eq!(Arc::strong_count(&first) + Arc::strong_count(&second), 2, "a waker is kept");
}

/// The runtime ends while somebody waits.
fn wait_for_the_end() {
    let socket = Socket::new();
    let end = {
        let socket = Arc::clone(&socket);
        thread::spawn(move || socket.hear(Change::ENDED))
    };
    let count = Arc::new(Count::default());
    let pending = socket.read(&Waker::from(Arc::clone(&count)), None).is_pending();
    end.join().unwrap();
    assert!(!pending || count.0.load(Any) == 1, "somebody waits for ever");
}

/// A writer takes the error of a socket that was reset, while a reader finds nothing left.
fn read_beside_a_writer() {
    const RESET: i32 = 104;
    const BROKEN_PIPE: i32 = 32;
    let error = |code| Err(io::Error::from_raw_os_error(code));
    let shared = Arc::new((AtomicBool::new(true), Failure::new()));
    let writer = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let (pending, failure) = &*shared;
            let send = || error(if pending.swap(false, Relaxed) { RESET } else { BROKEN_PIPE });
            failure.write::<usize>(send).unwrap_err();
        })
    };
    let (pending, failure) = &*shared;
    let received = if pending.swap(false, Relaxed) { error(RESET) } else { Ok(0) };
    let read = failure.read(received);
    writer.join().unwrap();
    assert!(read.is_err(), "what was cut off passes for a whole");
}

#[test]
fn a_reset_that_a_writer_was_told_of_is_told_to_the_reader() {
    check(read_beside_a_writer);
}

#[test]
#[should_panic(expected = "passes for a whole")]
fn twin_that_notes_the_reset_after_the_call_is_caught() {
    check_without("lock around the call", read_beside_a_writer);
}

#[test]
fn an_event_is_seen_by_whoever_waits() {
    check(wait_for_a_byte);
}

#[test]
fn an_event_in_the_middle_of_an_operation_is_not_taken_back() {
    check(wait_for_the_next_byte);
}

#[test]
fn one_of_two_may_go() {
    check(two_wait_and_one_goes);
}

#[test]
fn the_end_is_seen_by_whoever_waits() {
    check(wait_for_the_end);
}

#[test]
#[should_panic(expected = "nobody is woken")]
fn twin_without_the_second_look_is_caught() {
    check_without("second look", wait_for_a_byte);
}

#[test]
#[should_panic(expected = "nobody is woken")]
fn twin_that_does_not_count_events_is_caught() {
    check_without("count of events", wait_for_the_next_byte);
}
