//! Signals, as futures. Unix only.
//!
//! Asking for a signal takes its default action away, **for the rest of the process**: after the first [`ctrl_c`] the
//! interrupt key no longer ends the program, and after the first [`terminate`] `kill` does not, also when every future is
//! gone. (Giving the action back would undo what others have installed meanwhile.) So who asks has to see to it that
//! the program ends. Handlers that were installed before are still called; those of this crate do nothing but tell
//! who waits.
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
// Each waiter has a pipe of its own, whose other end the handler writes a byte into. So waiters know nothing of each other,
// there is no state that would outlive the runtime it belongs to, and nobody's runtime wakes somebody else's waiters.
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

/// The interrupt key of the terminal, usually Ctrl-C, or another `SIGINT`.
///
/// It listens from this call on, not from the first poll. See [`Signal`], and the [module](self) for what becomes of
/// the default action.
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
pub fn ctrl_c() -> Signal {
    Signal::new(SIGINT, "ctrl_c")
}

/// `SIGTERM`: what `kill`, service managers and container engines send to ask a process to end.
///
/// It listens from this call on, not from the first poll. See [`Signal`], and the [module](self) for what becomes of
/// the default action.
pub fn terminate() -> Signal {
    Signal::new(SIGTERM, "terminate")
}

/// Waits for a signal; made by [`ctrl_c`] and [`terminate`].
///
/// Every signal resolves all futures that listen for it. One that was ready may be awaited again, through `&mut`, for the
/// next: none that comes in between is lost, but several count as one.
///
/// It belongs to the runtime of the thread that made it, as a [socket](super::net) does. It takes two descriptors.
///
/// # Errors
/// The future resolves to an error if there were no descriptors for it, or if its runtime has ended.
///
/// # Cancel safety
/// Awaiting `&mut` of it is cancel-safe. Dropping it takes it out; the default action does not come back.
#[must_use = "futures do nothing unless they are polled"]
pub struct Signal {
    state: Result<Listening, Option<io::Error>>,
}

struct Listening {
    signalled: Registration<UnixStream>,
    id: SigId,
    leaf: &'static str,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Closes the handler's end.
        unregister(self.id);
    }
}

impl Listening {
    fn start(signal: i32, leaf: &'static str) -> io::Result<Listening> {
        let (reader, writer) = UnixStream::pair()?;
        let signalled = Registration::new(reader)?;
        Ok(Listening { signalled, id: pipe::register(signal, writer)?, leaf })
    }
}

impl Signal {
    fn new(signal: i32, leaf: &'static str) -> Signal {
        Signal { state: Listening::start(signal, leaf).map_err(Some) }
    }
}

impl Future for Signal {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let listening = match &mut self.get_mut().state {
            Ok(listening) => listening,
            Err(error) => {
                let error =
                    error.take().unwrap_or_else(|| io::Error::other("the signal is not listened for"));
                return Poll::Ready(Err(error));
            }
        };
        listening.signalled.poll_io(cx, listening.leaf, Direction::Read, |mut pipe| {
            // A byte per signal; all there are count as one.
            let mut bytes = [0; 64];
            let mut come = pipe.read(&mut bytes)?;
            while come == bytes.len() {
                come = match pipe.read(&mut bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    result => result?,
                };
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("listening", &self.state.is_ok()).finish_non_exhaustive()
    }
}
