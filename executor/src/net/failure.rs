//! The error that broke a connection, for the calls that the system did not tell.
//!
//! The system reports a reset once: the first call returns the error, and from then on reading
//! finds an end like any other. With a task for each direction, a message that was cut off would
//! then pass for a whole one. So a stream stores the error that one call has returned, and an end
//! that comes afterwards is reported as that error.
//!
//! ```text
//!   a writer                                a reader
//!   RST1  lock                              RST4  receive: nothing is left
//!   RST2  send: the system's error          RST5  lock, read the stored error, unlock
//!   RST3  store the error, unlock
//! ```
//!
//! If RST4 finds an end because RST2 has taken the error, RST1 came before RST4. So RST5 waits for
//! RST3, and reads the error. `io::models` tries every interleaving. Of two readers, one may still
//! find an end while the other is about to store the error.
#![forbid(unsafe_code)]

use std::io;
use std::num::NonZeroU16;

use crate::util::sync::{Mutex, lock, weakened};

/// See the [module](self).
pub(crate) struct StoredError {
    /// The system's number of the error: 16 bits are enough everywhere, and fit beside the lock.
    code: Mutex<Option<NonZeroU16>>,
}

impl StoredError {
    pub(crate) fn new() -> StoredError {
        StoredError { code: Mutex::new(None) }
    }

    /// RST1 to RST3.
    pub(crate) fn write<R>(&self, operation: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        if weakened("lock around the call") {
            let result = operation();
            *lock(&self.code) = result.as_ref().err().and_then(broken_connection);
            return result;
        }
        let mut code = lock(&self.code);
        let result = operation();
        if let Err(error) = &result {
            *code = code.or(broken_connection(error));
        }
        result
    }

    /// The same for `SO_ERROR`, which takes the error too.
    pub(crate) fn take_error(
        &self,
        operation: impl FnOnce() -> io::Result<Option<io::Error>>,
    ) -> io::Result<Option<io::Error>> {
        let mut code = lock(&self.code);
        let result = operation();
        if let Ok(Some(error)) = &result {
            *code = code.or(broken_connection(error));
        }
        result
    }

    /// RST5: what a read into a buffer that has room returns to the user.
    pub(crate) fn read(&self, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(0) => {
                lock(&self.code).map_or(result, |code| Err(io::Error::from_raw_os_error(code.get().into())))
            }
            Ok(_) => result,
            Err(error) => {
                if let Some(code) = broken_connection(error) {
                    *lock(&self.code) = Some(code);
                }
                result
            }
        }
    }
}

/// The number of an error after which nothing more can arrive. A broken pipe is not one of them:
/// the peer had ended its direction before.
fn broken_connection(error: &io::Error) -> Option<NonZeroU16> {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, TimedOut};
    let is_broken = matches!(error.kind(), ConnectionReset | ConnectionAborted | TimedOut);
    let code = error.raw_os_error().filter(|_| is_broken)?;
    u16::try_from(code).ok().and_then(NonZeroU16::new)
}
