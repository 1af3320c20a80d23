//! A context and a deadline per HTTP request: from headers, in the call, in the response's body and
//! in the drops of both; over HTTP/1 and HTTP/2, by `serve` and under hyper by hand.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::body::Body;
use futures::{StreamExt, stream};
use heirloom::hyper::{HyperExecutor, ServerExecutor, serve};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::tower::{Buffer, RateLimitLayer, RequestContextLayer, TimeoutLayer, grpc_timeout};
use heirloom::{CancelToken, JoinHandle, context_var, deadline, sleep, spawn, spawn_background, yield_now};
use heirloom_tests::{Log, OnDrop, in_a_worker};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, service_fn};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

context_var! {
    static USER: u64;
    static LANG: &'static str;
}

fn layer() -> RequestContextLayer {
    RequestContextLayer::new()
        .header("X-User", &USER, str::parse)
        .deadline_header("grpc-timeout", grpc_timeout)
}

/// What a step of a request sees: the user, the language that the handler has set, and whether
/// there is a deadline.
fn seen() -> String {
    let limited = if deadline().is_some() { "limited" } else { "endless" };
    format!("{:?} {} {limited}", USER.get(), LANG.get().unwrap_or("-"))
}

/// Answers with what each step has seen: `call`, the handler, two frames of the body. Notes what
/// the drops of the handler and of the body have seen.
fn seer(
    dropped: &Log<String>,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + use<>
{
    let dropped = dropped.clone();
    service_fn(move |_| {
        let note = || {
            let dropped = dropped.clone();
            OnDrop::new(move || dropped.push(seen()))
        };
        let (in_call, handler, body) = (seen(), note(), note());
        async move {
            let _handler = handler;
            yield_now().await;
            let first = seen();
            LANG.set("fr");
            let later = stream::unfold((0, body), async |(number, body)| {
                yield_now().await;
                (number < 2).then(|| (seen(), (number + 1, body)))
            });
            let parts = stream::iter([in_call, first]).chain(later);
            Ok(Response::new(Body::from_stream(parts.map(|part| Ok::<_, Infallible>(part + "|")))))
        }
    })
}

/// How a server runs.
#[derive(Clone, Copy, Debug)]
enum Server {
    Serve,
    ServeAndLayer,
    ByHand,
}

/// A client of one connection to a server of this service.
struct Client {
    sender: Sender,
    stop: CancelToken,
    serving: JoinHandle<()>,
}

enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn ask(&mut self, headers: &[(&str, &str)]) -> Response<Incoming> {
        let request = Request::get("http://server/").header("host", "server");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Empty::new()).unwrap();
        match self {
            Sender::One(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            Sender::Two(sender) => sender.send_request(request).await.unwrap(),
        }
    }
}

impl Client {
    async fn new<S, B>(server: Server, two: bool, layer: RequestContextLayer, service: S) -> Client
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: hyper::body::Body<Data = Bytes, Error: Into<heirloom::tower::BoxError>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancelToken::new());
        let until = stop.clone();
        let serving = spawn(async move {
            match server {
                Server::Serve => {
                    let server = serve(listener, service).request_context(layer);
                    server.with_graceful_shutdown(until).run().await;
                }
                Server::ServeAndLayer => {
                    let server = serve(listener, layer.layer(service));
                    server.with_graceful_shutdown(until).run().await;
                }
                Server::ByHand => {
                    let (socket, _) = listener.accept().await.unwrap();
                    let service = TowerToHyperService::new(layer.layer(service));
                    let serving = async {
                        if two {
                            let serve = |executor| {
                                hyper::server::conn::http2::Builder::new(executor)
                                    .serve_connection(socket, service)
                            };
                            ServerExecutor::scope(serve).await
                        } else {
                            hyper::server::conn::http1::Builder::new().serve_connection(socket, service).await
                        }
                    };
                    let _ended = until.run_until_cancelled(serving).await;
                }
            }
        });
        let socket = TcpStream::connect(address).await.unwrap();
        let sender = if two {
            let (sender, connection) = http2::handshake(HyperExecutor, socket).await.unwrap();
            spawn_background(connection);
            Sender::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(socket).await.unwrap();
            spawn_background(connection);
            Sender::One(sender)
        };
        Client { sender, stop, serving }
    }

    async fn ask(&mut self, headers: &[(&str, &str)]) -> Response<Incoming> {
        self.sender.ask(headers).await
    }

    async fn end(self) {
        self.stop.cancel("the end of the test");
        self.serving.await.unwrap();
    }
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Runs `test` with every server, over HTTP/1 and HTTP/2.
fn everywhere<F: Future<Output = ()> + Send + 'static>(test: impl Fn(Server, bool) -> F) {
    for server in [Server::Serve, Server::ServeAndLayer, Server::ByHand] {
        in_a_worker(2, test(server, false));
        in_a_worker(2, test(server, true));
    }
}

#[test]
fn every_step_of_a_request_sees_its_variables_and_its_deadline_and_the_next_request_does_not() {
    everywhere(async |server, two| {
        let dropped = Log::new();
        let mut client = Client::new(server, two, layer(), seer(&dropped)).await;
        for (headers, user, limited) in [
            (&[("x-user", "7"), ("grpc-timeout", "1H")] as &[_], "Some(7)", "limited"),
            (&[], "None", "endless"),
            (&[("x-user", "8"), ("x-user", "9")], "Some(8)", "endless"),
        ] {
            let (before, after) = (format!("{user} - {limited}"), format!("{user} fr {limited}"));
            let answer = text(client.ask(headers).await).await;
            assert_eq!(answer, format!("{before}|{before}|{after}|{after}|"), "{server:?}, http2: {two}");
            while dropped.len() < 2 {
                sleep(MILLISECOND).await;
            }
            assert_eq!(dropped.take(), [after.clone(), after], "{server:?}, http2: {two}");
        }
        client.end().await;
    });
}

#[test]
fn a_client_that_leaves_has_its_body_dropped_in_the_context_and_the_deadline_of_its_request() {
    everywhere(async |server, two| {
        let dropped = Log::new();
        let log = dropped.clone();
        let endless = service_fn(move |_| {
            let log = log.clone();
            let note = OnDrop::new(move || log.push(seen()));
            let parts = stream::unfold(note, async |note| {
                sleep(MILLISECOND).await;
                Some((Ok::<_, Infallible>("part"), note))
            });
            async { Ok::<_, Infallible>(Response::new(Body::from_stream(parts))) }
        });
        let mut client = Client::new(server, two, layer().limit(HOUR), endless).await;
        let mut body = client.ask(&[("x-user", "7")]).await.into_body();
        body.frame().await.unwrap().unwrap();
        drop((body, client.sender));
        while dropped.is_empty() {
            sleep(MILLISECOND).await;
        }
        assert_eq!(dropped.take(), ["Some(7) - limited"]);
        client.stop.cancel("the end of the test");
        client.serving.await.unwrap();
    });
}

#[test]
fn time_that_is_up_ends_the_call_with_an_answer_and_the_body_with_an_error() {
    everywhere(async |server, two| {
        // Waits in the handler, or after a first part of the body.
        let slow = service_fn(async |request: Request<Incoming>| {
            if !request.headers().contains_key("x-body") {
                sleep(HOUR).await;
            }
            let never = stream::once(async {
                sleep(HOUR).await;
                "never"
            });
            let parts = stream::iter(["part"]).chain(never).map(Ok::<_, Infallible>);
            Ok::<_, Infallible>(Response::new(Body::from_stream(parts)))
        });
        let mut client = Client::new(server, two, layer(), slow).await;
        let response = client.ask(&[("grpc-timeout", "20m")]).await;
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(text(response).await, "");

        let response = client.ask(&[("grpc-timeout", "50m"), ("x-body", "")]).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
        assert!(body.frame().await.unwrap().is_err(), "{server:?}, http2: {two}");
        client.end().await;
    });
}

#[test]
fn a_bad_header_is_answered_by_the_layer_and_the_service_is_not_called() {
    everywhere(async |server, two| {
        let dropped = Log::new();
        let mut client = Client::new(server, two, layer(), seer(&dropped)).await;
        for header in [("x-user", "seven"), ("x-user", "é"), ("x-user", ""), ("grpc-timeout", "soon")] {
            let response = client.ask(&[header]).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{header:?}");
            assert_eq!(text(response).await, "");
        }
        assert!(dropped.is_empty());
        let answer = text(client.ask(&[("x-user", "7")]).await).await;
        assert!(answer.starts_with("Some(7) - endless|"), "the connection goes on: {answer}");
        client.end().await;
    });
}

#[test]
fn a_grpc_client_is_told_by_a_status_in_the_head_or_in_the_trailers() {
    everywhere(async |server, two| {
        if !two {
            return; // gRPC needs HTTP/2
        }
        let slow = service_fn(async |request: Request<Incoming>| {
            if request.headers().contains_key("x-slow") {
                sleep(HOUR).await;
            }
            let parts = stream::iter(["part"]).chain(stream::pending()).map(Ok::<_, Infallible>);
            Ok::<_, Infallible>(Response::new(Body::from_stream(parts)))
        });
        let mut client = Client::new(server, two, layer(), slow).await;
        let grpc = ("content-type", "application/grpc+proto");
        let status = |headers: &HeaderMap| headers["grpc-status"].to_str().unwrap().to_string();
        for (header, expected) in [(("grpc-timeout", "1"), "3"), (("grpc-timeout", "20m"), "4")] {
            let response = client.ask(&[grpc, header, ("x-slow", "")]).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            assert_eq!(status(response.headers()), expected);
        }
        let response = client.ask(&[grpc, ("grpc-timeout", "50m")]).await;
        assert!(!response.headers().contains_key("grpc-status"));
        let whole = response.into_body().collect().await.unwrap();
        assert_eq!(status(whole.trailers().unwrap()), "4");
        assert_eq!(whole.to_bytes(), "part");
        client.end().await;
    });
}

#[test]
fn all_layers_work_behind_hyper_where_each_request_has_a_clone_of_its_own() {
    everywhere(async |server, two| {
        let mut calls = 0; // so that the service is no `Clone`
        let counted = service_fn(move |_: Request<Incoming>| {
            calls += 1;
            let head = format!("{calls} {}", seen());
            async move {
                let part = async move { Ok::<_, Infallible>(format!("{head}|{}", seen())) };
                Ok::<_, Infallible>(Response::new(Body::from_stream(stream::once(part))))
            }
        });
        let period = 20 * MILLISECOND;
        let service = ServiceBuilder::new()
            .map_err(|error| -> Infallible { panic!("{error}") })
            .layer(TimeoutLayer::new(HOUR))
            .layer(ConcurrencyLimitLayer::new(4))
            .layer(RateLimitLayer::new(8, period))
            .layer_fn(|service| Buffer::new(service, 4))
            .service(counted);
        let mut client = Client::new(server, two, layer(), service).await;
        let begun = Instant::now();
        let ask = async |client: &mut Sender, user: u64| {
            let user = user.to_string();
            let answer = text(client.ask(&[("x-user", &user), ("grpc-timeout", "1H")]).await).await;
            let (number, rest) = answer.split_once(' ').unwrap();
            assert_eq!(rest, format!("Some({user}) - limited|Some({user}) - limited"));
            number.parse::<u32>().unwrap()
        };
        let mut numbers = Vec::new();
        if let Sender::Two(sender) = &client.sender {
            // All at once, each in a task of its own at both ends.
            let asking = (0..40).map(|user| {
                let mut sender = Sender::Two(sender.clone());
                spawn(async move { ask(&mut sender, user).await })
            });
            for asked in asking.collect::<Vec<_>>() {
                numbers.push(asked.await.unwrap());
            }
        } else {
            for user in 0..40 {
                numbers.push(ask(&mut client.sender, user).await);
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
        assert!(begun.elapsed() >= 4 * period, "eight in a period");
        client.end().await;
    });
}
