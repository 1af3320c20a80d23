//! reqwest as a service, within the layer; and redirects, which must not take anything along to a
//! foreign host.

use std::convert::Infallible;
use std::net::SocketAddr;

use futures::stream;
use heirloom::hyper::serve;
use heirloom::net::TcpListener;
use heirloom::time::Elapsed;
use heirloom::tower::{BoxError, PropagateLayer, RequestContextLayer};
use heirloom::wire::Outbound;
use heirloom::{sleep, spawn, spawn_background, wait_for};
use heirloom_adaptors::{ReqwestService, SendThrough};
use heirloom_ecosystem::{LONG, PATIENCE, SOON};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use reqwest::Body;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;

use super::{NOTHING, inbound, look, look_afar, set};

/// Answers with what it sees, and with the request's body; `/never` an hour later; other paths
/// lead to the same port by another name.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/never" => sleep(LONG).await,
        "/abroad" => {
            let port = request.headers()["host"].to_str().unwrap().rsplit(':').next().unwrap().to_owned();
            let elsewhere = format!("http://localhost:{port}/");
            let answer = Response::builder().status(307).header("location", elsewhere);
            return Ok(answer.body(Full::default()).unwrap());
        }
        _ => {}
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(Response::new(Full::from(format!("{}{}", look(), String::from_utf8_lossy(&body)))))
}

async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let layer = RequestContextLayer::new().inbound(inbound());
    spawn_background(serve(listener, tower::service_fn(answer)).request_context(layer).run());
    address
}

fn client() -> ReqwestService {
    ReqwestService::new(reqwest::Client::builder().no_proxy()).unwrap()
}

fn to_this_machine() -> PropagateLayer {
    PropagateLayer::new(Outbound::new().host("127.0.0.1"))
}

async fn text<S, B>(service: S, request: hyper::Request<Body>) -> Result<String, BoxError>
where
    S: Service<hyper::Request<Body>, Response = hyper::Response<B>, Error: Into<BoxError>>,
    B: hyper::body::Body<Error: Into<BoxError>>,
{
    let answer = service.oneshot(request).await.map_err(Into::into)?;
    let body = answer.into_body().collect().await.map_err(Into::into)?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

#[heirloom::test(tokio, timeout = "120s")]
async fn a_request_of_reqwests_takes_the_context_along() {
    let (service, client) = (start().await, client());
    let layered = ServiceBuilder::new().layer(to_this_machine()).service(client.clone());
    let calls: Vec<_> = (0..16)
        .map(|number| {
            let (client, layered) = (client.clone(), layered.clone());
            let call = async move {
                set(number);
                let parts = stream::iter(["+", "7"].map(Ok::<_, Infallible>));
                let uri = format!("http://{service}/");
                let request = client.as_ref().post(&uri).body(Body::wrap_stream(parts));
                let answer = request.send_through(&layered).await.unwrap();
                assert_eq!(answer.url().as_str(), uri);
                answer.text().await.unwrap()
            };
            spawn(wait_for(call, LONG))
        })
        .collect();
    for (number, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), format!("{}+7", look_afar(number)));
    }
}

#[heirloom::test(tokio, timeout = "120s")]
async fn a_redirect_to_a_foreign_host_takes_nothing_along() {
    let service = start().await;
    let layered = ServiceBuilder::new().layer(to_this_machine()).service(client());
    let redirected = ServiceBuilder::new().layer(FollowRedirectLayer::new()).service(layered.clone());
    let ask = async {
        set(7);
        let request =
            |path| hyper::Request::get(format!("http://{service}{path}")).body(Body::default()).unwrap();
        let here = text(redirected.clone(), request("/")).await.unwrap();
        let abroad = text(redirected, request("/abroad")).await.unwrap();
        // By itself the client does not go there.
        let status = layered.oneshot(request("/abroad")).await.unwrap().status();
        (here, abroad, status.as_u16())
    };
    assert_eq!(wait_for(ask, LONG).await.unwrap(), (look_afar(7), NOTHING.to_owned(), 307));
}

#[heirloom::test(tokio, timeout = "120s")]
async fn the_called_services_time_is_up_first_and_the_callers_ends_the_call() {
    let service = start().await;
    let never = || hyper::Request::get(format!("http://{service}/never")).body(Body::default()).unwrap();
    let reserving = ServiceBuilder::new().layer(to_this_machine().reserve(LONG - SOON)).service(client());
    let answer = wait_for(wait_for(reserving.oneshot(never()), LONG), PATIENCE).await.unwrap();
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer.status().as_u16(), 504);
    assert_eq!(answer.headers()["x-refused"], "the request's time is up");

    let foreign = PropagateLayer::new(Outbound::new());
    let unlimited = ServiceBuilder::new().layer(foreign).service(client());
    let ended = wait_for(wait_for(unlimited.oneshot(never()), SOON), PATIENCE).await.unwrap();
    assert!(ended.is_err() || ended.unwrap().unwrap_err().is::<Elapsed>());
}
