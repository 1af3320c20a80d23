//! Sockets, and the look-up of names.
//!
//! | | |
//! | --- | --- |
//! | [`TcpListener`], [`TcpStream`] | TCP |
//! | [`UdpSocket`] | datagrams |
//! | [`UnixListener`], [`UnixStream`] | connections within the machine (Unix) |
//! | [`Direction`] | for system calls of one's own |
//! | [`lookup`], [`ToSocketAddrs`] | names and addresses |
//!
//! Streams implement `AsyncRead` and `AsyncWrite` of [`futures_io`], whose conveniences are in
//! `futures::{AsyncReadExt, AsyncWriteExt}`.
//!
//! # Which runtime
//!
//! A socket belongs to the runtime of the thread that makes it: inside tasks, blocking closures and a runtime's
//! `block_on` that one, elsewhere the default one, which starts then. (One that a call of [`run_eagerly`](crate::run_eagerly)
//! makes outside of any starts none: it belongs to the runtime of whoever first awaits it without the flag, on Windows to the
//! default one.) Its workers learn when it is ready. It may be *used*
//! anywhere: in tasks of other runtimes, on plain threads under [`block_on`](crate::block_on), under foreign
//! executors. When its runtime ends, whoever waits for it is woken, and everything that would wait returns an error of kind
//! [`Other`](std::io::ErrorKind::Other) that says so; the socket itself is still open, and can be handed over by
//! way of the standard library:
//!
//! ```
//! use heirloom::Runtime;
//! use heirloom::net::TcpListener;
//!
//! # fn main() -> std::io::Result<()> {
//! let first = Runtime::new()?;
//! let listener = first.block_on(TcpListener::bind("127.0.0.1:0"))?;
//! drop(first);
//!
//! let second = Runtime::new()?;
//! second.block_on(async {
//!     let listener = TcpListener::try_from(std::net::TcpListener::try_from(listener)?)?;
//!     println!("still listening at {}", listener.local_addr()?);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Under the [eager flag](crate::is_eager) a socket blocks the thread where it would wait, until the ambient deadline at
//! most, also if its runtime has ended.
//!
//! # Limits of time
//!
//! No method has one of its own: [`wait_for`](crate::wait_for()) bounds any of them. Each says what happens if it is dropped
//! half-way ("cancel safety").

mod addr;
pub(crate) mod duplex;
mod eager;
pub(crate) mod failure;
mod incoming;
mod platform;
pub(crate) mod registration;
mod shortage;
mod split;
mod tcp;
mod udp;
#[cfg(unix)]
mod unix;

pub use crate::io::readiness::Direction;
pub use addr::{ToSocketAddrs, lookup};
pub use incoming::Incoming;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
#[cfg(unix)]
pub use unix::{UnixListener, UnixStream};

#[cfg(all(test, unix, not(loom), not(miri)))]
mod tests;
