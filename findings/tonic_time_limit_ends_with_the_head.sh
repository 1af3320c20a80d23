#!/usr/bin/env bash
# tonic 0.14.9: the time limit of a call, `Request::set_timeout`, ends with the head of the response. A stream that
# follows has no limit, neither at the client nor at the server.
#
# A server answers with a stream of ten numbers, one each 0.1 seconds. A client calls with a limit of
# 0.3 seconds, which goes to the server as `grpc-timeout`. Seen: all ten numbers arrive, in a second,
# and no status says that a limit has passed.
# What one would guess: the deadline of a call of gRPC is that of the whole call, its stream
# included, so that the stream ends after 0.3 seconds with DEADLINE_EXCEEDED, and the server stops.
# Why it matters: a stream that stalls is waited for without end.
#
# Output seen:
#   10 of 10 numbers in 1.0 s, with a limit of 0.3 s
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
tokio = { version = "=1.54.1", features = ["macros", "rt", "time"] }
tonic = { version = "=0.14.9", default-features = false, features = ["channel", "codegen", "router", "server"] }
tonic-prost = "=0.14.9"
tower = { version = "=0.5.3", features = ["util"] }
TOML
cat >src/main.rs <<'RUST'
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{http, BoxFuture, Service};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

#[derive(Clone)]
struct Ticks;

async fn ticks(_: Request<()>) -> Result<Response<stream::BoxStream<'static, Result<u32, Status>>>, Status> {
    let ticks = stream::iter(0..10).then(|number| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(number)
    });
    Ok(Response::new(ticks.boxed()))
}

impl Service<http::Request<Body>> for Ticks {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<u32, ()>::default());
        Box::pin(async move { Ok(grpc.server_streaming(tower::service_fn(ticks), request).await) })
    }
}

impl tonic::server::NamedService for Ticks {
    const NAME: &'static str = "finding.Ticks";
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    tokio::spawn(Server::builder().add_service(Ticks).serve_with_incoming(incoming));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let (mut request, begun) = (Request::new(()), Instant::now());
    request.set_timeout(Duration::from_millis(300));
    let path = PathAndQuery::from_static("/finding.Ticks/Ticks");
    let answer = grpc.server_streaming(request, path, ProstCodec::<(), u32>::default()).await.unwrap();
    let got: Vec<_> = answer.into_inner().collect().await;
    let arrived = got.iter().filter(|number| number.is_ok()).count();
    println!("{arrived} of 10 numbers in {:.1} s, with a limit of 0.3 s", begun.elapsed().as_secs_f32());
    assert_eq!((arrived, got.len()), (10, 10), "the limit ends the stream now: {:?}", got.last());
}
RUST
cargo run --quiet
