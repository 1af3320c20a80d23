//! The bundled service on the library's server, in this process: requests keep apart, a drain keeps
//! its word, and clients that misbehave harm only themselves. Its files are those of the example.

mod backends;
mod kept;

#[path = "../../../examples/service/app.rs"]
mod app;
#[path = "../../../examples/service/backend.rs"]
mod backend;
#[allow(dead_code)]
#[path = "../../../examples/service/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../../../examples/service/log.rs"]
mod log;
#[allow(dead_code)]
#[path = "../../../examples/service/metrics.rs"]
mod metrics;
#[path = "../../../examples/service/request.rs"]
mod request;
#[path = "../../../examples/service/server.rs"]
mod server;
#[path = "../../../examples/service/upstream.rs"]
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Version};
use axum::middleware::from_fn;
use axum::routing::get;
use futures::{AsyncReadExt, AsyncWriteExt};
use heirloom::hyper::serve::Served;
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{CancelToken, Handle, JoinHandle, sleep, spawn, spawn_background};
use heirloom_tests::{
    Gate, Log, OnDrop, in_a_worker, in_child, in_child_with_limit, quiet_panic, say_as_child, scaled,
};

use app::App;
use backend::{ATTEMPT_HEADER, Backend, CallError};
use client::Seen;
use kept::{Answer, Sender, ask};
use log::{Kept, OUTPUT, Output};
use metrics::Metrics;
use request::{DEADLINE_HEADER, ID_HEADER, REQUEST, TENANT_HEADER, identify};
use server::{Limits, serve};
use upstream::Upstreams;

/// A server that runs.
struct Running {
    address: SocketAddr,
    stop: CancelToken,
    lines: Arc<Kept>,
    serving: JoinHandle<Served>,
}

const PATIENT: Limits =
    Limits { head: Duration::from_secs(3_600), drain: Duration::from_secs(3_600), http2_only: false };
/// Too many open files.
const EMFILE: i32 = 24;
const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// The application, with backends of its own.
async fn app() -> App {
    App::new(upstream::start(&CancelToken::new()).await.unwrap())
}

async fn connect(server: SocketAddr) -> std::io::Result<Sender> {
    kept::connect(server, Version::HTTP_11).await
}

/// Asks once over a connection of its own.
async fn ask_once(server: SocketAddr, version: Version, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(&mut kept::connect(server, version).await.unwrap(), path, headers).await
}

impl Running {
    async fn start(app: Router, limits: Limits) -> Running {
        let lines = Arc::new(Kept::default());
        let _output = OUTPUT.bind(Output::Memory(lines.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancelToken::new());
        let serving = spawn(serve(listener, app, limits, stop.clone()));
        Running { address, stop, lines, serving }
    }

    /// Tells it to stop, and waits until no client can connect any more.
    async fn stop(&self) {
        self.stop.cancel("the end of the test");
        self.said("event=draining").await;
    }

    async fn end(self) -> Served {
        self.stop.cancel("the end of the test");
        self.serving.await.unwrap()
    }

    /// Waits until a line of the log contains this.
    async fn said(&self, part: &str) -> String {
        loop {
            if let Some(line) = self.lines.with(part).pop() {
                return line;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Fails unless a client that comes now is served as it should be.
    async fn serves_others(&self) {
        let mut sender = connect(self.address).await.unwrap();
        let answer = ask(&mut sender, "/health", &[]).await.unwrap();
        assert_eq!(answer, (StatusCode::OK, "ok\n".to_string()));
    }
}

/// An application with a request that waits at a gate, notes who it is when it is dropped, and says
/// when it has begun.
struct Held {
    begun: Gate,
    gate: Gate,
    dropped: Log<Option<String>>,
}

impl Held {
    fn new() -> (Held, Router) {
        let held = Held { begun: Gate::new(), gate: Gate::new(), dropped: Log::new() };
        let (begun, gate, dropped) = (held.begun.clone(), held.gate.clone(), held.dropped.clone());
        let wait = move || {
            let (begun, gate, dropped) = (begun.clone(), gate.clone(), dropped.clone());
            async move {
                let _note = OnDrop::new(move || dropped.push(REQUEST.get()));
                begun.open();
                gate.opened().await;
                "waited"
            }
        };
        let router = Router::new()
            .route("/wait", get(wait))
            .route("/health", get(async || "ok\n"))
            .route("/panic", get(async || -> String { quiet_panic("a panic in a handler") }));
        (held, router.layer(from_fn(identify)))
    }

    async fn dropped(&self) -> Option<String> {
        while self.dropped.is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        self.dropped.take().pop().unwrap()
    }
}

fn many_connections(version: Version) {
    const CLIENTS: u64 = 16;
    const LINES: usize = scaled(2_000);
    in_a_worker(4, async move {
        let app = app().await;
        let counts = app.counts.clone();
        let server = Running::start(app.router(), PATIENT).await;
        let clients = client::start(server.address, CLIENTS, version);
        while server.lines.count("served") < LINES {
            sleep(Duration::from_millis(1)).await;
        }
        let lines = server.lines.clone();
        let served = server.end().await;
        let mut seen = Seen::default();
        for client in clients {
            seen.add(client.await.unwrap());
        }
        assert!(client::connections(CLIENTS, version).contains(&served.accepted), "{served:?}");
        assert_eq!((served.broken, served.cut), (0, 0));
        assert!(seen.orders + seen.out_of_time >= LINES);
        assert_eq!(lines.count("served"), seen.orders + seen.out_of_time, "one for each answer");
        assert_eq!(seen.violations, 0);
        assert_eq!(seen.looks, 4 * seen.orders - seen.partial);
        while counts.jobs.load(Ordering::SeqCst) < seen.orders {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(counts.violations.load(Ordering::SeqCst), 0);
        assert_eq!(counts.audited.load(Ordering::SeqCst), seen.orders, "what was begun was answered");
    });
}

#[test]
fn requests_of_many_connections_see_only_their_own_context() {
    many_connections(Version::HTTP_11);
}

#[test]
fn requests_of_many_streams_see_only_their_own_context() {
    many_connections(Version::HTTP_2);
}

#[test]
fn a_line_of_the_log_names_its_client_and_cannot_be_forged() {
    for version in VERSIONS {
        in_a_worker(2, async move {
            let server = Running::start(app().await.router(), PATIENT).await;
            let mut sender = kept::connect(server.address, version).await.unwrap();
            let headers = [(ID_HEADER, "r\" tenant=\"root"), (TENANT_HEADER, "acme")];
            let (_, answer) = ask(&mut sender, "/orders/1", &headers).await.unwrap();
            assert!(answer.starts_with("catalog r\" tenant=\"root acme "), "{answer}");
            let line = server.said("event=served").await;
            assert!(line.contains(r#" request="r\" tenant=\"root" tenant="acme" status="200""#), "{line}");
            server.end().await;
        });
    }
}

#[test]
fn a_request_out_of_time_is_answered_so_and_its_work_is_dropped() {
    for version in VERSIONS {
        in_a_worker(2, async move {
            let (held, app) = Held::new();
            let server = Running::start(app, PATIENT).await;
            let mut sender = kept::connect(server.address, version).await.unwrap();
            let headers = [(ID_HEADER, "hurried"), (DEADLINE_HEADER, "5")];
            let (status, _) = ask(&mut sender, "/wait", &headers).await.unwrap();
            assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
            assert_eq!(held.dropped().await.as_deref(), Some("hurried"));
            let (status, _) = ask(&mut sender, "/health", &[]).await.unwrap();
            assert_eq!(status, StatusCode::OK, "the connection goes on");
            server.end().await;
        });
    }
}

#[test]
fn a_drain_finishes_what_has_begun_and_lets_no_client_in() {
    for version in VERSIONS {
        in_a_worker(2, async move {
            let (held, app) = Held::new();
            let server = Running::start(app, PATIENT).await;
            let address = server.address;
            let idle = kept::connect(address, version).await.unwrap();
            let request = spawn(async move {
                let mut sender = kept::connect(address, version).await?;
                ask(&mut sender, "/wait", &[]).await.map_err(std::io::Error::other)
            });
            held.begun.opened().await;
            server.stop().await;
            assert!(kept::connect(address, version).await.is_err(), "a new client is refused");
            held.gate.open();
            assert_eq!(request.await.unwrap().unwrap(), (StatusCode::OK, "waited".to_string()));
            let served = server.end().await;
            assert_eq!((served.accepted, served.cut), (2, 0));
            drop(idle);
        });
    }
}

#[test]
fn a_drain_ends_at_its_limit_and_drops_what_is_left_in_its_context() {
    for version in VERSIONS {
        in_a_worker(2, async move {
            let (held, app) = Held::new();
            let limits = Limits { drain: Duration::from_millis(20), ..PATIENT };
            let server = Running::start(app, limits).await;
            let address = server.address;
            let request = spawn(async move {
                let mut sender = kept::connect(address, version).await.unwrap();
                ask(&mut sender, "/wait", &[(ID_HEADER, "endless")]).await
            });
            held.begun.opened().await;
            server.stop().await;
            let served = server.end().await;
            assert_eq!(served.cut, 1);
            assert_eq!(held.dropped().await.as_deref(), Some("endless"));
            assert!(request.await.unwrap().is_err());
        });
    }
}

#[test]
fn clients_that_never_end_their_head_are_cut_off_and_hold_up_no_other() {
    const SLOW: usize = 50;
    in_a_worker(2, async {
        let limits = Limits { head: Duration::from_secs(1), ..PATIENT };
        let server = Running::start(app().await.router(), limits).await;
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(b"GET /orders/1 HTTP/1.1\r\nx-slow: ").await.unwrap();
            slow.push(socket);
        }
        server.serves_others().await;
        for mut socket in slow {
            let mut answer = Vec::new();
            // Ended, in order or not.
            let _ = socket.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP/1.1 200"));
        }
        server.serves_others().await;
        assert!(server.said("event=connection broke").await.contains("timeout"));
        let served = server.end().await;
        assert!(served.broken >= SLOW, "{served:?}");
    });
}

/// Two connections and their requests: what a panic, or a client that gives up, takes with it.
#[test]
fn a_request_that_ends_before_its_answer_takes_its_tasks_with_it_and_no_other() {
    for version in VERSIONS {
        in_a_worker(2, async move {
            let (held, app) = Held::new();
            let server = Running::start(app, PATIENT).await;
            let address = server.address;
            server.serves_others().await;
            let tasks = || Handle::current().unwrap().stats().tasks;
            let mut sender = kept::connect(address, version).await.unwrap();
            assert!(ask(&mut sender, "/panic", &[(ID_HEADER, "unlucky")]).await.is_err());
            let line = server.said("event=panicked").await;
            assert!(line.contains(r#" request="unlucky""#), "{line}");
            assert!(line.contains(r#" message="a panic in a handler""#), "{line}");
            // Over HTTP/1 the request was served by its connection's task.
            let answer = ask(&mut sender, "/health", &[]).await;
            assert_eq!(answer.is_ok(), version == Version::HTTP_2);
            drop(sender);
            let request =
                spawn(async move { ask_once(address, version, "/wait", &[(ID_HEADER, "given-up")]).await });
            held.begun.opened().await;
            drop(request);
            assert_eq!(held.dropped().await.as_deref(), Some("given-up"));
            server.serves_others().await;
            // This task and the accept loop.
            while tasks() > 2 {
                sleep(Duration::from_millis(1)).await;
            }
            server.end().await;
        });
    }
}

#[test]
fn clients_that_say_nothing_or_begin_a_preface_are_cut_off() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    in_a_worker(2, async {
        let limits = Limits { head: Duration::from_millis(50), ..PATIENT };
        let server = Running::start(app().await.router(), limits).await;
        let mut silent = Vec::new();
        // The last is asked for a sign of life.
        for length in [0, 1, 4, PREFACE.len() - 1, PREFACE.len()] {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(&PREFACE[..length]).await.unwrap();
            silent.push(socket);
        }
        let cut = silent.len();
        for mut socket in silent {
            // Ended, in order or not.
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
        server.serves_others().await;
        let served = server.end().await;
        assert!(served.broken >= cut, "{served:?}");
    });
}

#[test]
fn a_preface_in_pieces_is_a_preface() {
    in_a_worker(2, async {
        let server = Running::start(app().await.router(), PATIENT).await;
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
            socket.write_all(&[*byte]).await.unwrap();
        }
        // Settings, of length zero; those of the server come back.
        socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut answer = [0; 9];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[3], 4, "{answer:?}");
        drop(socket);
        server.end().await;
    });
}

#[test]
fn a_client_that_leaves_without_a_word_is_no_failure() {
    in_a_worker(2, async {
        let server = Running::start(app().await.router(), PATIENT).await;
        drop(TcpStream::connect(server.address).await.unwrap());
        server.serves_others().await;
        assert_eq!(server.end().await.broken, 0);
    });
}

#[test]
fn http2_alone_can_be_asked_for() {
    in_a_worker(2, async {
        let limits = Limits { http2_only: true, ..PATIENT };
        let server = Running::start(app().await.router(), limits).await;
        let served = ask_once(server.address, Version::HTTP_2, "/health", &[]).await.unwrap();
        assert_eq!(served, (StatusCode::OK, "ok\n".to_string()));
        assert!(ask_once(server.address, Version::HTTP_11, "/health", &[]).await.is_err());
        server.said("event=connection broke").await;
        assert_eq!(server.end().await.broken, 1);
    });
}

#[test]
fn a_reset_in_the_middle_of_a_body_is_noted_in_its_context() {
    in_a_worker(2, async {
        let server = Running::start(app().await.router(), PATIENT).await;
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head = b"POST /upload HTTP/1.1\r\nhost: a\r\nx-request-id: broken-off\r\n\
            content-length: 100000\r\nexpect: 100-continue\r\n\r\nbegun";
        socket.write_all(head).await.unwrap();
        // The interim answer stays unread: to close a socket with unread bytes is to reset the
        // connection.
        socket.readable().await.unwrap();
        drop(socket);
        let line = server.said("event=upload broke off").await;
        assert!(line.contains(r#"request="broken-off""#) && line.contains(r#"after="5""#), "{line}");
        server.serves_others().await;
        server.end().await;
    });
}

#[test]
fn a_client_that_closes_its_half_before_the_answer_has_left() {
    in_a_worker(2, async {
        let (held, app) = Held::new();
        let server = Running::start(app, PATIENT).await;
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\nx-request-id: half\r\n\r\n").await.unwrap();
        held.begun.opened().await;
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(held.dropped().await.as_deref(), Some("half"));
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
        server.serves_others().await;
        server.end().await;
    });
}

#[test]
fn a_client_that_reads_nothing_holds_up_no_other() {
    in_a_worker(2, async {
        const LARGE: usize = 32 << 20; // more than the system keeps for a connection
        let large = get(async || vec![b'x'; LARGE]);
        let app = Router::new().route("/large", large).route("/health", get(async || "ok\n"));
        let limits = Limits { drain: Duration::from_millis(20), ..PATIENT };
        let server = Running::start(app.layer(from_fn(identify)), limits).await;
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        socket.readable().await.unwrap();
        server.serves_others().await;
        server.stop().await;
        assert_eq!(server.end().await.cut, 1);
        drop(socket);
    });
}

#[test]
fn what_is_not_http_is_told_so() {
    in_a_worker(1, async {
        let server = Running::start(app().await.router(), PATIENT).await;
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(b"\x16\x03\x01 hello?\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        server.said("event=connection broke").await;
        server.serves_others().await;
        assert_eq!(server.end().await.broken, 1);
    });
}

/// How many descriptors this process may have.
fn descriptor_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_idle_connections_do_not_keep_the_others_from_being_served() {
    // Both ends are in this process. A process with a lower limit of descriptors tries with what
    // there is.
    let test = "service::ten_thousand_idle_connections_do_not_keep_the_others_from_being_served";
    if !in_child_with_limit(test, "-n 20500 2>/dev/null || ulimit -n $(ulimit -Hn)", 2).is_here() {
        return;
    }
    let connections = ((descriptor_limit() - 300) / 2).min(10_000);
    in_a_worker(2, async move {
        let server = Running::start(app().await.router(), PATIENT).await;
        let mut idle = Vec::new();
        for _ in 0..connections {
            idle.push(TcpStream::connect(server.address).await.unwrap());
        }
        let mut sender = connect(server.address).await.unwrap();
        for number in 0..50 {
            let (status, _) = ask(&mut sender, &format!("/orders/{number}"), &[]).await.unwrap();
            assert_eq!(status, StatusCode::OK);
        }
        // Those that wake up are served too.
        for socket in idle.iter_mut().step_by(connections / 100) {
            socket.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut answer = [0; 15];
            socket.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
        }
        let served = server.end().await;
        assert_eq!((served.accepted, served.not_accepted, served.cut), (connections + 1, 0, 0));
    });
    say_as_child();
}

#[test]
#[cfg(target_os = "linux")]
fn without_descriptors_for_new_connections_the_others_are_served_and_the_new_ones_later() {
    let test =
        "service::without_descriptors_for_new_connections_the_others_are_served_and_the_new_ones_later";
    if !in_child_with_limit(test, "-n 200", 2).is_here() {
        return;
    }
    in_a_worker(2, async {
        let server = Running::start(app().await.router(), PATIENT).await;
        let mut known = connect(server.address).await.unwrap();
        assert!(ask(&mut known, "/health", &[]).await.is_ok());
        // The server's attempt to accept takes a descriptor for a moment, also if no connection
        // waits. So one failure does not yet mean that there are none, here and at the client.
        let mut files = Vec::new();
        let mut failures = 0;
        while failures < 50 {
            match std::fs::File::open("/dev/null") {
                Ok(file) => {
                    files.push(file);
                    failures = 0;
                }
                Err(_) => {
                    sleep(Duration::from_millis(1)).await;
                    failures += 1;
                }
            }
        }
        files.pop(); // for the client's end; there is none for the server's
        let address = server.address;
        let newcomer = spawn(async move {
            let mut sender = loop {
                match connect(address).await {
                    Ok(sender) => break sender,
                    Err(error) => assert_eq!(error.raw_os_error(), Some(EMFILE), "{error}"),
                }
                sleep(Duration::from_millis(1)).await;
            };
            ask(&mut sender, "/health", &[]).await
        });
        let line = server.said("event=not accepted").await;
        assert!(line.contains("error="), "{line}");
        for _ in 0..20 {
            assert_eq!(ask(&mut known, "/slow/1", &[]).await.unwrap().0, StatusCode::OK);
        }
        assert!(!newcomer.is_finished());
        drop(files);
        assert_eq!(newcomer.await.unwrap().unwrap().0, StatusCode::OK);
        let served = server.end().await;
        assert!(served.not_accepted >= 1);
        assert_eq!((served.accepted, served.broken), (2, 0));
    });
    say_as_child();
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_drains_the_server() {
    let test = "service::a_signal_drains_the_server";
    if !in_child(test, false).is_here() {
        return;
    }
    in_a_worker(2, async {
        let (held, app) = Held::new();
        let server = Running::start(app, PATIENT).await;
        let (address, stop) = (server.address, server.stop.clone());
        let signal = heirloom::signal::terminate();
        let waiting = spawn(async move {
            signal.await.unwrap();
            stop.cancel("a signal");
        });
        let request = spawn(async move {
            let mut sender = connect(address).await.unwrap();
            ask(&mut sender, "/wait", &[]).await
        });
        held.begun.opened().await;
        let kill = ["-TERM", &std::process::id().to_string()].map(str::to_owned);
        assert!(std::process::Command::new("kill").args(kill).status().unwrap().success());
        waiting.await.unwrap();
        server.said("event=draining").await;
        held.gate.open();
        assert_eq!(request.await.unwrap().unwrap().0, StatusCode::OK);
        assert_eq!(server.serving.await.unwrap().cut, 0);
    });
    say_as_child();
}
