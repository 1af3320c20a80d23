//! hyper-util's client over this crate's connector, against this crate's server.

use std::convert::Infallible;
use std::future::pending;

use futures::{StreamExt, stream};
use heirloom::hyper::{HyperConnector, HyperExecutor, HyperTimer, serve};
use heirloom::net::TcpListener;
use heirloom::spawn_background;
use heirloom_ecosystem::{Library, note_own, tests};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;

/// Sends back what it is sent; what is sent to `/endless` it keeps.
async fn echo(request: Request<Incoming>) -> Result<Response<Incoming>, Infallible> {
    if request.uri().path() == "/endless" {
        pending::<()>().await;
    }
    Ok(Response::new(request.into_body()))
}

pub struct HyperUtil;

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn exchange((client, uri): (Client<HyperConnector, Body>, Uri)) -> Bytes {
    let parts = stream::iter(["pi", "ng"]).map(|part| {
        note_own::<HyperUtil>();
        Ok(Frame::data(Bytes::from(part)))
    });
    let request = Request::post(uri).body(StreamBody::new(parts).boxed_unsync()).unwrap();
    client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
}

impl Library for HyperUtil {
    const PACKAGE: &'static str = "hyper-util";
    const WAY: &'static str = "its client over `HyperConnector`";
    const GUEST: bool = false;
    const GLUE: usize = 2;
    const SPAWNS: &'static str =
        "a task for each connection, by `HyperExecutor`, which polls a request's body";
    type Client = (Client<HyperConnector, Body>, Uri);

    async fn connect() -> Self::Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        spawn_background(serve(listener, tower::service_fn(echo)).run());
        let client = Client::builder(HyperExecutor).pool_timer(HyperTimer).build(HyperConnector::new());
        (client, uri)
    }

    async fn call(client: Self::Client) {
        assert_eq!(exchange(client).await, "ping");
    }

    async fn endless((client, uri): Self::Client) -> String {
        let endless = format!("{uri}endless").parse().unwrap();
        format!("{:?}", exchange((client, endless)).await)
    }
}

tests!(HyperUtil, without a guest);
