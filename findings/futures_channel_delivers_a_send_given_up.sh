#!/usr/bin/env bash
# futures-channel 0.3.34: a `send` into `mpsc::channel(0)` that its sender has given up is
# delivered all the same.
#
# A channel without room of its own. A sender sends 1, is told to wait, and drops the send; then the
# receiver asks. Seen: the receiver gets 1. The first poll of `send` puts the message into the
# channel, for each sender has one place there; what it waits for after that is that the receiver
# takes the message. So a `select!` or a timeout around `send` says "not sent" of a message that is
# received, and a program that sends it again sends it twice.
# What one would guess: as with tokio's and async-channel's `send`, a send that was dropped before
# it was ready has sent nothing.
#
# Output seen:
#   the send was ready: false
#   received after it was dropped: Ok(1)
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
futures = { version = "=0.3.34", default-features = false, features = ["std"] }
futures-channel = "=0.3.34"
TOML
cat >src/main.rs <<'RUST'
use futures::channel::mpsc;
use futures::{FutureExt, SinkExt};

fn main() {
    let (mut sender, mut receiver) = mpsc::channel(0);
    // A poll, after which the future is dropped.
    let ready = sender.send(1).now_or_never();
    println!("the send was ready: {}", ready.is_some());
    let received = receiver.try_recv();
    println!("received after it was dropped: {received:?}");
    assert!(ready.is_none(), "there is room for a message now");
    assert_eq!(received.ok(), Some(1), "a send that was given up is not delivered any more");
}
RUST
cargo run --quiet
