#!/usr/bin/env bash
# hyper-util 0.1.21 with hyper 1.12.0 over HTTP/1: a connection is not back in the pool when its answer was read.
#
# One client sends requests one after the other, each after the answer before was read to its end,
# on tokio's current-thread runtime. The server keeps connections alive, and answers with the head
# first and the body in a packet of its own. 
#
# Output seen:
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
hyper = { version = "=1.12.0", features = ["client", "http1", "server"] }
hyper-util = { version = "=0.1.21", features = ["client-legacy", "http1", "tokio"] }
tokio = { version = "=1.54.1", features = ["macros", "net", "rt", "time", "rt-multi-thread"] }
TOML
cat >src/main.rs <<'RUST'
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

static CONNECTIONS: AtomicU32 = AtomicU32::new(0);

async fn serve(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        CONNECTIONS.fetch_add(1, Relaxed);
        let answer = service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"an answer"))))
        });
        let http1 = hyper::server::conn::http1::Builder::new();
        tokio::spawn(http1.serve_connection(TokioIo::new(stream), answer));
    }
}

async fn ask(count: u32, pause: bool) -> u32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: hyper::Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    CONNECTIONS.store(0, Relaxed);
    tokio::spawn(serve(listener));
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    for _ in 0..count {
        let answer = client.get(url.clone()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "an answer");
        if pause {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    CONNECTIONS.load(Relaxed)
}

fn main() {
    let run = |pause| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(ask(100, pause));
    println!("at once: {} connections", run(false));
    println!("with a pause: {} connections", run(true));
    let run = |pause| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(ask(100, pause));
    println!("at once: {} connections", run(false));
    println!("with a pause: {} connections", run(true));
}
RUST
cargo run --quiet
