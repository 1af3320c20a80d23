//! Shows a web service: an axum application over hyper on our sockets, whose handlers know the
//! request, the tenant and the deadline without being told.
//!
//! ```text
//! cargo run --release -p example-service       drives itself for some seconds, and checks
//! cargo run --release -p example-service -- --listen 127.0.0.1:8080    serves until Ctrl-C
//! curl -H 'x-request-id: mine' -H 'x-tenant: acme' http://127.0.0.1:8080/orders/7
//! curl -H 'x-deadline-ms: 100' --http2-prior-knowledge http://127.0.0.1:8080/slow/5000
//! ```
//!
//! The server speaks HTTP/1 and HTTP/2, as its client begins, and drives itself over the one and
//! then the other. With `--http2` it does so over HTTP/2 alone. Handlers and log are the same: over
//! HTTP/1 a request is served inside its connection's task, over HTTP/2 in a task of its own.
//!
//! axum, hyper and tower need no particular runtime. They bring tokio along for its channels; its
//! reactor is neither built nor started (axum with `default-features = false`).

mod app;
mod client;
mod log;
mod request;
mod server;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::http::Version;
use heirloom::context::future::select;
use heirloom::net::TcpListener;
use heirloom::{CancelToken, Runtime, signal, sleep, spawn};

use app::{App, Counts};
use client::Seen;
use heirloom::hyper::serve::Served;
use log::{Kept, OUTPUT, Output};
use server::{Limits, serve};

const CLIENTS: u64 = 32;
const TIME: Duration = Duration::from_secs(2);

/// Serves until told to stop.
async fn listen(address: &str, limits: Limits) -> io::Result<Served> {
    OUTPUT.set(Output::Terminal);
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let stop = CancelToken::new();
    let serving = spawn(serve(listener, App::new().router(), limits, stop.clone()));
    select(signal::ctrl_c(), signal::terminate()).await;
    stop.cancel("a signal");
    Ok(serving.await.expect("the accept loop does not panic"))
}

/// Serves, and is its own client. Then stops while the clients are still asking.
async fn drive(version: Version, limits: Limits) -> io::Result<(Seen, Served, Arc<Counts>, Arc<Kept>)> {
    let kept = Arc::new(Kept::default());
    OUTPUT.set(Output::Memory(Arc::clone(&kept)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (app, stop) = (App::new(), CancelToken::new());
    let counts = Arc::clone(&app.counts);
    let serving = spawn(serve(listener, app.router(), limits, stop.clone()));

    let clients = client::start(address, CLIENTS, version).await?;
    sleep(TIME).await;
    stop.cancel("enough");
    let mut seen = Seen::default();
    for client in clients {
        seen.add(client.await.expect("no client panics"));
    }
    let served = serving.await.expect("the accept loop does not panic");
    assert!(client::connect(address, version).await.is_err(), "the server listens no more");
    Ok((seen, served, counts, kept))
}

/// Drives itself over a version of HTTP, checks, and tells.
fn check(version: Version, limits: Limits) -> io::Result<()> {
    let runtime = Runtime::new()?;
    let begun = Instant::now();
    let (mut seen, served, counts, kept) = runtime.block_on(drive(version, limits))?;
    let took = begun.elapsed();
    // The background jobs that the handlers have started and do not wait for come to their end
    // here.
    let report = runtime.shutdown(Duration::from_secs(5));

    let (jobs, audited) = (counts.jobs.load(Relaxed), counts.audited.load(Relaxed));
    let violations = seen.violations + counts.violations.load(Relaxed);
    println!("{version:?}: {CLIENTS} clients, {} connections, {:.1} s", served.accepted, took.as_secs_f64());
    println!("orders answered         {:>8}", seen.orders);
    println!("out of time, as asked   {:>8}", seen.out_of_time);
    let [half, most, all] = [500, 990, 1_000].map(|per_mille| seen.percentile(per_mille).as_micros());
    println!("latency                 {half:>8} µs median, {most} µs p99, {all} µs at most");
    println!("contexts looked at      {:>8}", seen.looks + jobs + audited);
    println!("background jobs done    {jobs:>8}");
    println!("orders audited          {audited:>8}");
    // A line for each answer, for what was broken, and two for the end.
    let lost = (seen.orders + seen.out_of_time + served.broken + 2).abs_diff(kept.count());
    println!("log lines               {:>8}, {lost} lost; the first of an answer:", kept.count());
    println!("    {}", kept.with("event=served").first().map_or("", String::as_str));
    println!("turned away by the end  {:>8}", seen.turned_away);
    println!("cut off by the end      {:>8}", served.cut);
    println!("violations              {violations:>8}\n");

    assert_eq!(violations, 0, "no request ever sees another's context");
    assert!(seen.orders > 0 && seen.out_of_time > 0);
    assert_eq!(audited, seen.orders, "every order that was begun was answered, by the drain too");
    assert_eq!(jobs, seen.orders, "every background job came to its end");
    assert_eq!(lost, 0, "every answer has its line in the log");
    assert_eq!((served.accepted, served.cut), (client::connections(CLIENTS, version) as usize, 0));
    assert!(report.is_clean(), "nothing is left running: {report:?}");
    Ok(())
}

fn main() -> io::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = arguments.len();
    arguments.retain(|argument| argument != "--http2");
    let limits = Limits { http2_only: arguments.len() < all, ..Limits::default() };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--listen", address] => {
            let runtime = Runtime::new()?;
            let served = runtime.block_on(listen(address, limits))?;
            println!("{served:?}");
            println!("{:?}", runtime.shutdown(Duration::from_secs(1)));
        }
        [] => {
            if !limits.http2_only {
                check(Version::HTTP_11, limits)?;
            }
            check(Version::HTTP_2, limits)?;
        }
        _ => return Err(io::Error::other("usage: service [--http2] [--listen ADDR]")),
    }
    Ok(())
}
