//! Shows an API: an axum application that asks three backends, whose handlers know the request, the
//! tenant and the deadline without being told.
//!
//! ```text
//! cargo run --release -p example-service       drives itself for some seconds, and checks
//! cargo run --release -p example-service -- --listen 127.0.0.1:8080    serves until Ctrl-C
//! curl -H 'x-request-id: mine' -H 'x-tenant: acme' http://127.0.0.1:8080/orders/7
//! curl -H 'x-deadline-ms: 100' --http2-prior-knowledge http://127.0.0.1:8080/slow/5000
//! curl http://127.0.0.1:8080/metrics
//! kill -USR1 PID          what each task waits for, and for which request
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `request` | the variables, the deadline, and the headers they come from and go to |
//! | `app` | the router and its handlers: fan-out in a group, an answer without what is optional |
//! | `backend` | calls: a pool of connections, so many at a time, a limit per try, retries |
//! | `metrics`, `log` | what is counted, what is said |
//! | `server` | the library's server, its limits, its drain |
//! | `upstream`, `client` | the world around: the backends, and clients that check each answer |
//!
//! The server speaks HTTP/1 and HTTP/2, as its client begins, and drives itself over the one and
//! then the other. With `--http2` it does so over HTTP/2 alone. Handlers and log are the same.
//!
//! axum and hyper need no particular runtime. They bring tokio along for its channels; its reactor
//! is not started (axum with `default-features = false`).

mod app;
mod backend;
mod client;
mod log;
mod metrics;
mod request;
mod server;
mod upstream;

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use axum::http::{StatusCode, Version};
use heirloom::context::detect_losses;
use heirloom::context::future::select;
use heirloom::hyper::serve::Served;
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{CancelToken, Runtime, signal, sleep, spawn};

use app::App;
use client::Seen;
use log::{Kept, OUTPUT, Output};
use server::{Limits, serve};

const CLIENTS: u64 = 32;
const TIME: Duration = Duration::from_secs(2);

/// Serves until told to stop.
async fn listen(address: &str, limits: Limits) -> io::Result<Served> {
    OUTPUT.set(Output::Terminal);
    let stop_backends = CancelToken::new();
    let _after_the_drain = stop_backends.drop_guard();
    let app = App::new(upstream::start(&stop_backends).await?);
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let stop = CancelToken::new();
    let serving = spawn(serve(listener, app.router(), limits, stop.clone()));
    select(signal::ctrl_c(), signal::terminate()).await.into_inner()?;
    stop.cancel("a signal");
    Ok(serving.await?)
}

/// Serves, and is its own client. Then stops while the clients are still asking.
async fn drive(version: Version, limits: Limits, lines: Arc<Kept>) -> io::Result<(Seen, Served, App)> {
    OUTPUT.set(Output::Memory(lines));
    let stop_backends = CancelToken::new();
    let _after_the_drain = stop_backends.drop_guard();
    let app = App::new(upstream::start(&stop_backends).await?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, stop) = (listener.local_addr()?, CancelToken::new());
    let serving = spawn(serve(listener, app.clone().router(), limits, stop.clone()));

    let clients = client::start(address, CLIENTS, version);
    sleep(TIME).await;
    stop.cancel("enough");
    let mut seen = Seen::default();
    for client in clients {
        seen.add(client.await?);
    }
    let served = serving.await?;
    assert!(TcpStream::connect(address).await.is_err(), "the server listens no more");
    Ok((seen, served, app))
}

/// A runtime that can be looked into: by `/metrics`, by a dump of its tasks when the signal SIGUSR1
/// comes, and by a line on standard error about each poll that keeps others waiting.
fn runtime() -> io::Result<Runtime> {
    Runtime::builder().inspect(true).dump_on_usr1(true).watchdog(Duration::from_millis(250)).build()
}

/// Drives itself over a version of HTTP, checks, and tells.
fn check(version: Version, limits: Limits) -> io::Result<()> {
    let runtime = runtime()?;
    let lines = Arc::new(Kept::default());
    let (lost, losses) = mpsc::channel();
    detect_losses(move |unset| lost.send(unset.to_string()).unwrap_or_default());
    let begun = Instant::now();
    let (mut seen, served, app) = runtime.block_on(drive(version, limits, Arc::clone(&lines)))?;
    let took = begun.elapsed();
    let (counts, metrics) = (Arc::clone(&app.counts), Arc::clone(&app.metrics));
    drop(app); // the last sender to the auditor, and the connections to the backends
    // The background jobs that the handlers have started and do not wait for come to their end
    // here.
    let report = runtime.shutdown(Duration::from_secs(5));

    let (jobs, audited) = (counts.jobs.load(Relaxed), counts.audited.load(Relaxed));
    let violations = seen.violations + counts.violations.load(Relaxed);
    let [half, most, all] = [500, 990, 1_000].map(|per_mille| seen.percentile(per_mille).as_micros());
    println!("{version:?}: {CLIENTS} clients, {} connections, {:.1} s", served.accepted, took.as_secs_f64());
    println!("orders answered         {:>8}, {} of them without reviews", seen.orders, seen.partial);
    println!("out of time, as asked   {:>8}", seen.out_of_time);
    println!("latency                 {half:>8} µs median, {most} µs p99, {all} µs at most");
    println!("calls tried again       {:>8}", lines.count("retry"));
    println!("contexts looked at      {:>8}", seen.looks + jobs + audited);
    println!("background jobs done    {jobs:>8}");
    println!("orders audited          {audited:>8}");
    println!("turned away by the end  {:>8}", seen.turned_away);
    println!("cut off by the end      {:>8}", served.cut);
    println!("violations              {violations:>8}");
    println!(
        "lines of the log        {:>8}, one of a request and one of a call it made:",
        lines.count("served")
    );
    for event in ["served", "retry"] {
        println!("    {}", lines.with(&format!("event={event} ")).first().map_or("", String::as_str));
    }
    println!("metrics, the first of them:");
    metrics.page().lines().take(6).for_each(|line| println!("    {line}"));
    println!();

    assert_eq!(violations, 0, "no request ever sees another's context");
    assert_eq!(
        losses.try_iter().collect::<Vec<_>>(),
        [""; 0],
        "no code of a request runs without its context"
    );
    assert!(seen.orders > 0 && seen.out_of_time > 0 && seen.partial > 0);
    assert!(lines.count("retry") > 0, "prices fail now and then");
    assert_eq!(audited, seen.orders, "every order that was begun was answered, by the drain too");
    assert_eq!(jobs, seen.orders, "every background job came to its end");
    assert_eq!(lines.count("served"), seen.orders + seen.out_of_time, "every answer has its line in the log");
    let counted =
        [StatusCode::OK, StatusCode::GATEWAY_TIMEOUT].map(|status| metrics.answers(status) as usize);
    assert_eq!(counted, [seen.orders, seen.out_of_time], "every answer is counted");
    assert!(client::connections(CLIENTS, version).contains(&served.accepted), "{served:?}");
    assert_eq!(served.cut, 0, "the drain had time enough");
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
            let runtime = runtime()?;
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
