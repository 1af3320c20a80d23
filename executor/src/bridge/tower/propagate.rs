//! A client's calls with the caller's context and deadline in their headers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use heirloom_context::wire::{self, GRPC_TIMEOUT, Outbound, REQUEST_TIMEOUT, timeout};
use http::header::{HOST, HeaderMap, HeaderName};
use http::uri::Authority;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::BoxError;
use super::grpc::Protocol;
use super::refused::Refused;
use super::request_context::header_name;
use super::request_scope::RequestScope;
use super::response_body::{self, ResponseBody};
use crate::remaining;

/// Sends the caller's variables, trace and remaining time along with each call of an HTTP client;
/// makes [`Propagate`] services.
///
/// [`RequestContextLayer::inbound`](super::RequestContextLayer::inbound) gives them back to the
/// called service. So request id, tenant, trace and deadline go through two services without a line
/// where the call is made.
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use heirloom::tower::{PropagateLayer, RequestContextLayer};
/// use heirloom::wire::{Inbound, Outbound};
/// use heirloom::{context_var, remaining, wait_for};
/// use http_body_util::Empty;
/// use hyper::body::Bytes;
/// use hyper::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// context_var! { static TENANT: String, wire = "tenant"; }
///
/// # heirloom::block_on(async {
/// // The called service. Between the two there is a network, as a rule.
/// let inventory = service_fn(async |_: Request<()>| {
///     assert_eq!(TENANT.get().as_deref(), Some("acme"));
///     assert!(remaining().unwrap() <= Duration::from_secs(1));
///     Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
/// });
/// let server = RequestContextLayer::new().inbound(Inbound::new().var(&TENANT));
///
/// // The calling one.
/// let client = PropagateLayer::new(Outbound::new().host("*.internal"));
/// let client = client.layer(server.layer(inventory));
/// TENANT.set("acme".to_string());
/// let request = Request::get("http://inventory.internal/").body(()).unwrap();
/// wait_for(client.oneshot(request), Duration::from_secs(1)).await.unwrap().unwrap();
/// # });
/// ```
///
/// # What leaves
///
/// To the hosts of the [`Outbound`], for each call:
///
/// | | header |
/// | --- | --- |
/// | the variables with a wire name that are bound, and are not secret | `baggage` |
/// | the trace: the current span of OpenTelemetry's, with feature `opentelemetry`; else [`wire::TRACE`] | `traceparent`, `tracestate` |
/// | the time that is left until the current [`deadline`](crate::deadline()), if there is one | `grpc-timeout` of a call by gRPC or gRPC-Web, else `x-request-timeout` |
///
/// Any other host gets none of them. Headers of these names that the request has already, copied
/// from another request for example, are replaced, or removed, also those that the protocol of the
/// call does not use. One stays: `grpc-timeout` of a call by gRPC, a limit of the call's own
/// (tonic's `Request::set_timeout`). It limits the call here as well. To a host of the list it is
/// shortened to the time that is left; to any other host it goes as it is.
///
/// The host is that of the request's URI, else of the header `host`. A request without either has
/// no host that a list could name, as those that reach tonic's `Channel`: a channel goes to one
/// service, and around it stands [`Outbound::any`] or no layer.
///
/// # When the time is measured
///
/// At `call`. So this layer is **inside** of what makes a call wait: retries, a limit of the rate,
/// a buffer. What a client does later, such as connecting, is not measured any more, and the way
/// neither: the called service counts from the arrival. [`reserve`](Self::reserve) keeps some time
/// for all of it.
///
/// # Deadlines
///
/// The call and **the response's body** end at the deadline that is current at `call`, whatever
/// polls them later. A call by HTTP, or its body, then fails with
/// [`Elapsed`](crate::time::Elapsed); a call by gRPC is answered with the status
/// `DEADLINE_EXCEEDED`, as is a stream of answers, but for gRPC-Web, whose streams have their
/// trailers in the body and fail with [`Elapsed`](crate::time::Elapsed). A call whose time is up
/// before it is made does not reach the inner service.
///
/// # Clients
///
/// | client | |
/// | --- | --- |
/// | hyper-util's `client::legacy::Client` | `layer.layer(client)` |
/// | tonic's `Channel` | `layer.layer(channel)`, for `tonic::client::Grpc` and generated clients. The channel reads `grpc-timeout` too, and starts a timer of tokio's: it needs a tokio guest, `Builder::tokio` of the feature `tokio` |
/// | tonic without tokio's timer | `layer.layer(client)` with hyper-util's client, `http2_only`, and the service's address as the origin: `Grpc::with_origin` |
/// | reqwest | `heirloom_adaptors::ReqwestService` makes a service of it |
#[doc(alias = "inject")]
#[doc(alias = "interceptor")]
#[derive(Clone)]
pub struct PropagateLayer {
    outgoing: Arc<Outgoing>,
}

#[derive(Clone)]
struct Outgoing {
    hosts: Outbound,
    /// Of calls that are not by gRPC.
    deadline: HeaderName,
    reserve: Duration,
}

impl Outgoing {
    /// Makes the headers those of a call that is made now. Returns how much less time than is left
    /// they say.
    fn write<A>(&self, request: &mut Request<A>, protocol: Protocol) -> Duration {
        const GRPC: HeaderName = HeaderName::from_static(GRPC_TIMEOUT);
        const DEFAULT: HeaderName = HeaderName::from_static(REQUEST_TIMEOUT);
        let is_grpc = protocol.has_grpc_headers();
        let own = if is_grpc { &GRPC } else { &self.deadline };
        let is_listed = match request.uri().host() {
            Some(host) => self.hosts.allows(host),
            None => self.hosts.allows(&named_host(request.headers()).unwrap_or_default()),
        };
        let headers = request.headers_mut();
        // Of another request, from which they were copied.
        for stale in [&GRPC, &DEFAULT, &self.deadline].into_iter().filter(|name| *name != own) {
            headers.remove(stale);
        }
        if is_listed {
            let left = remaining().map(|left| left.saturating_sub(self.reserve));
            // What was left out is counted and said there.
            let _injected = wire::inject_with(headers, own.as_str(), left);
            self.reserve
        } else {
            // The limit that a call by gRPC has by itself is none of the caller's.
            wire::clear(headers, if is_grpc { REQUEST_TIMEOUT } else { own.as_str() });
            Duration::ZERO
        }
    }
}

/// The host that the headers name.
fn named_host(headers: &HeaderMap) -> Option<String> {
    let authority = Authority::try_from(headers.get(HOST)?.as_bytes()).ok()?;
    Some(authority.host().to_owned())
}

/// The limit that a call has by itself.
fn limit_of_call(headers: &HeaderMap, protocol: Protocol) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT).filter(|_| protocol.has_grpc_headers())?.to_str().ok()?;
    timeout::parse(text).ok()
}

impl PropagateLayer {
    /// A layer that sends along to the hosts that `hosts` names.
    #[must_use]
    pub fn new(hosts: Outbound) -> Self {
        let deadline = HeaderName::from_static(REQUEST_TIMEOUT);
        PropagateLayer { outgoing: Arc::new(Outgoing { hosts, deadline, reserve: Duration::ZERO }) }
    }

    /// Sends the time that is left in the header of this name, in the place of `x-request-timeout`,
    /// which no call has then.
    /// The header of gRPC is `grpc-timeout` all the same. The called service reads it by
    /// [`Inbound::deadline_header`](crate::wire::Inbound::deadline_header).
    ///
    /// # Panics
    /// If `name` is no name of a header.
    #[must_use]
    #[track_caller]
    pub fn deadline_header(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.outgoing).deadline = header_name(name);
        self
    }

    /// Gives the called service so much less than the time that is left: for the way there and
    /// back. By default nothing.
    ///
    /// With a reserve that the way does not use up, the called service is the first whose time is
    /// up, and the caller has time for the answer that says so.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use heirloom::tower::PropagateLayer;
    /// # use heirloom::wire::Outbound;
    /// let layer = PropagateLayer::new(Outbound::new().host("*.internal"));
    /// let layer = layer.reserve(Duration::from_millis(20));
    /// # let _ = layer;
    /// ```
    #[doc(alias = "grpc_timeout_offset")]
    #[must_use]
    pub fn reserve(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.outgoing).reserve = time;
        self
    }
}

impl fmt::Debug for PropagateLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outgoing { hosts, deadline, reserve } = &*self.outgoing;
        f.debug_struct("PropagateLayer")
            .field("hosts", hosts)
            .field("deadline_header", deadline)
            .field("reserve", reserve)
            .finish()
    }
}

impl<S> Layer<S> for PropagateLayer {
    type Service = Propagate<S>;

    fn layer(&self, inner: S) -> Propagate<S> {
        Propagate { inner, layer: self.clone() }
    }
}

/// A client that sends the caller's context and deadline along; made by [`PropagateLayer`].
///
/// # Errors
/// [`Elapsed`](crate::time::Elapsed) when the time of a call by HTTP is up, else the inner
/// service's. An error that comes when the time is up that the called service was given is taken
/// for that.
///
/// # Cancel safety
/// Dropping the future, or the body, drops what is inside.
#[derive(Clone, Debug)]
pub struct Propagate<S> {
    inner: S,
    layer: PropagateLayer,
}

impl<S, A, B> Service<Request<A>> for Propagate<S>
where
    S: Service<Request<A>, Response = Response<B>, Error: Into<BoxError>>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = BoxError;
    type Future = PropagateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let protocol = Protocol::of(request.headers());
        let scope = RequestScope::of_caller(limit_of_call(request.headers(), protocol));
        let mut reserve = Duration::ZERO;
        let future = scope.check().ok().map(|()| {
            scope.run(|| {
                reserve = self.layer.outgoing.write(&mut request, protocol);
                self.inner.call(request)
            })
        });
        PropagateFuture { future, scope: Some(scope), reserve, protocol }
    }
}

pin_project_lite::pin_project! {
    /// A call that ends with the caller's time; made by [`Propagate`].
    #[must_use = "futures do nothing unless they are polled"]
    pub struct PropagateFuture<F> {
        // `None` when time was up before the call.
        #[pin]
        future: Option<F>,
        // `None` when the response has it.
        scope: Option<RequestScope>,
        reserve: Duration,
        protocol: Protocol,
    }
}

impl<F, B, E> Future for PropagateFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let scope = this.scope.as_mut().expect("polled after it was ready");
        let answered = match this.future.as_mut().as_pin_mut() {
            Some(future) => ready!(scope.poll(cx, |cx| future.poll(cx))),
            None => Err(scope.check().expect_err("there was no call")),
        };
        // A client's own timer that reads the header ends the call too, with its own error: when
        // the time that the header says is up.
        let answered = match answered {
            Ok(Err(error)) => scope.check_until(*this.reserve).map(|()| Err(error)),
            answered => answered,
        };
        this.future.set(None);
        let scope = this.scope.take().expect("just used");
        Poll::Ready(match answered {
            Ok(Ok(response)) => Ok(response.map(|body| response_body::new(body, scope, *this.protocol))),
            Ok(Err(error)) => Err(error.into()),
            Err(elapsed) if this.protocol.has_grpc_headers() => {
                Ok(Refused::Elapsed(elapsed).head(*this.protocol).map(|()| response_body::empty()))
            }
            Err(elapsed) => Err(elapsed.into()),
        })
    }
}

impl<F> fmt::Debug for PropagateFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PropagateFuture").finish_non_exhaustive()
    }
}
