//! The third service, over gRPC: tonic at both ends, without tonic's own server and connector. The
//! service is written by hand, as generated code has it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use axum::Router;
use heirloom::hyper::{HyperConnector, HyperExecutor};
use heirloom::tower::{BoxError, Propagate, PropagateLayer};
use heirloom::wire::Outbound;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Layer, service_fn};
use tracing::{Instrument, Span, info_span};

use crate::order::{Kind, look};

const TAKE: &str = "/shop.Stock/Take";

#[derive(Clone, PartialEq, prost::Message)]
struct Order {
    #[prost(uint64, tag = "1")]
    number: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Left {
    #[prost(uint64, tag = "1")]
    items: u64,
}

async fn take(request: Request<Order>) -> Result<Response<Left>, Status> {
    let order = request.into_inner().number;
    Span::current().record("order", order);
    look("stock", order);
    match Kind::of(order) {
        Kind::SoldOut => Err(Status::failed_precondition("sold out")),
        _ => Ok(Response::new(Left { items: order })),
    }
}

#[derive(Clone)]
struct Server;

impl Service<http::Request<Body>> for Server {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            match request.uri().path() {
                TAKE => Ok(grpc.unary(service_fn(take), request).await),
                _ => Ok(Status::unimplemented("").into_http()),
            }
        })
    }
}

impl NamedService for Server {
    const NAME: &'static str = "shop.Stock";
}

pub(crate) fn router() -> Router {
    Routes::new(Server).into_axum_router()
}

/// A client.
#[derive(Clone)]
pub(crate) struct Stock(Propagate<Channel>);

impl Stock {
    pub(crate) fn new(service: SocketAddr) -> Result<Stock, BoxError> {
        let endpoint = Endpoint::from_shared(format!("http://{service}"))?.executor(HyperExecutor);
        let channel = endpoint.connect_with_connector_lazy(HyperConnector::new());
        // A channel goes to one service, and its requests name no host.
        Ok(Stock(PropagateLayer::new(Outbound::new().any()).layer(channel)))
    }

    /// Takes what was ordered, and says how much is left.
    pub(crate) async fn take(self, order: u64) -> Result<u64, Status> {
        let ask = async {
            look("to stock", order);
            let mut grpc = tonic::client::Grpc::new(self.0);
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let path = PathAndQuery::from_static(TAKE);
            let codec = ProstCodec::<Order, Left>::default();
            let left = grpc.unary(Request::new(Order { number: order }), path, codec).await?;
            look("from stock", order);
            Ok(left.into_inner().items)
        };
        ask.instrument(info_span!("ask", otel.name = "to stock", otel.kind = "client", order)).await
    }
}
