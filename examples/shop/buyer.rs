//! The client: orders, each for a request of its own, with an id, a deadline and a span that begins
//! the trace.

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use heirloom::tower::BoxError;
use heirloom::{remaining, sleep, spawn, wait_for};
use heirloom_adaptors::SendThrough;
use reqwest::StatusCode;
use tracing::{Instrument, info_span};

use crate::order::{Kind, look, request_of};
use crate::wire::{HttpClient, REQUEST};

const AT_A_TIME: usize = 24;

/// How an order has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Sold(String),
    SoldOut,
    OutOfTime,
    GivenUp,
    Other(String),
}

/// Places orders, so many at a time, and returns how each has ended.
pub(crate) async fn buy(shop: SocketAddr, orders: u64) -> Result<Vec<(u64, Answer)>, BoxError> {
    let client = HttpClient::new()?;
    let one = |order| {
        let task = spawn(one(client.clone(), shop, order));
        async move { (order, task.await.unwrap_or_else(|error| Answer::Other(error.to_string()))) }
    };
    Ok(stream::iter(0..orders).map(one).buffer_unordered(AT_A_TIME).collect().await)
}

async fn one(client: HttpClient, shop: SocketAddr, order: u64) -> Answer {
    REQUEST.set(request_of(order));
    let is_hurried = Kind::of(order) == Kind::Hurried;
    let limit = Duration::from_millis(if is_hurried { 40 } else { 20_000 });
    let ask = wait_for(ask(client, shop, order), limit).instrument(info_span!("buy", order));
    let task = spawn(ask);
    if Kind::of(order) == Kind::GivenUp {
        sleep(Duration::from_millis(20)).await;
        task.abort();
    }
    match task.await {
        Ok(Ok(Ok(answer))) => answer,
        Ok(Ok(Err(error))) => Answer::Other(format!("{error:?}")),
        Ok(Err(_elapsed)) => Answer::OutOfTime,
        Err(error) if error.is_cancelled() => Answer::GivenUp,
        Err(error) => Answer::Other(error.to_string()),
    }
}

async fn ask(client: HttpClient, shop: SocketAddr, order: u64) -> Result<Answer, BoxError> {
    look("buyer", order);
    let call = client.http.post(format!("http://{shop}/orders/{order}"));
    let exchange = async {
        let answer = call.send_through(&client.through).await?;
        Ok((answer.status(), answer.text().await?))
    };
    Ok(match exchange.await {
        Ok((StatusCode::OK, text)) => Answer::Sold(text),
        Ok((StatusCode::CONFLICT, _)) => Answer::SoldOut,
        Ok((StatusCode::GATEWAY_TIMEOUT, _)) => Answer::OutOfTime,
        // The services cut what they do for the request at the same time as the client.
        _ if remaining() == Some(Duration::ZERO) => Answer::OutOfTime,
        Ok((status, text)) => Answer::Other(format!("{status}: {text}")),
        Err(error) => return Err(error),
    })
}
