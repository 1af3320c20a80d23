//! tonic, with streams both ways: a caller asks a relay, which asks the far service. By tonic's
//! channel, which needs a tokio guest for the time limits in the headers; by hyper-util's client,
//! which needs none.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{self, Poll};

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use heirloom::hyper::{HyperConnector, HyperExecutor, HyperTimer, serve};
use heirloom::net::TcpListener;
use heirloom::tower::{PropagateLayer, RequestContextLayer};
use heirloom::wire::{self, GRPC_TIMEOUT, Outbound};
use heirloom::{Context, sleep, spawn, spawn_background, wait_for};
use heirloom_ecosystem::{LONG, PATIENCE, SOON};
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};

use super::{NOTHING, TENANT, inbound, look, look_afar, set};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

type Texts = BoxStream<'static, Result<Text, Status>>;

/// What a call goes through, whichever client is below.
type Client = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// Answers each text with what it sees then, and with what the next service answers.
#[derive(Clone)]
struct Relay {
    next: Option<Client>,
}

/// A text that is answered an hour later.
const NEVER: &str = "never";

impl Relay {
    async fn look(self, request: Request<Streaming<Text>>) -> Result<Response<Texts>, Status> {
        let texts = request.into_inner();
        let answers = match self.next {
            Some(next) => {
                let further = ask(next, texts.map(|text| text.unwrap().text)).await?;
                further.map(|answer| said(&answer?.text)).boxed()
            }
            None => texts
                .then(async |text| {
                    let Text { text } = text?;
                    if text == NEVER {
                        sleep(LONG).await;
                    }
                    said(&text)
                })
                .boxed(),
        };
        Ok(Response::new(answers))
    }
}

fn said(text: &str) -> Result<Text, Status> {
    Ok(Text { text: format!("{text}/{}", look()) })
}

impl Service<http::Request<Body>> for Relay {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        let method = tower::service_fn(move |request| service.clone().look(request));
        let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
        Box::pin(async move { Ok(grpc.streaming(method, request).await) })
    }
}

impl NamedService for Relay {
    const NAME: &'static str = "heirloom.Relay";
}

/// Serves on a port of its own. With `takes`, it takes contexts and deadlines.
async fn start(next: Option<Client>, takes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let layer = RequestContextLayer::new();
    let layer = if takes { layer.inbound(inbound()) } else { layer };
    spawn_background(serve(listener, Routes::new(Relay { next })).request_context(layer).run());
    address
}

/// Sends the texts, and returns the answers as they come.
async fn ask(
    client: Client,
    texts: impl Stream<Item = String> + Send + 'static,
) -> Result<Streaming<Text>, Status> {
    ask_with(client, Request::new(texts.map(|text| Text { text }))).await
}

async fn ask_with(
    client: Client,
    request: Request<impl Stream<Item = Text> + Send + 'static>,
) -> Result<Streaming<Text>, Status> {
    let mut grpc = tonic::client::Grpc::new(client);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/heirloom.Relay/Look");
    Ok(grpc.streaming(request, path, ProstCodec::<Text, Text>::default()).await?.into_inner())
}

fn texts<const N: usize>(texts: [&'static str; N]) -> impl Stream<Item = String> + Send + 'static {
    stream::iter(texts).then(async |text| {
        heirloom::yield_now().await;
        text.to_owned()
    })
}

/// A client, and where it gets to.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// tonic's own.
    Channel,
    /// hyper-util's.
    Http,
}

impl Way {
    /// A client to the service at that address, within the layer.
    fn client(self, service: SocketAddr, layer: PropagateLayer) -> Client {
        self.client_of_host(format!("http://{service}"), layer)
    }

    fn client_of_host(self, origin: String, layer: PropagateLayer) -> Client {
        match self {
            Way::Channel => {
                let endpoint = Endpoint::from_shared(origin).unwrap().executor(HyperExecutor);
                let channel = endpoint.connect_with_connector_lazy(HyperConnector::new());
                let client = layer
                    .layer(channel)
                    .map_response(|answer| answer.map(Body::new))
                    .map_err(Status::from_error);
                BoxCloneSyncService::new(client)
            }
            Way::Http => {
                let mut builder = hyper_util::client::legacy::Client::builder(HyperExecutor);
                builder.timer(HyperTimer).pool_timer(HyperTimer).http2_only(true);
                let client = builder.build::<_, Body>(HyperConnector::new());
                let client = layer
                    .layer(client)
                    .map_response(|answer| answer.map(Body::new))
                    .map_err(Status::from_error);
                // What `Grpc::with_origin` does.
                let client = client.map_request(move |request: http::Request<Body>| {
                    let (mut head, body) = request.into_parts();
                    head.uri = format!("{origin}{}", head.uri).parse().unwrap();
                    http::Request::from_parts(head, body)
                });
                BoxCloneSyncService::new(client)
            }
        }
    }
}

/// A channel goes to one service, and its requests name no host.
fn anywhere() -> PropagateLayer {
    PropagateLayer::new(Outbound::new().any())
}

async fn streams_both_ways(way: Way) {
    let far = start(None, true).await;
    let relay = start(Some(way.client(far, anywhere())), true).await;
    let client = way.client(relay, anywhere());
    let calls: Vec<_> = (0..16)
        .map(|number| {
            let client = client.clone();
            let call = async move {
                set(number);
                let answers = ask(client, texts(["one", "two", "three"])).await.unwrap();
                answers.map(|answer| answer.unwrap().text).collect::<Vec<_>>().await
            };
            spawn(wait_for(call, LONG))
        })
        .collect();
    for (number, call) in (0..).zip(calls) {
        let answers = call.await.unwrap().unwrap();
        let seen = look_afar(number);
        let expected = ["one", "two", "three"].map(|text| format!("{text}/{seen}/{seen}"));
        assert_eq!(answers, expected, "{way:?}: at the far service, and at the relay");
    }
}

/// The far service has a tenth of a second, the relay and the caller an hour.
async fn the_far_end_ends_first(way: Way) {
    let far = start(None, true).await;
    let reserving = anywhere().reserve(LONG - SOON);
    let relay = start(Some(way.client(far, reserving)), true).await;
    let client = way.client(relay, anywhere());
    let call = async {
        let mut answers = ask(client, texts(["one", NEVER])).await?;
        let first = answers.next().await.unwrap();
        // It was begun, unless the way to it took all of the time.
        assert!(matches!(&first, Ok(answer) if answer.text.starts_with("one/")) || first.is_err());
        first?;
        answers.next().await.unwrap()
    };
    let status = wait_for(wait_for(call, LONG), PATIENCE).await.unwrap().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{way:?}: {status}");
    assert_eq!(status.message(), "the request's time is up");
}

/// The service takes no deadline, so that the client's layer is what ends the stream: where the
/// call was made within a limit, which is over there where the answers are read.
async fn the_callers_time_ends_the_stream(way: Way) {
    let client = way.client(start(None, false).await, anywhere());
    let mut answers = wait_for(ask(client.clone(), texts(["one", NEVER])), SOON * 10).await.unwrap().unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().text, format!("one/{NOTHING}"));
    let ended = wait_for(answers.next(), PATIENCE).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded, "{way:?}");

    // A limit of the call's own, by tonic's method, holds for its stream as well.
    let mut request = Request::new(texts(["one", NEVER]).map(|text| Text { text }));
    request.set_timeout(SOON * 10);
    let mut answers = ask_with(client, request).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().text, format!("one/{NOTHING}"));
    let ended = wait_for(answers.next(), PATIENCE).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded, "{way:?}");
}

/// Before there is an answer: tonic's channel would say `Cancelled`.
async fn a_call_without_an_answer_is_told_by_its_status(way: Way) {
    // Accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = way.client(silent.local_addr().unwrap(), anywhere());
    let mut request = Request::new(texts([NEVER]).map(|text| Text { text }));
    request.set_timeout(SOON);
    let ended = wait_for(ask_with(client, request), PATIENCE).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded, "{way:?}");
}

/// For an interceptor, or a request without a layer: metadata are headers inside.
#[test]
fn metadata_are_a_carrier() {
    let mut request = Request::new(());
    request.metadata_mut().insert("baggage", "tenant=stale".parse().unwrap());
    request.metadata_mut().insert("x-other", "kept".parse().unwrap());
    let context = Context::empty().with_var(&TENANT, "acme".to_owned());
    context.run(|| wire::inject_as(request.metadata_mut().as_mut(), GRPC_TIMEOUT));
    assert_eq!(request.metadata().get("baggage").unwrap(), "tenant=acme");
    assert_eq!(request.metadata().len(), 2);
    let received = inbound().extract_as(request.metadata().as_ref(), GRPC_TIMEOUT);
    assert_eq!(received.bind(&Context::empty()).get(&TENANT).as_deref(), Some("acme"));
}

#[heirloom::test(tokio, timeout = "120s")]
async fn by_a_channel_with_a_guest() {
    streams_both_ways(Way::Channel).await;
    the_far_end_ends_first(Way::Channel).await;
    the_callers_time_ends_the_stream(Way::Channel).await;
    a_call_without_an_answer_is_told_by_its_status(Way::Channel).await;
}

#[heirloom::test(timeout = "120s")]
async fn by_a_client_of_hypers_without_a_guest() {
    streams_both_ways(Way::Http).await;
    the_far_end_ends_first(Way::Http).await;
    the_callers_time_ends_the_stream(Way::Http).await;
    a_call_without_an_answer_is_told_by_its_status(Way::Http).await;
}

#[heirloom::test(tokio, timeout = "120s")]
async fn a_foreign_service_learns_nothing() {
    let far = start(None, true).await;
    let friends = || PropagateLayer::new(Outbound::new().host("127.0.0.1"));
    let ask_one = async |client: Client| {
        set(7);
        let answers = ask(client, texts(["one"])).await.unwrap();
        answers.map(|answer| answer.unwrap().text).collect::<Vec<_>>().await
    };
    for (client, expected) in [
        (Way::Http.client(far, friends()), look_afar(7)),
        (Way::Http.client_of_host(format!("http://localhost:{}", far.port()), friends()), NOTHING.to_owned()),
        // The list names a host, and the requests of a channel none.
        (Way::Channel.client(far, friends()), NOTHING.to_owned()),
    ] {
        let answers = wait_for(ask_one(client), LONG).await.unwrap();
        assert_eq!(answers, [format!("one/{expected}")]);
    }

    // In a task, and without a box.
    let endpoint = Endpoint::from_shared(format!("http://{far}")).unwrap().executor(HyperExecutor);
    let channel = anywhere().layer(endpoint.connect_with_connector_lazy(HyperConnector::new()));
    let asked = spawn(async move {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/heirloom.Relay/Look");
        let request = Request::new(texts(["one"]).map(|text| Text { text }));
        let mut answers =
            grpc.streaming(request, path, ProstCodec::<Text, Text>::default()).await?.into_inner();
        answers.message().await
    });
    assert!(asked.await.unwrap().unwrap().is_some());
}
