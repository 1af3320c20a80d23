//! What the layers know of gRPC over HTTP/2: its time limits, and how a response tells of a
//! failure.

use std::time::Duration;

use heirloom_context::wire::{InvalidTimeout, timeout};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// Reads the header `grpc-timeout`: up to eight digits and a unit, `H`, `M`, `S`, `m`, `u` or `n`,
/// as in `250m` for 250 milliseconds. It is [`wire::timeout::parse`](timeout::parse).
///
/// # Errors
/// If the text is of another form.
///
/// ```
/// use std::time::Duration;
/// use heirloom::tower::grpc_timeout;
///
/// assert_eq!(grpc_timeout("250m").unwrap(), Duration::from_millis(250));
/// assert!(grpc_timeout("a second").is_err());
/// ```
pub fn grpc_timeout(text: &str) -> Result<Duration, InvalidTimeout> {
    timeout::parse(text)
}

/// Whether these are the headers of a request of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Status codes that the layers answer with.
#[derive(Clone, Copy, Debug)]
pub(super) enum GrpcStatus {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
}

impl GrpcStatus {
    /// The status as headers of a response without messages, or as trailers.
    pub(super) fn headers(self) -> HeaderMap {
        let (code, message) = match self {
            GrpcStatus::InvalidArgument => ("3", "a header of the request was refused"),
            GrpcStatus::DeadlineExceeded => ("4", "the request's time is up"),
        };
        let header = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        HeaderMap::from_iter([header("grpc-status", code), header("grpc-message", message)])
    }
}
