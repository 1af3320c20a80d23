//! tonic: a server and a channel, whose tasks hyper-util, h2 and tonic spawn.

use std::convert::Infallible;
use std::task::{Context as Poller, Poll};

use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Response, Status};
use tonic_prost::ProstCodec;

use super::*;

/// Answers with what its task has, and after it has set the request's number, with what a child
/// has.
#[derive(Clone)]
struct Looks;

async fn look(request: tonic::Request<u64>) -> Result<Response<String>, Status> {
    let before = (REQUEST.get(), SERVER.get(), deadline().is_some());
    let number = request.into_inner();
    REQUEST.set(number);
    tokio::task::yield_now().await;
    let end = in_an_hour();
    let child = until(end, || tokio::spawn(async { (REQUEST.get(), SERVER.get(), deadline()) }));
    let child = child.await.unwrap();
    assert_eq!(child, (Some(number), before.1, Some(end)));
    Ok(Response::new(format!("{before:?}")))
}

impl Service<http::Request<Body>> for Looks {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<String, u64>::default());
        Box::pin(async move { Ok(grpc.unary(tower::service_fn(look), request).await) })
    }
}

impl tonic::server::NamedService for Looks {
    const NAME: &'static str = "heirloom.Looks";
}

/// Serves until the runtime ends, in a task that has a server's name.
fn serve() -> Endpoint {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let serving = Server::builder().add_service(Looks).serve_with_incoming(incoming);
    SERVER.scope("three", || tokio::spawn(serving));
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

async fn ask(channel: Channel, number: u64) -> String {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/heirloom.Looks/Look");
    let codec = ProstCodec::<u64, String>::default();
    let answer: Response<String> = grpc.unary(tonic::Request::new(number), path, codec).await.unwrap();
    answer.into_inner()
}

#[test]
fn two_hundred_calls_through_tonic_keep_context_and_deadline_and_their_handlers_start_from_the_root() {
    for (inherits, seen) in [(false, "(None, None, false)"), (true, "(None, Some(\"three\"), false)")] {
        let (runtime, carry) = workers();
        if inherits {
            carry.detached([""; 0]);
        }
        runtime.block_on(async {
            // Connected without a request, which an inheriting channel would hold.
            let channel = serve().connect().await.unwrap();
            let mut calls = JoinSet::new();
            for number in 0..200 {
                REQUEST.set(number);
                let (channel, end) = (channel.clone(), in_an_hour());
                let call = async move {
                    let answer = ask(channel, 1_000 + number).await;
                    assert_eq!((REQUEST.get(), deadline()), (Some(number), Some(end)));
                    answer
                };
                until(end, || calls.spawn(call));
            }
            REQUEST.unset();
            for answer in calls.join_all().await {
                assert_eq!(answer, seen);
            }
        });
        drop(runtime);
        assert_eq!(carry.tasks(), 0);
    }
}

#[test]
fn a_channel_holds_nothing_of_the_request_that_opened_it() {
    context_var! { static HELD: Arc<()>; }

    let (runtime, _carry) = workers();
    runtime.block_on(async {
        let endpoint = serve();
        let held = Arc::new(());
        let value = Arc::clone(&held);
        let request = tokio::spawn(async move {
            HELD.set(value);
            let channel = endpoint.connect().await.unwrap();
            ask(channel.clone(), 1).await;
            channel
        });
        let _channel = request.await.unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        while Arc::strong_count(&held) > 1 && Instant::now() < limit {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&held), 1);
    });
}
