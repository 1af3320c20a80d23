//! Accepting while the machine is short of descriptors or memory.
//!
//! A connection that cannot be accepted stays in the system's queue, and the listener stays ready:
//! an accept loop, which logs the error and accepts again, would get the same error at once, for as
//! long as the shortage lasts. So a listener remembers that it has just reported a shortage, and
//! its next attempt waits a little. Connections in the queue are not lost, and an event that comes
//! meanwhile stays in the readiness. But the queue is bounded, and a connection that finds it full
//! for long is lost; so listeners are bound with the longest queue that the system allows.
//!
//! A connection that was accepted, and that the driver cannot register, is kept for the next
//! attempt; the error is handled like a shortage. The same holds for a listener whose runtime has
//! ended, where every attempt fails.
#![forbid(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use crate::time::{sleep, sleep_until};
use crate::util::sync::{Mutex, lock};

/// Ten attempts a second keep a log readable and cost little processor time. A client that waits
/// for a descriptor does not notice a tenth of a second more.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a listener remembers of the last shortage.
pub(super) struct AcceptBackoff<C> {
    state: Mutex<BackoffState<C>>,
}

struct BackoffState<C> {
    retry_at: Option<Instant>,
    /// Connections that were accepted and are not registered yet.
    kept: Vec<C>,
}

impl<C> AcceptBackoff<C> {
    pub(super) fn new() -> AcceptBackoff<C> {
        AcceptBackoff { state: Mutex::new(BackoffState { retry_at: None, kept: Vec::new() }) }
    }

    /// The next connection, registered by `register`: one that was kept, else what `accept`
    /// returns. Waits first until the listener may be asked again.
    pub(super) async fn next(
        &self,
        accept: impl Future<Output = io::Result<C>>,
        register: impl FnOnce(&mut C) -> io::Result<()>,
    ) -> io::Result<C> {
        let accepted = match self.wait_for_retry().await {
            Some(kept) => Ok(kept),
            None => accept.await,
        };
        let (error, kept) = match accepted {
            Ok(mut connection) => match register(&mut connection) {
                Ok(()) => return Ok(connection),
                Err(error) => (error, Some(connection)),
            },
            Err(error) => (error, None),
        };
        let retry_at = (kept.is_some() || is_shortage(&error) || error.kind() == io::ErrorKind::Other)
            .then(|| sleep(RETRY_AFTER).deadline());
        let mut state = lock(&self.state);
        state.retry_at = retry_at.flatten().or(state.retry_at);
        state.kept.extend(kept);
        Err(error)
    }

    /// Waits until the listener may be asked again. Returns a connection that was kept, if any.
    async fn wait_for_retry(&self) -> Option<C> {
        let retry_at = lock(&self.state).retry_at;
        if let Some(retry_at) = retry_at {
            sleep_until(retry_at).await;
        }
        let mut state = lock(&self.state);
        // Another `accept` may have met the next shortage.
        if state.retry_at == retry_at {
            state.retry_at = None;
        }
        state.kept.pop()
    }
}

/// Whether an error of `accept` says that the process or the machine has run out of a resource, so
/// that the next attempt would fail as well: `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM`, which have
/// the same numbers nearly everywhere.
fn is_shortage(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 105 } else { 55 };
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}
