#!/usr/bin/env bash
# rayon 1.12.0 with tracing 0.1.44: a job that has no span runs inside the span of a request, if
# the thread that runs it waits in `join` for a part of that request.
#
# A pool of two threads. The first job runs `join` inside the span `request`; its second closure is
# taken by the other thread, so that the first thread waits. Then a job without a span is spawned
# from outside of the pool. Seen: the thread that waits runs it on top of its own stack, so that the
# stray job's current span is `request`, and what it logs belongs there.
# What one would guess: a span that is entered by `in_scope` holds for the code of the closure. The
# stray job is no part of it, and was spawned where no span was.
# What the documentation says: `join` tells that a thread which waits looks for other work. That
# such work sees the thread-locals of what waits is said neither there nor by tracing, whose guide
# warns of guards in asynchronous code alone.
# Why it matters: under load the lines of one request are logged for another one. The same holds for
# each value that a thread-local holds for the time of a call.
#
# Output seen:
#   the stray job's span on an idle pool: None
#   beside a join that waits:             Some("request")
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
rayon = "=1.12.0"
tracing = "=0.1.44"
tracing-subscriber = { version = "=0.3.23", default-features = false, features = ["registry", "std"] }
TOML
cat >src/main.rs <<'RUST'
use std::sync::mpsc::channel;
use std::time::Duration;

use rayon::ThreadPool;
use tracing::{info_span, Span};

/// The span that a job sees which is spawned from here.
fn stray(pool: &ThreadPool) -> Option<&'static str> {
    let (say, seen) = channel();
    pool.spawn(move || say.send(Span::current().metadata().map(|span| span.name())).unwrap());
    seen.recv().unwrap()
}

fn main() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let idle = stray(&pool);

    let (say_taken, taken) = channel();
    let (say_waits, waits) = channel();
    let (say_done, done) = channel::<()>();
    let beside = std::thread::scope(|scope| {
        // Ends when the other closure has been taken: what is left is to wait for it.
        let first = move || {
            taken.recv().unwrap();
            say_waits.send(()).unwrap();
        };
        // Ends when the stray job has run, or could not run anywhere.
        let second = move || {
            say_taken.send(()).unwrap();
            let _ = done.recv_timeout(Duration::from_secs(5));
        };
        let pool = &pool;
        scope.spawn(move || {
            pool.install(|| info_span!("request").in_scope(|| rayon::join(first, second)));
        });
        waits.recv().unwrap();
        let seen = stray(pool);
        let _ = say_done.send(());
        seen
    });
    println!("the stray job's span on an idle pool: {idle:?}");
    println!("beside a join that waits:             {beside:?}");
    assert_eq!(idle, None);
    assert_eq!(beside, Some("request"), "a job has its own span now");
}
RUST
cargo run --quiet
