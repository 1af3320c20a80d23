//! What has cut a connection off, for the calls that were not told.
//!
//! The system tells of a reset once. The first call takes the error with it, and from then on
//! reading finds an end like any other. With a task for each direction that would let a message
//! that was cut off pass for a whole one. So a stream remembers what one call was told, and an end
//! that comes afterwards is that error again.
//!
//! ```text
//!   a writer                          a reader
//!   ────────                          ────────
//!   W1  lock                          R1  receive: nothing is left
//!   W2  send: the error is taken      R2  lock, look, unlock
//!   W3  note it, unlock
//! ```
//!
//! If R1 finds an end because W2 has taken the error, then W1 was before R1. So R2 waits for W3,
//! and sees the note. `io::models` tries it. Of two readers, one may still see an end while the
//! other is about to note the error.
#![forbid(unsafe_code)]

use std::io;

use crate::util::sync::{Mutex, lock, weakened};

/// See the [module](self).
pub(crate) struct Failure {
    /// The system's number of the error.
    noted: Mutex<Option<i32>>,
}

impl Failure {
    pub(crate) fn new() -> Failure {
        Failure { noted: Mutex::new(None) }
    }

    /// W1 to W3.
    pub(crate) fn write<R>(&self, operation: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        if weakened("lock around the call") {
            let result = operation();
            *lock(&self.noted) = result.as_ref().err().and_then(cuts_off);
            return result;
        }
        let mut noted = lock(&self.noted);
        let result = operation();
        if let Err(error) = &result {
            *noted = noted.or(cuts_off(error));
        }
        result
    }

    /// The same for `SO_ERROR`, which takes the error too.
    pub(crate) fn take_error(
        &self,
        operation: impl FnOnce() -> io::Result<Option<io::Error>>,
    ) -> io::Result<Option<io::Error>> {
        let mut noted = lock(&self.noted);
        let result = operation();
        if let Ok(Some(error)) = &result {
            *noted = noted.or(cuts_off(error));
        }
        result
    }

    /// R2: what reading into a buffer that has room is to return.
    pub(crate) fn read(&self, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(0) => lock(&self.noted).map_or(result, |code| Err(io::Error::from_raw_os_error(code))),
            Ok(_) => result,
            Err(error) => {
                if let Some(code) = cuts_off(error) {
                    *lock(&self.noted) = Some(code);
                }
                result
            }
        }
    }
}

/// The number of an error after which nothing more can come. A broken pipe is none: the peer had
/// ended its direction before.
fn cuts_off(error: &io::Error) -> Option<i32> {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, TimedOut};
    let cuts_off = matches!(error.kind(), ConnectionReset | ConnectionAborted | TimedOut);
    error.raw_os_error().filter(|_| cuts_off)
}
