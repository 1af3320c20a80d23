//! The second service, over HTTP: axum at the one end, reqwest at the other, with a limit for each
//! try, and retries.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use heirloom::sleep;
use heirloom::tower::{BoxError, RetryPolicy, TimeoutLayer};
use heirloom_adaptors::SendThrough;
use tower::retry::RetryLayer;
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, service_fn};
use tracing::{Instrument, Span, info_span};

use crate::order::{Kind, item_of, look, price_of};
use crate::wire::HttpClient;

/// For one try, from the connection to the end of the answer.
const TRY_LIMIT: Duration = Duration::from_secs(1);

/// The orders that were asked for before.
type Asked = Arc<Mutex<HashSet<u64>>>;

pub(crate) fn router() -> Router {
    Router::new().route("/prices/{order}", get(price)).with_state(Asked::default())
}

async fn price(State(asked): State<Asked>, Path(order): Path<u64>) -> Result<String, StatusCode> {
    Span::current().record("order", order);
    look("prices", order);
    let is_first = asked.lock().unwrap_or_else(PoisonError::into_inner).insert(order);
    match Kind::of(order) {
        Kind::Flaky if is_first => return Err(StatusCode::SERVICE_UNAVAILABLE),
        Kind::Slow => sleep(Duration::from_millis(50)).await,
        // Until the caller gives up: its deadline comes along, and its going away is noticed.
        Kind::Hurried | Kind::GivenUp => sleep(Duration::from_secs(3_600)).await,
        _ => {}
    }
    look("prices", order);
    Ok(price_of(item_of(order)).to_string())
}

/// A client: asked with the number of an order, it answers with the price.
pub(crate) type Prices = BoxCloneSyncService<u64, u64, BoxError>;

pub(crate) fn client(service: SocketAddr) -> Result<Prices, BoxError> {
    let client = HttpClient::new()?;
    let ask = service_fn(move |order: u64| {
        let HttpClient { http, through } = client.clone();
        let ask = async move {
            look("to prices", order);
            let call = http.get(format!("http://{service}/prices/{order}"));
            let answer = call.send_through(&through).await?.error_for_status()?;
            let price = answer.text().await?.parse()?;
            look("from prices", order);
            Ok::<u64, BoxError>(price)
        };
        ask.instrument(info_span!("ask", otel.name = "to prices", otel.kind = "client", order))
    });
    let again = RetryPolicy::new(|_: &u64, answer: &Result<u64, BoxError>| answer.is_err());
    let again = again.retries(2).backoff(Duration::from_millis(5), Duration::from_millis(50));
    let service =
        ServiceBuilder::new().layer(RetryLayer::new(again)).layer(TimeoutLayer::new(TRY_LIMIT)).service(ask);
    Ok(BoxCloneSyncService::new(service))
}
