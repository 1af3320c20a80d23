#!/usr/bin/env bash
# hyper-util 0.1.21 with hyper 1.12.0 over HTTP/2: a caller that gives up while the pool connects fails all callers that
# wait for the same connection, whatever their own limits are.
#
# Two requests to one server through one client with `http2_only`. Connecting takes 0.3 seconds. The
# first request has a limit of 0.1 seconds, the second, begun right after it, one of an hour. Seen:
# when the first is dropped at 0.1 seconds, the second fails at once with `request was canceled`,
# though it was not, and though `retry_canceled_requests` is on, as it is by default. A third
# request, begun after that, succeeds.
# What one would guess: the connection is made for both, so that the second goes on with it, or
# begins one of its own.
# Why it matters: while a server is slow to accept, the shortest limit of any caller becomes the
# limit of all.
#
# Output seen:
#   first:  given up after 0.1 s
#   second: client error (Connect): request was canceled, after 0.1 s
#   third:  200 OK
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
hyper = { version = "=1.12.0", features = ["client", "http2", "server"] }
hyper-util = { version = "=0.1.21", features = ["client-legacy", "http2", "tokio"] }
tokio = { version = "=1.54.1", features = ["macros", "net", "rt", "time"] }
tower = { version = "=0.5.3", features = ["util"] }
TOML
cat >src/main.rs <<'RUST'
use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

async fn serve(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(http2.serve_connection(TokioIo::new(stream), answer));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(serve(listener));

    // The usual connector, after a moment.
    let slow = tower::service_fn(|uri: Uri| {
        Box::pin(async {
            sleep(Duration::from_millis(300)).await;
            HttpConnector::new().oneshot(uri).await
        })
    });
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build(slow);

    let begun = Instant::now();
    let first = timeout(Duration::from_millis(100), client.get(uri.clone()));
    let second = async {
        let ended = timeout(Duration::from_secs(3_600), client.get(uri.clone())).await.unwrap();
        (ended, begun.elapsed())
    };
    let (first, (second, after)) = tokio::join!(first, second);
    assert!(first.is_err());
    println!("first:  given up after 0.1 s");
    let error = second.expect_err("a caller that waits survives now");
    println!("second: {error}: {}, after {:.1} s", error.source().unwrap(), after.as_secs_f32());
    assert!(after < Duration::from_millis(290));
    let third = client.get(uri).await.unwrap();
    println!("third:  {}", third.status());
}
RUST
cargo run --quiet
