//! The answers of the layer itself.

use std::error::Error;
use std::fmt;

use heirloom_context::wire::InvalidTimeout;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::BoxError;
use super::grpc::{GrpcStatus, Protocol};
use crate::time::Elapsed;

/// The header of an answer over plain HTTP that says why, as `grpc-message` does over gRPC.
const REASON: HeaderName = HeaderName::from_static("x-refused");

/// Why a [`RequestContextLayer`](super::RequestContextLayer) has answered by itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refused {
    /// The value of this header was refused, for this reason.
    BadHeader {
        /// The header's name.
        name: HeaderName,
        /// The error of the parser, or of a value that is not visible ASCII.
        source: BoxError,
    },
    /// The header that says how long the client waits is no time limit.
    BadDeadline(InvalidTimeout),
    /// Time was up before there was a response.
    Elapsed(Elapsed),
}

impl Refused {
    pub(super) fn head(&self, protocol: Protocol) -> Response<()> {
        let mut head = Response::new(());
        let (status, grpc) = match self {
            Refused::BadHeader { .. } | Refused::BadDeadline(_) => {
                (StatusCode::BAD_REQUEST, GrpcStatus::InvalidArgument)
            }
            Refused::Elapsed(_) => (StatusCode::GATEWAY_TIMEOUT, GrpcStatus::DeadlineExceeded),
        };
        if let Some(kind) = protocol.grpc_type() {
            head.headers_mut().insert(CONTENT_TYPE, kind);
            head.headers_mut().extend(grpc.headers());
        } else {
            *head.status_mut() = status;
            // The names of headers are visible ASCII.
            let reason = HeaderValue::try_from(self.to_string()).expect("visible ASCII");
            head.headers_mut().insert(REASON, reason);
        }
        head
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::BadHeader { name, .. } => write!(f, "the value of the header {name} was refused"),
            Refused::BadDeadline(_) => f.write_str("the request's time limit is malformed"),
            Refused::Elapsed(_) => f.write_str("the request's time is up"),
        }
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Refused::BadHeader { source, .. } => Some(&**source),
            Refused::BadDeadline(invalid) => Some(invalid),
            Refused::Elapsed(elapsed) => Some(elapsed),
        }
    }
}
