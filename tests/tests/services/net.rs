//! Sockets, names and signals. One module per matter; this one holds what they share.

mod descriptors;
mod eager;
mod ended;
mod lookup;
mod readiness;
mod signals;
mod source;
mod storms;
mod streams;
mod tcp;
mod udp;
mod unix;

use std::io;
use std::task::Poll;
#[cfg(target_os = "linux")]
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use heirloom::net::{TcpListener, TcpStream};
#[cfg(target_os = "linux")]
use heirloom::wait_for;

/// A listener at a free port.
async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a listener")
}

/// The two ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = listener().await;
    let here = TcpStream::connect(listener.local_addr().unwrap()).await.expect("a connection");
    let (there, peer) = listener.accept().await.expect("a connection");
    assert_eq!(peer, here.local_addr().unwrap());
    (here, there)
}

/// The two ends of a connection, one of them the standard library's, which blocks.
async fn half_std() -> (TcpStream, std::net::TcpStream) {
    let (here, there) = pair().await;
    (here, there.try_into().expect("a socket of the standard library"))
}

/// A listener whose queue is full, so that the system neither accepts nor refuses another
/// connection; and the queue.
#[cfg(target_os = "linux")]
async fn full_listener() -> (std::net::TcpListener, Vec<TcpStream>) {
    let listener = listener().await;
    listener.set_backlog(0).unwrap();
    let listener = std::net::TcpListener::try_from(listener).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    // How many fit is the system's business.
    loop {
        assert!(queued.len() < 64, "the queue is never full");
        match wait_for(TcpStream::connect(address), Duration::from_millis(300)).await {
            Ok(stream) => queued.push(stream.unwrap()),
            Err(_elapsed) => return (listener, queued),
        }
    }
}

/// Reads so many bytes and writes them back, until there are no more.
async fn echo(mut stream: TcpStream) -> io::Result<u64> {
    let mut buffer = [0; 4096];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(total);
        }
        stream.write_all(&buffer[..count]).await?;
        total += count as u64;
    }
}

/// Bytes that tell where they stand and whose they are.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed.wrapping_mul(17)) as u8).collect()
}

/// The result of a poll that was to be ready.
#[track_caller]
fn ready<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("pending"),
    }
}
