#!/usr/bin/env bash
# opentelemetry_sdk 0.33.1: injecting a context into headers that have an older one leaves what the
# new context has nothing for.
#
# Headers of a request that is forwarded have a trace and a baggage. A context without either is
# injected into them, then one with a baggage alone. Seen: the former trace stays both times, and
# the former baggage the first time.
# What one would guess: after `inject_context` the headers say what the context says.
# Why it matters: a proxy that copies the headers of a request sends the baggage of its caller to
# the next service, also where its own context was emptied on purpose; and the next service takes
# another's trace for its parent.
#
# Output seen:
#   an empty context:  baggage Some("tenant=stale"), traceparent Some("00-00000000000000000000000000000001-0000000000000002-01")
#   one with baggage:  baggage Some("tenant=acme"), traceparent Some("00-00000000000000000000000000000001-0000000000000002-01")
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
use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

const TRACE: &str = "00-00000000000000000000000000000001-0000000000000002-01";

fn main() {
    let propagator = TextMapCompositePropagator::new(vec![
        Box::new(BaggagePropagator::new()),
        Box::new(TraceContextPropagator::new()),
    ]);
    let with_baggage = Context::new().with_baggage([KeyValue::new("tenant", "acme")]);
    for (name, context, baggage) in
        [("an empty context:", Context::new(), "tenant=stale"), ("one with baggage:", with_baggage, "tenant=acme")]
    {
        let mut headers = HashMap::from([
            ("baggage".to_owned(), "tenant=stale".to_owned()),
            ("traceparent".to_owned(), TRACE.to_owned()),
        ]);
        propagator.inject_context(&context, &mut headers);
        println!("{name}  baggage {:?}, traceparent {:?}", headers.get("baggage"), headers.get("traceparent"));
        assert_eq!(headers["baggage"], baggage, "the baggage is removed now");
        assert_eq!(headers["traceparent"], TRACE, "the trace is removed now");
    }
}
RUST
cargo run --quiet
