#!/usr/bin/env bash
# opentelemetry_sdk 0.33.1: `BaggagePropagator` does not escape `%`, and cuts a value at a
# second `=`; so a value that it injects is another one when it extracts it.
#
# A value is put into the baggage, injected into a map, and extracted from it again, all by the same
# propagator. Seen: `%41` arrives as `A`, `100%25` as `100%`. A value with `=`, which W3C's
# standard allows as it is, arrives cut when a peer has written it so: of `YWJjZA==` the end is
# lost. Blanks at the ends of a value are lost too; in the middle they are percent-encoded.
# What one would guess: what a propagator injects it extracts, as each value is percent-encoded.
# Why it matters: a token in base64, or a text that is percent-encoded by itself, is another one
# in the next service, and no error says so.
#
# Output seen:
#   "%41"        -> k=%41             -> "A"
#   "100%25"     -> k=100%25          -> "100%"
#   " x "        -> k=x               -> "x"
#   of a peer:      k=YWJjZA==        -> "YWJjZA"
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
opentelemetry = { version = "=0.33.1", default-features = false, features = ["trace"] }
opentelemetry_sdk = { version = "=0.33.1", default-features = false, features = ["trace"] }
TOML
cat >src/main.rs <<'RUST'
use std::collections::HashMap;

use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::BaggagePropagator;

fn extracted(headers: &HashMap<String, String>) -> Option<String> {
    let context = BaggagePropagator::new().extract_with_context(&Context::new(), headers);
    context.baggage().get("k").map(ToString::to_string)
}

fn main() {
    for (value, arrives) in [("%41", "A"), ("100%25", "100%"), (" x ", "x")] {
        let context = Context::new().with_baggage([KeyValue::new("k", value)]);
        let mut headers = HashMap::new();
        BaggagePropagator::new().inject_context(&context, &mut headers);
        let arrived = extracted(&headers).unwrap();
        println!("{:<12} -> {:<17} -> {arrived:?}", format!("{value:?}"), headers["baggage"]);
        assert_eq!(arrived, arrives, "it is escaped now");
    }
    let of_a_peer = HashMap::from([("baggage".to_owned(), "k=YWJjZA==".to_owned())]);
    let arrived = extracted(&of_a_peer).unwrap();
    println!("of a peer:      {:<17} -> {arrived:?}", of_a_peer["baggage"]);
    assert_eq!(arrived, "YWJjZA", "it is cut at the first `=` only now");
}
RUST
cargo run --quiet
