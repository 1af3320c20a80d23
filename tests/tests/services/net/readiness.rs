//! Which waiter is told of what: events against waiters, waiters against each other, and readiness
//! that is known or not.

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Poller, Waker};
use std::time::{Duration, Instant};

use futures::io::{AsyncRead, AsyncWrite};
use futures::{AsyncReadExt, AsyncWriteExt};
use heirloom::net::{TcpStream, UdpSocket, UnixStream};
use heirloom::{Runtime, sleep, spawn, yield_now};
use heirloom_tests::{
    CountingWaker, Fault, MARK, PATIENCE, cpu_time, idle, in_a_worker, naps, poll_with, run, scaled,
    threads_named, wait_until, watchdog,
};

use super::{half_std, pair, ready};

/// Polls for one byte with this waker.
fn poll_read(stream: &TcpStream, waker: &Waker) -> std::task::Poll<std::io::Result<usize>> {
    let mut stream = stream;
    Pin::new(&mut stream).poll_read(&mut Poller::from_waker(waker), &mut [0])
}

#[test]
fn what_came_before_the_registration_is_not_missed() {
    run(1, || async {
        for _ in 0..scaled(100) {
            let (here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
            there.write_all(b"early").unwrap();
            let mut here = UnixStream::try_from(here).unwrap();
            assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 5);
            // So is the end.
            drop(there);
            assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 0);
        }
    });
}

#[test]
fn an_event_that_races_with_the_registration_or_the_wait_is_not_missed() {
    run(2, || async {
        for round in 0..scaled(500) {
            let (here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
            let start = Arc::new(std::sync::Barrier::new(2));
            let writer = std::thread::spawn({
                let start = start.clone();
                move || {
                    start.wait();
                    there.write_all(b"x").unwrap();
                    there
                }
            });
            let mut here = if round % 2 == 0 {
                start.wait();
                UnixStream::try_from(here).unwrap()
            } else {
                let here = UnixStream::try_from(here).unwrap();
                start.wait();
                here
            };
            assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 1);
            drop(writer.join().unwrap());
        }
    });
}

#[test]
fn a_stream_is_armed_again_after_each_event() {
    run(1, || async {
        let (here, mut there) = half_std().await;
        for round in 1..=scaled(100) {
            let (waker, counts) = CountingWaker::create(Fault::None);
            assert!(poll_read(&here, &waker).is_pending());
            there.write_all(b"x").unwrap();
            assert!(wait_until(|| counts.wakes() > 0), "round {round}");
            assert_eq!(ready(poll_read(&here, &waker)).unwrap(), 1);
        }
    });
}

#[test]
fn only_the_last_waker_of_a_reader_is_needed() {
    run(1, || async {
        let (here, mut there) = half_std().await;
        let (first, first_counts) = CountingWaker::create(Fault::None);
        let (last, last_counts) = CountingWaker::create(Fault::None);
        assert!(poll_read(&here, &first).is_pending());
        assert!(poll_read(&here, &last).is_pending());
        drop(first);
        assert!(first_counts.is_gone());
        there.write_all(b"x").unwrap();
        assert!(wait_until(|| last_counts.wakes() > 0));
        assert_eq!(first_counts.wakes(), 0);
        assert_eq!(ready(poll_read(&here, &last)).unwrap(), 1);
    });
}

#[test]
fn a_reader_and_a_writer_do_not_take_each_others_place() {
    run(1, || async {
        let (here, mut there) = UnixStream::pair().unwrap();
        let (reader, reads) = CountingWaker::create(Fault::None);
        let (writer, writes) = CountingWaker::create(Fault::None);
        here.writable().await.unwrap();
        let mut full = &here;
        let block = [0; 1 << 16];
        let mut written = 0;
        while let std::task::Poll::Ready(count) =
            Pin::new(&mut full).poll_write(&mut Poller::from_waker(&writer), &block)
        {
            written += count.unwrap();
        }
        assert!(written > 0);
        let mut empty = &here;
        assert!(Pin::new(&mut empty).poll_read(&mut Poller::from_waker(&reader), &mut [0]).is_pending());

        there.write_all(b"x").await.unwrap();
        assert!(wait_until(|| reads.wakes() > 0));
        assert!(Pin::new(&mut full).poll_write(&mut Poller::from_waker(&writer), &block).is_pending());
        there.read_exact(&mut vec![0; written]).await.unwrap();
        assert!(wait_until(|| writes.wakes() > 0));
        assert!(ready(Pin::new(&mut empty).poll_read(&mut Poller::from_waker(&reader), &mut [0])).is_ok());
    });
}

/// Two wait, one of them gives up: before the event, or after it was woken and before it could act
/// on it.
#[test]
fn a_waiter_that_gives_up_takes_no_event_with_it() {
    run(1, || async {
        for woken in [false, true] {
            for first_stays in [false, true] {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let (mut one, mut two) = ([0; 8], [0; 8]);
                let mut waits = [Box::pin(socket.recv(&mut one)), Box::pin(socket.recv(&mut two))];
                let wakers = [(); 2].map(|()| CountingWaker::create(Fault::None));
                for (wait, (waker, _)) in waits.iter_mut().zip(&wakers) {
                    assert!(poll_with(wait, waker).is_pending());
                }
                let (stays, goes) = if first_stays { (0, 1) } else { (1, 0) };
                let mut waits = waits.map(Some);
                if !woken {
                    waits[goes] = None;
                }
                other.send_to(b"one", socket.local_addr().unwrap()).await.unwrap();
                if woken {
                    assert!(wait_until(|| wakers.iter().any(|(_, counts)| counts.wakes() > 0)));
                    waits[goes] = None;
                }
                let (waker, counts) = &wakers[stays];
                assert!(wait_until(|| counts.wakes() > 0), "woken: {woken}, first stays: {first_stays}");
                assert_eq!(ready(poll_with(waits[stays].as_mut().unwrap(), waker)).unwrap(), 3);
                drop(waits);
                // Nothing is left of either.
                for (waker, counts) in wakers {
                    drop(waker);
                    assert!(counts.is_gone());
                }
            }
        }
    });
}

/// The one that finds nothing waits on, and is served by the next event.
#[test]
fn of_two_waiters_one_is_served_per_event() {
    run(1, || async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        for _ in 0..scaled(50) {
            let (mut one, mut two) = ([0; 8], [0; 8]);
            let mut first = Box::pin(socket.recv(&mut one));
            let mut second = Box::pin(socket.recv(&mut two));
            let (waker, counts) = CountingWaker::create(Fault::None);
            let (again, again_counts) = CountingWaker::create(Fault::None);
            assert!(poll_with(&mut first, &waker).is_pending());
            assert!(poll_with(&mut second, &waker).is_pending());
            other.send_to(b"one", address).await.unwrap();
            assert!(wait_until(|| counts.wakes() > 0));
            assert_eq!(ready(poll_with(&mut first, &waker)).unwrap(), 3);
            assert!(poll_with(&mut second, &again).is_pending());
            other.send_to(b"two", address).await.unwrap();
            assert!(wait_until(|| again_counts.wakes() > 0));
            assert_eq!(ready(poll_with(&mut second, &again)).unwrap(), 3);
        }
    });
}

#[test]
fn a_waiter_that_is_polled_with_another_waker_is_woken_by_that() {
    run(1, || async {
        let (here, mut there) = half_std().await;
        let mut buffer = [0; 4];
        let mut wait = Box::pin(here.peek(&mut buffer));
        let (first, first_counts) = CountingWaker::create(Fault::None);
        let (last, last_counts) = CountingWaker::create(Fault::None);
        assert!(poll_with(&mut wait, &first).is_pending());
        assert!(poll_with(&mut wait, &last).is_pending());
        there.write_all(b"x").unwrap();
        assert!(wait_until(|| last_counts.wakes() > 0));
        assert_eq!(first_counts.wakes(), 0);
        assert_eq!(ready(poll_with(&mut wait, &last)).unwrap(), 1);
    });
}

/// A reader by the I/O traits, one that peeks, and one that only wants to know.
#[test]
fn waiters_of_all_kinds_are_woken_by_one_event() {
    run(1, || async {
        let (here, mut there) = half_std().await;
        let mut buffer = [0; 4];
        let mut peek = Box::pin(here.peek(&mut buffer));
        let mut readable = Box::pin(here.readable());
        let counted = [(); 3].map(|()| CountingWaker::create(Fault::None));
        assert!(poll_with(&mut peek, &counted[0].0).is_pending());
        assert!(poll_with(&mut readable, &counted[1].0).is_pending());
        assert!(poll_read(&here, &counted[2].0).is_pending());
        there.write_all(b"x").unwrap();
        assert!(wait_until(|| counted.iter().all(|(_, counts)| counts.wakes() > 0)));
        assert_eq!(ready(poll_with(&mut peek, &counted[0].0)).unwrap(), 1);
        ready(poll_with(&mut readable, &counted[1].0)).unwrap();
        assert_eq!(ready(poll_read(&here, &counted[2].0)).unwrap(), 1);
    });
}

#[test]
fn trying_does_not_wait_and_waiting_does_not_take() {
    run(1, || async {
        let (here, mut there) = half_std().await;
        let mut buffer = [0; 4];
        here.writable().await.unwrap();
        assert_eq!(here.try_write(b"ping").unwrap(), 4);
        assert_eq!(here.try_read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        there.write_all(b"pong").unwrap();
        for _ in 0..3 {
            here.readable().await.unwrap();
        }
        assert_eq!(here.try_read(&mut buffer).unwrap(), 4);
        assert_eq!(here.try_read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        there.read_exact(&mut buffer).unwrap();
        // It knows that it is not: there is nothing to be told of.
        let (waker, counts) = CountingWaker::create(Fault::None);
        let mut readable = Box::pin(here.readable());
        assert!(poll_with(&mut readable, &waker).is_pending());
        drop(there);
        assert!(wait_until(|| counts.wakes() > 0));
        readable.await.unwrap();
        assert_eq!(here.try_read(&mut buffer).unwrap(), 0);
    });
}

#[test]
fn a_socket_that_is_always_ready_starves_no_task() {
    in_a_worker(1, async {
        let (here, mut there) = half_std().await;
        there.write_all(b"x").unwrap();
        let seen = Arc::new(AtomicBool::new(false));
        let busy = spawn({
            let seen = seen.clone();
            async move {
                // There is always something to read, and it stays unread.
                while !seen.load(Ordering::SeqCst) {
                    here.readable().await.unwrap();
                    assert_eq!(here.peek(&mut [0; 4]).await.unwrap(), 1);
                }
            }
        });
        spawn(async move { seen.store(true, Ordering::SeqCst) }).await.unwrap();
        busy.await.unwrap();
    });
}

#[test]
fn sockets_are_served_while_every_worker_is_busy_with_tasks() {
    run(2, || async {
        let done = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..8)
            .map(|_| {
                let done = done.clone();
                spawn(async move {
                    while !done.load(Ordering::SeqCst) {
                        yield_now().await;
                    }
                })
            })
            .collect();
        let (mut here, there) = pair().await;
        let server = spawn(super::echo(there));
        let client = spawn(async move {
            let mut buffer = [0; 5];
            for _ in 0..scaled(100) {
                here.write_all(b"hello").await.unwrap();
                here.read_exact(&mut buffer).await.unwrap();
            }
        });
        client.await.unwrap();
        server.await.unwrap().unwrap();
        done.store(true, Ordering::SeqCst);
        for task in busy {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_task_that_waited_for_a_socket_is_in_its_own_context() {
    run(2, || async {
        let tasks: Vec<_> = (0..scaled(32) as u64)
            .map(|number| {
                spawn(async move {
                    MARK.set(number);
                    let (mut here, mut there) = UnixStream::pair().unwrap();
                    let far = spawn(async move {
                        let mut buffer = [0; 8];
                        for _ in 0..scaled(100) {
                            there.read_exact(&mut buffer).await.unwrap();
                            assert_eq!(MARK.get(), Some(u64::from_le_bytes(buffer)));
                            there.write_all(&buffer).await.unwrap();
                        }
                    });
                    for _ in 0..scaled(100) {
                        here.write_all(&number.to_le_bytes()).await.unwrap();
                        here.read_exact(&mut [0; 8]).await.unwrap();
                        assert_eq!(MARK.get(), Some(number));
                    }
                    far.await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_worker_that_sleeps_among_sockets_is_woken_by_tasks_and_by_earlier_timers() {
    run(1, || async {
        let (here, mut there) = half_std().await;
        let socket = spawn(async move { here.peek(&mut [0; 4]).await });
        let far = spawn(sleep(Duration::from_secs(3_600)));
        for round in 0..scaled(100) {
            let before = Instant::now();
            spawn(async {}).await.unwrap();
            spawn(sleep(Duration::from_millis(1))).await.unwrap();
            assert!(before.elapsed() < Duration::from_secs(10), "round {round}");
        }
        assert!(!socket.is_finished());
        there.write_all(b"x").unwrap();
        assert_eq!(socket.await.unwrap().unwrap(), 1);
        drop(far);
    });
}

/// Those that are ready and unused included.
#[test]
fn idle_sockets_use_no_cpu() {
    const NAME: &str = "idle-net";
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(2).thread_name(NAME).build().unwrap();
        let (here, mut there) = runtime.block_on(half_std());
        let listener = runtime.block_on(super::listener());
        let _queued = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let waits = runtime.spawn({
            let (here, _far) = runtime.block_on(async { UnixStream::pair().unwrap() });
            async move {
                let _far = _far;
                (&here).read(&mut [0; 4]).await
            }
        });
        there.write_all(b"stays unread").unwrap();
        idle(&runtime);
        // Workers that search give up by themselves, soon.
        std::thread::sleep(Duration::from_millis(50));
        let (Some(before), Some(naps_before)) = (cpu_time(NAME), naps(NAME)) else { return };
        assert!(threads_named(NAME).unwrap_or(0) >= 2, "the workers are to be found by their name");
        std::thread::sleep(Duration::from_secs(1));
        let used = cpu_time(NAME).expect("as before").saturating_sub(before);
        assert!(used <= Duration::from_millis(20), "{used:?} in a second");
        let woken = naps(NAME).expect("as before") - naps_before;
        assert!(woken <= 2, "threads that had nothing to do got up {woken} times in a second");
        drop((waits, here));
    });
}

/// Nothing may be called under a lock: the waker uses the socket it is woken for.
#[test]
fn a_waker_may_use_the_socket() {
    struct Uses(Arc<TcpStream>, std::sync::mpsc::Sender<std::io::Result<usize>>);
    impl std::task::Wake for Uses {
        fn wake(self: Arc<Self>) {
            let mut waits = Box::pin(self.0.readable());
            let _ = waits.as_mut().poll(&mut Poller::from_waker(Waker::noop()));
            let _ = self.1.send(self.0.try_read(&mut [0; 4]));
        }
    }
    run(1, || async {
        let (here, mut there) = half_std().await;
        let here = Arc::new(here);
        let (send, receive) = std::sync::mpsc::channel();
        let waker = Waker::from(Arc::new(Uses(here.clone(), send)));
        assert!(poll_read(&here, &waker).is_pending());
        there.write_all(b"x").unwrap();
        assert_eq!(receive.recv().unwrap().unwrap(), 1);
    });
}

#[test]
fn a_waker_that_panics_harms_no_other_socket() {
    run(1, || async {
        let (here, mut there) = half_std().await;
        let (next, mut next_there) = half_std().await;
        let (bad, bad_counts) = CountingWaker::create(Fault::Wake);
        let (good, good_counts) = CountingWaker::create(Fault::None);
        let mut buffer = [0; 4];
        let mut peek = Box::pin(here.peek(&mut buffer));
        assert!(poll_with(&mut peek, &good).is_pending());
        assert!(poll_read(&here, &bad).is_pending());
        there.write_all(b"x").unwrap();
        assert!(wait_until(|| bad_counts.wakes() > 0 && good_counts.wakes() > 0));
        next_there.write_all(b"x").unwrap();
        assert_eq!(next.peek(&mut [0; 4]).await.unwrap(), 1);
    });
}

/// The kind: a call of one's own, of which the socket does not learn that it would block.
#[test]
fn a_system_call_of_ones_own_takes_readiness_back() {
    use heirloom::net::Direction;
    use rustix::net::{RecvFlags, SendFlags, recv, send};

    run(1, || async {
        macro_rules! check {
            ($here:ident, $there:ident) => {
                send(&$there, b"ping", SendFlags::empty()).unwrap();
                $here.readable().await.unwrap();
                let mut buffer = [0; 8];
                let mut calls = 0;
                let mut attempt = || {
                    calls += 1;
                    match calls {
                        1 => Err(ErrorKind::Interrupted.into()),
                        _ => Ok(recv(&$here, &mut buffer, RecvFlags::empty())?.1),
                    }
                };
                assert_eq!($here.try_io(Direction::Read, &mut attempt).unwrap(), 4);
                let error = $here.try_io(Direction::Read, &mut attempt).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                // That is known now.
                let error = $here.try_io(Direction::Read, &mut attempt).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert_eq!(calls, 3);
                let (waker, counts) = CountingWaker::create(Fault::None);
                let mut readable = Box::pin($here.readable());
                assert!(poll_with(&mut readable, &waker).is_pending());
                // The other direction is another matter, and so is another error.
                let error =
                    $here.try_io::<()>(Direction::Write, || Err(ErrorKind::NotFound.into())).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotFound);
                $here.writable().await.unwrap();
                send(&$there, b"pong", SendFlags::empty()).unwrap();
                assert!(wait_until(|| counts.wakes() > 0));
                ready(poll_with(&mut readable, &waker)).unwrap();
            };
        }
        let (here, there) = half_std().await;
        here.writable().await.unwrap();
        check!(here, there);
        let (here, there) = UnixStream::pair().unwrap();
        here.writable().await.unwrap();
        check!(here, there);
        let here = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        there.connect(here.local_addr().unwrap()).await.unwrap();
        here.writable().await.unwrap();
        check!(here, there);
    });
}
