#!/usr/bin/env bash
# async-nats 0.50.0: a pull request with a heartbeat (`batch().heartbeat(..)`, and `fetch()` alike)
# does not hand over a message that comes after the first heartbeat. The stream ends without it,
# five seconds after the request has expired.
#
# The client asks for one message within two seconds. The message is published after one second.
# Seen: without a heartbeat the message is there after one second. With one each 200 ms, the stream
# is at rest from the first heartbeat on: it takes the heartbeat, answers "pending", and has left no
# waker with the channel that it has read. The next thing that wakes it is its own timer, at seven
# seconds, which it looks at before the channel: it ends, and what has arrived is dropped. A job is
# delivered again when its `ack_wait` has passed, and meets the same there.
# What one would guess: a heartbeat is passed over, and the message is handed over.
#
# Output seen:
#   heartbeat None: the message after 1 s
#   heartbeat Some(200ms): the end of the batch after 7 s
set -euo pipefail
export PATH=$PATH:/usr/sbin
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
nats-server -js -a 127.0.0.1 -p "$port" --store_dir store 2>/dev/null &
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
async-nats = { version = "=0.50.0", default-features = false, features = ["jetstream", "ring"] }
futures-util = "0.3"
tokio = { version = "1", features = ["macros", "rt-multi-thread", "time"] }
TOML
cat >src/main.rs <<'RUST'
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer::pull, stream};
use futures_util::StreamExt;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let client = async_nats::connect(std::env::args().nth(1).ok_or("the address")?).await?;
    let context = jetstream::new(client);
    let config = stream::Config { name: "jobs".into(), subjects: vec!["jobs".into()], ..Default::default() };
    let jobs = context.create_stream(config).await?;
    for heartbeat in [None, Some(Duration::from_millis(200))] {
        jobs.purge().await?;
        let consumer = jobs.create_consumer(pull::Config::default()).await?;
        let batch = consumer.batch().max_messages(1).expires(Duration::from_secs(2));
        let batch = match heartbeat {
            Some(heartbeat) => batch.heartbeat(heartbeat),
            None => batch,
        };
        let begun = Instant::now();
        let mut messages = batch.messages().await?;
        let publish = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            context.publish("jobs", "a job".into()).await?.await?;
            Result::Ok(())
        };
        let (message, published) = tokio::join!(messages.next(), publish);
        published?;
        let came = if message.is_some() { "the message" } else { "the end of the batch" };
        let seconds = begun.elapsed().as_secs();
        println!("heartbeat {heartbeat:?}: {came} after {seconds} s");
        assert_eq!(message.is_some(), heartbeat.is_none(), "heartbeats are passed over");
    }
    Ok(())
}
RUST
cargo run --quiet -- "127.0.0.1:$port"
