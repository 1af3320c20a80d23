#!/usr/bin/env bash
# hyper 1.12.0: after graceful_shutdown an HTTP/1 server closes a kept connection in the middle of a
# head, and waits on in a new one.
#
# Seen: a client has sent the first bytes of a request's head. The server calls `graceful_shutdown`.
# If the connection has had a request before, it is closed at once. If the head is the connection's
# first, the server waits for the rest, until the header timeout (here one second; without a timer
# and a timeout it would wait for as long as the client likes), and a client that completes the head
# in time is answered.
# What one would guess: the same in both, since the page says that an idle connection is closed and
# a request that is being served is completed, and here no request has been read in either.
# Why it matters: a server that drains by `graceful_shutdown` alone waits for each new client that
# is slow. A server has to notice itself which of its connections have had a request, and drop the
# others.
#
# Output seen:
#   a kept connection:  closed at once
#   a new connection:   closed after the header timeout
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
http-body-util = "=0.1.5"
hyper = { version = "=1.12.0", features = ["http1", "server"] }
hyper-util = { version = "=0.1.21", features = ["tokio"] }
tokio = { version = "=1.54.1", features = ["io-util", "macros", "rt", "time"] }
TOML
cat >src/main.rs <<'RUST'
use std::convert::Infallible;
use std::pin::pin;
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

const TIMEOUT: Duration = Duration::from_secs(1);

/// How long the connection stays after `graceful_shutdown`, when the client has sent `first`, has
/// read an answer if there is one, and has sent a part of a head.
async fn stays(first: &'static [u8]) -> Duration {
    let (mut client, server) = tokio::io::duplex(1 << 12);
    let answer = |_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(TIMEOUT);
    let mut connection = pin!(http.serve_connection(TokioIo::new(server), service_fn(answer)));
    let talk = async {
        client.write_all(first).await.unwrap();
        if !first.is_empty() {
            assert!(client.read(&mut [0; 1 << 10]).await.unwrap() > 0);
        }
        client.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
        sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        _ = connection.as_mut() => panic!("closed too early"),
        () = talk => {}
    }
    let begun = Instant::now();
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
    begun.elapsed()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let kept = stays(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let new = stays(b"").await;
    let text = |time: Duration| if time < TIMEOUT / 2 { "closed at once" } else { "closed after the header timeout" };
    println!("a kept connection:  {}", text(kept));
    println!("a new connection:   {}", text(new));
    assert!(kept < TIMEOUT / 2 && new >= TIMEOUT / 2, "{kept:?} {new:?}");
}
RUST
cargo run --quiet
