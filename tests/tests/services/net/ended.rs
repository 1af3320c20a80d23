//! Whose a socket is: other runtimes, plain threads, and runtimes that end before their sockets.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use heirloom::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use heirloom::{block_on, signal, spawn};
use heirloom_tests::{
    CountingWaker, Fault, Ledger, PATIENCE, idle, in_child, open_descriptors, poll_with, run, runtime,
    say_as_child, scaled, shut_down, wait_until, watchdog,
};

use super::{echo, listener, pair};

/// What is said after a socket's runtime has ended.
#[track_caller]
fn assert_ended<T>(result: io::Result<T>) {
    match result {
        Ok(_) => panic!("it is not ended"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Other, "{error}");
            assert!(error.to_string().contains("runtime"), "{error}");
        }
    }
}

#[test]
fn sockets_work_in_another_runtime_than_their_own() {
    watchdog(PATIENCE, || {
        let (home, abroad) = (runtime(1), runtime(2));
        let (here, there) = home.block_on(pair());
        let server = abroad.spawn(echo(there));
        let client = abroad.spawn(async move {
            let (mut read, mut write) = here.into_split();
            // One half here, one at home.
            let home = write.as_ref().local_addr();
            for _ in 0..scaled(100) {
                write.write_all(b"hello").await.unwrap();
                let mut buffer = [0; 5];
                read.read_exact(&mut buffer).await.unwrap();
                assert_eq!(&buffer, b"hello");
            }
            home
        });
        abroad.block_on(client).unwrap().unwrap();
        assert_eq!(abroad.block_on(server).unwrap().unwrap(), 5 * scaled(100) as u64);
    });
}

#[test]
fn sockets_work_on_plain_threads_and_under_other_executors() {
    watchdog(PATIENCE, || {
        // Without a runtime they belong to the default one.
        let listener = block_on(listener());
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            futures::executor::block_on(async {
                let (stream, _) = listener.accept().await?;
                echo(stream).await
            })
        });
        let client = std::thread::spawn(move || {
            block_on(async {
                let mut stream = TcpStream::connect(address).await?;
                for _ in 0..scaled(100) {
                    stream.write_all(b"hello").await?;
                    stream.read_exact(&mut [0; 5]).await?;
                }
                io::Result::Ok(())
            })
        });
        client.join().unwrap().unwrap();
        assert_eq!(server.join().unwrap().unwrap(), 5 * scaled(100) as u64);
    });
}

#[test]
fn a_task_that_waits_for_a_socket_learns_that_its_runtime_has_ended() {
    watchdog(PATIENCE, || {
        let home = runtime(2);
        let (listener, here, there, socket) = home.block_on(async {
            let (here, there) = pair().await;
            (listener().await, here, there, UdpSocket::bind("127.0.0.1:0").await.unwrap())
        });
        let (waker, counts) = CountingWaker::create(Fault::None);
        let (mut near, mut far) = ([0; 4], [0; 4]);
        let mut accept = Box::pin(listener.accept());
        let mut recv = Box::pin(socket.recv(&mut near));
        let mut peek = Box::pin(here.peek(&mut far));
        let mut reader = &here;
        let mut buffer = [0; 4];
        let mut read = reader.read(&mut buffer);
        assert!(poll_with(&mut accept, &waker).is_pending());
        assert!(poll_with(&mut recv, &waker).is_pending());
        assert!(poll_with(&mut peek, &waker).is_pending());
        assert!(poll_with(&mut read, &waker).is_pending());
        drop(home);
        assert!(wait_until(|| counts.wakes() >= 4), "{} of 4 were woken", counts.wakes());
        assert_ended(block_on(accept));
        assert_ended(block_on(recv));
        assert_ended(block_on(peek));
        assert_ended(block_on(read));
        // Also a task that comes late.
        assert_ended(block_on(here.readable()));
        assert_ended(block_on(here.writable()));
        assert_ended(block_on((&there).read(&mut [0; 4])));
        assert_ended(block_on(listener.incoming().next()).unwrap());
        assert_ended(here.try_read(&mut [0; 4]));
        // What needs no driver goes on.
        assert!(here.peer_addr().is_ok() && here.nodelay().is_ok());
    });
}

#[test]
fn a_socket_outlives_its_runtime_by_way_of_the_standard_library() {
    watchdog(PATIENCE, || {
        let first = runtime(1);
        let (here, there) = first.block_on(pair());
        let listener = first.block_on(listener());
        let address = listener.local_addr().unwrap();
        drop(first);
        let second = runtime(1);
        second.block_on(async move {
            let mut here = TcpStream::try_from(std::net::TcpStream::try_from(here).unwrap()).unwrap();
            let mut there = TcpStream::try_from(std::net::TcpStream::try_from(there).unwrap()).unwrap();
            here.write_all(b"still").await.unwrap();
            there.read_exact(&mut [0; 5]).await.unwrap();
            let listener = std::net::TcpListener::try_from(listener).unwrap();
            let listener = TcpListener::try_from(listener).unwrap();
            let client = spawn(TcpStream::connect(address));
            listener.accept().await.unwrap();
            client.await.unwrap().unwrap();
        });
    });
}

#[test]
fn a_socket_made_in_a_runtime_that_has_ended_says_so_instead_of_waiting() {
    watchdog(PATIENCE, || {
        let home = runtime(1);
        let handle = home.handle().clone();
        drop(home);
        handle.block_on(async {
            let listener = listener().await;
            assert_ended(listener.accept().await);
            assert_ended(TcpStream::connect(listener.local_addr().unwrap()).await);
            assert_ended(UdpSocket::bind("127.0.0.1:0").await.unwrap().recv(&mut [0; 4]).await);
            let (mut here, _there) = UnixStream::pair().unwrap();
            assert_ended(here.read(&mut [0; 4]).await);
            assert_ended(here.readable().await);
            assert_ended(signal::ctrl_c().await);
        });
    });
}

#[test]
fn shutdown_drops_what_waits_for_sockets() {
    watchdog(PATIENCE, || {
        for round in 0..scaled(20) {
            let runtime = runtime(2);
            let ledger = Ledger::new();
            let listener = Arc::new(runtime.block_on(listener()));
            let address = listener.local_addr().unwrap();
            for number in 0..8 {
                let (value, listener) = (ledger.counted(number), listener.clone());
                let task = async move {
                    let _value = value;
                    match number % 4 {
                        0 => drop(listener.accept().await),
                        1 => {
                            let (here, _there) = UnixStream::pair().unwrap();
                            (&here).read_exact(&mut [0; 4]).await.unwrap();
                        }
                        2 => {
                            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                            socket.recv(&mut [0; 4]).await.unwrap();
                        }
                        _ => {
                            // It comes into a queue that no server takes from, or is served.
                            let mut stream = TcpStream::connect(address).await.unwrap();
                            let _ = stream.read(&mut [0; 4]).await;
                        }
                    }
                };
                runtime.spawn(task).detach();
            }
            if round % 2 == 0 {
                idle(&runtime);
            }
            let report = shut_down(runtime, Duration::ZERO);
            assert_eq!(ledger.alive(), 0, "{report:?}");
        }
    });
}

#[test]
fn a_runtime_that_ends_gives_all_its_descriptors_back() {
    if !in_child("net::ended::a_runtime_that_ends_gives_all_its_descriptors_back", false).is_here() {
        return;
    }
    watchdog(PATIENCE, || {
        let cycle = || {
            let home = runtime(2);
            let kept = home.block_on(pair());
            home.spawn(async {
                let (here, _there) = UnixStream::pair().unwrap();
                (&here).read_exact(&mut [0; 4]).await.unwrap();
            })
            .detach();
            home.spawn(signal::terminate()).detach();
            drop(home);
            drop(kept);
        };
        cycle();
        let Some(before) = open_descriptors() else { return };
        for _ in 0..20 {
            cycle();
        }
        assert!(wait_until(|| open_descriptors() == Some(before)), "{before}, now {:?}", open_descriptors());
    });
    say_as_child();
}

#[test]
fn a_socket_may_be_dropped_and_asked_during_thread_teardown() {
    struct Asks(Option<(TcpStream, TcpListener)>);
    impl Drop for Asks {
        fn drop(&mut self) {
            let Some((stream, listener)) = self.0.take() else { return };
            let _ = stream.try_read(&mut [0; 4]);
            assert!(stream.peer_addr().is_ok());
            let mut accept = Box::pin(listener.accept());
            assert!(heirloom_tests::poll_once(&mut accept).is_pending());
        }
    }
    thread_local! {
        static KEPT: RefCell<Asks> = const { RefCell::new(Asks(None)) };
    }
    run(1, || async {
        let (here, mut there) = pair().await;
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let thread =
            std::thread::spawn(move || KEPT.with(|kept| kept.borrow_mut().0 = Some((here, listener))));
        thread.join().unwrap();
        // Both are closed.
        assert_eq!(there.read(&mut [0; 4]).await.unwrap(), 0);
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}
