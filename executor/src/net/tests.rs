//! The driver of a runtime whose workers park in its poll.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use mio::net::UnixStream;

use super::registration::{Direction, Registration};
use crate::{Runtime, spawn, wait_for};

type Socket = Registration<UnixStream>;

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn pair() -> (Socket, Socket) {
    let (a, b) = UnixStream::pair().unwrap();
    (Registration::new(a).unwrap(), Registration::new(b).unwrap())
}

async fn read(socket: &Socket) -> io::Result<u8> {
    let mut byte = [0];
    let count = socket.io(Direction::Read, |mut stream| stream.read(&mut byte)).await?;
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(byte[0]) }
}

async fn write(socket: &Socket, byte: u8) {
    let count = socket.io(Direction::Write, |mut stream| stream.write(&[byte])).await.unwrap();
    assert_eq!(count, 1);
}

#[test]
fn a_byte_goes_to_and_fro() {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        let task = runtime.spawn(async {
            let (a, b) = pair();
            let echo = spawn(async move {
                while let Ok(byte) = read(&b).await {
                    write(&b, byte.wrapping_add(1)).await;
                }
            });
            let mut byte = 0;
            for round in 0..1000_u32 {
                assert_eq!(u32::from(byte), round & 0xFF);
                write(&a, byte).await;
                byte = read(&a).await.unwrap();
            }
            drop(a);
            echo.await.unwrap();
        });
        runtime.block_on(task).unwrap();
        assert_eq!(runtime.handle().shared().driver().unwrap().len(), 0, "a source is left");
    }
}

#[test]
fn the_first_source_finds_workers_that_sleep_elsewhere() {
    let runtime = runtime(2);
    runtime.wait_until_idle();
    // No worker is in the poll, which does not exist yet, and this thread is no worker.
    runtime.block_on(async {
        let (a, b) = pair();
        write(&a, 7).await;
        assert_eq!(read(&b).await.unwrap(), 7);
    });
}

#[test]
fn a_worker_in_the_poll_wakes_for_tasks_and_for_timers() {
    let runtime = runtime(1);
    let (_a, b) = runtime.block_on(async { pair() });
    let waits = runtime.spawn(async move { read(&b).await });
    for round in 0..100 {
        runtime.wait_until_idle();
        assert_eq!(runtime.block_on(runtime.spawn(async move { round })).unwrap(), round);
        runtime.wait_until_idle();
        runtime.block_on(crate::sleep(Duration::from_millis(1)));
    }
    assert!(!waits.is_finished());
}

#[test]
fn another_worker_polls_while_one_is_blocked() {
    let runtime = runtime(2);
    let done = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let (a, b) = pair();
        let (c, d) = pair();
        // Blocks the worker that receives the first event until another worker has received the
        // second.
        let blocks = Arc::clone(&done);
        let slow = spawn(async move {
            read(&b).await.unwrap();
            write(&c, 1).await;
            let begun = Instant::now();
            while !blocks.load(SeqCst) {
                assert!(begun.elapsed() < Duration::from_secs(30), "no worker has received the event");
                std::thread::yield_now();
            }
        });
        let done = Arc::clone(&done);
        let quick = spawn(async move {
            read(&d).await.unwrap();
            done.store(true, SeqCst);
        });
        runtime.wait_until_idle();
        write(&a, 1).await;
        slow.await.unwrap();
        quick.await.unwrap();
    });
}

#[test]
fn events_come_through_a_storm_of_tasks_that_yield() {
    let runtime = runtime(2);
    let over = Arc::new(AtomicBool::new(false));
    for _ in 0..10 {
        let over = Arc::clone(&over);
        let storm = async move {
            while !over.load(SeqCst) {
                crate::yield_now().await;
            }
        };
        runtime.spawn(storm).detach();
    }
    let task = runtime.spawn(async {
        let (a, b) = pair();
        for byte in 0..100 {
            write(&a, byte).await;
            assert_eq!(wait_for(read(&b), Duration::from_secs(30)).await.unwrap().unwrap(), byte);
        }
    });
    runtime.block_on(task).unwrap();
    over.store(true, SeqCst);
}

#[test]
fn a_removed_sources_events_do_not_reach_the_next_one_under_its_key() {
    let runtime = runtime(2);
    runtime.block_on(async {
        for _ in 0..1000 {
            let (a, b) = pair();
            let (c, d) = pair();
            write(&a, 1).await;
            // The event of `b` is on its way, or has come.
            drop(b);
            let (e, f) = pair();
            assert_eq!(
                f.try_io(Direction::Read, |mut stream| stream.read(&mut [0])).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
            drop((a, c, d, e, f));
        }
    });
    assert_eq!(runtime.handle().shared().driver().unwrap().len(), 0);
}

#[test]
fn two_wait_for_one_source_and_both_are_woken() {
    let runtime = runtime(2);
    runtime.block_on(async {
        let (a, b) = pair();
        let b = Arc::new(b);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let b = Arc::clone(&b);
                spawn(async move { read(&b).await.unwrap() })
            })
            .collect();
        // A third reader is dropped while it waits.
        let gone = Arc::clone(&b);
        assert!(wait_for(async move { read(&gone).await }, Duration::from_millis(1)).await.is_err());
        runtime.wait_until_idle();
        write(&a, 1).await;
        write(&a, 2).await;
        let mut bytes = Vec::new();
        for reader in readers {
            bytes.push(reader.await.unwrap());
        }
        bytes.sort_unstable();
        assert_eq!(bytes, [1, 2]);
    });
}

#[test]
fn an_event_wakes_the_latest_waker_of_a_direction() {
    let runtime = runtime(2);
    runtime.block_on(async {
        let (a, b) = pair();
        let b = Arc::new(b);
        let first = Arc::clone(&b);
        let poll = move |socket: &Socket, cx: &mut std::task::Context<'_>| {
            socket.poll_io(cx, "read", Direction::Read, |mut stream| stream.read(&mut [0]))
        };
        poll_fn(|cx| {
            assert!(poll(&first, cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        let second = spawn(async move { poll_fn(|cx| poll(&b, cx)).await.unwrap() });
        runtime.wait_until_idle();
        write(&a, 1).await;
        assert_eq!(second.await.unwrap(), 1);
    });
}

#[test]
fn a_task_that_waits_when_the_runtime_ends_gets_an_error() {
    let runtime = runtime(2);
    let (_a, b) = runtime.block_on(async { pair() });
    let barrier = Arc::new(Barrier::new(2));
    let waits = {
        let barrier = Arc::clone(&barrier);
        std::thread::spawn(move || {
            crate::block_on(async {
                let mut reading = std::pin::pin!(read(&b));
                poll_fn(|cx| {
                    assert!(reading.as_mut().poll(cx).is_pending());
                    std::task::Poll::Ready(())
                })
                .await;
                barrier.wait();
                reading.await.unwrap_err()
            })
        })
    };
    barrier.wait();
    let handle = runtime.handle().clone();
    drop(runtime);
    assert!(waits.join().unwrap().to_string().contains("ended"));
    // A later operation gets it, too.
    let (a, _b) = handle.block_on(async { pair() });
    let error = handle.block_on(read(&a)).unwrap_err();
    assert!(error.to_string().contains("ended"));
}

/// The end wakes a worker that is about to sleep in the poll, while another worker, which has just
/// received the last events, polls too.
#[test]
fn a_busy_runtime_ends() {
    for _ in 0..1000 {
        let runtime = runtime(2);
        let ends: Vec<UnixStream> = runtime.block_on(async {
            let ends = (0..32).map(|_| {
                let (end, other) = UnixStream::pair().unwrap();
                let socket = Registration::new(other).unwrap();
                spawn(async move { while read(&socket).await.is_ok() {} }).detach();
                end
            });
            ends.collect()
        });
        drop(ends);
        drop(runtime);
    }
}

#[test]
fn thousands_of_sources() {
    let runtime = runtime(2);
    let task = runtime.spawn(async {
        let pairs: Vec<_> = (0..1000).map(|_| pair()).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let echoes: Vec<_> = theirs
            .into_iter()
            .map(|socket| {
                spawn(async move {
                    let byte = read(&socket).await.unwrap();
                    write(&socket, byte).await;
                })
            })
            .collect();
        for (number, socket) in ours.iter().enumerate().rev() {
            write(socket, number as u8).await;
        }
        for (number, socket) in ours.iter().enumerate() {
            assert_eq!(read(socket).await.unwrap(), number as u8);
        }
        for echo in echoes {
            echo.await.unwrap();
        }
    });
    runtime.block_on(task).unwrap();
}

/// How many system calls a message costs. A read that leaves room need not try again. A read that
/// fills its buffer must, because no event tells of bytes that were there before.
#[test]
fn a_read_that_leaves_room_costs_one_call() {
    runtime(1).block_on(async {
        for (room, calls_each) in [(0, 2), (1, 1)] {
            let (a, b) = pair();
            let mut buffer = vec![0; 1 << 12 | room];
            let mut calls = 0;
            let mut read = poll_fn(|cx| {
                b.poll_transfer(cx, Direction::Read, buffer.len(), |mut stream| {
                    calls += 1;
                    stream.read(&mut buffer)
                })
            });
            assert!(futures::poll!(&mut read).is_pending());
            for _ in 0..100 {
                let sent = a.io(Direction::Write, |mut stream| stream.write(&[7; 1 << 12])).await;
                assert_eq!(sent.unwrap(), 1 << 12);
                assert_eq!((&mut read).await.unwrap(), 1 << 12);
                assert!(futures::poll!(&mut read).is_pending());
            }
            drop(read);
            assert!(
                calls <= calls_each * 100 + 1,
                "{calls} calls for 100 messages with {room} bytes to spare"
            );
        }
    });
}
