//! What the layers know of gRPC over HTTP/2: its time limits, and how a response tells of a
//! failure.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Reads the header `grpc-timeout`: up to eight digits and a unit, `H`, `M`, `S`, `m`, `u` or `n`,
/// as in `250m` for 250 milliseconds.
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
pub fn grpc_timeout(text: &str) -> Result<Duration, InvalidGrpcTimeout> {
    let invalid = InvalidGrpcTimeout(());
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(invalid)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(invalid);
    }
    let number: u64 = digits.parse().map_err(|_| invalid)?;
    match unit {
        "H" => Ok(Duration::from_secs(number * 3_600)),
        "M" => Ok(Duration::from_secs(number * 60)),
        "S" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_millis(number)),
        "u" => Ok(Duration::from_micros(number)),
        "n" => Ok(Duration::from_nanos(number)),
        _ => Err(invalid),
    }
}

/// A text that is no value of the header `grpc-timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidGrpcTimeout(());

impl fmt::Display for InvalidGrpcTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a grpc-timeout is up to eight digits and one of the units H, M, S, m, u, n")
    }
}

impl Error for InvalidGrpcTimeout {}

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
