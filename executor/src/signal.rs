//! Signals, as futures. Unix only.
//!
//! | for | see |
//! | --- | --- |
//! | the interrupt key, `SIGINT` | [`ctrl_c`] |
//! | `kill`, a service manager, a container that ends: `SIGTERM` | [`terminate`] |
//! | the first of both | [`select`](crate::context::future::select)`(ctrl_c(), terminate())` |
//!
//! ```no_run
//! use std::time::Duration;
//! use heirloom::{Runtime, signal};
//!
//! # async fn serve() {}
//! fn main() -> std::io::Result<()> {
//!     let runtime = Runtime::new()?;
//!     runtime.block_on(async {
//!         let server = heirloom::spawn(serve());
//!         signal::terminate().await?;
//!         drop(server); // no new connections
//!         std::io::Result::Ok(())
//!     })?;
//!     println!("{:?}", runtime.shutdown(Duration::from_secs(30)));
//!     Ok(())
//! }
//! ```
//!
//! # The default action
//!
//! A program that listens for a signal takes the signal's default action away, **for the rest of
//! the process**: after the first [`ctrl_c`] the interrupt key no longer ends the program, and
//! after the first [`terminate`] `kill` does not, also when every future is dropped. (To restore
//! the action would undo what other code has installed meanwhile.) So a program that listens must
//! end by itself. Handlers that were installed before are still called. The handlers of this crate
//! only wake the tasks that wait.
// Each future has a pipe of its own, and the handler writes a byte into the pipe's other end. So
// futures share no state, no state outlives the runtime it belongs to, and a runtime wakes only its
// own tasks.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use mio::net::UnixStream;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

use crate::net::registration::{Direction, Registration};
use crate::task::{Leaf, record};

/// The interrupt key of the terminal, usually Ctrl-C, or another `SIGINT`.
///
/// It listens from this call on, not from the first poll. See [`Signal`], and the [module](self)
/// for what becomes of the default action.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// heirloom::block_on(async {
///     let mut interrupt = heirloom::signal::ctrl_c();
///     (&mut interrupt).await?;
///     println!("again, if you mean it");
///     interrupt.await
/// })
/// # }
/// ```
#[doc(alias = "SIGINT")]
pub fn ctrl_c() -> Signal {
    Signal::new(SIGINT, "ctrl_c")
}

/// `SIGTERM`: what `kill`, service managers and container engines send to ask a process to end.
///
/// It listens from this call on, not from the first poll. See [`Signal`], and the [module](self)
/// for what becomes of the default action.
#[doc(alias = "SIGTERM")]
#[doc(alias = "SignalKind")]
pub fn terminate() -> Signal {
    Signal::new(SIGTERM, "terminate")
}

/// Waits for a signal; made by [`ctrl_c`] and [`terminate`].
///
/// Every signal resolves all futures that listen for it. A future that was ready may be awaited
/// again, through `&mut`, for the next signal: a signal that comes in between is not lost, but
/// several count as one.
///
/// The future belongs to the runtime of the thread that made it, as a [socket](super::net) does. It
/// takes two descriptors.
///
/// # Errors
/// The future resolves to an error if there were no descriptors for it, or if its runtime has
/// ended.
///
/// # Cancel safety
/// Awaiting `&mut` of the future is cancel-safe. Dropping it removes its handler; the default
/// action does not come back.
#[must_use = "futures do nothing unless they are polled"]
pub struct Signal {
    pipe: Result<SignalPipe, Option<io::Error>>,
}

struct SignalPipe {
    reader: Registration<UnixStream>,
    /// Names the handler, which owns the other end.
    handler: SigId,
    leaf: &'static str,
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        // This closes the handler's end.
        unregister(self.handler);
    }
}

impl SignalPipe {
    fn start(signal: i32, leaf: &'static str) -> io::Result<SignalPipe> {
        let (reader, writer) = UnixStream::pair()?;
        let reader = Registration::new(reader)?;
        Ok(SignalPipe { reader, handler: pipe::register(signal, writer)?, leaf })
    }
}

impl Signal {
    fn new(signal: i32, leaf: &'static str) -> Signal {
        Signal { pipe: SignalPipe::start(signal, leaf).map_err(Some) }
    }
}

impl Future for Signal {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pipe = match &mut self.get_mut().pipe {
            Ok(pipe) => pipe,
            Err(error) => {
                let error =
                    error.take().unwrap_or_else(|| io::Error::other("the signal is not listened for"));
                return Poll::Ready(Err(error));
            }
        };
        let SignalPipe { reader, leaf, .. } = pipe;
        let take = |mut pipe: &UnixStream| {
            // The pipe has a byte per signal. All of them count as one signal.
            let mut bytes = [0; 64];
            let mut count = pipe.read(&mut bytes)?;
            while count == bytes.len() {
                count = match pipe.read(&mut bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    result => result?,
                };
            }
            Ok(())
        };
        record::waits_for_one(Leaf::Signal, || reader.poll_io(cx, leaf, Direction::Read, take))
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("listening", &self.pipe.is_ok()).finish_non_exhaustive()
    }
}
