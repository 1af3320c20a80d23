//! Two services over sockets: a caller, a shop that asks a stock, and bodies that are streamed both
//! ways; over HTTP/1, HTTP/2, and HTTP/2 with the headers of gRPC.
//!
//! No function passes on a tenant, an id, a trace or a deadline.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use heirloom::hyper::{HyperConnector, HyperExecutor, HyperTimer, serve};
use heirloom::net::TcpListener;
use heirloom::tower::{BoxError, Propagate, PropagateLayer, RequestContextLayer};
use heirloom::wire::{Outbound, TRACE};
use heirloom::{remaining, sleep, spawn, spawn_background, wait_for};
use heirloom_tests::{Log, OnDrop, in_a_worker};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{inbound, seen, seen_afar, set};

const MILLISECOND: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_millis(300);
const HOUR: Duration = Duration::from_secs(3_600);
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const PATIENCE: Duration = Duration::from_secs(30);

type HttpClient = Propagate<Client<HyperConnector, Body>>;

/// How the services speak.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Http1,
    Http2,
    Grpc,
}

/// Runs a test over each way.
fn each<F: Future<Output = ()> + Send + 'static>(test: impl Fn(Way) -> F) {
    for way in [Way::Http1, Way::Http2, Way::Grpc] {
        println!("{way:?}");
        in_a_worker(2, test(way));
    }
}

fn client(way: Way, layer: &PropagateLayer) -> HttpClient {
    let mut builder = Client::builder(HyperExecutor);
    builder.timer(HyperTimer).pool_timer(HyperTimer).http2_only(way != Way::Http1);
    layer.layer(builder.build(HyperConnector::new()))
}

fn to_this_machine() -> PropagateLayer {
    PropagateLayer::new(Outbound::new().host("127.0.0.1"))
}

fn body(parts: impl Stream<Item = Result<String, axum::Error>> + Send + 'static) -> Body {
    Body::from_stream(parts)
}

/// The parts of a body, as they come.
fn parts<B>(body: B) -> impl Stream<Item = Result<String, axum::Error>> + Send
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let parts = Body::new(body).into_data_stream();
    // Over HTTP/2 the end may be an empty part.
    parts
        .try_filter(|part| std::future::ready(!part.is_empty()))
        .map_ok(|part| String::from_utf8(part.to_vec()).unwrap())
}

fn request(way: Way, uri: String, body: Body) -> Request<Body> {
    let kind = if way == Way::Grpc { "application/grpc" } else { "text/plain" };
    Request::post(uri).header("content-type", kind).body(body).unwrap()
}

/// Serves on a port of its own, in a background task: nothing is inherited from the test.
async fn start<S>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let layer = RequestContextLayer::new().inbound(inbound());
    spawn_background(serve(listener, service).request_context(layer).run());
    address
}

/// What is known at a place: the variables, the trace, and the milliseconds that are left.
fn look(place: &str) -> String {
    let trace = TRACE.get().map_or("-".to_owned(), |trace| trace.to_string());
    let left = remaining().map_or("-".to_owned(), |left| left.as_millis().to_string());
    format!("{place}|{}|{trace}|{left}\n", seen())
}

/// Answers each part of a request with what it knows then. What it is told to wait for never comes.
async fn stock(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/never" {
        pending::<()>().await;
    }
    let first = look("call");
    let looks = parts(request.into_body()).map(|part| Ok(look(&part?)));
    Ok(Response::new(body(stream::iter([Ok(first)]).chain(looks))))
}

/// Asks the stock, and hands each part on, in both directions.
fn shop(
    way: Way,
    stock: String,
    client: HttpClient,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = BoxError, Future: Send> + Clone {
    service_fn(move |asked: Request<Incoming>| {
        let (client, uri) = (client.clone(), format!("{stock}{}", asked.uri().path()));
        async move {
            let first = look("shop");
            let answer = client.oneshot(request(way, uri, body(parts(asked.into_body())))).await?;
            let (mut head, looks) = answer.into_parts();
            head.headers.remove("content-length");
            let is_refused =
                head.headers.contains_key("x-refused") || head.headers.contains_key("grpc-status");
            let first = stream::iter((!is_refused).then_some(Ok(first)));
            Ok(Response::from_parts(head, body(first.chain(parts(looks)))))
        }
    })
}

/// The fields of the lines of an answer: place, the five of `seen`, trace, milliseconds left.
fn fields(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split('|').collect()).collect()
}

async fn text(
    response: Response<impl hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static>,
) -> String {
    parts(response.into_body()).try_collect::<Vec<_>>().await.unwrap().concat()
}

#[test]
fn all_that_is_bound_is_known_at_the_far_end_in_each_part_of_a_stream() {
    const CALLS: u64 = 24;
    each(async |way| {
        let stock = start(service_fn(stock)).await;
        let shop = start(shop(way, format!("http://{stock}"), client(way, &to_this_machine()))).await;
        let client = client(way, &to_this_machine());
        let calls: Vec<_> = (0..CALLS)
            .map(|number| {
                let client = client.clone();
                let call = async move {
                    set(number);
                    TRACE.set(PARENT.parse().unwrap());
                    let sent = stream::iter(["one", "two", "three"]).then(async |part| {
                        sleep(MILLISECOND).await;
                        Ok(part.to_owned())
                    });
                    let most = remaining().unwrap().as_millis();
                    let answer = client.oneshot(request(way, format!("http://{shop}/"), body(sent))).await;
                    (most, text(answer.unwrap()).await)
                };
                spawn(wait_for(call, HOUR))
            })
            .collect();
        for (number, call) in (0..).zip(calls) {
            let (most, answer) = call.await.unwrap().unwrap();
            let places = ["shop", "call", "one", "two", "three"];
            let lines = fields(&answer);
            assert_eq!(lines.iter().map(|line| line[0]).collect::<Vec<_>>(), places, "{way:?}: {answer}");
            let mut before = most;
            for line in lines {
                assert_eq!(line[1..6].join("|"), seen_afar(number), "{way:?}");
                assert_eq!(line[6], PARENT);
                let left = line[7].parse().unwrap();
                assert!(left <= before, "{way:?}: {left} ms are left, and {before} before");
                before = left;
            }
        }
    });
}

#[test]
fn the_called_services_time_is_up_first_and_the_answer_says_so() {
    each(async |way| {
        let ends = Log::new();
        let noted = ends.clone();
        let never = service_fn(move |request: Request<Incoming>| {
            let noted = noted.clone();
            let note = OnDrop::new(move || noted.push(remaining()));
            async move {
                let _note = note;
                stock(request).await
            }
        });
        let stock = start(never).await;
        // The stock has the rest of the hour, which is soon over; the shop has the hour.
        let reserving = to_this_machine().reserve(HOUR - SOON);
        let shop = start(shop(way, format!("http://{stock}"), client(way, &reserving))).await;
        let client = client(way, &to_this_machine());
        let call = client.oneshot(request(way, format!("http://{shop}/never"), body(stream::empty())));
        let answer = wait_for(wait_for(call, HOUR), PATIENCE).await.unwrap().unwrap().unwrap();
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
        match way {
            Way::Grpc => {
                assert_eq!((answer.status().as_u16(), header("grpc-status")), (200, Some("4")));
                assert_eq!(header("grpc-message"), Some("the request's time is up"));
            }
            _ => {
                assert_eq!(answer.status().as_u16(), 504);
                assert_eq!(header("x-refused"), Some("the request's time is up"));
            }
        }
        // It was begun, unless the way to the shop took all of the time.
        let ends = ends.take();
        assert!(ends.iter().all(|left| *left == Some(Duration::ZERO)), "{ends:?}");
    });
}

#[test]
fn a_foreign_host_learns_nothing_and_is_cut_all_the_same() {
    each(async |way| {
        let stock = start(service_fn(stock)).await;
        // The same address, by a name that is not on the list.
        let foreign = format!("http://localhost:{}", stock.port());
        let shop = start(shop(way, foreign.clone(), client(way, &to_this_machine()))).await;
        let client = client(way, &to_this_machine());
        let call = async {
            set(7);
            TRACE.set(PARENT.parse().unwrap());
            let answer =
                client.clone().oneshot(request(way, format!("http://{shop}/"), body(stream::empty())));
            text(answer.await.unwrap()).await
        };
        let answer = wait_for(call, HOUR).await.unwrap();
        let lines = fields(&answer);
        assert_eq!(lines[0][1..7].join("|"), format!("{}|{PARENT}", seen_afar(7)), "the shop is on the list");
        assert_eq!(lines[1], ["call", "-", "-", "-", "-", "-", "-", "-"], "{way:?}");

        let call = client.oneshot(request(way, format!("{foreign}/never"), body(stream::empty())));
        let cut = wait_for(wait_for(call, SOON), PATIENCE).await.unwrap();
        // Both limits end at this moment. By gRPC the inner one is told by a status.
        if let Ok(Ok(answer)) = cut {
            assert_eq!((way, &answer.headers()["grpc-status"]), (Way::Grpc, &"4".parse().unwrap()));
        }
    });
}

#[test]
fn a_span_of_the_services_own_is_the_parent_of_the_next_one() {
    each(async |way| {
        let stock = start(service_fn(stock)).await;
        let (layer, uri) = (client(way, &to_this_machine()), format!("http://{stock}/"));
        // As a library of OpenTelemetry's begins a span in the handler.
        let spanning = service_fn(move |_: Request<Incoming>| {
            let (client, uri) = (layer.clone(), uri.clone());
            let parent = opentelemetry::Context::map_current(|context| context.span().span_context().clone());
            let child = SpanContext::new(
                parent.trace_id(),
                SpanId::from(7),
                parent.trace_flags(),
                false,
                parent.trace_state().clone(),
            );
            let within = opentelemetry::Context::current().with_remote_span_context(child);
            let ask = async move {
                let answer = client.oneshot(request(way, uri, body(stream::empty()))).await?;
                Ok::<_, BoxError>(Response::new(body(parts(answer.into_body()))))
            };
            heirloom::context::opentelemetry::OtelFutureExt::with_otel_context(ask, within)
        });
        let shop = start(spanning).await;
        TRACE.set(PARENT.parse().unwrap());
        let call = client(way, &to_this_machine()).oneshot(request(
            way,
            format!("http://{shop}/"),
            body(stream::empty()),
        ));
        let answer = text(call.await.unwrap()).await;
        assert_eq!(fields(&answer)[0][6], "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01");
    });
}
