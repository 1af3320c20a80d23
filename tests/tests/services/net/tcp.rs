//! TCP: making connections, and how they end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, future};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::spawn;
use heirloom_tests::{run, scaled};

#[cfg(target_os = "linux")]
use super::full_listener;
use super::{echo, half_std, listener, pair, pattern};

/// An address without a listener.
fn unused() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn bytes_come_back_as_they_were_sent() {
    run(2, || async {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let server = spawn(async move { echo(listener.accept().await?.0).await });
        let mut client = TcpStream::connect(address).await.unwrap();
        for round in 0..scaled(200) {
            let sent = pattern(1 + round * 7, round);
            client.write_all(&sent).await.unwrap();
            let mut got = vec![0; sent.len()];
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(got, sent);
        }
        client.close().await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(server.await.unwrap().unwrap() > 0);
    });
}

#[test]
fn a_connection_that_is_refused_says_so() {
    run(1, || async {
        let error = TcpStream::connect(unused()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn addresses_are_tried_in_turn() {
    run(1, || async {
        let listener = listener().await;
        let good = listener.local_addr().unwrap();
        let stream = TcpStream::connect([unused(), unused(), good].as_slice()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);

        let error = TcpStream::connect([unused(), unused()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = TcpStream::connect(Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);

        // The first one is taken.
        let other = TcpListener::bind([good, "127.0.0.1:0".parse().unwrap()]).await.unwrap();
        assert_ne!(other.local_addr().unwrap(), good);
        assert_eq!(TcpListener::bind(good).await.unwrap_err().kind(), ErrorKind::AddrInUse);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_attempt_ends_with_its_limit_and_is_made_again() {
    run(1, || async {
        let (listener, _queued) = full_listener().await;
        let address = listener.local_addr().unwrap();
        // When there is room again the system repeats what it has sent.
        let attempt = spawn(TcpStream::connect(address));
        listener.accept().unwrap();
        attempt.await.unwrap().unwrap();
    });
}

#[test]
fn a_half_closed_connection_goes_on_in_the_other_direction() {
    run(2, || async {
        for by_shutdown in [false, true] {
            let (mut here, mut there) = pair().await;
            here.write_all(b"a question").await.unwrap();
            if by_shutdown {
                here.shutdown(Shutdown::Write).unwrap();
            } else {
                here.close().await.unwrap();
            }
            let mut text = String::new();
            there.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "a question");

            // More than fits on the way, so that both sides have to wait.
            let sent = pattern(scaled(1 << 20), 3);
            let answer = spawn({
                let sent = sent.clone();
                async move { there.write_all(&sent).await }
            });
            let mut got = Vec::new();
            here.read_to_end(&mut got).await.unwrap();
            assert!(got == sent);
            answer.await.unwrap().unwrap();
            assert_eq!(here.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            // Closing again is fine.
            here.close().await.unwrap();
        }
    });
}

#[test]
fn a_reset_in_mid_body_is_an_error_for_reader_and_writer() {
    run(2, || async {
        let (mut here, mut there) = half_std().await;
        here.write_all(b"a question without a reader").await.unwrap();
        there.write_all(b"half an ans").unwrap();
        let mut begin = [0; 11];
        here.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"half an ans");

        let (mut read, mut write) = here.into_split();
        let reader = spawn(async move {
            let error = read.read_to_end(&mut Vec::new()).await.unwrap_err();
            (read, error)
        });
        // A socket that is closed while it has bytes unread resets its connection.
        there.peek(&mut [0; 8]).unwrap();
        drop(there);
        let (read, error) = reader.await.unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = write.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        // Also what is gone altogether can be closed and put together.
        write.close().await.unwrap();
        let stream = read.reunite(write).unwrap();
        assert_eq!(stream.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    });
}

#[test]
fn shutting_down_wakes_the_reader() {
    run(2, || async {
        let (here, _there) = pair().await;
        let (mut read, write) = here.into_split();
        let reader = spawn(async move { read.read(&mut [0; 8]).await });
        write.as_ref().shutdown(Shutdown::Both).unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), 0);
    });
}

#[test]
fn peeking_takes_nothing() {
    run(2, || async {
        let (here, mut there) = half_std().await;
        let here = std::sync::Arc::new(here);
        // Both wait before there is anything.
        let peeks: Vec<_> = (0..2)
            .map(|_| {
                let here = here.clone();
                spawn(async move {
                    let mut buffer = [0; 3];
                    let count = here.peek(&mut buffer).await?;
                    io::Result::Ok((count, buffer))
                })
            })
            .collect();
        there.write_all(b"abcdef").unwrap();
        for peek in peeks {
            assert_eq!(peek.await.unwrap().unwrap(), (3, *b"abc"));
        }
        let mut all = [0; 6];
        (&*here).read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"abcdef");
        drop(there);
        assert_eq!(here.peek(&mut all).await.unwrap(), 0);
    });
}

#[test]
fn options_are_kept_and_addresses_are_told() {
    run(1, || async {
        let listener = listener().await;
        listener.set_ttl(41).unwrap();
        assert_eq!(listener.ttl().unwrap(), 41);
        assert!(listener.local_addr().unwrap().ip().is_loopback());

        let (here, there) = pair().await;
        assert_eq!(here.local_addr().unwrap(), there.peer_addr().unwrap());
        assert_eq!(here.peer_addr().unwrap(), there.local_addr().unwrap());
        assert!(!here.nodelay().unwrap());
        here.set_nodelay(true).unwrap();
        assert!(here.nodelay().unwrap() && !there.nodelay().unwrap());
        here.set_ttl(42).unwrap();
        assert_eq!(here.ttl().unwrap(), 42);
        assert!(here.take_error().unwrap().is_none());
        // It says what it is, for logs.
        assert!(format!("{here:?}").contains(&here.peer_addr().unwrap().port().to_string()), "{here:?}");
    });
}

#[test]
fn a_listener_is_a_stream_of_connections_also_for_several_tasks() {
    run(2, || async {
        let listener = std::sync::Arc::new(listener().await);
        let address = listener.local_addr().unwrap();
        let servers: Vec<_> = (0..4)
            .map(|_| {
                let listener = listener.clone();
                spawn(async move {
                    let mut incoming = listener.incoming().take(scaled(25));
                    let mut served = 0;
                    while let Some(stream) = incoming.next().await {
                        stream?.write_all(b"!").await?;
                        served += 1;
                    }
                    io::Result::Ok(served)
                })
            })
            .collect();
        for _ in 0..4 * scaled(25) {
            let mut text = String::new();
            TcpStream::connect(address).await.unwrap().read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "!");
        }
        for server in servers {
            assert_eq!(server.await.unwrap().unwrap(), scaled(25));
        }
    });
}

#[test]
fn an_accept_that_is_given_up_loses_no_connection() {
    run(2, || async {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        for round in 0..scaled(100) {
            let client = spawn(TcpStream::connect(address));
            // Given up before, while or after the connection comes.
            for _ in 0..round % 8 {
                let accept = std::pin::pin!(listener.accept());
                if let future::Either::Left((accepted, _)) =
                    future::select(accept, std::pin::pin!(heirloom::yield_now())).await
                {
                    // It was ready: as good as any.
                    let again = TcpStream::connect(address);
                    drop(accepted.unwrap());
                    again.await.unwrap();
                }
            }
            listener.accept().await.unwrap();
            client.await.unwrap().unwrap();
        }
    });
}

#[test]
fn the_other_version_of_the_protocol_works_if_there_is_one() {
    run(2, || async {
        // Machines without IPv6 refuse the address.
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
        let address = listener.local_addr().unwrap();
        assert!(address.is_ipv6());
        let server = spawn(async move { echo(listener.accept().await?.0).await });
        let mut client = TcpStream::connect(("::1", address.port())).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut text = [0; 5];
        client.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
        drop(client);
        assert_eq!(server.await.unwrap().unwrap(), 5);
    });
}

#[test]
fn sockets_come_from_the_standard_library_and_go_back() {
    run(2, || async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::try_from(listener).unwrap();
        let client = std::thread::spawn(move || {
            let mut text = String::new();
            std::net::TcpStream::connect(address)?.read_to_string(&mut text)?;
            io::Result::Ok(text)
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"one ").await.unwrap();
        // What comes back blocks, as the standard library's do.
        let mut stream = std::net::TcpStream::try_from(stream).unwrap();
        stream.write_all(b"two ").unwrap();
        let mut stream = TcpStream::try_from(stream).unwrap();
        stream.write_all(b"three").await.unwrap();
        drop(stream);
        assert_eq!(client.join().unwrap().unwrap(), "one two three");

        let listener = std::net::TcpListener::try_from(listener).unwrap();
        let client = std::thread::spawn(move || std::net::TcpStream::connect(address));
        listener.accept().unwrap();
        client.join().unwrap().unwrap();
    });
}

/// The queue holds what it is told to, at bind as much as the system allows.
#[test]
#[cfg(target_os = "linux")]
fn the_queue_of_a_listener_is_as_long_as_it_is_told_to_be() {
    run(1, || async {
        let (listener, queued) = full_listener().await;
        let address = listener.local_addr().unwrap();
        assert!(queued.len() < 8, "{} connections in a queue of none", queued.len());
        // Linux makes it one longer.
        let listener = TcpListener::try_from(listener).unwrap();
        listener.set_backlog(queued.len() as u32 + 1).unwrap();
        let more = (0..2).map(|_| TcpStream::connect(address));
        assert_eq!(future::try_join_all(more).await.unwrap().len(), 2);
    });
}

/// Resets when it is closed, whatever is unread or unsent.
fn will_reset(socket: &std::net::TcpStream) {
    rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO)).unwrap();
}

/// The kind: the system tells of an error once, and the call that is told is not the one that must
/// know. Here the half that writes takes the reset, or asks for it, and the half that reads would
/// take what it has for a whole body.
#[test]
fn a_reset_is_never_the_end_of_a_body() {
    run(2, || async {
        for round in 0..scaled(300) {
            let (here, mut there) = half_std().await;
            will_reset(&there);
            there.write_all(b"half a bo").unwrap();
            let (mut read, mut write) = here.into_split();
            let reader = spawn(async move {
                let mut body = Vec::new();
                let result = read.read_to_end(&mut body).await;
                // It stays so.
                (result, read.read(&mut [0; 8]).await, read.as_ref().peek(&mut [0; 8]).await)
            });
            let writer = spawn(async move {
                let block = [0; 1 << 14];
                loop {
                    if let Err(error) = write.write_all(&block).await {
                        return error.kind();
                    }
                }
            });
            there.read_exact(&mut vec![0; 1 + round * 100]).unwrap();
            drop(there);
            let (result, again, peeked) = reader.await.unwrap();
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset, "round {round}");
            assert_eq!(again.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(peeked.unwrap_err().kind(), ErrorKind::ConnectionReset);
            let kind = writer.await.unwrap();
            assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
        }
    });
}

#[test]
fn a_reset_that_was_asked_for_is_remembered() {
    run(1, || async {
        let (mut here, there) = half_std().await;
        will_reset(&there);
        drop(there);
        here.readable().await.unwrap();
        let asked = here.take_error().unwrap();
        assert!(asked.is_none_or(|error| error.kind() == ErrorKind::ConnectionReset));
        assert_eq!(here.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(here.try_read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(here.try_read(&mut []).unwrap(), 0);
        let (mut one, mut other) = ([0; 4], [0; 4]);
        let bufs = &mut [io::IoSliceMut::new(&mut one), io::IoSliceMut::new(&mut other)];
        assert_eq!(here.read_vectored(bufs).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

/// A peer that ends its direction and resets afterwards has said all that it had to say.
#[test]
fn an_end_that_came_before_a_reset_is_an_end() {
    run(2, || async {
        for _ in 0..scaled(50) {
            let (here, mut there) = half_std().await;
            will_reset(&there);
            there.write_all(b"a whole body").unwrap();
            there.shutdown(Shutdown::Write).unwrap();
            let (mut read, mut write) = here.into_split();
            read.as_ref().readable().await.unwrap();
            drop(there);
            let error = async {
                loop {
                    if let Err(error) = write.write_all(&[0; 1 << 10]).await {
                        return error.kind();
                    }
                }
            };
            assert_eq!(error.await, ErrorKind::BrokenPipe);
            let mut body = String::new();
            read.read_to_string(&mut body).await.unwrap();
            assert_eq!(body, "a whole body");
        }
    });
}

#[test]
fn the_answer_of_a_server_that_resets_at_once_is_not_lost() {
    run(2, || async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rounds = scaled(200);
        let server = std::thread::spawn(move || {
            for round in 0..rounds {
                let (mut stream, _) = listener.accept().unwrap();
                will_reset(&stream);
                stream.write_all(b"go away").unwrap();
                if round % 2 == 0 {
                    stream.shutdown(Shutdown::Write).unwrap();
                }
            }
        });
        for round in 0..rounds {
            let mut client = TcpStream::connect(address).await.unwrap();
            let mut answer = Vec::new();
            let result = client.read_to_end(&mut answer).await;
            assert_eq!(answer, b"go away", "round {round}: {result:?}");
            if round % 2 == 1 {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
        }
        server.join().unwrap();
    });
}
