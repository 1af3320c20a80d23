#!/usr/bin/env bash
# async-channel 2.5.0: a receiver that is used as a Stream is woken by every message, also if another receiver gets it.
#
# Seen: 100 receivers wait, each as a stream, and 100 messages are sent one at a time, each after
# all woken receivers were polled. Each message is received once, and costs a poll of each receiver
# that waits: 5,150 polls in all. With `recv().await` in place of the stream the same takes 299.
# What one would guess: a message wakes one receiver of those that wait, either way, for each
# message goes to one of them.
# Why it matters: a pool of workers that take jobs with `StreamExt::next` does work that grows with
# the square of its size.
#
# Output seen:
#   streams: 100 received, 5150 polls
#   recv:    100 received, 299 polls
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
async-channel = "=2.5.0"
futures = { version = "=0.3.34", default-features = false, features = ["std"] }
TOML
cat >src/main.rs <<'RUST'
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures::StreamExt;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

type Task = Pin<Box<dyn Future<Output = u32>>>;

/// Polls what was woken until nothing is.
fn run(tasks: &mut Vec<(Option<Task>, Arc<Flag>)>, polls: &mut u32, received: &mut u32) {
    loop {
        let mut any = false;
        for (task, flag) in tasks.iter_mut() {
            if !flag.0.swap(false, Ordering::SeqCst) {
                continue;
            }
            let Some(future) = task else { continue };
            any = true;
            *polls += 1;
            let waker = Waker::from(flag.clone());
            if let Poll::Ready(_) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                *received += 1;
                *task = None;
            }
        }
        if !any {
            return;
        }
    }
}

fn count(as_streams: bool) -> (u32, u32) {
    let (sender, receiver) = async_channel::unbounded::<u32>();
    let mut tasks: Vec<_> = (0..100)
        .map(|_| {
            let mut receiver = Box::pin(receiver.clone());
            let task: Task = match as_streams {
                true => Box::pin(async move { receiver.next().await.unwrap() }),
                false => Box::pin(async move { receiver.recv().await.unwrap() }),
            };
            (Some(task), Arc::new(Flag(AtomicBool::new(true))))
        })
        .collect();
    let (mut polls, mut received) = (0, 0);
    run(&mut tasks, &mut polls, &mut received);
    for message in 0..100 {
        sender.try_send(message).unwrap();
        run(&mut tasks, &mut polls, &mut received);
    }
    (received, polls)
}

fn main() {
    let ((streams, stream_polls), (recv, recv_polls)) = (count(true), count(false));
    println!("streams: {streams} received, {stream_polls} polls");
    println!("recv:    {recv} received, {recv_polls} polls");
    assert_eq!((streams, recv), (100, 100));
    assert!(stream_polls > 5_000, "a message no longer wakes every stream");
    assert!(recv_polls <= 300);
}
RUST
cargo run --quiet
