//! What the layers know of gRPC and gRPC-Web: their time limits, and how a response tells of a
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

/// What a request speaks, by its `content-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Plain HTTP.
    Http,
    /// gRPC over HTTP/2: `application/grpc`.
    Grpc,
    /// gRPC-Web, by which browsers call: `application/grpc-web` and `application/grpc-web-text`.
    /// Its requests have the headers of gRPC, and so has a response without messages. The trailers
    /// of any other response are the last message of its body. A layer cannot write it, since the
    /// type of the body's data is the service's.
    GrpcWeb,
}

impl Protocol {
    /// That of a request with these headers. The case of a media type does not matter.
    pub(super) fn of(headers: &HeaderMap) -> Protocol {
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        // Without its parameters and its encoding of messages.
        let end = kind.iter().position(|byte| matches!(byte, b'+' | b';' | b' ' | b'\t'));
        let kind = &kind[..end.unwrap_or(kind.len())];
        let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
        if is("application/grpc") {
            Protocol::Grpc
        } else if is("application/grpc-web") || is("application/grpc-web-text") {
            Protocol::GrpcWeb
        } else {
            Protocol::Http
        }
    }

    /// The `content-type` of a response that tells a status of gRPC in its headers; `None` over
    /// plain HTTP.
    pub(super) fn grpc_type(self) -> Option<HeaderValue> {
        match self {
            Protocol::Http => None,
            Protocol::Grpc => Some(HeaderValue::from_static("application/grpc")),
            Protocol::GrpcWeb => Some(HeaderValue::from_static("application/grpc-web+proto")),
        }
    }

    /// Whether the headers are those of gRPC.
    pub(super) fn has_grpc_headers(self) -> bool {
        self != Protocol::Http
    }

    /// Whether a body ends with trailers that tell a status.
    pub(super) fn has_grpc_trailers(self) -> bool {
        self == Protocol::Grpc
    }
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
