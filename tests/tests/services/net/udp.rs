//! UDP.

use std::collections::HashSet;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use heirloom::net::UdpSocket;
use heirloom::{spawn, try_run_eagerly, wait_for};
use heirloom_tests::{run, scaled};

use super::pattern;

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("a socket")
}

#[test]
fn datagrams_go_both_ways() {
    run(2, || async {
        let (here, there) = (socket().await, socket().await);
        let address = there.local_addr().unwrap();
        let server = spawn(async move {
            let mut buffer = vec![0; 2048];
            loop {
                let (count, from) = there.recv_from(&mut buffer).await?;
                if count == 0 {
                    return std::io::Result::Ok(());
                }
                assert_eq!(there.send_to(&buffer[..count], from).await?, count);
            }
        });
        let mut buffer = vec![0; 2048];
        for round in 0..scaled(200) {
            let sent = pattern(1 + round, round);
            assert_eq!(here.send_to(&sent, address).await.unwrap(), sent.len());
            let (count, from) = here.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..count], from), (&sent[..], address));
        }
        // A datagram of no bytes is one too.
        assert_eq!(here.send_to(&[], address).await.unwrap(), 0);
        server.await.unwrap().unwrap();
    });
}

#[test]
fn connected_sockets_hear_their_peer_alone() {
    run(1, || async {
        let (here, there, stranger) = (socket().await, socket().await, socket().await);
        assert_eq!(here.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        here.connect(there.local_addr().unwrap()).await.unwrap();
        there.connect(here.local_addr().unwrap()).await.unwrap();
        assert_eq!(here.peer_addr().unwrap(), there.local_addr().unwrap());
        stranger.send_to(b"hush", here.local_addr().unwrap()).await.unwrap();
        assert_eq!(there.send(b"ping").await.unwrap(), 4);
        let mut buffer = [0; 16];
        assert_eq!(here.peek(&mut buffer).await.unwrap(), 4);
        assert_eq!(here.recv(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"ping");
        assert_eq!(here.try_recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);

        // The peer is gone, which the system tells at the next operation.
        drop(there);
        let mut told = here.send(b"x").await.map(drop);
        if told.is_ok() {
            told = here.recv(&mut buffer).await.map(drop);
        }
        assert_eq!(told.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_datagram_can_be_looked_at_and_is_cut_to_the_buffer() {
    run(1, || async {
        let (here, there) = (socket().await, socket().await);
        here.send_to(b"a long one", there.local_addr().unwrap()).await.unwrap();
        here.send_to(b"next", there.local_addr().unwrap()).await.unwrap();
        let mut buffer = [0; 6];
        for _ in 0..2 {
            let peeked = there.peek_from(&mut buffer).await.unwrap();
            assert_eq!((peeked, &buffer), ((6, here.local_addr().unwrap()), b"a long"));
        }
        assert_eq!(there.recv(&mut buffer).await.unwrap(), 6);
        assert_eq!(there.recv(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"next");
    });
}

#[test]
fn each_datagram_has_one_receiver_however_many_wait() {
    run(2, || async {
        let (here, there) = (socket().await, Arc::new(socket().await));
        let address = there.local_addr().unwrap();
        let receivers = 8_u64;
        let tasks: Vec<_> = (0..receivers)
            .map(|_| {
                let there = there.clone();
                spawn(async move {
                    let mut buffer = [0; 8];
                    assert_eq!(there.recv_from(&mut buffer).await.unwrap().0, 8);
                    u64::from_le_bytes(buffer)
                })
            })
            .collect();
        for number in 0..receivers {
            here.send_to(&number.to_le_bytes(), address).await.unwrap();
        }
        let mut got = HashSet::new();
        for task in tasks {
            assert!(got.insert(task.await.unwrap()));
        }
        assert_eq!(got, (0..receivers).collect());
    });
}

#[test]
fn sending_and_receiving_without_waiting() {
    run(1, || async {
        let (here, there) = (socket().await, socket().await);
        here.writable().await.unwrap();
        assert_eq!(here.try_send_to(b"now", there.local_addr().unwrap()).unwrap(), 3);
        there.readable().await.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(there.try_recv_from(&mut buffer).unwrap(), (3, here.local_addr().unwrap()));
        assert_eq!(there.try_recv_from(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        here.connect(there.local_addr().unwrap()).await.unwrap();
        assert_eq!(here.try_send(b"again").unwrap(), 5);
        there.readable().await.unwrap();
        assert_eq!(there.try_recv(&mut buffer).unwrap(), 5);
    });
}

#[test]
fn options_of_datagram_sockets() {
    run(1, || async {
        let socket = socket().await;
        assert!(!socket.broadcast().unwrap());
        socket.set_broadcast(true).unwrap();
        assert!(socket.broadcast().unwrap());
        socket.set_ttl(43).unwrap();
        assert_eq!(socket.ttl().unwrap(), 43);
        assert!(socket.take_error().unwrap().is_none());
        // No group, so the system refuses; that the right thing is asked for shows in its answer.
        let error = socket.join_multicast_v4(Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = socket.send_to(b"x", Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);

        let socket = std::net::UdpSocket::try_from(socket).unwrap();
        assert_eq!(socket.ttl().unwrap(), 43);
        UdpSocket::try_from(socket).unwrap();
    });
}

/// One future receives and sends, and is woken for either.
#[test]
fn a_future_that_polls_sends_each_datagram_back() {
    run(2, || async {
        for connected in [false, true] {
            let (here, there) = (socket().await, socket().await);
            let address = there.local_addr().unwrap();
            if connected {
                there.connect(here.local_addr().unwrap()).await.unwrap();
            }
            let echo = spawn(async move {
                let mut buffer = vec![0; 2048];
                let mut received = None;
                poll_fn(|cx| {
                    loop {
                        let (count, from) = match received {
                            Some(received) => received,
                            None if connected => {
                                let count = ready!(there.poll_recv(cx, &mut buffer))?;
                                *received.insert((count, there.peer_addr()?))
                            }
                            None => *received.insert(ready!(there.poll_recv_from(cx, &mut buffer))?),
                        };
                        if count == 0 {
                            return Poll::Ready(std::io::Result::Ok(()));
                        }
                        let sent = if connected {
                            ready!(there.poll_send(cx, &buffer[..count]))?
                        } else {
                            ready!(there.poll_send_to(cx, &buffer[..count], from))?
                        };
                        assert_eq!(sent, count);
                        received = None;
                    }
                })
                .await
            });
            let mut buffer = vec![0; 2048];
            for round in 0..scaled(200) {
                let sent = pattern(1 + round, round);
                poll_fn(|cx| here.poll_writable(cx)).await.unwrap();
                assert_eq!(here.try_send_to(&sent, address).unwrap(), sent.len());
                poll_fn(|cx| here.poll_readable(cx)).await.unwrap();
                let (count, from) = here.recv_from(&mut buffer).await.unwrap();
                assert_eq!((&buffer[..count], from), (&sent[..], address));
            }
            here.send_to(&[], address).await.unwrap();
            echo.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_poll_that_waits_is_named_and_cut_by_a_limit() {
    run(1, || async {
        let socket = socket().await;
        let mut buffer = [0; 8];
        let leaf = try_run_eagerly(poll_fn(|cx| socket.poll_recv_from(cx, &mut buffer))).unwrap_err();
        assert_eq!(leaf.leaf(), "UdpSocket::poll_recv_from");
        let limit = Duration::from_millis(5);
        assert!(wait_for(poll_fn(|cx| socket.poll_recv(cx, &mut buffer)), limit).await.is_err());
        let address = socket.local_addr().unwrap();
        let ever = async {
            loop {
                poll_fn(|cx| socket.poll_send_to(cx, b"x", address)).await.unwrap();
            }
        };
        assert!(wait_for(ever, limit).await.is_err());
    });
}
