#!/usr/bin/env bash
# redis 1.8.1 with tokio 1.54.1 and Redis 7.0: with default settings `BLPOP key 0`, which waits
# without a limit, ends after 0.5 seconds by "timed out", and takes the next element of the list
# nevertheless, which is lost.
#
# A connection of `get_multiplexed_async_connection` has a response timeout of 0.5 seconds. It gives
# up the answer, not the command: the server goes on waiting. When another connection pushes an
# element, the server pops it for the command that was given up; the answer is dropped. The
# connection works on, so that nothing tells of it. The same happens when the future is dropped.
# What one would guess: a command that blocks by its nature is not cut by a default, or the
# connection is closed with it, so that the server does not pop for it.
# `AsyncConnectionConfig::set_response_timeout(None)` is the way out.
#
# Needs redis-server, which `.ci/ecosystem` installs where it may, and starts.
#
# Output seen:
#   BLPOP: Err(timed out) after 0.5 s; one element pushed then; elements in the list: 0; PING on the first connection: Ok("PONG")
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
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
tokio = { version = "=1.54.1", features = ["macros", "rt"] }
redis = { version = "=1.8.1", default-features = false, features = ["tokio-comp"] }
TOML
cat >src/main.rs <<'RUST'
use std::time::Instant;

use redis::{cmd, Client};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let client = Client::open(std::env::var("REDIS_URL").unwrap()).unwrap();
    let mut first = client.get_multiplexed_async_connection().await.unwrap();
    let mut second = client.get_multiplexed_async_connection().await.unwrap();
    let begun = Instant::now();
    let popped = cmd("BLPOP").arg("list").arg(0).exec_async(&mut first).await;
    let took = begun.elapsed().as_secs_f32();
    cmd("RPUSH").arg("list").arg("element").exec_async(&mut second).await.unwrap();
    let left: u32 = cmd("LLEN").arg("list").query_async(&mut second).await.unwrap();
    let ping = cmd("PING").query_async::<String>(&mut first).await;
    println!(
        "BLPOP: {popped:?} after {took:.1} s; one element pushed then; elements in the list: {left}; \
         PING on the first connection: {ping:?}"
    );
    assert!(popped.is_err() && left == 0, "no element is lost now");
}
RUST
"$root/.ci/ecosystem" --servers cargo run --quiet --manifest-path "$folder/Cargo.toml"
