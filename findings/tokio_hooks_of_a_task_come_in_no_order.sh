#!/usr/bin/env bash
# tokio 1.54.1, --cfg tokio_unstable: the hooks of a task are no pair: it may terminate before it is
# spawned, or without.
#
# Seen: a task that is spawned on a runtime which has shut down calls `on_task_terminate` first and
# `on_task_spawn` after it, for the same id. A closure of `spawn_blocking` calls `on_task_terminate`
# and never `on_task_spawn`.
# What one would guess: for each id the one hook, then the other, as for a task that runs.
# Why it matters: a table that is filled in the one hook and emptied in the other, which is what the
# hooks are for, keeps an entry for ever in the first case, and finds none in the second.
#
# Output seen:
#   a task that runs:               spawn terminate
#   a blocking closure:             terminate
#   a task of a runtime that ended: terminate spawn
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
tokio = { version = "=1.54.1", features = ["rt"] }
TOML
cat >src/main.rs <<'RUST'
use std::mem::take;
use std::sync::{Arc, Mutex};

fn main() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (spawns, ends) = (calls.clone(), calls.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_task_spawn(move |task| spawns.lock().unwrap().push(("spawn", task.id())))
        .on_task_terminate(move |task| ends.lock().unwrap().push(("terminate", task.id())))
        .build()
        .unwrap();
    let called = |what: &str| {
        let calls = take(&mut *calls.lock().unwrap());
        assert!(calls.iter().all(|(_, id)| *id == calls[0].1), "the hooks are of one task");
        let names: Vec<_> = calls.iter().map(|(name, _)| *name).collect();
        println!("{what:<31} {}", names.join(" "));
        names
    };

    runtime.block_on(async { tokio::spawn(async {}).await.unwrap() });
    assert_eq!(called("a task that runs:"), ["spawn", "terminate"]);

    runtime.block_on(async { tokio::task::spawn_blocking(|| ()).await.unwrap() });
    let handle = runtime.handle().clone();
    drop(runtime); // waits for the closure's hooks
    assert_eq!(called("a blocking closure:"), ["terminate"]);

    drop(handle.spawn(async {}));
    assert_eq!(called("a task of a runtime that ended:"), ["terminate", "spawn"]);
}
RUST
RUSTFLAGS="--cfg tokio_unstable" cargo run --quiet
