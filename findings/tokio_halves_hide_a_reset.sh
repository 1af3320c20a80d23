#!/usr/bin/env bash
# tokio 1.54.1, Linux: of the two halves of a TCP stream, the one that looks first is told of a reset,
# and the other half sees a clean end: a cut body passes for a whole one.
#
# The server sends 1,000 bytes of a longer body and resets. The client has split the stream: one half
# writes until it fails, the other then reads to the end. 40 rounds on loopback.
# Seen: the write fails with ConnectionReset or BrokenPipe; afterwards `read_to_end` of the other half
# returns Ok, in most rounds without a single byte, where a plain read would have failed. (The system
# keeps the error in one place, and clears it when it is told.)
# What one would guess: a reader of a connection that was reset is told so, whatever the writer saw.
#
# Output seen:
#   40 writes failed; afterwards 40 of 40 reads ended cleanly
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
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ROUNDS: usize = 40;

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&[1; 1_000]).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut failed, mut clean) = (0, 0);
    for _ in 0..ROUNDS {
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut reader, mut writer) = stream.into_split();
            // The first byte asks for the body; later ones meet the reset.
            while writer.write_all(&[0]).await.is_ok() {
                tokio::task::yield_now().await;
            }
            failed += 1;
            let mut body = Vec::new();
            clean += usize::from(reader.read_to_end(&mut body).await.is_ok());
        });
    }
    println!("{failed} writes failed; afterwards {clean} of {ROUNDS} reads ended cleanly");
    assert_eq!(failed, ROUNDS);
    assert!(clean > 0, "every reader is told of the reset now");
}
RUST
cargo run --quiet
