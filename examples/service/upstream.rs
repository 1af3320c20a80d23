//! Three small services that the API calls over real sockets, so that the program needs no others.
//! Each fails in its own way, at known items.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn;
use axum::routing::get;
use heirloom::hyper::serve;
use heirloom::net::TcpListener;
use heirloom::{CancelToken, sleep, spawn_background};

use super::backend::ATTEMPT_HEADER;
use super::request::{identify, look};

/// Where the three listen.
#[derive(Clone, Copy)]
pub(crate) struct Upstreams {
    pub(crate) catalog: SocketAddr,
    pub(crate) prices: SocketAddr,
    pub(crate) reviews: SocketAddr,
}

/// Items without reviews: that service answers 503, however often it is asked.
pub(crate) fn has_reviews(item: u64) -> bool {
    item % 10 != 3
}

/// Items whose price is refused at the first attempt.
fn fails_first(item: u64) -> bool {
    item % 20 == 7
}

/// Items whose price is not answered at the first attempt.
fn is_silent_first(item: u64) -> bool {
    item % 100 == 5
}

/// Starts the three. They drain when `stop` is cancelled.
pub(crate) async fn start(stop: &CancelToken) -> io::Result<Upstreams> {
    let prices = async |Path(item): Path<u64>, headers: HeaderMap| {
        let is_first = headers.get(ATTEMPT_HEADER).is_none_or(|attempt| attempt == "1");
        if is_first && is_silent_first(item) {
            sleep(Duration::from_secs(3_600)).await; // until the caller gives up
        }
        if is_first && fails_first(item) {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        Ok(look("prices"))
    };
    let reviews = async |Path(item): Path<u64>| {
        if has_reviews(item) { Ok(look("reviews")) } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
    };
    let items = |method| Router::new().route("/items/{item}", method);
    Ok(Upstreams {
        catalog: listen(items(get(async || look("catalog"))), stop).await?,
        prices: listen(items(get(prices)), stop).await?,
        reviews: listen(items(get(reviews)), stop).await?,
    })
}

async fn listen(service: Router, stop: &CancelToken) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = serve(listener, service.layer(from_fn(identify))).with_graceful_shutdown(stop.clone());
    // In the root context: what it learns about a request, it learns from the headers.
    spawn_background(server.run());
    Ok(address)
}
