#!/usr/bin/env bash
# opentelemetry 0.33.1: `FutureExt::with_context` attaches its context while the future is polled, not while it is
# dropped.
#
# A future holds a guard that notes the current context when it is dropped. The future is polled
# once inside `with_context`, and then dropped, as a timeout or an abort does it. Seen: the poll sees
# the context, the guard's destructor sees an empty one. With tracing 0.1.44 the same destructor
# inside `instrument` sees the future's span, which is entered for the drop.
# What one would guess: both wrap a future, so both wrap all of its code, destructors included.
# Why it matters: what a destructor logs or starts, such as a roll-back, belongs to no trace; and if
# it runs where another context is current, to the wrong one.
#
# Output seen:
#   with_context: polled in Some(Request(7)), dropped in None
#   instrument:   polled in Some("request"), dropped in Some("request")
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
tracing = "=0.1.44"
tracing-subscriber = { version = "=0.3.23", default-features = false, features = ["registry", "std"] }
TOML
cat >src/main.rs <<'RUST'
use std::cell::RefCell;
use std::future::{pending, Future};
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::task::{Context, Waker};

use opentelemetry::context::FutureExt;
use tracing::Instrument;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Request(u32);

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// Polls and drops a future that looks both times. Returns what it has seen.
fn looks<T: 'static, W: Future>(look: fn() -> T, wrap: impl FnOnce(Boxed) -> W) -> Vec<T> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let notes = seen.clone();
    let future = async move {
        notes.borrow_mut().push(look());
        let _dropped = OnDrop(|| notes.borrow_mut().push(look()));
        pending().await
    };
    {
        let mut wrapped = pin!(wrap(Box::pin(future)));
        assert!(wrapped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    seen.take()
}

fn main() {
    let context = opentelemetry::Context::new().with_value(Request(7));
    let request = || opentelemetry::Context::current().get::<Request>().copied();
    let attached = looks(request, |future| future.with_context(context));
    println!("with_context: polled in {:?}, dropped in {:?}", attached[0], attached[1]);

    let entered = tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        let span = || tracing::Span::current().metadata().map(|span| span.name());
        looks(span, |future| future.instrument(tracing::info_span!("request")))
    });
    println!("instrument:   polled in {:?}, dropped in {:?}", entered[0], entered[1]);
    assert_eq!(entered, [Some("request"); 2]);
    assert_eq!(attached, [Some(Request(7)), None], "the context is attached for the drop now");
}
RUST
cargo run --quiet
