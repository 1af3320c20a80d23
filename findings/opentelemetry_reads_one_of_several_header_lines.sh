#!/usr/bin/env bash
# opentelemetry-http 0.33.1 and opentelemetry-api 1.45.2 for Python: of a `baggage` that comes in
# two header lines, the first is read and the second is lost. node's library reads both.
#
# A request has the lines `baggage: tenant=acme` and `baggage: region=eu`, and `tracestate` in two
# lines likewise. Rust reads them by `HeaderExtractor`, Python and node from a dictionary with a
# list of values, as their default getters take it. Seen: Rust loses the second line of either
# header, though its extractor gives both by `get_all`; Python loses that of the baggage alone.
# What one would guess: two lines of one header are one line with a comma, as they are for HTTP.
# W3C's standards of both headers say that there may be several lines, and that they are combined.
# What the documentation says: `HeaderExtractor::get` gets "a value for a key", `get_all` all of
# them; the propagators say that they extract the header.
# Why it matters: a gateway that adds an entry by a line of its own is not heard.
#
# Output seen:
#   Rust:   baggage tenant; tracestate a
#   Python: baggage tenant; tracestate a b
#   node:   baggage tenant region; tracestate a b
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
http = "=1.5.0"
opentelemetry = { version = "=0.33.1", default-features = false, features = ["trace"] }
opentelemetry-http = { version = "=0.33.1", default-features = false }
opentelemetry_sdk = { version = "=0.33.1", default-features = false, features = ["trace"] }
TOML
cat >src/main.rs <<'RUST'
use http::{HeaderMap, HeaderValue};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry::Context;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

fn main() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("baggage", "tenant=acme"),
        ("baggage", "region=eu"),
        ("traceparent", "00-00000000000000000000000000000001-0000000000000002-01"),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let lines = HeaderExtractor(&headers);
    assert_eq!(lines.get_all("baggage").unwrap().len(), 2);
    let context = BaggagePropagator::new().extract_with_context(&Context::new(), &lines);
    let context = TraceContextPropagator::new().extract_with_context(&context, &lines);
    let state = context.span().span_context().trace_state().clone();
    let entries = ["tenant", "region"].into_iter().filter(|name| context.baggage().get(*name).is_some());
    let members = ["a", "b"].into_iter().filter(|name| state.get(name).is_some());
    let words = |names: Vec<&str>| names.join(" ");
    println!("baggage {}; tracestate {}", words(entries.collect()), words(members.collect()));
}
RUST
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-api==1.45.2
npm install --silent --no-audit --no-fund --prefix node @opentelemetry/core@2.12.1 @opentelemetry/api@1.9.1
cat >headers.json <<'JSON'
{
    "baggage": ["tenant=acme", "region=eu"],
    "traceparent": ["00-00000000000000000000000000000001-0000000000000002-01"],
    "tracestate": ["a=1", "b=2"]
}
JSON
cat >python.py <<'PYTHON'
import json

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

headers = json.load(open("headers.json"))
context = W3CBaggagePropagator().extract(headers, Context())
context = TraceContextTextMapPropagator().extract(headers, context)
state = trace.get_current_span(context).get_span_context().trace_state
print(f"baggage {' '.join(baggage.get_all(context))}; tracestate {' '.join(state)}")
PYTHON
cat >node/node.cjs <<'NODE'
const api = require('@opentelemetry/api');
const { W3CBaggagePropagator, W3CTraceContextPropagator } = require('@opentelemetry/core');
const headers = require('../headers.json');
let context = new W3CBaggagePropagator().extract(api.ROOT_CONTEXT, headers, api.defaultTextMapGetter);
context = new W3CTraceContextPropagator().extract(context, headers, api.defaultTextMapGetter);
const entries = api.propagation.getBaggage(context).getAllEntries().map(([name]) => name);
const state = api.trace.getSpanContext(context).traceState.serialize().replace(/=[^,]*/g, '').replace(',', ' ');
console.log(`baggage ${entries.join(' ')}; tracestate ${state}`);
NODE
of_rust=$(cargo run --quiet)
of_python=$(venv/bin/python python.py)
of_node=$(node node/node.cjs)
printf 'Rust:   %s\nPython: %s\nnode:   %s\n' "$of_rust" "$of_python" "$of_node"
[ "$of_node" = "baggage tenant region; tracestate a b" ]
[ "$of_rust" = "baggage tenant; tracestate a" ] || { echo "Rust reads all lines now" && exit 1; }
[ "$of_python" = "baggage tenant; tracestate a b" ] || { echo "Python reads all lines now" && exit 1; }
