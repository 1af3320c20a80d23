//! hyper-util's client over the library's connector, and the library's server at the other end:
//! over TCP, a Unix socket and TLS, by HTTP/1 and HTTP/2, with bodies that are streamed.
//!
//! The kind: a request passes through a pool, connections and tasks of a library. Its context, its
//! deadline and its end must hold at both ends, and nothing of it may stay in the pool.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as Poller, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{any, get};
use futures::{AsyncReadExt, StreamExt, stream};
use heirloom::context::ContextStreamExt;
use heirloom::hyper::serve::{Listener, PEER, Served};
use heirloom::hyper::{HyperConnector, HyperExecutor, HyperTimer, serve};
use heirloom::net::{TcpListener, TcpStream, UnixListener};
use heirloom::{CancelToken, JoinHandle, context_var, deadline, sleep, spawn, wait_for, yield_now};
use heirloom_tests::{Counted, Gate, Ledger, Log, OnDrop, in_a_worker, quiet_panic};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::{Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tower::Service;

context_var! {
    /// Set by the task that asks, and at the server by the handler.
    static REQUEST: u64;
    static HELD: Arc<Counted>;
}

const LONG: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_millis(30);

/// How the two reach each other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Tcp,
    Unix,
    /// A Unix socket that the URI names.
    UnixUri,
    Tls,
    TlsOverUnix,
}

const WAYS: [Way; 5] = [Way::Tcp, Way::Unix, Way::UnixUri, Way::Tls, Way::TlsOverUnix];

impl Way {
    fn is_tls(self) -> bool {
        matches!(self, Way::Tls | Way::TlsOverUnix)
    }
}

/// Runs a test over each way and version.
fn each<F>(test: impl Fn(Way, Version) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for way in WAYS {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            println!("{way:?}, {version:?}");
            in_a_worker(2, test(way, version));
        }
    }
}

/// A server and a client that trust each other, for the host `localhost`.
fn configs() -> (ServerConfig, ClientConfig) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let server = ServerConfig::builder().with_no_client_auth();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (server.with_single_cert(vec![cert.der().clone()], key).unwrap(), client)
}

type RequestBody = UnsyncBoxBody<Bytes, Infallible>;

fn nothing() -> RequestBody {
    http_body_util::Empty::new().boxed_unsync()
}

/// The path of a Unix socket, which goes with it.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new() -> SocketPath {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("heirloom-{}-{number}.socket", std::process::id());
        SocketPath(std::env::temp_dir().join(name))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A server that runs, and a client with a pool.
struct Pair {
    client: Client<HyperConnector, RequestBody>,
    way: Way,
    port: u16,
    path: SocketPath,
    stop: CancelToken,
    serving: JoinHandle<Served>,
}

impl Pair {
    async fn start(way: Way, version: Version, app: Router) -> Pair {
        let (path, stop, mut port) = (SocketPath::new(), CancelToken::new(), 0);
        let listener: Listener = match way {
            Way::Tcp | Way::Tls => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                port = listener.local_addr().unwrap().port();
                listener.into()
            }
            Way::Unix | Way::UnixUri | Way::TlsOverUnix => UnixListener::bind(&path.0).unwrap().into(),
        };
        let mut server = serve(listener, app).with_graceful_shutdown(stop.clone());
        let mut connector = HyperConnector::new();
        if matches!(way, Way::Unix | Way::TlsOverUnix) {
            connector = connector.unix_socket(&path.0);
        }
        if way.is_tls() {
            let (of_server, mut of_client) = configs();
            if version == Version::HTTP_11 {
                of_client.alpn_protocols = vec![b"http/1.1".to_vec()];
            }
            server = server.tls(of_server);
            connector = connector.tls(of_client);
        }
        let mut builder = Client::builder(HyperExecutor);
        builder.timer(HyperTimer).pool_timer(HyperTimer);
        // By TLS the handshake decides.
        builder.http2_only(version == Version::HTTP_2 && !way.is_tls());
        let client = builder.build(connector);
        Pair { client, way, port, path, stop, serving: spawn(server.run()) }
    }

    fn uri(&self, path: &str) -> Uri {
        let (host, port) = ("localhost", self.port);
        match self.way {
            Way::Tcp => format!("http://{host}:{port}{path}").parse().unwrap(),
            Way::Unix => format!("http://{host}{path}").parse().unwrap(),
            Way::UnixUri => HyperConnector::unix_uri(&self.path.0, path).unwrap(),
            Way::Tls => format!("https://{host}:{port}{path}").parse().unwrap(),
            Way::TlsOverUnix => format!("https://{host}{path}").parse().unwrap(),
        }
    }

    /// Sends a request; a task can run the future.
    fn send(
        &self,
        path: &str,
        body: RequestBody,
    ) -> impl Future<Output = Result<Response<Incoming>, hyper_util::client::legacy::Error>> + Send + use<>
    {
        let request = hyper::Request::post(self.uri(path)).body(body).unwrap();
        self.client.request(request)
    }

    async fn text(&self, path: &str) -> String {
        text(self.send(path, nothing()).await.unwrap()).await
    }

    async fn end(self) -> Served {
        self.stop.cancel("the end of the test");
        self.serving.await.unwrap()
    }
}

async fn text(response: Response<Incoming>) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Answers with each part of the request's body as it comes, and with whose request it is.
async fn echo(request: Request) -> Body {
    assert_eq!((REQUEST.get(), deadline()), (None, None), "what is set here is of this request alone");
    let number = request.headers().get("x-request").map(|value| value.to_str().unwrap().parse().unwrap());
    REQUEST.set(number.unwrap_or(0));
    let parts = request.into_body().into_data_stream().map(|part| {
        let part = String::from_utf8(part?.to_vec()).unwrap();
        Ok::<_, axum::Error>(format!("{part} for {};", REQUEST.require()))
    });
    Body::from_stream(parts)
}

#[test]
fn requests_keep_context_and_deadline_at_both_ends_while_bodies_are_streamed() {
    const REQUESTS: u64 = 10;
    each(|way, version| async move {
        let pair = Arc::new(Pair::start(way, version, Router::new().route("/", any(echo))).await);
        for number in 0..REQUESTS {
            let request = pair.clone();
            let asked = spawn(wait_for(
                async move {
                    REQUEST.set(number);
                    let until = deadline();
                    assert!(until.is_some());
                    let parts = stream::iter(0..3).then(|part| async move {
                        yield_now().await;
                        Ok(Frame::data(Bytes::from(format!("{part} of {}", REQUEST.require()))))
                    });
                    let body = http_body_util::StreamBody::new(parts.in_current_context());
                    let body = hyper::Request::post(request.uri("/"))
                        .header("x-request", number)
                        .body(body.boxed_unsync())
                        .unwrap();
                    let response = request.client.request(body).await.unwrap();
                    assert_eq!(
                        (response.version(), REQUEST.get(), deadline()),
                        (version, Some(number), until)
                    );
                    let answer = text(response).await;
                    assert_eq!((REQUEST.get(), deadline()), (Some(number), until));
                    answer
                },
                LONG,
            ));
            let parts = [0, 1, 2].map(|part| format!("{part} of {number} for {number};"));
            let answer = asked.await.unwrap().unwrap();
            // A connection may deliver two parts as one.
            for part in parts.iter().flat_map(|part| part.split(" for ").take(1)) {
                assert!(answer.contains(part), "{answer}");
            }
            assert!(answer.ends_with(&format!(" for {number};")), "{answer}");
        }
        let served = Arc::into_inner(pair).unwrap().end().await;
        assert_eq!((served.broken, served.cut), (0, 0));
        // Over HTTP/1 a connection comes back to the pool a moment after the end of the answer.
        let most = if version == Version::HTTP_2 { 1 } else { REQUESTS as usize - 1 };
        assert!((1..=most).contains(&served.accepted), "{served:?}");
    });
}

/// A request body that notes what its polls see.
struct Seeing {
    seen: Log<(Option<u64>, Option<Instant>)>,
    parts: u32,
}

impl hyper::body::Body for Seeing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.seen.push((REQUEST.get(), deadline()));
        self.parts = match self.parts.checked_sub(1) {
            Some(left) => left,
            None => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from("part")))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The request that opens the connection, and the next one that uses it.
#[test]
fn a_task_of_the_pool_shows_no_requests_variables_and_holds_none() {
    each(|way, version| async move {
        let pair = Arc::new(Pair::start(way, version, Router::new().route("/", any(echo))).await);
        let ledger = Ledger::new();
        for number in 0..2 {
            let (request, seen, held) = (pair.clone(), Log::new(), Arc::new(ledger.counted(number)));
            let body = Seeing { seen: seen.clone(), parts: 3 };
            assert!(!body.is_end_stream());
            let asked = async move {
                REQUEST.set(number);
                HELD.set(held);
                text(request.send("/", body.boxed_unsync()).await.unwrap()).await
            };
            spawn(wait_for(asked, LONG)).await.unwrap().unwrap();
            let seen = seen.take();
            assert!(seen.len() >= 3 && seen.iter().all(|seen| *seen == (None, None)), "{seen:?}");
        }
        // The connection is still there.
        while ledger.alive() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let served = Arc::into_inner(pair).unwrap().end().await;
        assert!(version == Version::HTTP_11 || served.accepted == 1, "one connection for both");
    });
}

/// A handler or a body that waits for ever, and notes whose it is when it is dropped.
fn held(dropped: &Log<Option<u64>>, begun: &Gate) -> Router {
    let endless = {
        let (dropped, begun) = (dropped.clone(), begun.clone());
        move || {
            let (dropped, begun) = (dropped.clone(), begun.clone());
            async move {
                let _note = OnDrop::new(move || dropped.push(REQUEST.get()));
                begun.open();
                std::future::pending::<String>().await
            }
        }
    };
    let in_body = endless.clone();
    let head = async move || {
        REQUEST.set(1);
        endless().await
    };
    let body = async move || {
        REQUEST.set(2);
        let parts = stream::iter(["first".to_string()]).chain(stream::once(in_body()));
        Body::from_stream(parts.map(Ok::<_, Infallible>))
    };
    Router::new().route("/head", any(head)).route("/body", any(body)).route("/", any(echo))
}

#[test]
fn a_limit_and_a_cancellation_end_a_request_at_both_ends() {
    each(|way, version| async move {
        for (path, number, cancelled) in [("/head", 1, false), ("/body", 2, false), ("/head", 1, true)] {
            let (dropped, begun) = (Log::new(), Gate::new());
            let pair = Pair::start(way, version, held(&dropped, &begun)).await;
            let exchange = || {
                let sent = pair.send(path, nothing());
                // The limit may end the connect, which is an error of the client's.
                async move { Some(text(sent.await.ok()?).await) }
            };
            let mut asked = 1;
            if cancelled {
                let asking = spawn(exchange());
                begun.opened().await;
                drop(asking);
            } else {
                let mut limit = Duration::from_millis(10);
                assert_eq!(wait_for(exchange(), limit).await.ok().flatten(), None);
                // A limit that ended it before the handler has proven nothing of the server.
                while !begun.is_open() {
                    (asked, limit) = (asked + 1, 2 * limit);
                    assert_eq!(wait_for(exchange(), limit).await.ok().flatten(), None);
                }
            }
            while dropped.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
            let dropped = dropped.take();
            assert!(dropped.iter().all(|seen| *seen == Some(number)), "in another context: {dropped:?}");
            assert_eq!(pair.text("/").await, "", "the next request is served");
            let served = pair.end().await;
            // Over HTTP/2 a stream ends, over HTTP/1 the connection.
            let connections = if asked == 1 && version == Version::HTTP_2 { 1..=1 } else { 1..=asked + 1 };
            assert!(connections.contains(&served.accepted), "{served:?} for {asked}");
            assert_eq!(served.cut, 0);
        }
    });
}

#[test]
fn a_drain_serves_what_has_begun_over_each_way() {
    each(|way, version| async move {
        let (begun, gate) = (Gate::new(), Gate::new());
        let (at, until) = (begun.clone(), gate.clone());
        let wait = async move || {
            at.open();
            until.opened().await;
            "waited"
        };
        let pair = Pair::start(way, version, Router::new().route("/", any(wait))).await;
        let sent = pair.send("/", nothing());
        let asking = spawn(async move { text(sent.await.unwrap()).await });
        begun.opened().await;
        pair.stop.cancel("the drain");
        gate.open();
        assert_eq!(asking.await.unwrap(), "waited");
        let served = pair.end().await;
        assert_eq!((served.accepted, served.broken, served.cut), (1, 0, 0));
    });
}

#[test]
fn a_panic_of_a_body_is_counted_and_reported_in_its_context() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        in_a_worker(2, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
            let panics = async || {
                REQUEST.set(7);
                let part = async { quiet_panic("a panic in a body") };
                let parts = stream::iter(["first".to_string()]).chain(stream::once(part));
                Body::from_stream(parts.map(Ok::<_, Infallible>))
            };
            let (stop, events) = (CancelToken::new(), Log::new());
            let told = events.clone();
            let server = serve(listener, Router::new().route("/", get(panics)))
                .with_graceful_shutdown(stop.clone())
                .on_event(move |event| {
                    if let serve::Event::Panicked(message) = event {
                        told.push((message.to_string(), REQUEST.get()));
                    }
                });
            let serving = spawn(server.run());
            let mut builder = Client::builder(HyperExecutor);
            let client: Client<_, RequestBody> =
                builder.http2_only(version == Version::HTTP_2).build(HyperConnector::new());
            // The head may have left before, or not.
            if let Ok(response) = client.get(uri).await {
                assert!(response.into_body().collect().await.is_err());
            }
            stop.cancel("the end of the test");
            assert_eq!(serving.await.unwrap().panicked, 1);
            assert_eq!(events.take(), [("a panic in a body".to_string(), Some(7))]);
        });
    }
}

#[test]
fn a_client_has_an_address_over_tcp_and_none_over_a_unix_socket() {
    each(|way, version| async move {
        let app = Router::new().route("/", any(async || PEER.get().is_some().to_string()));
        let pair = Pair::start(way, version, app).await;
        assert_eq!(pair.text("/").await, matches!(way, Way::Tcp | Way::Tls).to_string());
        pair.end().await;
    });
}

async fn refused(connector: &HyperConnector, uri: Uri) -> io::Error {
    connector.clone().call(uri).await.unwrap_err()
}

#[test]
fn what_cannot_be_connected_to_is_told_with_its_host() {
    in_a_worker(1, async {
        let connector = HyperConnector::new();
        for (uri, text) in [
            ("/relative", "no host"),
            ("ftp://a/", "none of `http`, `https`, `unix`"),
            ("https://a/", "`HyperConnector::tls`"),
            ("unix://run/", "no path in hexadecimal"),
            ("unix://2f2/", "no path in hexadecimal"),
        ] {
            let error = refused(&connector, uri.parse().unwrap()).await;
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
        let path = SocketPath::new();
        let error = refused(&connector, HyperConnector::unix_uri(&path.0, "/").unwrap()).await;
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = refused(&connector.clone().unix_socket(&path.0), Uri::from_static("http://a/")).await;
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = refused(&connector, format!("http://{nowhere}/").parse().unwrap()).await;
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&nowhere.to_string()), "{error}");
        let error = refused(&connector, format!("http://user:secret@{nowhere}/").parse().unwrap()).await;
        assert!(error.to_string().contains(&format!("`{nowhere}`")), "{error}");
    });
}

#[test]
fn an_ipv6_address_is_connected_to_without_its_brackets() {
    in_a_worker(1, async {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
        let uri = format!("http://[::1]:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
        HyperConnector::new().nodelay(false).call(uri).await.unwrap();
        listener.accept().await.unwrap();
    });
}

#[test]
fn a_server_that_answers_no_handshake_costs_the_time_for_a_connection_and_no_more() {
    in_a_worker(2, async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("https://{}/", silent.local_addr().unwrap()).parse().unwrap();
        let connector = HyperConnector::new().tls(configs().1).connect_timeout(SOON);
        let error = refused(&connector, uri.clone()).await;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");

        // The deadline of the request ends it, too, and closes the socket.
        let client: Client<_, RequestBody> =
            Client::builder(HyperExecutor).build(connector.connect_timeout(LONG));
        assert!(wait_for(client.get(uri), SOON).await.is_err());
        let mut hello = Vec::new();
        silent.accept().await.unwrap();
        silent.accept().await.unwrap().0.read_to_end(&mut hello).await.unwrap();
        assert!(!hello.is_empty());
    });
}

#[test]
fn a_certificate_of_another_name_is_refused_and_the_server_goes_on() {
    in_a_worker(2, async {
        let app = Router::new().route("/", any(async || "ok"));
        let pair = Pair::start(Way::Tls, Version::HTTP_2, app).await;
        let elsewhere = format!("https://127.0.0.1:{}/", pair.port).parse().unwrap();
        let error = pair.client.get(elsewhere).await.unwrap_err();
        assert!(error.is_connect());
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("certificate"), "{cause}");
        assert_eq!(pair.text("/").await, "ok");
        assert_eq!(pair.end().await.broken, 1);
    });
}

#[test]
fn the_versions_of_a_server_by_tls_are_those_that_it_speaks() {
    in_a_worker(2, async {
        for (http2_only, spoken) in [(true, None), (false, Some("HTTP/1.1"))] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let uri: Uri =
                format!("https://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
            let app =
                Router::new().route("/", get(async |request: Request| format!("{:?}", request.version())));
            let (server, mut client) = configs();
            let both = client.clone();
            client.alpn_protocols = vec![b"http/1.1".to_vec()];
            let server = serve(listener, app).tls(server).http2_only(http2_only);
            let serving = spawn(server.run());
            let ask = async |config: ClientConfig| {
                let client: Client<_, RequestBody> =
                    Client::builder(HyperExecutor).build(HyperConnector::new().tls(config));
                Some(text(client.get(uri.clone()).await.ok()?).await)
            };
            assert_eq!(ask(both).await.as_deref(), Some("HTTP/2.0"));
            assert_eq!(ask(client).await.as_deref(), spoken, "there is no common version");
            drop(serving);
        }
    });
}

#[test]
fn a_client_that_begins_no_handshake_is_cut_off() {
    in_a_worker(2, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancelToken::new());
        let server = serve(listener, Router::new()).tls(configs().0).header_timeout(SOON);
        let serving = spawn(server.with_graceful_shutdown(stop.clone()).run());
        let mut silent = TcpStream::connect(address).await.unwrap();
        let _ = silent.read_to_end(&mut Vec::new()).await;
        stop.cancel("the end of the test");
        assert_eq!(serving.await.unwrap().broken, 1);
    });
}
