#!/usr/bin/env bash
# axum 0.8.9 with tokio 1.54.1: a task-local that a middleware sets around `next.run(request)` is
# not there any more when a body that is streamed is made.
#
# A middleware sets the value in the way that axum's front page shows. One handler reads it
# and answers with a text; the other answers with a stream, as with server-sent events, whose item
# reads it. Seen: the handlers have the value, the stream has none. What `next.run` returns is a
# response with a body that is still to be polled, and hyper polls it when the scope has ended.
# What one would guess: the value is there for the request, until its response has been sent.
# What the documentation says: axum's front page, "Using task-local variables", has `scope` around
# `next.run(req)` for state that an `IntoResponse` reads, and names one downside, which is that the
# executor must have such variables. It does not speak of bodies.
# Why it matters: `USER.with(..)` in the stream panics, after the status 200 has been sent; and what
# is logged while the body is made has no user.
#
# Output seen:
#   a text:   handler Ok(7)
#   a stream: handler Ok(7), stream Err(AccessError)
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
axum = { version = "=0.8.9", default-features = false }
futures = { version = "=0.3.34", default-features = false, features = ["std"] }
http-body-util = "=0.1.5"
tokio = { version = "=1.54.1", features = ["macros", "rt"] }
tower = { version = "=0.5.3", features = ["util"] }
TOML
cat >src/main.rs <<'RUST'
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::Router;
use futures::stream;
use http_body_util::BodyExt;
use tower::ServiceExt;

tokio::task_local! {
    static USER: u32;
}

fn user() -> String {
    format!("{:?}", USER.try_with(|user| *user))
}

async fn with_user(request: Request, next: Next) -> Response {
    USER.scope(7, next.run(request)).await
}

async fn text() -> String {
    format!("handler {}", user())
}

async fn streamed() -> Body {
    let handler = user();
    let item = async move { Ok::<_, Infallible>(format!("handler {handler}, stream {}", user())) };
    Body::from_stream(stream::once(item))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let routes = Router::new().route("/text", get(text)).route("/stream", get(streamed));
    let routes = routes.layer(middleware::from_fn(with_user));
    let read = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    let (text, stream) = (read("/text").await, read("/stream").await);
    println!("a text:   {text}\na stream: {stream}");
    assert_eq!(text, "handler Ok(7)");
    assert_eq!(stream, "handler Ok(7), stream Err(AccessError)", "the body is in the scope now");
}
RUST
cargo run --quiet
