#!/usr/bin/env bash
# hyper 1.12.0: a client's cookies that came as one header over HTTP/1 come as several over HTTP/2,
# and `headers().get("cookie")` has the first of them alone.
#
# A client on node sends two cookies, in the same way both times. Over HTTP/1 node joins them to one
# line. Over HTTP/2 each goes as a field of its own, as the standard allows, so that those that stay
# the same are compressed well. Seen: hyper's server hands over the fields as they came. A server of
# node joins them.
# What one would guess: what a handler sees does not depend on the version. The standard (RFC 9113,
# 8.2.3) has a receiver join such fields by "; " before they go to a generic server application.
# What the documentation says: hyper and h2 do not speak of cookies.
# Why it matters: a handler that reads the header by `get`, as it is right for HTTP/1, loses all
# cookies but one as soon as a client speaks HTTP/2, and only with clients that divide them.
#
# Output seen:
#   HTTP/1 to hyper: get Some("a=1; b=2"), all ["a=1; b=2"]
#   HTTP/2 to hyper: get Some("a=1"), all ["a=1", "b=2"]
#   HTTP/2 to node:  a=1; b=2
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
h2 = "=0.4.20"
http-body-util = "=0.1.5"
hyper = { version = "=1.12.0", features = ["http1", "http2", "server"] }
hyper-util = { version = "=0.1.21", features = ["server-auto", "tokio"] }
tokio = { version = "=1.54.1", features = ["macros", "net", "rt"] }
TOML
cat >src/main.rs <<'RUST'
use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

/// Answers with the cookies as a handler sees them.
async fn cookies(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (first, all) = (request.headers().get("cookie"), request.headers().get_all("cookie"));
    let seen = format!("get {first:?}, all {:?}", all.iter().collect::<Vec<_>>());
    Ok(Response::new(Full::from(seen)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service_fn(cookies)).await;
        });
    }
}
RUST
cat >node.cjs <<'NODE'
const http = require('node:http');
const http2 = require('node:http2');
const { text } = require('node:stream/consumers');
const cookie = ['a=1', 'b=2'];

async function overHttp1(port) {
    const response = await new Promise((answered) => http.get({ port, headers: { cookie } }, answered));
    return text(response);
}

async function overHttp2(port) {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    const answer = await text(session.request({ ':path': '/', cookie }));
    session.close();
    return answer;
}

(async () => {
    const hyper = Number(process.argv[2]);
    const server = http2.createServer((request, response) => response.end(request.headers.cookie));
    await new Promise((listens) => server.listen(0, '127.0.0.1', listens));
    const [one, two] = [await overHttp1(hyper), await overHttp2(hyper)];
    const node = await overHttp2(server.address().port);
    server.close();
    console.log(`HTTP/1 to hyper: ${one}\nHTTP/2 to hyper: ${two}\nHTTP/2 to node:  ${node}`);
    if (one !== 'get Some("a=1; b=2"), all ["a=1; b=2"]') throw Error('HTTP/1 is another');
    if (two !== 'get Some("a=1"), all ["a=1", "b=2"]') throw Error('the cookies are joined now');
})();
NODE
cargo build --quiet
cargo run --quiet >port &
until [ -s port ]; do sleep 0.1; done
node node.cjs "$(cat port)"
