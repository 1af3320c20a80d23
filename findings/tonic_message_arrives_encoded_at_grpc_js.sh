#!/usr/bin/env bash
# tonic 0.14.9 and @grpc/grpc-js 1.14.7: a `?` or a `#` in the message of a status arrives at a
# client on node as `%3F` or `%23`.
#
# A server of tonic answers with NOT_FOUND and a message. Clients of node and of Python (grpcio
# 1.85.3) call it. Seen: tonic percent-encodes ten of the printable characters, among them `?` and
# `#`. Python decodes all of them. node leaves these two as they are, for it decodes by
# `decodeURI`, which keeps what has a meaning in an address.
# What one would guess: a message that one implementation encodes the other decodes.
# What the documentation says: gRPC's wire format has a sender encode `%` and what is not printable
# ASCII, and lets any byte be encoded; a receiver decodes what is. The pages of both libraries do
# not speak of it.
# Why it matters: a message that has a question or an address in it is shown spoilt, and a client
# that compares it does not know it again.
#
# Output seen:
#   sent:   job #7 of 50%: where is it?
#   Python: job #7 of 50%: where is it?
#   node:   job %237 of 50%: where is it%3F
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
tokio = { version = "=1.54.1", features = ["macros", "rt", "time"] }
tonic = { version = "=0.14.9", default-features = false, features = ["channel", "codegen", "router", "server"] }
tonic-prost = "=0.14.9"
tower = { version = "=0.5.3", features = ["util"] }
TOML
cat >src/main.rs <<'RUST'
use std::convert::Infallible;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{http, BoxFuture, Service};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

#[derive(Clone)]
struct Jobs;

async fn find(_: Request<()>) -> Result<Response<()>, Status> {
    Err(Status::not_found(std::env::args().nth(1).unwrap()))
}

impl Service<http::Request<Body>> for Jobs {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<(), ()>::default());
        Box::pin(async move { Ok(grpc.unary(tower::service_fn(find), request).await) })
    }
}

impl tonic::server::NamedService for Jobs {
    const NAME: &'static str = "finding.Jobs";
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    println!("{}", incoming.local_addr().unwrap());
    tonic::transport::Server::builder().add_service(Jobs).serve_with_incoming(incoming).await.unwrap();
}
RUST
cargo build --quiet
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpcio==1.85.3
npm install --silent --no-audit --no-fund --prefix node @grpc/grpc-js@1.14.7

cat >python.py <<'PYTHON'
import sys

import grpc

find = grpc.insecure_channel(sys.argv[1]).unary_unary("/finding.Jobs/Find")
try:
    find(b"", timeout=10)
except grpc.RpcError as error:
    print(error.details())
PYTHON
cat >node/node.cjs <<'NODE'
const grpc = require('@grpc/grpc-js');
const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
const same = (bytes) => bytes;
const deadline = Date.now() + 10_000;
client.makeUnaryRequest('/finding.Jobs/Find', same, same, Buffer.alloc(0), new grpc.Metadata(), { deadline }, (error) => {
    console.log(error.details);
    client.close();
});
NODE
sent='job #7 of 50%: where is it?'
cargo run --quiet -- "$sent" >address &
until [ -s address ]; do sleep 0.1; done
address=$(cat address)
at_python=$(venv/bin/python python.py "$address")
at_node=$(node node/node.cjs "$address")
printf 'sent:   %s\nPython: %s\nnode:   %s\n' "$sent" "$at_python" "$at_node"
[ "$at_python" = "$sent" ] || { echo "Python no longer decodes it" && exit 1; }
[ "$at_node" = 'job %237 of 50%: where is it%3F' ] || { echo "the message is whole now" && exit 1; }
