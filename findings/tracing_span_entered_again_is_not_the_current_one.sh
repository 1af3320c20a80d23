#!/usr/bin/env bash
# tracing 0.1.44 with tracing-subscriber 0.3.23: a span that is entered a second time, with another
# span entered in between, is not the current span. Events inside it belong to the one in between.
#
# Code in `request` enters `query`, and inside that `request` again, as a helper does that keeps the
# span of its request and uses `in_scope` to log for it. Seen: inside the inner `request`,
# `Span::current()` is `query`; an event is logged under `request:query`, and a new span becomes a
# child of `query`. The registry remembers the second entry as a duplicate, and passes duplicates
# over when it looks for the current span.
# What one would guess: the span that was entered last and is not yet left is the current one.
# What the documentation says: `in_scope` runs a closure in the context of the span, and a span may
# be entered again. It does not speak of a span that is entered already.
# Why it matters: what is logged for the request as a whole is counted as a part of the query, and
# a task that is started for the request by `in_current_span` keeps the query's span open.
#
# Output seen:
#   entered request, query, request: the current span is query
#   an event is logged as:           request:query: for the request
#   a new span is a child of:        query
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
tracing = "=0.1.44"
tracing-subscriber = { version = "=0.3.23", default-features = false, features = ["fmt", "registry", "std"] }
TOML
cat >src/main.rs <<'RUST'
use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing::{info, info_span, Span};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::Registry;

/// Where the lines of the log go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn name(span: &Span) -> &'static str {
    span.metadata().map_or("none", |span| span.name())
}

/// The parent of `span`, as the registry has it.
fn parent(span: &Span) -> Option<&'static str> {
    let looked_up = span.with_subscriber(|(id, dispatch)| {
        let registry: &Registry = dispatch.downcast_ref().unwrap();
        registry.span(id)?.parent().map(|parent| parent.name())
    });
    looked_up.flatten()
}

fn main() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_level(false).with_target(false).without_time();
    log.with_ansi(false).with_writer(move || writer.clone()).init();

    let request = info_span!("request");
    let query = request.in_scope(|| info_span!("query"));
    let (current, child) = request.in_scope(|| {
        query.in_scope(|| {
            request.in_scope(|| {
                info!("for the request");
                (name(&Span::current()), parent(&info_span!("child")))
            })
        })
    });
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    println!("entered request, query, request: the current span is {current}");
    println!("an event is logged as:           {}", logged.trim());
    println!("a new span is a child of:        {}", child.unwrap_or("none"));
    assert_eq!(current, "query", "the span entered last is the current one now");
    assert_eq!(logged.trim(), "request:query: for the request");
    assert_eq!(child, Some("query"));
}
RUST
cargo run --quiet
