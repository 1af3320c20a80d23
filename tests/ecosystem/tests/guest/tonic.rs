//! tonic: client and server in one process, with limits at both ends. The service is written by
//! hand, as generated code has it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use heirloom::hyper::HyperExecutor;
use heirloom::tokio::TokioGuest;
use heirloom::{Runtime, deadline, spawn, spawn_background, wait_for};
use heirloom_ecosystem::{LONG, Library, SOON, TENANT, note_own, tests};
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Number {
    #[prost(uint32, tag = "1")]
    value: u32,
}

/// How many calls a service has at once, and has had at most.
#[derive(Clone, Default)]
struct Calls(Arc<(AtomicU32, AtomicU32)>);

/// Adds three after a moment; a great number it never answers.
#[derive(Clone, Default)]
struct Plus3 {
    calls: Calls,
}

const NEVER: u32 = u32::MAX;
const TICKS: &str = "/heirloom.Plus3/Ticks";

/// Fifteen numbers, one each tenth of a second.
fn ticks() -> impl Stream<Item = Result<Number, Status>> + Send {
    stream::iter(0..15).then(|value| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(Number { value })
    })
}

impl Plus3 {
    async fn plus_3(self, request: Request<Number>) -> Result<Response<Number>, Status> {
        note_own::<Tonic>();
        let (now, most) = &*self.calls.0;
        most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
        let Number { value } = request.into_inner();
        tokio::time::sleep(if value == NEVER { LONG } else { Duration::from_millis(2) }).await;
        now.fetch_sub(1, Relaxed);
        Ok(Response::new(Number { value: value + 3 }))
    }
}

impl Service<http::Request<Body>> for Plus3 {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() == TICKS {
            let method = tower::service_fn(|_: Request<Number>| async { Ok(Response::new(ticks())) });
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Number, Number>::default());
            return Box::pin(async move { Ok(grpc.server_streaming(method, request).await) });
        }
        let service = self.clone();
        let method = tower::service_fn(move |request| service.clone().plus_3(request));
        let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
        Box::pin(async move { Ok(grpc.unary(method, request).await) })
    }
}

impl NamedService for Plus3 {
    const NAME: &'static str = "heirloom.Plus3";
}

/// Serves on a port of its own, and connects to it.
async fn serve(server: Server, service: Plus3) -> Endpoint {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let mut server = server;
    let router = server.add_service(service);
    spawn_background(async { router.serve_with_incoming(incoming).await.unwrap() });
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

async fn plus_3(channel: Channel, request: Request<Number>) -> Result<u32, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/heirloom.Plus3/Plus3");
    let answer: Response<Number> = grpc.unary(request, path, ProstCodec::default()).await?;
    Ok(answer.into_inner().value)
}

fn number(value: u32) -> Request<Number> {
    Request::new(Number { value })
}

pub struct Tonic;

impl Library for Tonic {
    const PACKAGE: &'static str = "tonic";
    const SPAWNS: &'static str =
        "tasks for the channel and for each connection; at the server one per call, which runs the handler";
    type Client = Channel;

    async fn connect() -> Channel {
        let server = Server::builder().concurrency_limit_per_connection(4).timeout(LONG);
        let endpoint = serve(server, Plus3::default()).await;
        endpoint.concurrency_limit(4).timeout(LONG).connect().await.unwrap()
    }

    async fn call(channel: Channel) {
        assert_eq!(plus_3(channel, number(4)).await.unwrap(), 7);
    }

    async fn endless(channel: Channel) -> String {
        format!("{:?}", plus_3(channel, number(NEVER)).await)
    }
}

tests!(Tonic);

#[heirloom::test(tokio, timeout = "60s")]
async fn at_most_so_many_calls_at_once() {
    let service = Plus3::default();
    let calls = service.calls.clone();
    let server = Server::builder().concurrency_limit_per_connection(2);
    let channel = serve(server, service).await.concurrency_limit(4).connect().await.unwrap();
    let tasks: Vec<_> = (0..20).map(|value| spawn(plus_3(channel.clone(), number(value)))).collect();
    for (value, task) in (0..).zip(tasks) {
        assert_eq!(task.await.unwrap().unwrap(), value + 3);
    }
    assert_eq!((calls.0.0.load(Relaxed), calls.0.1.load(Relaxed)), (0, 2));
}

/// A limit at either end is told by the status, and leaves the task's own deadline alone.
#[heirloom::test(tokio, timeout = "60s")]
async fn limits_of_the_server_of_the_client_and_of_a_call() {
    TENANT.set(7);
    let until = deadline();
    let server = |limited| async move {
        let server = if limited { Server::builder().timeout(SOON) } else { Server::builder() };
        serve(server, Plus3::default()).await
    };
    let mut of_call = number(NEVER);
    of_call.set_timeout(SOON);
    for (endpoint, request) in [
        (server(true).await, number(NEVER)),
        (server(false).await.timeout(SOON), number(NEVER)),
        (server(false).await, of_call),
    ] {
        let channel = endpoint.connect().await.unwrap();
        let ended = spawn(async move {
            let status = plus_3(channel, request).await.unwrap_err();
            (status.code(), TENANT.get(), deadline())
        });
        assert_eq!(ended.await.unwrap(), (Code::Cancelled, Some(7), until));
    }
}

/// The time limit of a call ends when the response's head is there. Around the whole stream goes a
/// limit of the caller's own.
#[heirloom::test(tokio, timeout = "60s")]
async fn the_time_limit_of_a_call_does_not_end_its_stream() {
    let channel = serve(Server::builder(), Plus3::default()).await.connect().await.unwrap();
    let ask = || async {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let mut request = number(0);
        request.set_timeout(Duration::from_secs(1));
        let codec = ProstCodec::<Number, Number>::default();
        let stream = grpc.server_streaming(request, PathAndQuery::from_static(TICKS), codec).await;
        stream.unwrap().into_inner().map(|tick| tick.unwrap().value).collect::<Vec<_>>().await
    };
    assert_eq!(ask().await, (0..15).collect::<Vec<_>>());
    assert!(wait_for(ask(), Duration::from_secs(1)).await.is_err());
}

/// The time limit needs tokio's timer, which panics in the task of the channel.
#[test]
fn a_time_limit_without_a_guest_ends_the_channel() {
    let server = Runtime::builder().workers(1).tokio(TokioGuest::new()).build().unwrap();
    let endpoint = server.block_on(serve(Server::builder(), Plus3::default()));
    let alone = Runtime::builder().workers(1).build().unwrap();
    alone.block_on(async {
        let connector = tower::service_fn(|uri: http::Uri| async move {
            heirloom::net::TcpStream::connect(uri.authority().unwrap().as_str()).await
        });
        let channel = endpoint.executor(HyperExecutor).connect_with_connector(connector).await.unwrap();
        assert_eq!(plus_3(channel.clone(), number(4)).await.unwrap(), 7);
        let mut limited = number(4);
        limited.set_timeout(LONG);
        // The call, and every later one.
        for request in [limited, number(4)] {
            let status = plus_3(channel.clone(), request).await.unwrap_err();
            // Which one depends on whether the channel's task has ended by then.
            assert!(matches!(status.code(), Code::Unknown | Code::Unavailable), "{status:?}");
            assert_eq!(status.message(), "transport error");
        }
    });
}
