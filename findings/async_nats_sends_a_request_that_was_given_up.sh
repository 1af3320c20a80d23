#!/usr/bin/env bash
# async-nats 0.50.0 with nats-server 2.9.10 (Debian 12): a request that has failed, or was dropped,
# while the client was not connected, is sent when the client is connected again.
#
# The server is ended. Once the client has noticed, it makes a request that fails after its limit of
# half a second, and one that is dropped by a timeout. Then the server is started again. Seen: both
# requests arrive there, after they have been given up. They wait in the client's queue of commands,
# of which a request that ends does not take its own out.
# What one would guess: a request that ended by "request timed out" may or may not have been sent
# until then, and is not sent any more.
# What the documentation says: `request_timeout` is a timeout for `Client::request`, and there is a
# channel for commands that has room for so many. It does not say what waits there without a server.
# Why it matters: a caller that tries again has the job done twice, or more often: one attempt for
# each limit that passed. A job that was of use for seconds is done after minutes.
#
# Output seen:
#   the first:  request timed out: deadline has elapsed
#   the second: dropped
#   the server is back: the first, the second
set -euo pipefail
export PATH=$PATH:/usr/sbin
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
async-nats = { version = "=0.50.0", default-features = false, features = ["ring"] }
futures-util = "0.3"
tokio = { version = "=1.54.1", features = ["macros", "process", "rt-multi-thread", "time"] }
TOML
cat >src/main.rs <<'RUST'
use std::process::Stdio;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_millis(500);

fn start(port: &str) -> Child {
    let mut server = Command::new("nats-server");
    server.args(["-a", "127.0.0.1", "-p", port]).stderr(Stdio::null()).kill_on_drop(true);
    server.spawn().unwrap()
}

async fn until(client: &Client, connected: bool) {
    while (client.connection_state() == State::Connected) != connected {
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::main]
async fn main() {
    let port = std::env::args().nth(1).unwrap();
    let mut server = start(&port);
    let options = ConnectOptions::new().retry_on_initial_connect().request_timeout(Some(LIMIT));
    let client = options.connect(format!("127.0.0.1:{port}")).await.unwrap();
    // A subscription that is renewed with the connection, before anything else is sent.
    let mut jobs = client.subscribe("jobs").await.unwrap();
    until(&client, true).await;
    client.flush().await.unwrap();

    server.kill().await.unwrap();
    until(&client, false).await;
    let first = client.request("jobs", "the first".into()).await;
    println!("the first:  {}", first.expect_err("there is no server"));
    let second = timeout(LIMIT / 5, client.request("jobs", "the second".into())).await;
    println!("the second: {}", if second.is_err() { "dropped" } else { "answered" });

    let _server = start(&port);
    until(&client, true).await;
    let mut received = Vec::new();
    while let Ok(Some(job)) = timeout(2 * LIMIT, jobs.next()).await {
        received.push(String::from_utf8(job.payload.to_vec()).unwrap());
    }
    println!("the server is back: {}", received.join(", "));
    assert_eq!(received, ["the first", "the second"], "a request that was given up is not sent now");
}
RUST
cargo run --quiet -- "$port"
