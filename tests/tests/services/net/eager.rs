//! Sockets in code that is run synchronously.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use heirloom::eager::WouldSuspend;
use heirloom::net::{TcpListener, TcpStream, UdpSocket, UnixStream, lookup};
use heirloom::{run_eagerly, signal, spawn, spawn_background, try_run_eagerly, wait_for};
use heirloom_tests::{MARK, PATIENCE, in_a_worker, run, runtime, scaled, watchdog};

use super::{half_std, listener, pair};

/// Sends back what comes, on a thread of its own.
fn echoing(listener: std::net::TcpListener) -> std::thread::JoinHandle<io::Result<()>> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => stream.write_all(&buffer[..count])?,
            }
        }
    })
}

async fn client(address: std::net::SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"there and back").await?;
    stream.close().await?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await?;
    Ok(got)
}

#[test]
fn one_function_serves_both_worlds() {
    watchdog(PATIENCE, || {
        for eagerly in [false, true] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = echoing(listener);
            let got =
                if eagerly { run_eagerly(client(address)) } else { heirloom::block_on(client(address)) };
            assert_eq!(got.unwrap(), b"there and back");
            server.join().unwrap().unwrap();
        }
    });
}

/// The only worker is blocked, so that no worker is in the runtime's poll.
#[test]
fn a_worker_that_blocks_needs_no_other_to_wake_it() {
    in_a_worker(1, async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = echoing(listener);
        MARK.set(3);
        let got = run_eagerly(async {
            let got = client(address).await.unwrap();
            assert_eq!(MARK.get(), Some(3));
            got
        });
        assert_eq!(got, b"there and back");
        server.join().unwrap().unwrap();

        // What was eager is not so later, and the other way round.
        let (mut here, mut there) = half_std().await;
        for round in 0..scaled(50) {
            let writer = std::thread::spawn(move || {
                there.write_all(b"x").unwrap();
                there
            });
            let mut byte = [0];
            let count =
                if round % 3 == 0 { run_eagerly(here.read(&mut byte)) } else { here.read(&mut byte).await };
            assert_eq!(count.unwrap(), 1);
            there = writer.join().unwrap();
        }
    });
}

#[test]
fn accepting_receiving_and_peeking_block() {
    watchdog(PATIENCE, || {
        let (listener, socket) =
            run_eagerly(async { (listener().await, UdpSocket::bind("127.0.0.1:0").await.unwrap()) });
        let (address, datagrams) = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
        let peer = std::thread::spawn(move || {
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"datagram", datagrams).unwrap();
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"abc").unwrap();
            stream.read(&mut [0; 4]).unwrap()
        });
        run_eagerly(async {
            assert_eq!(socket.recv_from(&mut [0; 16]).await.unwrap().0, 8);
            let (stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            assert!(stream.peek(&mut [0; 1]).await.unwrap() == 1);
            // No worker need have seen the event.
            let mut buffer = [0; 1];
            assert_eq!(stream.try_read(&mut buffer).unwrap(), 1);
            stream.writable().await.unwrap();
            assert_eq!(stream.try_write(b"done").unwrap(), 4);
        });
        assert_eq!(peer.join().unwrap(), 4);
    });
}

#[test]
fn a_limit_ends_what_blocks_on_a_socket() {
    run(1, || async {
        let (mut here, mut there) = half_std().await;
        run_eagerly(async {
            let read = wait_for(here.read(&mut [0; 4]), Duration::from_millis(20)).await;
            assert!(read.is_err());
            let wait = wait_for(here.readable(), Duration::from_millis(20)).await;
            assert!(wait.is_err());
        });
        there.write_all(b"x").unwrap();
        let read = run_eagerly(wait_for(here.read(&mut [0; 4]), Duration::from_secs(3600)));
        assert_eq!(read.unwrap().unwrap(), 1);
    });
}

#[test]
fn a_call_that_refuses_to_wait_names_the_socket() {
    fn leaf<T: std::fmt::Debug>(result: Result<T, WouldSuspend>) -> &'static str {
        result.unwrap_err().leaf()
    }
    run(1, || async {
        let (mut here, mut there) = half_std().await;
        let listener = listener().await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut buffer = [0; 4];
        assert_eq!(leaf(try_run_eagerly(here.read(&mut buffer))), "TcpStream::read");
        assert_eq!(leaf(try_run_eagerly(here.peek(&mut buffer))), "TcpStream::peek");
        assert_eq!(leaf(try_run_eagerly(here.readable())), "TcpStream::read");
        assert_eq!(leaf(try_run_eagerly(listener.accept())), "TcpListener::accept");
        assert_eq!(leaf(try_run_eagerly(socket.recv_from(&mut buffer))), "UdpSocket::recv_from");
        assert_eq!(leaf(try_run_eagerly(socket.recv(&mut buffer))), "UdpSocket::recv");
        let (unix, _peer) = UnixStream::pair().unwrap();
        assert_eq!(leaf(try_run_eagerly((&unix).read(&mut buffer))), "UnixStream::read");
        let block = vec![0; 1 << 16];
        let full = loop {
            match try_run_eagerly((&unix).write(&block)) {
                Ok(count) => assert!(count.unwrap() > 0),
                Err(refused) => break refused,
            }
        };
        assert_eq!(full.leaf(), "UnixStream::write");
        assert_eq!(leaf(try_run_eagerly(lookup("localhost:1"))), "spawn_blocking");

        // What need not wait is done, and what was refused has lost nothing.
        there.write_all(b"x").unwrap();
        run_eagerly(here.readable()).unwrap();
        assert_eq!(try_run_eagerly(here.read(&mut buffer)).unwrap().unwrap(), 1);
        assert_eq!(try_run_eagerly(here.write(b"y")).unwrap().unwrap(), 1);
        assert_eq!(try_run_eagerly(lookup("127.0.0.1:1")).unwrap().unwrap().count(), 1);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_attempt_blocks_until_there_is_an_answer() {
    run(1, || async {
        let (listener, _queued) = super::full_listener().await;
        let address = listener.local_addr().unwrap();
        let refused = try_run_eagerly(TcpStream::connect(address)).unwrap_err();
        assert_eq!(refused.leaf(), "TcpStream::connect");
        let limit = Duration::from_millis(20);
        assert!(run_eagerly(wait_for(TcpStream::connect(address), limit)).is_err());
        // When there is room again the system repeats what it has sent.
        let accepting = std::thread::spawn(move || listener.accept().map(|_| listener));
        run_eagerly(TcpStream::connect(address)).unwrap();
        drop(accepting.join().unwrap());
    });
}

#[test]
fn names_are_looked_up_on_the_calling_thread() {
    watchdog(PATIENCE, || {
        let found = run_eagerly(lookup("localhost:1")).unwrap();
        assert!(found.count() > 0);
        let error = run_eagerly(TcpListener::bind("localhost")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_socket_whose_runtime_has_ended_still_blocks() {
    watchdog(PATIENCE, || {
        let home = runtime(1);
        let (mut here, mut there) = home.block_on(half_std());
        drop(home);
        let writer = std::thread::spawn(move || there.write_all(b"x"));
        assert_eq!(run_eagerly(here.read(&mut [0; 4])).unwrap(), 1);
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn a_task_that_is_spawned_under_the_flag_blocks_too() {
    run(1, || async {
        let (mut here, there) = pair().await;
        let mut there = std::net::TcpStream::try_from(there).unwrap();
        let writer = std::thread::spawn(move || there.write_all(b"inline"));
        let text = run_eagerly(async {
            let reader = spawn(async move {
                let mut text = String::new();
                here.read_to_string(&mut text).await.map(|_| text)
            });
            assert!(reader.is_finished());
            reader.await.unwrap()
        });
        assert_eq!(text.unwrap(), "inline");
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn signals_block_too() {
    super::signals::apart_as("net::eager::signals_block_too", || {
        let mut terminate = signal::terminate();
        assert_eq!(try_run_eagerly(&mut terminate).unwrap_err().leaf(), "terminate");
        super::signals::send(rustix::process::Signal::TERM);
        run_eagerly(&mut terminate).unwrap();
    });
}

#[test]
fn a_socket_made_by_a_call_outside_of_a_runtime_can_be_awaited() {
    watchdog(PATIENCE, || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let stream = run_eagerly(TcpStream::connect(listener.local_addr().unwrap())).unwrap();
            (stream, listener.accept().unwrap().0)
        };
        // By the default runtime, by another one, by none.
        let (mut here, mut there) = connect();
        heirloom::block_on(async {
            let mut byte = [0];
            assert!(wait_for(here.read(&mut byte), Duration::from_millis(1)).await.is_err());
            there.write_all(b"x").unwrap();
            assert_eq!(here.read(&mut byte).await.unwrap(), 1);
        });
        // And again by a call, which finds it in a poll now.
        there.write_all(b"y").unwrap();
        assert_eq!(run_eagerly(here.read(&mut [0])).unwrap(), 1);
        drop(here);
        assert_eq!(there.read(&mut [0]).unwrap(), 0);
        let (mut here, mut there) = connect();
        let home = runtime(1);
        let reader = home.spawn(async move { here.read(&mut [0]).await });
        there.write_all(b"z").unwrap();
        assert_eq!(home.block_on(reader).unwrap().unwrap(), 1);
        drop(std::net::TcpStream::try_from(connect().0).unwrap());
    });
}

#[test]
fn a_listener_made_by_a_call_outside_of_a_runtime_serves_in_the_background() {
    watchdog(PATIENCE, || {
        let got = run_eagerly(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            spawn_background(async move {
                let (mut stream, _) = listener.accept().await?;
                let mut text = Vec::new();
                stream.read_to_end(&mut text).await?;
                stream.write_all(&text).await
            });
            client(address).await
        });
        assert_eq!(got.unwrap(), b"there and back");
    });
}
