//! reqwest as a service of tower's, so that layers can stand around it.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use reqwest::redirect::Policy;
use reqwest::{Body, Client, ClientBuilder, Request, RequestBuilder, Response, ResponseBuilderExt};
use tower_service::Service;

type BoxError = Box<dyn Error + Send + Sync>;

/// A client of reqwest's as a service from [`http::Request`] to [`http::Response`], for the layers
/// of [`heirloom::tower`](https://docs.rs/heirloom/latest/heirloom/tower/index.html) and others.
///
/// Requests are written by reqwest's own methods, and sent through the layers by [`SendThrough`]:
///
/// ```
/// use heirloom::tower::{BoxError, PropagateLayer};
/// use heirloom::wire::Outbound;
/// use heirloom_adaptors::{ReqwestService, SendThrough};
/// use tower::Layer;
///
/// # async fn _ask() -> Result<(), BoxError> {
/// let client = ReqwestService::new(reqwest::Client::builder())?;
/// let layer = PropagateLayer::new(Outbound::new().host("*.internal"));
/// let service = layer.layer(client.clone());
///
/// let request = client.as_ref().post("http://stock.internal/take").body("7");
/// let answer = request.send_through(&service).await?.error_for_status()?;
/// assert_eq!(answer.text().await?, "taken");
/// # Ok(()) }
/// ```
///
/// The client follows no redirect: the layers around it would not see the second request, and what
/// they have written into the headers of the first would go to any host. With the layer
/// `FollowRedirect` of tower-http around them they see each.
///
/// A proxy for plain HTTP, also one of the environment, gets the whole request, and so what the
/// layer has written for a host of the list that is called by `http://`.
/// [`ClientBuilder::no_proxy`] switches that of the environment off.
///
/// reqwest needs a tokio guest, `Builder::tokio` of the feature `tokio`.
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

/// Requests of reqwest's through a service: a [`ReqwestService`] with layers around it.
pub trait SendThrough {
    /// Sends the request through a clone of the service, in place of `send`, and returns the answer
    /// as reqwest has it.
    ///
    /// # Errors
    /// Those of the builder, the service's, and that of a URL that `http` does not take.
    ///
    /// # Cancel safety
    /// Dropping the future drops the call.
    fn send_through<S, B>(self, service: &S) -> impl Future<Output = Result<Response, BoxError>> + Send
    where
        S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static;
}

impl SendThrough for RequestBuilder {
    async fn send_through<S, B>(self, service: &S) -> Result<Response, BoxError>
    where
        S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
    {
        let request = self.build()?;
        // The answer's own is lost on its way through `http`.
        let url = http::Response::builder().url(request.url().clone()).body(())?;
        let mut service = service.clone();
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
        let answer = service.call(request.try_into()?).await.map_err(Into::into)?;
        let mut answer = answer.map(Body::wrap);
        answer.extensions_mut().extend(url.into_parts().0.extensions);
        Ok(answer.into())
    }
}
