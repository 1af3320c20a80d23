#!/usr/bin/env bash
# opentelemetry 0.33.1: `with_baggage` and `current_with_baggage` drop the entries that the context
# has already. The libraries for Python and node keep them.
#
# A context has `tenant`. `region` is added: in Rust by `with_baggage`, in Python (1.45.2) by
# `baggage.set_baggage`, in node (1.9.1) by `setEntry`. Seen: in Rust `tenant` is gone, without an
# error.
# What one would guess: the others are kept. `with_value`, the method beside it, keeps all other
# values, and in OpenTelemetry's specification a pair is set in the baggage that is there.
# What the documentation says: both return a clone of the context "with the included name/value
# pairs". The examples begin with a context that has no baggage.
# Why it matters: a service that adds an entry of its own to each request cuts off those of its
# callers, for itself and for all services behind it.
# The way around it is to clone `context.baggage()`, insert there, and give the whole back.
#
# Output seen:
#   Rust:   region
#   Python: region tenant
#   node:   region tenant
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
TOML
cat >src/main.rs <<'RUST'
use opentelemetry::baggage::BaggageExt;
use opentelemetry::{Context, KeyValue};

fn main() {
    let context = Context::new().with_baggage([KeyValue::new("tenant", "acme")]);
    let context = context.with_baggage([KeyValue::new("region", "eu")]);
    let mut names: Vec<_> = context.baggage().iter().map(|(name, _)| name.to_string()).collect();
    names.sort();
    println!("{}", names.join(" "));
}
RUST
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-api==1.45.2
npm install --silent --no-audit --no-fund --prefix node @opentelemetry/api@1.9.1
cat >python.py <<'PYTHON'
from opentelemetry import baggage
from opentelemetry.context import Context

context = baggage.set_baggage("tenant", "acme", Context())
context = baggage.set_baggage("region", "eu", context)
print(*sorted(baggage.get_all(context)))
PYTHON
cat >node/node.cjs <<'NODE'
const { propagation } = require('@opentelemetry/api');
const baggage = propagation.createBaggage({ tenant: { value: 'acme' } }).setEntry('region', { value: 'eu' });
console.log(...baggage.getAllEntries().map(([name]) => name).sort());
NODE
of_rust=$(cargo run --quiet)
of_python=$(venv/bin/python python.py)
of_node=$(node node/node.cjs)
printf 'Rust:   %s\nPython: %s\nnode:   %s\n' "$of_rust" "$of_python" "$of_node"
[ "$of_python" = "region tenant" ]
[ "$of_node" = "region tenant" ]
[ "$of_rust" = "region" ] || { echo "with_baggage keeps the others now" && exit 1; }
