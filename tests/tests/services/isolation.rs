//! Requests of one server: none sees what another one has set, on one connection or on several,
//! and the tower layer gives the same under a server that isolates nothing.
//!
//! The kind: a server polls the requests of a connection in one task, so that a variable set by a
//! middleware stays for the next request, behind a pooling proxy another user's.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt, stream};
use heirloom::hyper::serve::{PEER, Served};
use heirloom::hyper::{HyperExecutor, HyperIo, ServerExecutor, serve};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::tower::RequestContextLayer;
use heirloom::{CancelToken, JoinHandle, context_var, sleep, spawn, spawn_background, yield_now};
use heirloom_tests::{Gate, Log, MARK, OnDrop, duplex, in_a_worker, quiet_panic, runtime};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::{http1, http2};
use hyper_util::service::TowerToHyperService;
use tower::Layer;

context_var! {
    /// Set by the middleware.
    static ID: String;
    /// Set by the handler.
    static LANG: &'static str;
    /// Bound around the server, not handed down.
    static PRIVATE: u64, inherit = Never;
}

/// What is bound: the id, the language, the mark around the server.
fn seen() -> String {
    let id = ID.get().unwrap_or_default();
    format!("{id},{},{}", LANG.get().unwrap_or_default(), MARK.get().unwrap_or(0))
}

/// Answers with what it sees, sets the language, and answers with what it sees then, from a body
/// that is made as it is sent.
async fn handler() -> Body {
    let first = seen();
    LANG.set("fr");
    yield_now().await;
    let later = stream::once(async {
        yield_now().await;
        seen()
    });
    Body::from_stream(stream::iter([first, "|".to_string()]).chain(later).map(Ok::<_, Infallible>))
}

/// Sets the id if the request has one.
async fn middleware(request: Request, next: Next) -> Response {
    assert_eq!((ID.get(), LANG.get(), PRIVATE.get()), (None, None, None), "another request's");
    if let Some(id) = request.headers().get("x-id") {
        ID.set(id.to_str().unwrap().to_string());
    }
    next.run(request).await
}

fn app() -> Router {
    let panics = get(async || -> String { quiet_panic("a panic in a handler") });
    Router::new().route("/", get(handler)).route("/panic", panics).layer(from_fn(middleware))
}

struct Running {
    address: SocketAddr,
    stop: CancelToken,
    serving: JoinHandle<Served>,
}

impl Running {
    async fn start(app: Router) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancelToken::new());
        let server = serve(listener, app).with_graceful_shutdown(stop.clone());
        Running { address, stop, serving: spawn(server.run()) }
    }

    async fn end(self) -> Served {
        self.stop.cancel("the end of the test");
        self.serving.await.unwrap()
    }

    async fn http2(&self) -> http2::SendRequest<Empty<Bytes>> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http2::handshake(HyperExecutor, socket).await.unwrap();
        spawn_background(connection);
        sender
    }
}

async fn http1(address: SocketAddr) -> http1::SendRequest<Empty<Bytes>> {
    let (sender, connection) = http1::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    spawn_background(connection);
    sender
}

fn request(path: &str, id: Option<&str>) -> hyper::Request<Empty<Bytes>> {
    let request = hyper::Request::get(format!("http://server{path}")).header("host", "server");
    id.into_iter().fold(request, |request, id| request.header("x-id", id)).body(Empty::new()).unwrap()
}

async fn text(
    response: impl Future<Output = hyper::Result<hyper::Response<hyper::body::Incoming>>>,
) -> String {
    let body = response.await.unwrap().into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[test]
fn the_next_request_of_a_kept_connection_sees_nothing_of_the_last() {
    in_a_worker(2, async {
        let server = Running::start(app()).await;
        let mut sender = http1(server.address).await;
        for (id, expected) in
            [(Some("ada"), "ada,,0|ada,fr,0"), (None, ",,0|,fr,0"), (Some("eve"), "eve,,0|eve,fr,0")]
        {
            sender.ready().await.unwrap();
            assert_eq!(text(sender.send_request(request("/", id))).await, expected);
        }
        assert_eq!(server.end().await.accepted, 1, "one connection for all");
    });
}

/// Three requests at once, the second without an id; what their answers say.
async fn pipelined(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Vec<String> {
    let requests = "GET / HTTP/1.1\r\nhost: a\r\nx-id: ada\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n\
        GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-id: eve\r\n\r\n";
    socket.write_all(requests.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    // The other lines are heads, and lengths of chunks.
    let parts = answer.lines().flat_map(|line| line.split('|'));
    parts.filter(|part| part.contains(',') && part.ends_with(",0")).map(str::to_string).collect()
}

#[test]
fn pipelined_requests_see_nothing_of_each_other() {
    in_a_worker(2, async {
        let server = Running::start(app()).await;
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let seen = pipelined(&mut socket).await;
        assert_eq!(seen, ["ada,,0", "ada,fr,0", ",,0", ",fr,0", "eve,,0", "eve,fr,0"]);
        server.end().await;
    });
}

/// Asks in 64 streams at the same time, every other one with an id.
async fn ask_in_streams(sender: http2::SendRequest<Empty<Bytes>>) {
    let asking = (0..64).map(|number| {
        let mut sender = sender.clone();
        spawn(async move {
            let id = format!("id-{number}");
            let named = number % 2 == 0;
            let answer = text(sender.send_request(request("/", named.then_some(&id)))).await;
            let id = if named { id } else { String::new() };
            assert_eq!(answer, format!("{id},,0|{id},fr,0"));
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.unwrap();
    }
}

#[test]
fn streams_at_the_same_time_see_nothing_of_each_other() {
    in_a_worker(4, async {
        let server = Running::start(app()).await;
        ask_in_streams(server.http2().await).await;
        assert_eq!(server.end().await.accepted, 1);
    });
}

#[test]
fn streams_by_hand_see_nothing_of_each_other_inside_the_layer() {
    in_a_worker(4, async {
        let (near, far) = duplex(4_096);
        let app = TowerToHyperService::new(app().layer(RequestContextLayer::new()));
        spawn_background(ServerExecutor::scope(|executor| {
            hyper::server::conn::http2::Builder::new(executor).serve_connection(HyperIo::new(far), app)
        }));
        let (sender, connection) = http2::handshake(HyperExecutor, HyperIo::new(near)).await.unwrap();
        spawn_background(connection);
        ask_in_streams(sender).await;
    });
}

#[test]
fn what_is_bound_around_the_server_is_seen_by_its_policy_and_stays() {
    in_a_worker(2, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancelToken::new());
        let server = serve(listener, app()).with_graceful_shutdown(stop.clone());
        let serving = spawn(async move {
            MARK.set(7);
            PRIVATE.set(1);
            let served = server.run().await;
            // The accept loop has what it had, and nothing of a request.
            assert_eq!((ID.get(), LANG.get(), MARK.get(), PRIVATE.get()), (None, None, Some(7), Some(1)));
            served
        });
        let mut sender = http1(address).await;
        for _ in 0..2 {
            sender.ready().await.unwrap();
            assert_eq!(text(sender.send_request(request("/", Some("ada")))).await, "ada,,7|ada,fr,7");
        }
        stop.cancel("the end of the test");
        assert_eq!(serving.await.unwrap().broken, 0);
    });
}

#[test]
fn a_panic_in_a_handler_leaves_nothing_to_the_others() {
    in_a_worker(2, async {
        let server = Running::start(app()).await;
        let mut kept = server.http2().await;
        assert!(kept.send_request(request("/panic", Some("ada"))).await.is_err());
        assert_eq!(text(kept.send_request(request("/", None))).await, ",,0|,fr,0", "the same connection");
        assert!(http1(server.address).await.send_request(request("/panic", Some("ada"))).await.is_err());
        assert_eq!(text(http1(server.address).await.send_request(request("/", None))).await, ",,0|,fr,0");
        assert_eq!(server.end().await.panicked, 2);
    });
}

/// An application whose handler or body waits for ever, and notes who it is when it is dropped.
fn held(in_body: bool, begun: Gate, dropped: Log<String>) -> Router {
    let handler = move || {
        let (begun, dropped) = (begun.clone(), dropped.clone());
        let endless = async move {
            let _note = OnDrop::new(move || dropped.push(seen()));
            begun.open();
            std::future::pending::<String>().await
        };
        async move {
            LANG.set("fr");
            if !in_body {
                endless.await;
                unreachable!();
            }
            Body::from_stream(stream::once(endless).map(Ok::<_, Infallible>))
        }
    };
    Router::new().route("/", get(handler)).layer(from_fn(middleware))
}

#[test]
fn what_a_client_leaves_behind_is_dropped_in_the_context_of_its_request() {
    for (http2, in_body) in [(false, false), (false, true), (true, false), (true, true)] {
        in_a_worker(2, async move {
            let (begun, dropped) = (Gate::new(), Log::new());
            let server = Running::start(held(in_body, begun.clone(), dropped.clone())).await;
            let address = server.address;
            let mut two = if http2 { Some(server.http2().await) } else { None };
            let asking = spawn(async move {
                match &mut two {
                    Some(sender) => text(sender.send_request(request("/", Some("ada")))).await,
                    None => text(http1(address).await.send_request(request("/", Some("ada")))).await,
                }
            });
            begun.opened().await;
            drop(asking); // and the connection with it
            while dropped.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(dropped.take(), ["ada,fr,0"], "http2: {http2}, in the body: {in_body}");
            server.end().await;
        });
    }
}

#[test]
fn a_guard_that_moves_from_the_handler_into_the_body_stays_in_force_and_ends_with_it() {
    in_a_worker(2, async {
        let handler = async || {
            let guard = LANG.bind("de");
            let part = async move {
                yield_now().await;
                let bound = LANG.get();
                drop(guard);
                format!("{bound:?} {:?}", LANG.get())
            };
            Body::from_stream(stream::once(part).map(Ok::<_, Infallible>))
        };
        let server = Running::start(Router::new().route("/", get(handler))).await;
        let answer = text(http1(server.address).await.send_request(request("/", None))).await;
        assert_eq!(answer, r#"Some("de") None"#);
        server.end().await;
    });
}

/// A bare hyper connection shares; with the layer outside of the application it does not.
#[test]
fn the_layer_isolates_under_a_server_that_does_not() {
    context_var! { static LEFT: u64; }
    for (http2, layered) in [(false, false), (false, true), (true, true)] {
        let app = tower::service_fn(|_: hyper::Request<hyper::body::Incoming>| {
            let before = LEFT.get().unwrap_or(0); // in `call`
            LEFT.set(before + 1);
            async move {
                yield_now().await;
                let part =
                    async { Ok::<_, Infallible>(Frame::data(Bytes::from(LEFT.get().unwrap().to_string()))) };
                Ok::<_, Infallible>(hyper::Response::new(http_body_util::StreamBody::new(stream::once(part))))
            }
        });
        let answers = in_a_worker(2, async move {
            let (near, far) = duplex(4_096);
            let isolated = TowerToHyperService::new(RequestContextLayer::new().layer(app));
            let plain = TowerToHyperService::new(app);
            spawn_background(async move {
                let far = HyperIo::new(far);
                if http2 {
                    let http2 = |executor| {
                        hyper::server::conn::http2::Builder::new(executor).serve_connection(far, isolated)
                    };
                    ServerExecutor::scope(http2).await
                } else if layered {
                    hyper::server::conn::http1::Builder::new().serve_connection(far, isolated).await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(far, plain).await
                }
            });
            let mut answers = Vec::new();
            if http2 {
                let (mut sender, connection) =
                    http2::handshake(HyperExecutor, HyperIo::new(near)).await.unwrap();
                spawn_background(connection);
                for _ in 0..2 {
                    answers.push(text(sender.send_request(request("/", None))).await);
                }
            } else {
                let (mut sender, connection) = http1::handshake(HyperIo::new(near)).await.unwrap();
                spawn_background(connection);
                for _ in 0..2 {
                    sender.ready().await.unwrap();
                    answers.push(text(sender.send_request(request("/", None))).await);
                }
            }
            answers
        });
        assert_eq!(
            answers,
            if layered { ["1", "1"] } else { ["1", "2"] },
            "http2: {http2}, layered: {layered}"
        );
    }
}

/// Sets the id if the request has one, and sees nothing else to it.
async fn naming(request: Request, next: Next) -> Response {
    if let Some(id) = request.headers().get("x-id") {
        ID.set(id.to_str().unwrap().to_string());
    }
    next.run(request).await
}

/// Two requests of one connection that hyper serves by hand, the second without an id.
fn two_by_hand(app: Router, http2: bool) -> [String; 2] {
    in_a_worker(2, async move {
        let (near, far) = duplex(4_096);
        spawn_background(async move {
            let (far, app) = (HyperIo::new(far), TowerToHyperService::new(app));
            if http2 {
                let serve =
                    |executor| hyper::server::conn::http2::Builder::new(executor).serve_connection(far, app);
                ServerExecutor::scope(serve).await
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(far, app).await
            }
        });
        if http2 {
            let (sender, connection) = http2::handshake(HyperExecutor, HyperIo::new(near)).await.unwrap();
            spawn_background(connection);
            let ask = async |id| text(sender.clone().send_request(request("/", id))).await;
            [ask(Some("ada")).await, ask(None).await]
        } else {
            let (mut sender, connection) = http1::handshake(HyperIo::new(near)).await.unwrap();
            spawn_background(connection);
            let first = text(sender.send_request(request("/", Some("ada")))).await;
            sender.ready().await.unwrap();
            [first, text(sender.send_request(request("/", None))).await]
        }
    })
}

/// The layer is the outermost: what is outside of it runs in the connection's task.
#[test]
fn of_an_axum_router_by_hand_the_layer_isolates_what_is_inside_of_it() {
    let router = || Router::new().route("/", get(handler));
    let named = || from_fn(naming);
    let outermost = || router().layer(named()).layer(RequestContextLayer::new());
    let [first, second] = two_by_hand(outermost(), false);
    assert_eq!((&*first, &*second), ("ada,,0|ada,fr,0", ",,0|,fr,0"));
    assert_eq!(two_by_hand(outermost(), true), [first.clone(), second]);

    let [_, second] = two_by_hand(router().layer(RequestContextLayer::new()).layer(named()), false);
    assert_eq!(second, "ada,,0|ada,fr,0", "the middleware's variable stays, the handler's is gone");

    // Without the layer, over HTTP/1, everything stays; over HTTP/2 a stream has its own task.
    let [_, second] = two_by_hand(router().layer(named()), false);
    assert_eq!(second, "ada,fr,0|ada,fr,0");
    let [_, second] = two_by_hand(router().layer(named()), true);
    assert_eq!(second, ",,0|,fr,0");
}

#[test]
fn pipelined_requests_by_hand_see_nothing_of_each_other_inside_the_layer() {
    in_a_worker(2, async {
        let app = Router::new()
            .route("/", get(handler))
            .layer(from_fn(middleware))
            .layer(RequestContextLayer::new());
        let (mut near, far) = duplex(4_096);
        let app = TowerToHyperService::new(app);
        let mut http = hyper::server::conn::http1::Builder::new();
        http.pipeline_flush(true);
        spawn_background(http.serve_connection(HyperIo::new(far), app));
        assert_eq!(pipelined(&mut near).await, ["ada,,0", "ada,fr,0", ",,0", ",fr,0", "eve,,0", "eve,fr,0"]);
    });
}

#[test]
fn a_request_knows_its_client() {
    in_a_worker(2, async {
        let app = Router::new().route("/", get(async || PEER.require().to_string()));
        let server = Running::start(app).await;
        let socket = TcpStream::connect(server.address).await.unwrap();
        let here = socket.local_addr().unwrap().to_string();
        let (mut sender, connection) = http1::handshake(socket).await.unwrap();
        spawn_background(connection);
        assert_eq!(text(sender.send_request(request("/", None))).await, here);
        server.end().await;
    });
}

#[test]
fn a_client_beyond_the_most_connections_waits_until_one_is_closed() {
    in_a_worker(2, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancelToken::new());
        let server = serve(listener, app()).max_connections(2).with_graceful_shutdown(stop.clone());
        let serving = spawn(server.run());
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut sender = http1(address).await;
            assert_eq!(text(sender.send_request(request("/", None))).await, ",,0|,fr,0");
            open.push(sender);
        }
        let third = spawn(async move { text(http1(address).await.send_request(request("/", None))).await });
        sleep(Duration::from_millis(20)).await;
        assert!(!third.is_finished(), "there are two");
        open.pop();
        assert_eq!(third.await.unwrap(), ",,0|,fr,0");
        stop.cancel("the end of the test");
        assert_eq!(serving.await.unwrap().accepted, 3);
    });
}

#[test]
#[should_panic(expected = "`max_connections` takes 1 or more")]
fn a_server_without_connections_is_refused() {
    in_a_worker(1, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        drop(serve(listener, app()).max_connections(0));
    });
}

/// What `serve` documents about the drain: for a first request, of which the server has read a
/// part, as for the next one of a connection that is kept alive.
#[test]
fn a_request_whose_head_was_not_read_when_the_drain_begins_is_closed_without_an_answer() {
    in_a_worker(2, async {
        const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let part = &HEAD[..HEAD.len() - 2];
        let handled = Log::new();
        let log = handled.clone();
        let app = Router::new().route("/", get(async move || log.push(())));
        let server = Running::start(app).await;
        let mut sockets = Vec::new();
        for kept in [false, true] {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            if kept {
                socket.write_all(HEAD).await.unwrap();
                let mut answer = Vec::new();
                while !answer.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    socket.read_exact(&mut byte).await.unwrap();
                    answer.push(byte[0]);
                }
                assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
            }
            socket.write_all(part).await.unwrap();
            sockets.push(socket);
        }
        // Gives the server time to read the parts. One that has not read them closes all the same.
        sleep(Duration::from_millis(20)).await;
        let served = server.end().await;
        assert_eq!((served.accepted, served.broken, served.cut), (2, 0, 0));
        for mut socket in sockets {
            let _ = socket.write_all(b"\r\n").await;
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        }
        assert_eq!(handled.take().len(), 1, "no handler has seen the others");
    });
}

#[test]
fn over_http2_the_drain_serves_what_has_begun_and_refuses_what_comes_later() {
    in_a_worker(2, async {
        let (begun, gate) = (Gate::new(), Gate::new());
        let (at, until) = (begun.clone(), gate.clone());
        let wait = async move || {
            at.open();
            until.opened().await;
            "waited"
        };
        let app = Router::new().route("/wait", get(wait)).route("/", get(async || "late"));
        let server = Running::start(app).await;
        let mut sender = server.http2().await;
        let answer = spawn({
            let mut sender = sender.clone();
            async move { text(sender.send_request(request("/wait", None))).await }
        });
        begun.opened().await;
        server.stop.cancel("the drain");
        // Requests are served until the client has learnt of the end, then refused.
        while let Ok(response) = sender.send_request(request("/", None)).await {
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "late");
        }
        assert!(!answer.is_finished());
        gate.open();
        assert_eq!(answer.await.unwrap(), "waited");
        assert_eq!(server.serving.await.unwrap().cut, 0);
    });
}

#[test]
fn a_server_that_is_dropped_ends_its_connections_each_request_in_its_context() {
    let runtime = runtime(2);
    let dropped = Log::new();
    let (begun, log) = (Gate::new(), dropped.clone());
    runtime.block_on(async {
        let server = Running::start(held(false, begun.clone(), log)).await;
        let mut sender = http1(server.address).await;
        let asking = spawn(async move { sender.send_request(request("/", Some("ada"))).await.is_err() });
        begun.opened().await;
        drop(server.serving);
        assert!(asking.await.unwrap());
    });
    runtime.wait_until_idle();
    assert_eq!(dropped.take(), ["ada,fr,0"]);
}
