//! Many sockets, and sockets that come and go.

use std::io;
use std::sync::Arc;

use futures::{AsyncReadExt, AsyncWriteExt};
use heirloom::net::{TcpStream, UnixStream};
use heirloom::{spawn, yield_now};
use heirloom_tests::{
    Countdown, in_child_with_limit, open_descriptors, run, say_as_child, scaled, wait_until,
};

use super::{listener, pattern};

#[test]
fn a_thousand_connections_are_served_at_the_same_time() {
    let child =
        in_child_with_limit("net::storms::a_thousand_connections_are_served_at_the_same_time", "-n 4096", 2);
    if !child.is_here() {
        return;
    }
    const CLIENTS: usize = 1000;
    let served = run(2, || async {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let server = spawn(async move {
            let mut tasks = Vec::new();
            for _ in 0..CLIENTS {
                tasks.push(spawn(super::echo(listener.accept().await?.0)));
            }
            let mut total = 0;
            for task in tasks {
                total += task.await.unwrap()?;
            }
            io::Result::Ok(total)
        });
        let connected = Countdown::new(CLIENTS);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let connected = connected.clone();
                spawn(async move {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    // No task goes on before all are connected.
                    connected.arrive();
                    connected.done().await;
                    let sent = pattern(1000, number);
                    let mut got = vec![0; sent.len()];
                    for _ in 0..3 {
                        stream.write_all(&sent).await.unwrap();
                        stream.read_exact(&mut got).await.unwrap();
                        assert!(got == sent);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        server.await.unwrap().unwrap()
    });
    assert_eq!(served, 3 * 1000 * CLIENTS as u64);
    say_as_child();
}

#[test]
fn thousands_of_sources_are_told_apart() {
    let child = in_child_with_limit("net::storms::thousands_of_sources_are_told_apart", "-n 4096", 2);
    if !child.is_here() {
        return;
    }
    const PAIRS: u32 = 1500;
    run(2, || async {
        let mut near = Vec::new();
        let mut far = Vec::new();
        for number in 0..PAIRS {
            let (here, mut there) = UnixStream::pair().unwrap();
            near.push(here);
            far.push(spawn(async move {
                let mut buffer = [0; 4];
                for round in 0..3 {
                    there.read_exact(&mut buffer).await.unwrap();
                    assert_eq!(u32::from_le_bytes(buffer), number + round);
                    there.write_all(&(number * 2).to_le_bytes()).await.unwrap();
                }
            }));
        }
        for round in 0..3 {
            // In an order that is not that of registration.
            for at in (0..PAIRS).map(|at| at * 7 % PAIRS) {
                near[at as usize].write_all(&(at + round).to_le_bytes()).await.unwrap();
            }
            for (number, here) in near.iter_mut().enumerate() {
                let mut buffer = [0; 4];
                here.read_exact(&mut buffer).await.unwrap();
                assert_eq!(u32::from_le_bytes(buffer), 2 * number as u32);
            }
        }
        for task in far {
            task.await.unwrap();
        }
    });
    say_as_child();
}

/// The descriptor of a socket that is gone is the next one's. No socket may get an event that was
/// meant for its predecessor, nor miss what is meant for himself.
#[test]
fn descriptors_that_are_used_again_are_told_apart() {
    run(2, || async {
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                spawn(async move {
                    for round in 0..scaled(500) {
                        let (mut here, there) = UnixStream::pair().unwrap();
                        // Its predecessor at this descriptor went with an event under way.
                        let mut ghost = UnixStream::pair().unwrap();
                        ghost.1.write_all(b"unread").await.unwrap();
                        drop(ghost);
                        let (mut new, mut far) = UnixStream::pair().unwrap();
                        let sent = pattern(16, task * 1000 + round);
                        let reader = spawn(async move {
                            let mut got = [0; 16];
                            new.read_exact(&mut got).await.map(|()| got)
                        });
                        yield_now().await;
                        far.write_all(&sent).await.unwrap();
                        assert_eq!(reader.await.unwrap().unwrap()[..], sent);
                        drop(there);
                        assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 0);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_socket_that_is_dropped_while_its_event_comes_does_no_harm() {
    run(2, || async {
        for round in 0..scaled(500) {
            let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
            let mut there = UnixStream::try_from(there).unwrap();
            let reader = spawn(async move { there.read(&mut [0; 8]).await });
            if round % 2 == 0 {
                yield_now().await;
            }
            let start = Arc::new(std::sync::Barrier::new(2));
            let writer = std::thread::spawn({
                let start = start.clone();
                move || {
                    start.wait();
                    // The reader may be gone.
                    let _ = io::Write::write_all(&mut here, b"x");
                }
            });
            start.wait();
            reader.abort();
            match reader.await {
                Ok(count) => assert_eq!(count.unwrap(), 1),
                Err(error) => assert!(error.is_cancelled()),
            }
            writer.join().unwrap();
        }
    });
}

#[test]
fn sockets_that_go_give_their_descriptors_back() {
    let child = in_child_with_limit("net::storms::sockets_that_go_give_their_descriptors_back", "-n 512", 2);
    if !child.is_here() {
        return;
    }
    run(2, || async {
        // What the process opens once is open now.
        drop(UnixStream::pair().unwrap());
        let Some(before) = open_descriptors() else { return };
        // More than there may be at a time.
        for _ in 0..20 {
            let listener = listener().await;
            let address = listener.local_addr().unwrap();
            let mut kept = Vec::new();
            for number in 0..50 {
                let (client, server) =
                    futures::future::join(TcpStream::connect(address), listener.accept()).await;
                let (client, server) = (client.unwrap(), server.unwrap().0);
                match number % 4 {
                    0 => drop((client, server)),
                    1 => kept.push((client, server)),
                    2 => drop((client.into_split(), server)),
                    _ => drop((std::net::TcpStream::try_from(client).unwrap(), server)),
                }
            }
            let waits = spawn(async move { listener.accept().await });
            yield_now().await;
            drop(waits);
        }
        assert!(wait_until(|| open_descriptors() == Some(before)), "{before}, now {:?}", open_descriptors());
    });
    say_as_child();
}
