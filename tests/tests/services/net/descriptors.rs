//! A process that has run out of descriptors.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use heirloom::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use heirloom::{signal, spawn};
use heirloom_tests::{in_child, in_child_with_limit, run, say_as_child, wait_until};

use super::listener;

/// Too many open files.
pub(super) const EMFILE: i32 = 24;

/// Files until there are no more.
pub(super) fn use_up() -> Vec<File> {
    let mut files = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(EMFILE));
                return files;
            }
        }
    }
}

/// Waits for four failures. The first comes at once, the others a tenth of a second apart.
fn four_failures_in_time(failures: &AtomicUsize, begin: Instant) {
    assert!(wait_until(|| failures.load(Ordering::SeqCst) >= 4));
    let (most, failed) = (begin.elapsed().as_millis() / 100 + 2, failures.load(Ordering::SeqCst));
    assert!(failed as u128 <= most, "{failed} errors, at most {most} expected");
}

async fn all_are_served(clients: &mut [TcpStream]) {
    for client in clients {
        let mut text = [0; 6];
        client.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"served");
    }
}

#[test]
fn a_listener_without_descriptors_says_so_and_serves_on_when_there_are_some() {
    let test = "net::descriptors::a_listener_without_descriptors_says_so_and_serves_on_when_there_are_some";
    if !in_child_with_limit(test, "-n 64", 2).is_here() {
        return;
    }
    run(2, || async {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        // In the listener's queue before the shortage.
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let files = use_up();
        let begin = Instant::now();
        let failures = Arc::new(AtomicUsize::new(0));
        let server = spawn({
            let failures = failures.clone();
            async move {
                // What every accept loop does: note the error and go on.
                let mut incoming = listener.incoming();
                let mut served = 0;
                while served < 3 {
                    match incoming.next().await.unwrap() {
                        Ok(mut stream) => {
                            stream.write_all(b"served").await.unwrap();
                            served += 1;
                        }
                        Err(error) => {
                            assert_eq!(error.raw_os_error(), Some(EMFILE));
                            failures.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            }
        });
        four_failures_in_time(&failures, begin);
        drop(files);
        all_are_served(&mut clients).await;
        server.await.unwrap();
    });
    say_as_child();
}

#[test]
fn nothing_panics_without_descriptors_and_everything_works_afterwards() {
    let test = "net::descriptors::nothing_panics_without_descriptors_and_everything_works_afterwards";
    if !in_child_with_limit(test, "-n 64", 2).is_here() {
        return;
    }
    fn refused<T>(result: io::Result<T>) {
        match result {
            Ok(_) => panic!("it was not refused"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(EMFILE), "{error}"),
        }
    }
    run(2, || async {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let files = use_up();
        for _ in 0..3 {
            refused(TcpListener::bind("127.0.0.1:0").await);
            refused(TcpStream::connect(address).await);
            refused(UdpSocket::bind("127.0.0.1:0").await);
            refused(UnixStream::pair());
            refused(UnixStream::connect("/missing").await);
            refused(UnixListener::bind("/missing"));
            refused(signal::terminate().await);
        }
        // One less than a pair of sockets needs.
        let mut files = files;
        files.pop();
        refused(UnixStream::pair());
        drop(files);
        let (client, server) = futures::future::join(TcpStream::connect(address), listener.accept()).await;
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read(&mut [0; 4]).await.unwrap(), 1);
        UnixStream::pair().unwrap();
    });
    say_as_child();
}

/// Another runtime needs descriptors of its own.
#[test]
fn a_runtime_that_cannot_have_its_descriptors_is_an_error() {
    let test = "net::descriptors::a_runtime_that_cannot_have_its_descriptors_is_an_error";
    if !in_child_with_limit(test, "-n 64", 2).is_here() {
        return;
    }
    heirloom_tests::watchdog(heirloom_tests::PATIENCE, || {
        for missing in 0..8 {
            let mut files = use_up();
            files.truncate(files.len() - missing);
            // What it needs is its own business, and that it says so.
            match heirloom::Runtime::builder().workers(1).build() {
                Ok(runtime) => assert_eq!(runtime.block_on(runtime.spawn(async { 7 })).unwrap(), 7),
                Err(error) => assert_eq!(error.raw_os_error(), Some(EMFILE), "{error}"),
            }
        }
        let runtime = heirloom::Runtime::builder().workers(1).build().unwrap();
        runtime.block_on(async {
            let (mut here, mut there) = UnixStream::pair().unwrap();
            here.write_all(b"x").await.unwrap();
            assert_eq!(there.read(&mut [0; 4]).await.unwrap(), 1);
        });
    });
    say_as_child();
}

#[test]
fn children_inherit_no_descriptors() {
    if !in_child("net::descriptors::children_inherit_no_descriptors", false).is_here() {
        return;
    }
    if cfg!(target_os = "linux") {
        run(1, || async {
            let listener = listener().await;
            let connection = super::pair().await;
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let (unix, _signal) = (UnixStream::pair().unwrap(), signal::terminate());
            let list = |folder: &str| {
                let output = std::process::Command::new("ls").args(["-l", folder]).output().unwrap();
                assert!(output.status.success(), "{output:?}");
                String::from_utf8_lossy(&output.stdout).into_owned()
            };
            // Of this process first, to see that it can be seen.
            let mine = list(&format!("/proc/{}/fd", std::process::id()));
            assert!(mine.contains("socket:") && mine.contains("[eventpoll]"), "{mine}");
            let its = list("/proc/self/fd");
            assert!(!its.contains("socket:") && !its.contains("anon_inode"), "{its}");
            drop((listener, connection, socket, unix));
        });
    }
    say_as_child();
}

/// The kind: what the system queues for a listener is lost when the queue is shorter than the rush.
/// So nothing is accepted here until every client is in the queue; then there are fewer descriptors
/// than clients.
#[test]
#[cfg(target_os = "linux")]
fn clients_that_come_at_once_are_all_served_by_a_process_short_of_descriptors() {
    use futures::future::join_all;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let test = "net::descriptors::clients_that_come_at_once_are_all_served_by_a_process_short_of_descriptors";
    if !in_child(test, false).is_here() {
        return;
    }
    run(2, || async {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let limit =
            |current| setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap();
        let most = maximum.unwrap_or(u64::MAX).min(1_000);
        limit(most);
        let longest = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let count = (most as usize - 100).min(longest.trim().parse().unwrap());

        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let connecting = join_all((0..count).map(|_| TcpStream::connect(address)));
        let clients = heirloom::wait_for(connecting, std::time::Duration::from_secs(20)).await;
        let clients = clients.unwrap_or_else(|_| panic!("not all of {count} clients fit into the queue"));

        limit(heirloom_tests::open_descriptors().unwrap() as u64 + 10);
        let shortages = Arc::new(AtomicUsize::new(0));
        let server = spawn({
            let shortages = shortages.clone();
            async move {
                let mut incoming = listener.incoming();
                let mut serving = Vec::new();
                while serving.len() < count {
                    match incoming.next().await.unwrap() {
                        Ok(stream) => serving.push(spawn(super::echo(stream))),
                        Err(error) => {
                            assert_eq!(error.raw_os_error(), Some(EMFILE));
                            shortages.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
                for served in serving {
                    assert_eq!(served.await.unwrap().unwrap(), 4);
                }
            }
        });
        let clients = clients.into_iter().map(|client| {
            spawn(async move {
                let mut client = client.unwrap();
                client.write_all(b"ping").await.unwrap();
                let mut text = [0; 4];
                client.read_exact(&mut text).await.unwrap();
                assert_eq!(&text, b"ping");
                client.close().await.unwrap();
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        server.await.unwrap();
        assert!(shortages.load(Ordering::SeqCst) > 0, "there was no shortage");
    });
    say_as_child();
}

/// The kind: a shortage that shows after a connection was taken. Here the runtime that accepts has
/// no poll yet, and one descriptor is left: it is the connection's.
#[test]
fn a_connection_that_cannot_be_watched_is_kept_until_it_can() {
    let test = "net::descriptors::a_connection_that_cannot_be_watched_is_kept_until_it_can";
    if !in_child_with_limit(test, "-n 64", 2).is_here() {
        return;
    }
    const CLIENTS: usize = 8;
    run(1, || async {
        let place = std::env::temp_dir().join(format!("heirloom-watched-{}", std::process::id()));
        let (listener, unix) = (listener().await, UnixListener::bind(&place).unwrap());
        let address = listener.local_addr().unwrap();
        let (mut clients, mut unix_clients) = (Vec::new(), Vec::new());
        for _ in 0..CLIENTS {
            clients.push(TcpStream::connect(address).await.unwrap());
            unix_clients.push(UnixStream::connect(&place).await.unwrap());
        }
        std::fs::remove_file(&place).unwrap();

        let other = heirloom_tests::runtime(1);
        other.wait_until_idle();
        let mut files = use_up();
        files.pop();
        let begin = Instant::now();
        let failures = Arc::new(AtomicUsize::new(0));
        let (noted, noted_too) = (failures.clone(), failures.clone());
        let note = |noted: &AtomicUsize, error: io::Error| {
            assert_eq!(error.raw_os_error(), Some(EMFILE));
            noted.fetch_add(1, Ordering::SeqCst);
        };
        let server = other.spawn(async move {
            let mut served = Vec::new();
            while served.len() < CLIENTS {
                match listener.accept().await {
                    Ok((stream, _)) => served.push(stream),
                    Err(error) => note(&noted, error),
                }
            }
            for stream in &mut served {
                stream.write_all(b"served").await.unwrap();
            }
            served
        });
        four_failures_in_time(&failures, begin);
        drop(files);
        all_are_served(&mut clients).await;
        drop((server.await.unwrap(), clients));
        drop(other);

        let other = heirloom_tests::runtime(1);
        other.wait_until_idle();
        let mut files = use_up();
        files.pop();
        failures.store(0, Ordering::SeqCst);
        let server = other.spawn(async move {
            let mut served = Vec::new();
            while served.len() < CLIENTS {
                match unix.accept().await {
                    Ok((stream, _)) => served.push(stream),
                    Err(error) => note(&noted_too, error),
                }
            }
            served
        });
        assert!(wait_until(|| failures.load(Ordering::SeqCst) >= 2));
        drop(files);
        assert_eq!(server.await.unwrap().len(), CLIENTS);
        drop(unix_clients);
    });
    say_as_child();
}
