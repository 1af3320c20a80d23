//! Shows a runtime on a page that it serves itself: the tree of its tasks with their contexts, how
//! long they wait and are polled, and what each worker does, second by second.
//!
//! ```text
//! cargo run --release -p example-console    reads the page as a browser does, checks it, and ends
//! cargo run --release -p example-console -- --listen 127.0.0.1:8080         serves until Ctrl-C
//! cargo run --release -p example-console -- --listen 127.0.0.1:8080 10000   with so many sessions
//! cargo run --release -p example-console -- --tokio-console 127.0.0.1:6669    for `tokio-console`
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `snapshot` | what the page gets each second, from `stats` and `dump` alone |
//! | `server` | the page, its events, and the whole dump as text and JSON |
//! | `page.html` | the page: nothing is loaded from anywhere else |
//! | `load` | something to look at |
//!
//! `snapshot`, `server` and `page.html` know nothing of this program: another one has the page when
//! it has these files, and a runtime with `inspect(true)`. A page like this tells what a service
//! does, so its address is one that only its owners can reach.

mod load;
mod server;
mod snapshot;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use heirloom::context::future::select;
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{CancelToken, Runtime, signal, spawn, spawn_background, task};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use serde_json::Value;

use load::SECRET;
use server::Console;

/// Sessions, unless the program is told another number.
const SESSIONS: u64 = 200;
/// Sessions while the program checks itself.
const MANY: u64 = 10_000;

fn inspected() -> io::Result<Runtime> {
    Runtime::builder().inspect(true).build()
}

/// Serves the page, until `stop` is cancelled.
async fn serve(listener: TcpListener, runtime: &Runtime, stop: CancelToken) {
    let console = Console::new(runtime.handle().clone());
    let service = tower::service_fn(move |request| console.clone().handle(request));
    // A page that is open has a request that does not end by itself.
    let server = heirloom::hyper::serve(listener, service).drain_timeout(Duration::ZERO);
    let server = server.with_graceful_shutdown(stop).run();
    task::Builder::new().name("console").spawn(server).await.expect("the server does not panic");
}

fn listen(address: &str, sessions: u64) -> io::Result<()> {
    let runtime = inspected()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        println!("listening on http://{}", listener.local_addr()?);
        let load = task::Builder::new().name("load").spawn(load::run(sessions));
        let stop = CancelToken::new();
        let until = async {
            let signal = select(signal::ctrl_c(), signal::terminate()).await.into_inner();
            stop.cancel("a signal");
            signal
        };
        let (_, signal) = futures::join!(serve(listener, &runtime, stop.clone()), until);
        load.abort();
        signal
    })
}

/// Serves the tool `tokio-console` instead of a page.
fn listen_to_tool(address: &str, sessions: u64) -> io::Result<()> {
    let runtime = inspected()?;
    let console = heirloom_console::start(runtime.handle(), address.parse().map_err(io::Error::other)?)?;
    println!("listening: tokio-console http://{}", console.address());
    let load = task::Builder::new().name("load").on(runtime.handle()).spawn(load::run(sessions));
    let signal = runtime.block_on(select(signal::ctrl_c(), signal::terminate())).into_inner();
    load.abort();
    signal
}

async fn get(server: SocketAddr, path: &str) -> io::Result<Response<Incoming>> {
    let socket = TcpStream::connect(server).await?;
    let (mut sender, connection) = http1::handshake(socket).await.map_err(io::Error::other)?;
    spawn_background(connection);
    let request = Request::get(path).header("host", "console").body(Empty::<Bytes>::new());
    sender.send_request(request.expect("a valid request")).await.map_err(io::Error::other)
}

async fn text(server: SocketAddr, path: &str) -> io::Result<String> {
    let body = get(server, path).await?.into_body().collect().await.map_err(io::Error::other)?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// The first events of the page that are whole.
async fn events(server: SocketAddr, count: usize) -> io::Result<Vec<String>> {
    let mut body = get(server, "/events").await?.into_body();
    let (mut events, mut text) = (Vec::new(), Vec::new());
    while events.len() < count {
        let frame = body.frame().await.expect("the events do not end").map_err(io::Error::other)?;
        text.extend_from_slice(&frame.into_data().expect("no trailers"));
        if text.ends_with(b"\n\n") {
            events.push(String::from_utf8_lossy(&text).into_owned());
            text.clear();
        }
    }
    Ok(events)
}

/// Reads what a browser reads, and checks it.
async fn read(server: SocketAddr) -> io::Result<()> {
    let page = text(server, "/").await?;
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(!page.contains("://"), "the page loads nothing from elsewhere");

    // The first ones may be from before all sessions are there.
    let begun = Instant::now();
    let events = events(server, 4).await?;
    let took = begun.elapsed();
    let last: Value = serde_json::from_str(events[3].strip_prefix("data: ").expect("an event").trim_end())?;
    let lines = last["tree"].as_array().expect("a tree");
    let tasks = lines.iter().filter_map(|line| line["tasks"].as_u64()).sum::<u64>();
    let line = |name: &str| lines.iter().find(|line| line["name"] == name).expect("a line of that name");
    let sessions = lines.iter().max_by_key(|line| line["tasks"].as_u64()).expect("a line");
    println!(
        "{tasks} tasks in {} lines, four events of {} bytes in {took:.1?}",
        lines.len(),
        events[3].len()
    );
    assert!(tasks > MANY && last["tasks_in_no_line"] == 0, "each task stands in a line");
    assert_eq!((&sessions["tasks"], &sessions["background"]), (&Value::from(MANY), &Value::from(true)));
    println!("    sessions wait for {}, context {}", sessions["waits_for"], sessions["context"]);
    assert_eq!(sessions["samples"].as_array().map(Vec::len), Some(5));
    assert_eq!(line("audit")["waits_for"][0][0], "a message of a channel");
    assert!(events[3].len() < 50_000, "an event stays small");
    assert!(took < Duration::from_secs(10), "the page is answered under load");

    let (dump, json) = (text(server, "/dump").await?, text(server, "/dump.json").await?);
    let all: Value = serde_json::from_str(&json)?;
    println!("{} tasks in the dump", all["tasks"].as_array().map_or(0, Vec::len));
    let secrets = events.iter().chain([&dump, &json]).map(|text| text.matches(SECRET).count()).sum::<usize>();
    println!(
        "{secrets} secrets in {} bytes",
        events.iter().chain([&dump, &json]).map(String::len).sum::<usize>()
    );
    assert_eq!(secrets, 0, "a secret is shown as one");
    assert!(dump.contains("TOKEN = [secret]") && events[3].contains("[secret]"));
    Ok(())
}

fn check() -> io::Result<()> {
    let runtime = inspected()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, stop) = (listener.local_addr()?, CancelToken::new());
        let load = spawn(load::run(MANY));
        let reading = async {
            let read = spawn(read(address)).await;
            stop.cancel("enough");
            read?
        };
        let (_, read) = futures::join!(serve(listener, &runtime, stop.clone()), reading);
        load.abort();
        read
    })
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => check(),
        ["--listen", address] => listen(address, SESSIONS),
        ["--listen", address, sessions] => listen(address, sessions.parse().map_err(io::Error::other)?),
        ["--tokio-console", address] => listen_to_tool(address, SESSIONS),
        ["--tokio-console", address, sessions] => {
            listen_to_tool(address, sessions.parse().map_err(io::Error::other)?)
        }
        _ => Err(io::Error::other(
            "usage: console [--listen ADDR [SESSIONS] | --tokio-console ADDR [SESSIONS]]",
        )),
    }
}
