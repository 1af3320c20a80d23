#!/usr/bin/env bash
# tonic 0.14.9: a call whose time limit has passed ends with CANCELLED, at the client as well as at
# the server, and not with DEADLINE_EXCEEDED.
#
# A handler sleeps for half a second. Once the client has a limit of 0.1 seconds, set by
# `Request::set_timeout`; once the server has it, set by `Server::timeout`, and the client has none.
# Seen: code 1, CANCELLED, with the message "Timeout expired", both times.
# What one would guess: code 4. In gRPC's list of codes DEADLINE_EXCEEDED says that a limit has
# passed, CANCELLED that the caller gave the call up; clients for Python and node report 4.
# What the documentation says: nothing of a code, neither with `Request::set_timeout`,
# `Endpoint::timeout` and `Server::timeout` nor with `TimeoutExpired`.
# Why it matters: policies of retries and alarms look at DEADLINE_EXCEEDED, and leave CANCELLED out
# since it means that no caller is left.
#
# Output seen:
#   the limit of the client: Cancelled, "Timeout expired"
#   the limit of the server: Cancelled, "Timeout expired"
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
tokio = { version = "=1.54.1", features = ["macros", "rt", "time"] }
tonic = { version = "=0.14.9", default-features = false, features = ["channel", "codegen", "router", "server"] }
tonic-prost = "=0.14.9"
tower = { version = "=0.5.3", features = ["util"] }
TOML
cat >src/main.rs <<'RUST'
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{http, BoxFuture, Service};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

const LIMIT: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Slow;

async fn sleep(_: Request<()>) -> Result<Response<()>, Status> {
    tokio::time::sleep(5 * LIMIT).await;
    Ok(Response::new(()))
}

impl Service<http::Request<Body>> for Slow {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<(), ()>::default());
        Box::pin(async move { Ok(grpc.unary(tower::service_fn(sleep), request).await) })
    }
}

impl tonic::server::NamedService for Slow {
    const NAME: &'static str = "finding.Slow";
}

async fn call(mut server: Server, request: Request<()>) -> Status {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    tokio::spawn(server.add_service(Slow).serve_with_incoming(incoming));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/finding.Slow/Sleep");
    grpc.unary(request, path, ProstCodec::<(), ()>::default()).await.expect_err("the limit is shorter")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut limited = Request::new(());
    limited.set_timeout(LIMIT);
    let of_client = call(Server::builder(), limited).await;
    let of_server = call(Server::builder().timeout(LIMIT), Request::new(())).await;
    for (side, status) in [("client", of_client), ("server", of_server)] {
        println!("the limit of the {side}: {:?}, {:?}", status.code(), status.message());
        assert_eq!(status.code(), Code::Cancelled, "a limit that passed is a code of its own now");
    }
}
RUST
cargo run --quiet
