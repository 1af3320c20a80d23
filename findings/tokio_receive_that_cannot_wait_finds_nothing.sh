#!/usr/bin/env bash
# tokio 1.54.1 with futures 0.3.34: `receiver.recv().now_or_never()` says that there is nothing,
# while hundreds of messages are there.
#
# A task sends itself 1,000 messages, and takes out what is there: by `recv().now_or_never()` until
# that has nothing, or in one go by `ready_chunks(1000)`. Seen: either ends after 128 messages.
# `try_recv` finds the others. Each time that a task is run it may use tokio's resources 128 times,
# and is told to wait the next time, whatever there is, so that it yields. A combinator that polls
# once cannot tell that from an empty channel. On the executor of futures all 1,000 are taken.
# What one would guess: a poll that is ready at once is what `now_or_never` is for, and a channel
# that has messages is ready.
# What the documentation says: the page of `mpsc` that the channel "participates in cooperative
# scheduling", and `task::coop` that functions of tokio yield now and then. Neither `recv` nor the
# combinators say what that is for code that polls without waiting.
# Why it matters: code that empties a channel in this way before it ends leaves the rest there, and
# does so under load alone.
#
# Output seen:
#   tokio:   now_or_never took 128, try_recv then 872; ready_chunks took 128
#   futures: now_or_never took 1000, try_recv then 0; ready_chunks took 1000
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
futures = { version = "=0.3.34", default-features = false, features = ["executor", "std"] }
tokio = { version = "=1.54.1", features = ["macros", "rt", "sync"] }
TOML
cat >src/main.rs <<'RUST'
use futures::{stream, FutureExt, StreamExt};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};

const MESSAGES: usize = 1_000;

fn full() -> UnboundedReceiver<usize> {
    let (sender, receiver) = unbounded_channel();
    (0..MESSAGES).for_each(|message| sender.send(message).unwrap());
    receiver
}

async fn one_by_one() -> (usize, usize) {
    let mut receiver = full();
    let (mut taken, mut left) = (0, 0);
    while let Some(Some(_)) = receiver.recv().now_or_never() {
        taken += 1;
    }
    while receiver.try_recv().is_ok() {
        left += 1;
    }
    (taken, left)
}

async fn in_one_go() -> usize {
    let mut receiver = full();
    let messages = stream::poll_fn(|cx| receiver.poll_recv(cx));
    messages.ready_chunks(MESSAGES).next().await.unwrap().len()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let ((taken, left), chunk) =
        (tokio::spawn(one_by_one()).await.unwrap(), tokio::spawn(in_one_go()).await.unwrap());
    println!("tokio:   now_or_never took {taken}, try_recv then {left}; ready_chunks took {chunk}");
    let outside = std::thread::spawn(|| {
        futures::executor::block_on(async { (one_by_one().await, in_one_go().await) })
    });
    let ((all, none), whole) = outside.join().unwrap();
    println!("futures: now_or_never took {all}, try_recv then {none}; ready_chunks took {whole}");
    assert_eq!((all, none, whole), (MESSAGES, 0, MESSAGES));
    assert!(taken < MESSAGES && taken + left == MESSAGES, "now_or_never finds all messages now");
    assert!(chunk < MESSAGES, "a chunk is whole now");
}
RUST
cargo run --quiet
