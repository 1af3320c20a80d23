#!/usr/bin/env bash
# loom 0.7.2: a swap that reads the old value may hide a store that came after it, so that a model
# fails which no machine can fail.
#
# Seen: one thread stores `true` in a flag, then says so under a mutex. The other swaps `false` into
# the flag, and then looks under the mutex. In a third of the executions in which it finds the
# message, the swap has returned `false`, and a load of the flag returns `false` as well: the store
# is lost. With a compare-exchange of `true` for `false` in place of the swap it never is.
# What one would guess: a read-modify-write writes right after what it has read. If the swap has
# read the first `false`, the store comes later in the flag's order, and the load, which comes after
# the mutex, sees it. If the swap comes after the store, it returns `true`.
# Why it matters: "a flag that says there is work is taken by a swap" is how queues and parkers are
# written. A model of that fails for a reason that is loom's, and the text of the failure does not
# say so. (loom's issue 254 has the reason: the store squeezes in between the two halves of the
# swap.)
#
# Output seen:
#   swap:             12 executions with the message, in 4 of them the store is lost
#   compare-exchange: 8 executions with the message, in 0 of them the store is lost
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
loom = "=0.7.2"
TOML
cat >src/main.rs <<'RUST'
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};

/// In how many executions the message is found, and in how many of them the store is lost.
fn count(take: fn(&AtomicBool) -> bool) -> (usize, usize) {
    let counts = std::sync::Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let (found, lost) = (counts.clone(), counts.clone());
    loom::model(move || {
        let (flag, message) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(false)));
        let other = loom::thread::spawn({
            let (flag, message) = (flag.clone(), message.clone());
            move || {
                flag.store(true, Ordering::Release);
                *message.lock().unwrap() = true;
            }
        });
        let taken = take(&flag);
        if *message.lock().unwrap() {
            found.0.fetch_add(1, SeqCst);
            if !taken && !flag.load(Ordering::Acquire) {
                lost.1.fetch_add(1, SeqCst);
            }
        }
        other.join().unwrap();
    });
    (counts.0.load(SeqCst), counts.1.load(SeqCst))
}

fn main() {
    let swap = count(|flag| flag.swap(false, Ordering::AcqRel));
    let exchange =
        count(|flag| flag.compare_exchange(true, false, Ordering::AcqRel, Ordering::Acquire).is_ok());
    for (name, (found, lost)) in [("swap:            ", swap), ("compare-exchange:", exchange)] {
        println!("{name} {found} executions with the message, in {lost} of them the store is lost");
    }
    assert!(swap.1 > 0, "a swap no longer loses a store");
    assert!(exchange.0 > 0 && exchange.1 == 0);
}
RUST
cargo run --quiet
