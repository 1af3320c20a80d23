//! Accepting while the machine is short of descriptors or memory.
//!
//! A connection that cannot be taken stays in the queue, and the listener stays ready: whoever logs the error and accepts
//! again, as an accept loop does, would be told the same at once, for as long as the shortage lasts. So a listener
//! remembers that it has just reported one, and its next attempt waits a little. Nothing is lost: the queue is the
//! system's, and an event that comes meanwhile stays noted in the registration. The same goes for a listener whose
//! runtime has ended, which will never be told anything else.
#![forbid(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use crate::sync::{Mutex, lock};
use crate::time::{sleep, sleep_until};

/// Ten attempts a second keep a log readable and cost no processor time to speak of, and a client that has to wait for
/// a descriptor does not notice a tenth of a second more.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a listener remembers.
#[derive(Default)]
pub(super) struct Shortage {
    until: Mutex<Option<Instant>>,
}

impl Shortage {
    /// Waits until the listener may be asked again.
    pub(super) async fn over(&self) {
        let until = *lock(&self.until);
        if let Some(until) = until {
            sleep_until(until).await;
            let mut now = lock(&self.until);
            // Another accept may have seen the next one.
            if *now == Some(until) {
                *now = None;
            }
        }
    }

    /// Hands on what `accept` returned.
    pub(super) fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(|error| is_shortage(error) || error.kind() == io::ErrorKind::Other) {
            *lock(&self.until) = sleep(RETRY_AFTER).deadline();
        }
        result
    }
}

/// Whether an error of `accept` says that the process or the machine has run out of something, so that the next attempt
/// would fail as well: `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM`, which have the same numbers nearly everywhere.
fn is_shortage(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 105 } else { 55 };
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}
