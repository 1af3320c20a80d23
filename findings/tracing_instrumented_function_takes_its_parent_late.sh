#!/usr/bin/env bash
# tracing 0.1.44 with tracing-attributes 0.1.31: the span of an `async fn` under `#[instrument]` is
# made at the future's first poll, so that the span in which the function was called is not its
# parent, unless the future is first polled there too.
#
# Two futures are made inside the span `request`: by an `async fn` with `#[instrument]`, and by one
# with `.instrument(info_span!(..))` at the call. Each goes to `tokio::spawn` inside the span.
# Seen: the span of the first has no parent, that of the second has `request`.
# What one would guess: the attribute is the short form of the method, as their names say, and both
# make the span where the function is called, of which it notes the arguments.
# What the documentation says: the attribute makes and enters a span every time that the function is
# called, and an `async fn` may be instrumented too. By default the parent is the current span.
# Why it matters: `tokio::spawn(work())` begins a new trace in the one spelling and continues the
# caller's in the other, and a join of futures that were made under different spans puts all of
# them under the span of the join.
#
# Output seen:
#   #[instrument]: work
#   .instrument(): request:work
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
tokio = { version = "=1.54.1", features = ["macros", "rt"] }
tracing = "=0.1.44"
tracing-attributes = "=0.1.31"
tracing-subscriber = { version = "=0.3.23", default-features = false, features = ["registry", "std"] }
TOML
cat >src/main.rs <<'RUST'
use tracing::{info_span, instrument, Instrument, Span};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::Registry;

/// The names of the current span and those around it, the outermost first.
fn spans() -> String {
    let names = Span::current().with_subscriber(|(id, dispatch)| {
        let registry: &Registry = dispatch.downcast_ref().unwrap();
        let names: Vec<_> = registry.span(id).unwrap().scope().from_root().map(|span| span.name()).collect();
        names.join(":")
    });
    names.unwrap_or_default()
}

#[instrument(name = "work")]
async fn by_attribute() -> String {
    spans()
}

async fn plain() -> String {
    spans()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
    let request = info_span!("request");
    let attribute = request.in_scope(|| tokio::spawn(by_attribute())).await.unwrap();
    let method = request.in_scope(|| tokio::spawn(plain().instrument(info_span!("work")))).await.unwrap();
    println!("#[instrument]: {attribute}");
    println!(".instrument(): {method}");
    assert_eq!(method, "request:work");
    assert_eq!(attribute, "work", "the span of the call is the parent now");
}
RUST
cargo run --quiet
