//! A response's body in the context and the deadline of its request.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};

use http_body::{Body, Frame, SizeHint};

use super::BoxError;
use super::grpc::{GrpcStatus, Protocol};
use super::request_scope::RequestScope;

pin_project_lite::pin_project! {
    /// A response's body in the context and the deadline of its request; made by
    /// [`RequestContext`](super::RequestContext).
    ///
    /// The body sees what the handler has set, also when it is streamed long after the handler has
    /// returned, and is dropped in that context.
    ///
    /// A first frame that is ready is never late, nor is the last one: the handler has answered in
    /// time, and an answer that is whole goes out whole.
    ///
    /// # Errors
    /// [`Elapsed`](crate::time::Elapsed) when the request's time is up, and the inner body's.
    pub struct ResponseBody<B> {
        // `None` for an answer of the layer, and when time was up.
        #[pin]
        body: Option<B>,
        // With the body.
        scope: Option<RequestScope>,
        // A frame was delivered.
        begun: bool,
        protocol: Protocol,
    }

    impl<B> PinnedDrop for ResponseBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(scope) = this.scope {
                scope.run(|| this.body.set(None));
            }
        }
    }
}

pub(super) fn new<B>(body: B, scope: RequestScope, protocol: Protocol) -> ResponseBody<B> {
    ResponseBody { body: Some(body), scope: Some(scope), begun: false, protocol }
}

pub(super) fn empty<B>() -> ResponseBody<B> {
    ResponseBody { body: None, scope: None, begun: false, protocol: Protocol::Http }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let (Some(mut body), Some(scope)) = (this.body.as_mut().as_pin_mut(), this.scope) else {
            return Poll::Ready(None);
        };
        let polled = ready!(scope.poll(cx, |cx| body.as_mut().poll_frame(cx)));
        // A body that is always ready does not outlast its time either.
        let may_be_late = matches!(polled, Ok(Some(Ok(_)))) && *this.begun && !body.is_end_stream();
        *this.begun = true;
        let polled = if may_be_late { scope.check().and(polled) } else { polled };
        Poll::Ready(match polled {
            Ok(frame) => frame.map(|frame| frame.map_err(Into::into)),
            Err(elapsed) => {
                scope.run(|| this.body.set(None));
                Some(match this.protocol.has_grpc_trailers() {
                    true => Ok(Frame::trailers(GrpcStatus::DeadlineExceeded.headers())),
                    false => Err(elapsed.into()),
                })
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
