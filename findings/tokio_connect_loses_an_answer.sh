#!/usr/bin/env bash
# tokio 1.54.1, Linux: `TcpStream::connect` fails, and loses the answer, where std's blocking client
# reads it: if a server has answered and reset the connection before the connect is looked at again.
#
# The server accepts, writes 6 bytes and closes with SO_LINGER 0, so that a reset follows the answer.
# The client sends nothing. Both clients begin to connect, wait until the server is done, and go on:
# 100 times each, on loopback.
# Seen: std reads the 6 bytes each time, since the system keeps what came before the reset. tokio's
# connect returns ConnectionReset each time: when the socket is writable, it asks for SO_ERROR, finds
# the reset, and gives the socket up with what was received.
# What one would guess: what arrived before the reset can be read, as by any other client.
#
# Output seen:
#   std:   100 answers of 100
#   tokio: 0 answers of 100, 100 times connect failed with ConnectionReset
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
tokio = { version = "=1.54.1", features = ["rt", "net", "io-util"] }
socket2 = "=0.6.5"
TOML
cat >src/main.rs <<'RUST'
use std::future::{poll_fn, Future};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

use tokio::io::AsyncReadExt;

const ROUNDS: usize = 100;

/// Says when it is done with each connection.
fn serve() -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (say, done) = channel();
    std::thread::spawn(move || loop {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"answer").unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        say.send(()).unwrap();
    });
    (address, done)
}

fn main() {
    let (address, done) = serve();
    let mut std_answers = 0;
    for _ in 0..ROUNDS {
        let mut answer = [0; 6];
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        done.recv().unwrap();
        std_answers += usize::from(stream.read_exact(&mut answer).is_ok());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut answers, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        runtime.block_on(async {
            let mut connecting = pin!(tokio::net::TcpStream::connect(address));
            let mut begun = false;
            let connected = poll_fn(|cx| {
                let poll = connecting.as_mut().poll(cx);
                if !begun && poll.is_pending() {
                    done.recv().unwrap();
                }
                begun = true;
                poll
            });
            let mut answer = [0; 6];
            match connected.await {
                Ok(mut stream) => answers += usize::from(stream.read_exact(&mut answer).await.is_ok()),
                Err(error) => refused += usize::from(error.kind() == ErrorKind::ConnectionReset),
            }
        });
    }
    println!("std:   {std_answers} answers of {ROUNDS}");
    println!("tokio: {answers} answers of {ROUNDS}, {refused} times connect failed with ConnectionReset");
    assert_eq!(std_answers, ROUNDS);
    assert!(refused > ROUNDS / 2, "connect no longer fails");
}
RUST
cargo run --quiet
