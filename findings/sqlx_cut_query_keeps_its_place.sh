#!/usr/bin/env bash
# sqlx 0.8.6 with tokio 1.54.1 and PostgreSQL 15: a query that is given up keeps its connection's
# place in the pool until the server has finished it. No limit of the pool cuts that.
#
# A pool of one connection. A query of two seconds is dropped after 0.1 seconds by
# `tokio::time::timeout`; then the pool is asked for a connection. Seen: a task that the pool has
# spawned tests the connection by a ping before it counts as free, and the ping's answer comes after
# the query's. So the pool stays empty for the two seconds, and `acquire_timeout` ends with
# `PoolTimedOut`.
# What one would guess: the query is cancelled at the server, or the connection closed, and the
# place is free at once. A few slow queries that their callers have given up stop all others.
#
# Needs PostgreSQL, which `.ci/ecosystem` installs where it may, and starts.
#
# Output seen:
#   given up after 0.1 s; a connection after 0.5 s: Some(PoolTimedOut); after 10 s: None, which took until 2.0 s
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
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
tokio = { version = "=1.54.1", features = ["macros", "rt", "time"] }
sqlx = { version = "=0.8.6", default-features = false, features = ["postgres", "runtime-tokio"] }
TOML
cat >src/main.rs <<'RUST'
use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::var("POSTGRES_URL").unwrap();
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(500));
    let pool = options.connect(&url).await.unwrap();
    let begun = Instant::now();
    let slow = sqlx::query("SELECT pg_sleep(2)").execute(&pool);
    assert!(timeout(Duration::from_millis(100), slow).await.is_err());
    let given_up = begun.elapsed();
    let first = pool.acquire().await.err();
    let mut patient = pool.acquire().await;
    while patient.is_err() && begun.elapsed() < Duration::from_secs(10) {
        patient = pool.acquire().await;
    }
    println!(
        "given up after {:.1} s; a connection after 0.5 s: {first:?}; after 10 s: {:?}, which took until {:.1} s",
        given_up.as_secs_f32(),
        patient.err(),
        begun.elapsed().as_secs_f32(),
    );
    assert!(first.is_some() && begun.elapsed() > Duration::from_millis(1_900), "the place is free at once now");
}
RUST
"$root/.ci/ecosystem" --servers cargo run --quiet --manifest-path "$folder/Cargo.toml"
