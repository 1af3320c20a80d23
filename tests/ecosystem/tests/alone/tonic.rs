//! tonic without a guest: its channel over this crate's connector, its `Routes` on this crate's
//! server. Calls whose requests and answers are streams.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use heirloom::hyper::{HyperConnector, HyperExecutor, serve};
use heirloom::net::TcpListener;
use heirloom::{deadline, sleep, spawn, spawn_background, wait_for};
use heirloom_ecosystem::{LONG, Library, SOON, Seen, TENANT, note_own, seen, tests};
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Number {
    #[prost(uint32, tag = "1")]
    value: u32,
}

/// Answers each number with the number plus three, after a moment; a great number it never answers.
#[derive(Clone)]
struct Plus3 {
    /// Whose call it was, when the stream of answers is dropped.
    dropped: mpsc::Sender<Option<u32>>,
}

const NEVER: u32 = u32::MAX;

struct Dropped(mpsc::Sender<Option<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(TENANT.get());
    }
}

type Numbers = BoxStream<'static, Result<Number, Status>>;

impl Plus3 {
    async fn plus_3(self, request: Request<Streaming<Number>>) -> Result<Response<Numbers>, Status> {
        let tenant = request.metadata().get("tenant").map(|tenant| tenant.to_str().unwrap().parse().unwrap());
        assert_eq!(TENANT.get(), None, "of another call");
        TENANT.set(tenant.unwrap_or(0));
        let dropped = Dropped(self.dropped);
        let answers = request.into_inner().then(move |number| {
            let _ = &dropped;
            async move {
                let Number { value } = number?;
                assert_eq!(TENANT.get(), Some(tenant.unwrap_or(0)), "in the stream of answers");
                sleep(Duration::from_millis(1)).await;
                if value == NEVER {
                    pending::<()>().await;
                }
                Ok(Number { value: value + 3 })
            }
        });
        Ok(Response::new(answers.boxed()))
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
        let service = self.clone();
        let method = tower::service_fn(move |request| service.clone().plus_3(request));
        let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
        Box::pin(async move { Ok(grpc.streaming(method, request).await) })
    }
}

impl NamedService for Plus3 {
    const NAME: &'static str = "heirloom.Plus3";
}

/// Serves on a port of its own.
async fn start() -> (SocketAddr, mpsc::Receiver<Option<u32>>) {
    let (dropped, drops) = mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_background(serve(listener, Routes::new(Plus3 { dropped })).run());
    (address, drops)
}

async fn connect(server: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap().executor(HyperExecutor);
    endpoint.connect_with_connector(HyperConnector::new()).await.unwrap()
}

/// Sends the numbers, for a tenant; the answers.
async fn plus_3(
    channel: Channel,
    tenant: Option<u32>,
    numbers: impl Stream<Item = Number> + Send + 'static,
) -> Result<Vec<u32>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/heirloom.Plus3/Plus3");
    let mut request = Request::new(numbers);
    if let Some(tenant) = tenant {
        request.metadata_mut().insert("tenant", tenant.into());
    }
    let mut answers: Streaming<Number> =
        grpc.streaming(request, path, ProstCodec::default()).await?.into_inner();
    let mut values = Vec::new();
    while let Some(Number { value }) = answers.message().await? {
        values.push(value);
    }
    Ok(values)
}

pub struct TonicAlone;

impl Library for TonicAlone {
    const PACKAGE: &'static str = "tonic";
    const WAY: &'static str = "its `Channel` over `HyperConnector`, its `Routes` on `serve`";
    const GUEST: bool = false;
    const GLUE: usize = 2;
    const SPAWNS: &'static str = "tasks for the channel and for each connection, by `HyperExecutor`; the latter polls a call's stream of requests";
    type Client = Channel;

    async fn connect() -> Channel {
        connect(start().await.0).await
    }

    async fn call(channel: Channel) {
        let numbers = stream::iter(0..3).map(|value| {
            note_own::<TonicAlone>();
            Number { value }
        });
        assert_eq!(plus_3(channel, TENANT.get(), numbers).await.unwrap(), [3, 4, 5]);
    }

    async fn endless(channel: Channel) -> String {
        let numbers = stream::iter([1, NEVER]).map(|value| Number { value });
        format!("{:?}", plus_3(channel, None, numbers).await)
    }
}

tests!(TonicAlone, without a guest);

#[heirloom::test(timeout = "60s")]
async fn a_call_that_is_cut_is_dropped_at_the_server_in_its_context() {
    let (server, drops) = start().await;
    let channel = connect(server).await;
    TENANT.set(7);
    let cut = wait_for(plus_3(channel.clone(), Some(7), stream::iter([Number { value: NEVER }])), SOON);
    assert!(cut.await.is_err());
    assert_eq!(TENANT.get(), Some(7));
    let dropped = heirloom::spawn_blocking(move || (drops.recv_timeout(LONG), drops));
    let (dropped, _drops) = dropped.await.unwrap();
    assert_eq!(dropped, Ok(Some(7)));
    // The channel is as good as before.
    let numbers = stream::iter([Number { value: 4 }]);
    assert_eq!(plus_3(channel, None, numbers).await.unwrap(), [7]);
}

#[heirloom::test(timeout = "60s")]
async fn calls_at_once_over_one_channel_keep_their_contexts_and_deadlines() {
    let channel = connect(start().await.0).await;
    let calls: Vec<_> = (0..32)
        .map(|tenant| {
            let channel = channel.clone();
            spawn(wait_for(
                async move {
                    TENANT.set(tenant);
                    let until: Option<Instant> = deadline();
                    let numbers = stream::iter(0..tenant).map(|value| Number { value });
                    let answers = plus_3(channel, Some(tenant), numbers).await.unwrap();
                    assert_eq!(answers, (3..tenant + 3).collect::<Vec<_>>());
                    assert_eq!((seen(), deadline()), (Seen { tenant: Some(tenant), deadline: true }, until));
                },
                LONG,
            ))
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}
