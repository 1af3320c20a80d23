//! A context and a deadline per HTTP request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use heirloom_context::wire::{GRPC_TIMEOUT, Inbound, TRACE, TraceContext};
use heirloom_context::{Context, ContextVar};
use http::header::{HeaderMap, HeaderName};
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::BoxError;
use super::grpc::Protocol;
use super::refused::Refused;
use super::request_scope::RequestScope;
use super::response_body::{self, ResponseBody};

/// Gives each HTTP request a context of its own, with variables from its headers, and a deadline:
/// for the call **and the response's body**.
///
/// An HTTP/1 server polls all requests of a connection in the connection's task. A variable that a
/// handler or a middleware sets there is seen by the next request of the connection, which may be
/// another user's. This layer prevents that for any service that answers with an
/// [`http::Response`], under any server: hyper by hand, axum, tonic, warp. `heirloom::hyper::serve`
/// (feature `serve`) does it by itself; there, give the headers and the limit to
/// `Serve::request_context`, and add no layer.
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use heirloom::tower::{RequestContextLayer, grpc_timeout};
/// use heirloom::{context_var, remaining};
/// use http_body_util::Empty;
/// use hyper::body::Bytes;
/// use hyper::{Request, Response, StatusCode};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// context_var! { static USER: u64; }
///
/// # heirloom::block_on(async {
/// let handler = service_fn(async |_: Request<()>| {
///     assert_eq!(USER.get(), Some(7));
///     USER.set(8); // gone after this request and its body
///     assert!(remaining().unwrap() <= Duration::from_millis(250));
///     Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
/// });
/// let layer = RequestContextLayer::new()
///     .header("x-user", &USER, str::parse)
///     .deadline_header("grpc-timeout", grpc_timeout)
///     .limit(Duration::from_secs(30));
/// let service = layer.layer(handler);
///
/// let request = Request::get("/").header("x-user", "7").header("grpc-timeout", "250m");
/// let response = service.clone().oneshot(request.body(()).unwrap()).await.unwrap();
/// assert_eq!(response.status(), StatusCode::OK);
///
/// let request = Request::get("/").header("x-user", "seven");
/// let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
/// assert_eq!(response.status(), StatusCode::BAD_REQUEST);
/// # });
/// ```
///
/// # Order
///
/// The layer is the **outermost**: with axum's `Router::layer` the last call, with tower's
/// `ServiceBuilder` the first. A middleware outside of the layer runs in the connection's task, and
/// what the middleware sets is shared by the requests of the connection.
///
/// # What is shared on purpose
///
/// A request's context starts from what the context current at `call` hands down
/// ([`Context::inherited`]), as that of a spawned task does. So a variable for a whole connection,
/// such as the client's address, is bound *around* the connection: `PEER.scope(..)`, or
/// `connection.with_var(&PEER, address)`. A value that requests change together is an `Arc` in such
/// a variable.
///
/// # Deadlines
///
/// A request's deadline is the earliest of: the deadline that is current at `call`, the
/// [`limit`](Self::limit), and what the headers allow, by [`inbound`](Self::inbound) and
/// [`deadline_header`](Self::deadline_header). All but the first count from `call`. Without any the
/// request has no deadline. A request that has no time left at `call` is not begun: the inner
/// service is not called.
///
/// When time is up before there is a response, the handler's future is dropped and the answer is as
/// below. When time is up later, the next poll of the body is an error,
/// [`Elapsed`](crate::time::Elapsed); of a gRPC response it is the trailer `grpc-status: 4`. A
/// response of gRPC-Web has its trailers in its body, into which the layer cannot write: that body
/// breaks off, as one over HTTP, and its client sees an end without a status. The inner body is
/// dropped then. A server polls a body when it can send: one whose client does not read ends when
/// the client reads on, or by the server's own limits.
///
/// # Answers of the layer
///
/// | | HTTP | gRPC (`content-type: application/grpc`), gRPC-Web (`application/grpc-web`) |
/// | --- | --- | --- |
/// | a header's value was refused, or the time limit is none | 400 Bad Request | 200, `grpc-status: 3` (`INVALID_ARGUMENT`) |
/// | time was up | 504 Gateway Timeout | 200, `grpc-status: 4` (`DEADLINE_EXCEEDED`) |
///
/// The case of a content type does not matter, and parts such as `+proto` neither.
///
/// Each has an empty body, and says why: over HTTP in the header `x-refused`, over gRPC in
/// `grpc-message`. [`answer`](Self::answer) changes them. The inner service is not called for a
/// request that was refused.
#[doc(alias = "IsolateLayer")]
#[doc(alias = "TimeoutLayer")]
#[derive(Clone, Default)]
pub struct RequestContextLayer {
    rules: Arc<Rules>,
}

/// What is read from a header.
type Read<T> = Arc<dyn Fn(&str) -> Result<T, BoxError> + Send + Sync>;
/// Reads a variable's value, and binds it.
type Bind = Arc<dyn Fn(&Context, &str) -> Result<Context, BoxError> + Send + Sync>;

/// Makes the head of an answer of the layer.
type MakeHead = Arc<dyn Fn(&Refused) -> Response<()> + Send + Sync>;

#[derive(Clone, Default)]
struct Rules {
    inbound: Option<Inbound>,
    vars: Vec<(HeaderName, Bind)>,
    deadline: Option<(HeaderName, Read<Duration>)>,
    limit: Option<Duration>,
    answer: Option<MakeHead>,
}

impl RequestContextLayer {
    /// A layer that gives each request a context of its own, without variables from headers and
    /// without a limit.
    #[must_use]
    pub fn new() -> Self {
        RequestContextLayer::default()
    }

    /// Takes what another service has sent along, by [`PropagateLayer`](super::PropagateLayer) or
    /// by any program that writes the standard headers: the variables of the list from `baggage`,
    /// the trace from `traceparent` and `tracestate`, and the time that is left from `grpc-timeout`
    /// of a request by gRPC or gRPC-Web, else from `x-request-timeout`. A second call replaces the
    /// first.
    ///
    /// A variable that is bound around the connection stays as it is. What is malformed, or over a
    /// cap of the list, is dropped, [counted](crate::wire::dropped()) and said once: it refuses no
    /// request, other than with [`header`](Self::header). One thing does: a time limit that is
    /// none, since "no limit" is never what the client meant.
    ///
    /// With feature `opentelemetry` the received span is the current one of OpenTelemetry's in each
    /// step of the request, as a remote parent: a span that the handler begins is its child. Not so
    /// where [`TRACE`] is bound around the connection: that trace is the receiver's own.
    ///
    /// ```
    /// use heirloom::context_var;
    /// use heirloom::tower::RequestContextLayer;
    /// use heirloom::wire::Inbound;
    ///
    /// context_var! {
    ///     static TENANT: String, wire = "tenant";
    ///     static REQUEST_ID: String, wire = "request-id";
    /// }
    ///
    /// let inbound = Inbound::new().var(&TENANT).var(&REQUEST_ID);
    /// let layer = RequestContextLayer::new().inbound(inbound);
    /// # let _ = layer;
    /// ```
    #[doc(alias = "baggage")]
    #[doc(alias = "traceparent")]
    #[doc(alias = "extract")]
    #[must_use]
    pub fn inbound(mut self, inbound: Inbound) -> Self {
        Arc::make_mut(&mut self.rules).inbound = Some(inbound);
        self
    }

    /// Binds the variable to what `parse` makes of the header's value. If the request has several
    /// headers of this name, the first counts; if it has none, the variable is as it is around the
    /// connection. A value that is not visible ASCII, or that `parse` refuses, refuses the request.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use heirloom::context_var;
    /// # use heirloom::tower::RequestContextLayer;
    /// context_var! { static REQUEST_ID: String; static TENANT: u64; }
    ///
    /// let layer = RequestContextLayer::new()
    ///     .header("x-request-id", &REQUEST_ID, |id| match id.len() {
    ///         0..=64 => Ok(id.to_string()),
    ///         _ => Err("an id has at most 64 characters"),
    ///     })
    ///     .header("x-tenant", &TENANT, str::parse);
    /// # let _ = layer;
    /// ```
    ///
    /// # Panics
    /// If `name` is no name of a header.
    #[must_use]
    #[track_caller]
    pub fn header<T, D, E>(
        mut self,
        name: &str,
        var: &'static ContextVar<T, D>,
        parse: impl Fn(&str) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self
    where
        T: Send + Sync + 'static,
        D: Sync + 'static,
        E: Into<BoxError>,
    {
        let bind: Bind = Arc::new(move |context, text| match parse(text) {
            Ok(value) => Ok(context.with_var(var, value)),
            Err(error) => Err(error.into()),
        });
        Arc::make_mut(&mut self.rules).vars.push((header_name(name), bind));
        self
    }

    /// Reads from this header how long the client waits. [`grpc_timeout`](super::grpc_timeout)
    /// reads that of gRPC. A value that `parse` refuses refuses the request; of several headers of
    /// this name the first counts. A second call replaces the first.
    ///
    /// # Panics
    /// If `name` is no name of a header.
    #[must_use]
    #[track_caller]
    pub fn deadline_header<E: Into<BoxError>>(
        mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<Duration, E> + Send + Sync + 'static,
    ) -> Self {
        let read: Read<Duration> = Arc::new(move |text| parse(text).map_err(Into::into));
        Arc::make_mut(&mut self.rules).deadline = Some((header_name(name), read));
        self
    }

    /// The most time for a request, its response's body included: of those that ask for none by a
    /// header, and of those that ask for more.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        Arc::make_mut(&mut self.rules).limit = Some(limit);
        self
    }

    /// Makes the head of the answer to a request that was refused, or whose time was up: in the
    /// request's context, with the variables of the headers that were read by then.
    #[must_use]
    pub fn answer(mut self, answer: impl Fn(&Refused) -> Response<()> + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.rules).answer = Some(Arc::new(answer));
        self
    }

    /// Begins a request, whose context starts from `context`.
    pub(in crate::bridge) fn begin<A, F>(
        &self,
        request: Request<A>,
        context: Context,
        call: impl FnOnce(Request<A>) -> F,
    ) -> RequestFuture<F> {
        let rules = &self.rules;
        let protocol = Protocol::of(request.headers());
        let Said { context, trace, time } = rules.read(request.headers(), protocol, context);
        let (time, refused) = match time {
            Ok(time) => (time, None),
            Err(refused) => (None, Some(refused)),
        };
        let scope = RequestScope::new(context, time).in_trace(trace.as_ref());
        // A request that has no time left is not begun.
        let refused = refused.or_else(|| scope.check().err().map(Refused::Elapsed));
        let answer = Answer { rules: Arc::clone(rules), protocol, refused };
        let future = match &answer.refused {
            None => Some(scope.run(|| call(request))),
            Some(_) => None,
        };
        RequestFuture { future, scope: Some(scope), answer }
    }
}

#[track_caller]
pub(super) fn header_name(name: &str) -> HeaderName {
    match name.parse() {
        Ok(name) => name,
        Err(_) => panic!("{name:?} is no name of a header"),
    }
}

/// What the headers of a request say.
struct Said {
    context: Context,
    trace: Option<TraceContext>,
    /// How long the request may take.
    time: Result<Option<Duration>, Refused>,
}

impl Rules {
    /// Reads the headers of a request whose context starts from `context`.
    fn read(&self, headers: &HeaderMap, protocol: Protocol, mut context: Context) -> Said {
        let (mut trace, mut remaining) = (None, Ok(None));
        if let Some(inbound) = &self.inbound {
            let received = match protocol.has_grpc_headers() {
                true => inbound.extract_as(headers, GRPC_TIMEOUT),
                false => inbound.extract(headers),
            };
            // A trace that is bound around the connection stays, as any variable does: then the
            // peer's span is no parent.
            trace = received.trace().filter(|_| !context.contains(&TRACE));
            context = received.bind(&context);
            remaining = received.remaining().map_err(Refused::BadDeadline);
        }
        for (name, bind) in &self.vars {
            match read(headers, name, |text| bind(&context, text)) {
                Ok(None) => {}
                Ok(Some(bound)) => context = bound,
                Err(refused) => return Said { context, trace, time: Err(refused) },
            }
        }
        let asked = match &self.deadline {
            Some((name, parse)) => read(headers, name, |text| parse(text)),
            None => Ok(None),
        };
        let time =
            remaining.and_then(|remaining| Ok([remaining, asked?, self.limit].into_iter().flatten().min()));
        Said { context, trace, time }
    }
}

/// What `parse` makes of the first header of this name.
fn read<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: impl FnOnce(&str) -> Result<T, BoxError>,
) -> Result<Option<T>, Refused> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let parsed = value.to_str().map_err(Into::into).and_then(parse);
    parsed.map(Some).map_err(|source| Refused::BadHeader { name: name.clone(), source })
}

impl fmt::Debug for RequestContextLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rules { inbound, vars, deadline, limit, .. } = &*self.rules;
        f.debug_struct("RequestContextLayer")
            .field("inbound", inbound)
            .field("headers", &vars.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("deadline_header", &deadline.as_ref().map(|(name, _)| name))
            .field("limit", limit)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for RequestContextLayer {
    type Service = RequestContext<S>;

    fn layer(&self, inner: S) -> RequestContext<S> {
        RequestContext { inner, layer: self.clone() }
    }
}

/// A service whose requests have a context and a deadline each; made by [`RequestContextLayer`].
///
/// The inner service's `call`, its future, the response's body and their drops run in the request's
/// context and deadline. `poll_ready` belongs to no request: it runs in a copy of what the current
/// context hands down, and what it sets is gone when it returns. Errors are the inner service's.
///
/// # Cancel safety
/// Dropping the future, or the body, drops what is inside, in the request's context and deadline.
#[derive(Clone, Debug)]
pub struct RequestContext<S> {
    inner: S,
    layer: RequestContextLayer,
}

impl<S, A, B> Service<Request<A>> for RequestContext<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = RequestFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), S::Error>> {
        Context::inherited().run(|| self.inner.poll_ready(cx))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        self.layer.begin(request, Context::inherited(), |request| self.inner.call(request))
    }
}

pin_project_lite::pin_project! {
    /// A request's future in the request's context and deadline; made by [`RequestContext`].
    #[must_use = "futures do nothing unless they are polled"]
    pub struct RequestFuture<F> {
        // `None` when it has ended, or the request was refused.
        #[pin]
        future: Option<F>,
        // `None` when the response has it.
        scope: Option<RequestScope>,
        answer: Answer,
    }

    impl<F> PinnedDrop for RequestFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(scope) = this.scope {
                scope.run(|| this.future.set(None));
            }
        }
    }
}

/// The layer's own answer.
struct Answer {
    rules: Arc<Rules>,
    protocol: Protocol,
    /// Why the request was refused before the call.
    refused: Option<Refused>,
}

impl Answer {
    fn head(&self, refused: &Refused) -> Response<()> {
        match &self.rules.answer {
            Some(answer) => answer(refused),
            None => refused.head(self.protocol),
        }
    }
}

impl<F, B, E> Future for RequestFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let scope = this.scope.as_mut().expect("polled after it was ready");
        let answered = match (this.future.as_mut().as_pin_mut(), this.answer.refused.take()) {
            (Some(future), _) => match ready!(scope.poll(cx, |cx| future.poll(cx))) {
                Ok(answered) => Ok(answered?),
                Err(elapsed) => Err(Refused::Elapsed(elapsed)),
            },
            (None, refused) => Err(refused.expect("polled after it was ready")),
        };
        scope.run(|| this.future.set(None));
        let head = answered.map_err(|refused| scope.run(|| this.answer.head(&refused)));
        let scope = this.scope.take().expect("just used");
        Poll::Ready(Ok(match head {
            Ok(response) => response.map(|body| response_body::new(body, scope, this.answer.protocol)),
            Err(head) => head.map(|()| response_body::empty()),
        }))
    }
}

impl<F> fmt::Debug for RequestFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFuture").finish_non_exhaustive()
    }
}
