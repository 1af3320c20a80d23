//! Accepting while the machine is short of descriptors or memory.
//!
//! A connection that cannot be taken stays in the queue, and the listener stays ready: an accept
//! loop, which logs the error and accepts again, would be told the same at once, for as long as the
//! shortage lasts. So a listener remembers that it has just reported one, and its next attempt
//! waits a little. What is in the queue is not lost by that: the queue is the system's, and an
//! event that comes meanwhile stays noted in the registration. The queue has an end, though, and
//! what finds it full is lost in the long run; so listeners are bound with the longest queue there
//! is.
//!
//! A connection that was taken, and for which there is no place among the runtime's sources of
//! events, is kept for the next attempt; the error is handled as any other shortage. The same goes
//! for a listener whose runtime has ended, which will never be told anything else.
#![forbid(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use crate::time::{sleep, sleep_until};
use crate::util::sync::{Mutex, lock};

/// Ten attempts a second keep a log readable and cost no processor time to speak of, and a client that has to wait for
/// a descriptor does not notice a tenth of a second more.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a listener of such connections remembers.
pub(super) struct Shortage<C> {
    memory: Mutex<Memory<C>>,
}

struct Memory<C> {
    until: Option<Instant>,
    /// Connections that were taken and have no place yet.
    kept: Vec<C>,
}

impl<C> Shortage<C> {
    pub(super) fn new() -> Shortage<C> {
        Shortage { memory: Mutex::new(Memory { until: None, kept: Vec::new() }) }
    }

    /// The next connection: one that was kept, else what `accept` returns, after `place` has found
    /// it a place. Waits before that until the listener may be asked again.
    pub(super) async fn next(
        &self,
        accept: impl Future<Output = io::Result<C>>,
        place: impl FnOnce(&mut C) -> io::Result<()>,
    ) -> io::Result<C> {
        let accepted = match self.over().await {
            Some(kept) => Ok(kept),
            None => accept.await,
        };
        let (error, kept) = match accepted {
            Ok(mut connection) => match place(&mut connection) {
                Ok(()) => return Ok(connection),
                Err(error) => (error, Some(connection)),
            },
            Err(error) => (error, None),
        };
        let until = (kept.is_some() || is_shortage(&error) || error.kind() == io::ErrorKind::Other)
            .then(|| sleep(RETRY_AFTER).deadline());
        let mut memory = lock(&self.memory);
        memory.until = until.flatten().or(memory.until);
        memory.kept.extend(kept);
        Err(error)
    }

    /// Waits until the listener may be asked again; then, a connection that was kept.
    async fn over(&self) -> Option<C> {
        let until = lock(&self.memory).until;
        if let Some(until) = until {
            sleep_until(until).await;
        }
        let mut memory = lock(&self.memory);
        // Another accept may have seen the next shortage.
        if memory.until == until {
            memory.until = None;
        }
        memory.kept.pop()
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
