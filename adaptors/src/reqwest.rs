//! reqwest as a service of tower's, so that layers can stand around it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use reqwest::redirect::Policy;
use reqwest::{Body, Client, ClientBuilder, Request};
use tower_service::Service;

/// A client of reqwest's as a service from [`http::Request`] to [`http::Response`], for the layers of
/// [`heirloom::tower`](https://docs.rs/heirloom/latest/heirloom/tower/index.html) and others.
///
/// A request that is written by reqwest's own methods becomes one of `http`'s by `try_from`:
///
/// ```
/// use heirloom::tower::{BoxError, PropagateLayer};
/// use heirloom::wire::Outbound;
/// use heirloom_adaptors::ReqwestService;
/// use tower::{Layer, ServiceExt};
///
/// # async fn _ask() -> Result<(), BoxError> {
/// let client = ReqwestService::new(reqwest::Client::builder())?;
/// let layer = PropagateLayer::new(Outbound::new().host("*.internal"));
/// let service = layer.layer(client.clone());
///
/// let request = client.as_ref().post("http://stock.internal/take").body("7").build()?;
/// let answer = service.oneshot(http::Request::try_from(request)?).await?;
/// assert!(answer.status().is_success());
/// # Ok(()) }
/// ```
///
/// The client follows no redirect: the layers around it would not see the second request, and what
/// they have written into the headers of the first would go to any host. With the layer
/// `FollowRedirect` of tower-http around them they see each.
///
/// reqwest needs a tokio guest, [`Builder::tokio`](heirloom::runtime::Builder::tokio).
#[derive(Clone, Debug)]
pub struct ReqwestService(Client);

impl ReqwestService {
    /// Builds the client, without redirects.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn new(builder: ClientBuilder) -> reqwest::Result<ReqwestService> {
        builder.redirect(Policy::none()).build().map(ReqwestService)
    }
}

/// The client, to write requests by its methods. What it sends by itself passes no layer.
impl AsRef<Client> for ReqwestService {
    fn as_ref(&self) -> &Client {
        &self.0
    }
}

impl<B: Into<Body>> Service<http::Request<B>> for ReqwestService {
    type Response = http::Response<Body>;
    type Error = reqwest::Error;
    type Future = Pin<Box<dyn Future<Output = reqwest::Result<http::Response<Body>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<reqwest::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let answer = Request::try_from(request).map(|request| self.0.call(request));
        Box::pin(async { answer?.await.map(Into::into) })
    }
}
