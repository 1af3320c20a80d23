//! Unix sockets.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use heirloom::net::{UnixListener, UnixStream};
use heirloom::spawn;
use heirloom_tests::{run, scaled};

use super::pattern;

/// A path of its own for each test, which is removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Place(std::env::temp_dir().join(format!("heirloom-tests-{}-{number}", std::process::id())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn clients_are_served_at_a_path() {
    run(2, || async {
        let place = Place::new();
        let listener = UnixListener::bind(&place.0).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(place.0.as_path()));
        let clients = scaled(50);
        let server = spawn(async move {
            let mut incoming = listener.incoming().take(clients);
            let mut served = Vec::new();
            while let Some(stream) = incoming.next().await {
                let (read, mut write) = stream.unwrap().into_split();
                served.push(spawn(async move { futures::io::copy(read, &mut write).await }));
            }
            let mut total = 0;
            for echo in served {
                total += echo.await.unwrap().unwrap();
            }
            total
        });
        let tasks: Vec<_> = (0..clients)
            .map(|number| {
                let path = place.0.clone();
                spawn(async move {
                    let mut stream = UnixStream::connect(path).await.unwrap();
                    let sent = pattern(1000 + number, number);
                    stream.write_all(&sent).await.unwrap();
                    stream.close().await.unwrap();
                    let mut got = Vec::new();
                    stream.read_to_end(&mut got).await.unwrap();
                    assert!(got == sent);
                    sent.len() as u64
                })
            })
            .collect();
        let mut sent = 0;
        for task in tasks {
            sent += task.await.unwrap();
        }
        assert_eq!(server.await.unwrap(), sent);
    });
}

#[test]
fn what_cannot_be_bound_or_connected_to_says_so() {
    run(1, || async {
        let place = Place::new();
        assert_eq!(UnixStream::connect(&place.0).await.unwrap_err().kind(), ErrorKind::NotFound);
        let listener = UnixListener::bind(&place.0).unwrap();
        assert_eq!(UnixListener::bind(&place.0).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        // The path stays.
        assert_eq!(UnixStream::connect(&place.0).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(UnixListener::bind(&place.0).unwrap_err().kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn a_pair_is_connected() {
    run(1, || async {
        let (mut here, there) = UnixStream::pair().unwrap();
        assert!(here.peer_addr().unwrap().is_unnamed() && here.local_addr().unwrap().is_unnamed());
        assert!(here.take_error().unwrap().is_none());
        here.write_all(b"ping").await.unwrap();
        there.readable().await.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(there.try_read(&mut buffer).unwrap(), 4);
        assert_eq!(there.try_read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        there.writable().await.unwrap();
        assert_eq!(there.try_write(b"pong!").unwrap(), 5);
        assert_eq!(here.read(&mut buffer).await.unwrap(), 5);
        drop(there);
        assert_eq!(here.read(&mut buffer).await.unwrap(), 0);
        assert_eq!(here.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn unix_sockets_come_from_the_standard_library_and_go_back() {
    run(1, || async {
        use std::io::{Read, Write};
        let (here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut here = UnixStream::try_from(here).unwrap();
        here.write_all(b"one").await.unwrap();
        let mut here = std::os::unix::net::UnixStream::try_from(here).unwrap();
        here.write_all(b"two").unwrap();
        drop(here);
        let mut text = String::new();
        there.read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");

        let place = Place::new();
        let listener = std::os::unix::net::UnixListener::bind(&place.0).unwrap();
        let listener = UnixListener::try_from(listener).unwrap();
        let client = UnixStream::connect(&place.0).await.unwrap();
        listener.accept().await.unwrap();
        drop(client);
        std::os::unix::net::UnixListener::try_from(listener).unwrap();
    });
}

/// The kind: a name that std takes by a way of its own, and that has no path.
#[test]
#[cfg(target_os = "linux")]
fn clients_are_served_at_an_abstract_name() {
    use std::os::linux::net::SocketAddrExt;

    run(1, || async {
        let name = format!("\0heirloom-tests-{}", std::process::id());
        let listener = UnixListener::bind(&name).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(address.as_abstract_name(), Some(&name.as_bytes()[1..]));
        assert_eq!(UnixListener::bind(&name).unwrap_err().kind(), ErrorKind::AddrInUse);
        // The same name as std has it.
        let mut client = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
        let mut other = UnixStream::connect(&name).await.unwrap();
        assert_eq!(other.peer_addr().unwrap().as_abstract_name(), Some(&name.as_bytes()[1..]));
        std::io::Write::write_all(&mut client, b"std").unwrap();
        other.write_all(b"our").await.unwrap();
        for text in [b"std", b"our"] {
            let mut got = [0; 3];
            listener.accept().await.unwrap().0.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, text);
        }
        drop(listener);
        assert_eq!(UnixStream::connect(&name).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        UnixListener::bind(&name).unwrap();

        // As long as they may be, and what is none.
        UnixListener::bind(format!("\0{}", "x".repeat(107))).unwrap();
        for wrong in
            [format!("\0{}", "x".repeat(108)), "\0".into(), "\0\0x".into(), "a\0b".into(), String::new()]
        {
            // A file of no name is an address of its own to some systems.
            if !wrong.is_empty() {
                assert_eq!(
                    UnixListener::bind(&wrong).unwrap_err().kind(),
                    ErrorKind::InvalidInput,
                    "{wrong:?}"
                );
            }
            assert_eq!(
                UnixStream::connect(&wrong).await.unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{wrong:?}"
            );
        }
        // A NUL further on is part of the name.
        let name = format!("{name}\0x");
        let _listener = UnixListener::bind(&name).unwrap();
        UnixStream::connect(&name).await.unwrap();
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_unix_queue_is_as_long_as_it_is_told_to_be() {
    run(1, || async {
        let place = Place::new();
        let listener = UnixListener::bind(&place.0).unwrap();
        listener.set_backlog(3).unwrap();
        let mut clients = Vec::new();
        let full = loop {
            match UnixStream::connect(&place.0).await {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert_eq!(clients.len(), 4);
        listener.set_backlog(u32::MAX).unwrap();
        UnixStream::connect(&place.0).await.unwrap();
    });
}

/// As for TCP: what cuts a stream off is told to one call, and remembered for the others.
#[test]
fn a_unix_stream_that_was_cut_off_does_not_end() {
    run(1, || async {
        for asked in [false, true] {
            let (mut here, mut there) = UnixStream::pair().unwrap();
            there.write_all(b"half a bo").await.unwrap();
            here.write_all(b"unread").await.unwrap();
            drop(there);
            let mut body = Vec::new();
            if asked {
                here.take_error().unwrap();
            }
            let cut = here.read_to_end(&mut body).await;
            assert_eq!(body, b"half a bo");
            let ends = cut.is_ok();
            // Linux tells of what the peer left unread.
            assert!(!ends || !cfg!(target_os = "linux"));
            if !ends {
                assert_eq!(here.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
        }
    });
}
