//! The first service: takes orders, over HTTP. The price comes from the cache or the second
//! service, the stock from the third, both at the same time, and the order goes into the database.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::join;
use heirloom::tower::BoxError;
use heirloom::{remaining, spawn};
use tonic::{Code, Status};
use tower::ServiceExt;
use tracing::{Span, warn};

use crate::order::{Kind, item_of, look};
use crate::prices::Prices;
use crate::stock::Stock;
use crate::store::Store;

pub(crate) struct Shop {
    pub(crate) store: Store,
    pub(crate) prices: Prices,
    pub(crate) stock: Stock,
}

pub(crate) fn router(shop: Arc<Shop>) -> Router {
    Router::new().route("/orders/{order}", post(place)).with_state(shop)
}

/// Both tasks inherit the id, the deadline and the span of the request, and end with it: a handle
/// that is dropped cancels its task.
async fn place(State(shop): State<Arc<Shop>>, Path(order): Path<u64>) -> Result<String, Failed> {
    Span::current().record("order", order);
    look("shop", order);
    let stock = spawn(shop.stock.clone().take(order));
    let price = spawn(price(Arc::clone(&shop), order));
    let (price, left) = join!(price, stock);
    let (price, left) = (price??, left??);
    shop.store.insert(order, price).await?;
    Ok(format!("order {order}: price {price}, left {left}"))
}

/// Prices of plain orders are remembered.
async fn price(shop: Arc<Shop>, order: u64) -> Result<u64, BoxError> {
    let (item, is_plain) = (item_of(order), Kind::of(order) == Kind::Plain);
    if is_plain && let Some(price) = shop.store.price(order, item).await? {
        return Ok(price);
    }
    let price = shop.prices.clone().oneshot(order).await?;
    if is_plain {
        shop.store.remember(item, price).await?;
    }
    Ok(price)
}

/// Why there is no order.
enum Failed {
    SoldOut,
    OutOfTime,
    Other(BoxError),
}

impl<E: Into<BoxError>> From<E> for Failed {
    fn from(error: E) -> Failed {
        let error = error.into();
        match error.downcast_ref::<Status>() {
            Some(status) if status.code() == Code::FailedPrecondition => Failed::SoldOut,
            _ if remaining() == Some(Duration::ZERO) => Failed::OutOfTime,
            _ => Failed::Other(error),
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        match self {
            Failed::SoldOut => (StatusCode::CONFLICT, "sold out").into_response(),
            Failed::OutOfTime => StatusCode::GATEWAY_TIMEOUT.into_response(),
            Failed::Other(error) => {
                warn!(error, "no order");
                (StatusCode::BAD_GATEWAY, error.to_string()).into_response()
            }
        }
    }
}
